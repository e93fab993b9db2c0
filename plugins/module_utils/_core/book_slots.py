# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book's slots: what NVML says of them, drained ones, and the comparison with the world."""

from __future__ import annotations

from collections.abc import Sequence

from . import book_rows as rows
from .book_apply import apply, rename
from .book_change import ADOPTED
from .book_looks import Looks
from .book_view import Report
from .gpu_request import named_slots
from .gpus import Inventory
from .leases import Ask, Block
from .reconcile import SeenContainer, SeenProcess, plan


class Slots(Looks):
    """What happens to slots rather than to one lease."""

    # --- slots ------------------------------------------------------------------------------------

    def drain(self, slot: str, message: str, by: str) -> bool:
        """Hand out a slot no more; leases on it stay.

        :param slot: UUID or index.
        :returns: whether anything changed.
        :raises Refused: there is no such slot.
        """
        with self._change() as change:
            uuid = named_slots(Ask(devices=(slot,)), change.board.slots)[0].uuid
            for block in rows.blocks(change.connection):
                if (block.slot, block.why, block.text) == (uuid, "drained", message):
                    return False
            change.put_block(Block(uuid, "drained", message, by, change.now))
            change.event("gpu.drained", None, slot=uuid, message=message, by=by)
        return True

    def undrain(self, slot: str, by: str) -> bool:
        """Hand out a drained slot again.

        :returns: whether anything changed.
        :raises Refused: there is no such slot.
        """
        with self._change() as change:
            # Also of a slot that is lost: it is not handed out for that, and comes back undrained.
            named = {slot, *(one.uuid for one in change.board.slots if one.index == slot)}
            for block in rows.blocks(change.connection):
                if block.slot in named and block.why == "drained":
                    change.drop_block(block)
                    change.event("gpu.undrained", None, slot=block.slot, by=by)
                    return True
            named_slots(Ask(devices=(slot,)), change.board.slots)
        return False

    def look(self, inventory: Inventory) -> list[str]:
        """Record what NVML says: slots, their health, the driver's state.

        :returns: kinds of what changed.
        """
        with self._change() as change:
            return change.look(inventory)

    def reconcile(
        self,
        inventory: Inventory,
        containers: Sequence[SeenContainer] | None,
        processes: Sequence[SeenProcess],
        *,
        looked: float | None = None,
        engine_since: float | None = None,
        start_failed: Sequence[str] = (),
        starting: Sequence[str] = (),
    ) -> Report:
        """Compare the book with NVML and the engine, and mend it.

        :param containers: all containers, or None while the engine does not answer.
        :param looked: the book's time (:meth:`now`) before they were listed.
        :param engine_since: as :func:`.reconcile.plan`, like what follows.
        """
        with self._change(whole=True) as change:
            change.look(inventory)
            actions = plan(
                rows.every_lease(change.connection),
                change.board.slots,
                rows.blocks(change.connection),
                inventory,
                containers,
                processes,
                change.now,
                self.clock().wall,
                looked=looked,
                files=self.files.read(),
                engine_since=engine_since,
                start_failed=start_failed,
                starting=starting,
                watchers=self.settings.watchers,
                waiting=[waiter.ticket for waiter in change.board.waiters if waiter.lease],
            )
            apply(change, actions)
            rename(change, containers or ())
            if containers is not None:
                rows.put_meta(change.connection, ADOPTED, "1")
                change.reload()
        return Report(tuple(actions))

    def repair(self) -> None:
        """Make the lease files what the book says, and log what is committed."""
        with self._change(whole=True):
            pass

    def settle(self) -> None:
        """Let times that have come count: reservations, holds, waits; serve the queue."""
        with self._change():
            pass
