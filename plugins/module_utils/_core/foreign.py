# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots that are used, or can be opened, by something that has no lease of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from . import sightings as do
from .gpus import LOST, OK, Inventory, Slot
from .leases import Block, Lease
from .sightings import BUSY, Action, SeenContainer, SeenProcess

FOREIGN = "foreign"
YOUNG_SECONDS = 120.0


def resolve(tokens: Iterable[str], slots: Sequence[Slot], inventory: Inventory) -> set[str]:
    """UUIDs of the slots that a container can open.

    Whoever can open a MIG-enabled GPU is taken to be able to open each of its MIG devices.

    :param tokens: as in :attr:`.sightings.SeenContainer.gpus`.
    """
    found: set[str] = set()
    for token in tokens:
        kind, _colon, value = token.partition(":")
        if token == "all":
            found.update(slot.uuid for slot in slots)
        elif kind == "count" and value.isdecimal():
            # The engine takes the first ones: moby daemon/nvidia_linux.go, countToDevices.
            found.update(slot.uuid for slot in slots if slot.order[0] < int(value))
        elif kind == "minor" and value.isdecimal():
            gpu = dict(inventory.minors).get(int(value), value)
            found.update(_of(slots, gpu))
        else:
            # MIG devices had names with their GPU's UUID in them: MIG-GPU-<uuid>/<gi>/<ci>.
            old = token.startswith("MIG-GPU-")
            found.update(_of(slots, token[4:].partition("/")[0] if old else token))
    return found


def _of(slots: Iterable[Slot], name: str) -> set[str]:
    """Slots by UUID or index of their own or of their GPU."""
    return {
        slot.uuid
        for slot in slots
        if name in (slot.uuid, slot.parent, slot.index, slot.index.partition(":")[0])
    }


@dataclass(frozen=True, order=True)
class _Use:
    """One use of one slot; processes sort before mere possibilities, then the oldest first."""

    possible: bool
    since: float
    pid: int
    container: str
    container_name: str
    uid: int
    user: str
    text: str
    command: str = ""


def _moment(unix: float) -> str:
    try:
        return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "a time unknown"


def _process_text(process: SeenProcess, container: str) -> str:
    who = process.user or (f"uid {process.uid}" if process.uid >= 0 else "an unknown user")
    text = f"process {process.pid}"
    if process.command:
        text += f" ({process.command})"
    text += f" of {who}"
    if container:
        text += f" in container {container}"
    if process.started > 0:
        text += f" since {_moment(process.started)}"
    return text


class SlotUse:
    """Collects the uses without a lease, then says what to block, to lift and to report.

    :param slots: all known slots, lost and gone ones too.
    :param holders: the lease that has a slot, by its UUID.
    :param now: seconds of the book's clock.
    :param unix_now: the same moment, seconds of the wall clock.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        holders: Mapping[str, Lease],
        now: float,
        unix_now: float,
    ) -> None:
        self._unix_now = unix_now
        self._all = {slot.uuid: slot for slot in slots}
        self._slots = [slot for slot in slots if slot.health == OK]
        self._holders = holders
        self._now = now
        self._uses: dict[str, set[_Use]] = {}
        self._unclear: set[str] = set()

    def processes(
        self, seen: Sequence[SeenProcess], containers: Sequence[SeenContainer] | None
    ) -> None:
        """Take in what NVML sees.

        A young process of a container that is not in the list has come since the list was made:
        nothing is concluded from it yet. An old one is of an engine that is not ours.
        """
        names = {container.id: container.name for container in containers or ()}
        on_mig = {(process.pid, process.slot) for process in seen}
        for process in seen:
            container = process.container_id
            for uuid in self._slots_of(process, on_mig):
                holder = self._holders.get(uuid)
                if holder is not None and container and holder.container == container:
                    continue
                young = self._unix_now - process.started < YOUNG_SECONDS
                unlisted = bool(container) and container not in names and young
                if unlisted and (containers is not None or holder is not None):
                    self._unclear.add(uuid)
                    continue
                name = names.get(container, "") or container[:12]
                self._add(
                    uuid,
                    _Use(
                        False,
                        process.started,
                        process.pid,
                        container,
                        name,
                        process.uid,
                        process.user,
                        _process_text(process, name),
                        process.command,
                    ),
                )

    def _slots_of(self, process: SeenProcess, on_mig: set[tuple[int, str]]) -> list[str]:
        """Its slot; all of a MIG-enabled GPU's unless its place there is known.

        NVML lists the processes of MIG devices at their GPU once more (API reference,
        nvmlDeviceGetComputeRunningProcesses), and a container with a MIG device has no other.
        """
        below = [slot.uuid for slot in self._slots if slot.parent == process.slot]
        if process.slot in below or not below:
            return [uuid for uuid in [process.slot] if uuid in self._all]
        if any((process.pid, uuid) in on_mig for uuid in below):
            return []
        holders = [self._holders[uuid] for uuid in below if uuid in self._holders]
        if process.container_id and any(
            holder.container == process.container_id for holder in holders
        ):
            return []
        return below

    def containers(
        self,
        seen: Iterable[SeenContainer],
        inventory: Inventory,
        others: Iterable[tuple[SeenContainer, Iterable[str]]],
    ) -> None:
        """Take in running containers that can open slots.

        :param others: containers that have slots which are not theirs any more.
        """
        found: list[tuple[SeenContainer, Iterable[str]]] = list(others)
        found += [
            (container, resolve(container.gpus, self._slots, inventory))
            for container in seen
            if (container.alive or container.state == BUSY) and container.gpus
        ]
        for container, uuids in found:
            for uuid in uuids:
                holder = self._holders.get(uuid)
                if uuid in self._all and (holder is None or holder.container != container.id):
                    text = f"container {container.name or container.id[:12]} can open it"
                    self._add(
                        uuid,
                        _Use(
                            True,
                            container.created,
                            0,
                            container.id,
                            container.name,
                            -1,
                            "",
                            f"{text} without a lease",
                        ),
                    )

    def _add(self, uuid: str, use: _Use) -> None:
        self._uses.setdefault(uuid, set()).add(use)

    def actions(self, blocks: Iterable[Block], engine_answers: bool) -> list[Action]:
        """Blocks and reports, in the order of the slots."""
        present = {block.slot: block for block in blocks if block.why == FOREIGN}
        found: list[Action] = []
        for uuid in sorted({*self._uses, *present}, key=self._order):
            uses = sorted(self._uses.get(uuid, ()))
            block = present.get(uuid)
            if uses:
                found += self._block(uuid, uses, block)
                found += self._intruders(uuid, uses)
            elif block is not None and engine_answers and not self._silent(uuid):
                found.append(Action(do.LIFT, slots=(uuid,), block=block, why="no longer in use"))
        return found

    def _silent(self, uuid: str) -> bool:
        """Whether nothing can be known of a slot now."""
        slot = self._all.get(uuid)
        return uuid in self._unclear or (slot is not None and slot.health == LOST)

    def _order(self, uuid: str) -> tuple[tuple[int, int], str]:
        slot = self._all.get(uuid)
        return (slot.order if slot else (1 << 30, 0)), uuid

    def _block(self, uuid: str, uses: Sequence[_Use], present: Block | None) -> list[Action]:
        text = uses[0].text + (f"; and {len(uses) - 1} more" if len(uses) > 1 else "")
        if present is not None and present.text == text:
            return []
        since = self._now if present is None else present.since
        block = Block(uuid, FOREIGN, text, since=since)
        return [Action(do.BLOCK, slots=(uuid,), at=since, why=text, block=block)]

    def _intruders(self, uuid: str, uses: Sequence[_Use]) -> list[Action]:
        holder = self._holders.get(uuid)
        if holder is None:
            return []
        index = self._all[uuid].index
        return [
            Action(
                do.INTRUDER,
                container=use.container,
                container_name=use.container_name,
                slots=(uuid,),
                uid=use.uid,
                user=use.user,
                why=use.text,
                holders=(holder.id,),
                details={
                    "index": index,
                    "pid": use.pid,
                    "command": use.command,
                    "started": use.since,
                    "uses": not use.possible,
                    "holder": holder.user,
                },
            )
            for use in uses
        ]
