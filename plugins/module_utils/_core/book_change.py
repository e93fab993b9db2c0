# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of the lease book, inside its transaction: what may happen to a lease, and its event."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import book_rows as rows
from .allot import Board, pass_queue
from .book_log import commit_event
from .events import Event
from .gpu_settings import GpuSettings
from .gpus import OK, READY, Inventory, Slot, settled
from .lease_files import LeaseFiles
from .leases import BOUND, FREE, HELD, RESERVED, Block, Lease, Waiter
from .reconcile import SeenContainer

UNSEEN_SECONDS = 90.0
"""A request whose waiter was not seen for so long is dropped: its client is gone for good."""

LEAST_HOLD_SECONDS = 10.0
"""A container that is restarted (docker-restart(1), a restart policy) dies first; with a shorter hold
its lease would end in between."""

UNDESCRIBED = "undescribed"
ADOPTED = "adopted"


def load_board(connection: sqlite3.Connection, files: LeaseFiles) -> Board:
    """What decisions look at. A slot that the vendor's spec does not describe is blocked."""
    slots = tuple(rows.slots(connection))
    present = [slot for slot in slots if slot.health == OK]
    text = "the vendor's CDI spec does not describe it; site.yml --tags gpu_host makes it anew"
    missing = [Block(slot.uuid, UNDESCRIBED, text) for slot in files.undescribed(present)]
    return Board(
        slots,
        tuple(rows.holding(connection)),
        tuple(rows.waiters(connection)),
        (*rows.blocks(connection), *missing),
        rows.meta(connection, "driver") == READY and adopted(connection),
    )


def adopted(connection: sqlite3.Connection) -> bool:
    """Whether the book was compared with the engine's containers since it was made.

    Before that it may be one that was lost and made anew: containers may run with leases that it does
    not know. Nothing is handed out then, and no lease file is removed, for the files tell whose what is.
    """
    return rows.meta(connection, ADOPTED) is not None


def bound(lease: Lease, container: str, name: str, now: float) -> Lease:
    """A lease whose container runs or is about to. Its file stays as it is: that names the slots only."""
    bound_at = lease.bound_at if lease.container == container else None
    return replace(
        lease,
        state=BOUND,
        container=container,
        container_name=name or lease.container_name,
        bound_at=now if bound_at is None else bound_at,
        expires=None,
        held_at=None,
        hold_until=None,
    )


def lease_details(lease: Lease, slots: Mapping[str, Slot]) -> dict[str, Any]:
    """What each event of a lease tells of it.

    :param slots: the host's slots by UUID.
    """
    return {
        "lease": lease.id,
        "slots": [slots[u].index if u in slots else u for u in lease.slots],
        "uuids": list(lease.slots),
        "container": lease.container_name or lease.container[:12],
    }


class Change:
    """The book inside one transaction.

    :param now: seconds of the book's clock.
    :ivar touched: ids of leases whose file may have to change.
    :ivar granted: ids of leases that got slots here.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        now: float,
        files: LeaseFiles,
        source: str,
        settings: GpuSettings,
    ) -> None:
        self.connection = connection
        self.now = now
        self.files = files
        self.source = source
        self.settings = settings
        self.touched: set[str] = set()
        self.granted: set[str] = set()
        self._loaded: Board | None = None

    @property
    def board(self) -> Board:
        """What decisions look at, as it is in this transaction."""
        if self._loaded is None:
            self._loaded = load_board(self.connection, self.files)
        return self._loaded

    def reload(self) -> None:
        """Read what decisions look at anew."""
        self._loaded = None

    @property
    def driver_reason(self) -> str:
        """NVML's words, while the driver does not answer."""
        return rows.meta(self.connection, "driver_reason") or ""

    def event(self, event_type: str, user: str | None, **details: Any) -> None:
        """Commit an event with this change."""
        commit_event(self.connection, Event(event_type, self.source, user=user, details=details))

    # --- requests ---------------------------------------------------------------------------------

    def waiter(self, ticket: str) -> Waiter | None:
        """One request of the queue."""
        return next((w for w in self.board.waiters if w.ticket == ticket), None)

    def put_waiter(self, waiter: Waiter) -> None:
        """Write one request."""
        rows.put_waiter(self.connection, waiter)
        self._loaded = None

    def end_waiter(self, waiter: Waiter, why: Mapping[str, str]) -> None:
        """A request ends without a lease."""
        rows.drop_waiter(self.connection, waiter.ticket)
        rows.put_ended(self.connection, waiter, self.now, dict(why))
        self._loaded = None
        self.event(
            "gpu.wait_ended", waiter.allowance.user, ticket=waiter.ticket, why=why.get("what", "")
        )

    def grant(self, waiter: Waiter, slots: Sequence[Slot]) -> None:
        """A request gets its slots."""
        rows.drop_waiter(self.connection, waiter.ticket)
        allowed = waiter.allowance
        lease = Lease(
            id=waiter.ticket,
            uid=allowed.uid,
            user=allowed.user,
            state=RESERVED,
            slots=tuple(slot.uuid for slot in slots),
            created=self.now,
            ask=waiter.ask,
            expires=self.now + self.settings.reservation_seconds,
            hold=allowed.hold,
            max_runtime=allowed.max_runtime,
        )
        old = self.lease(waiter.ticket)
        if old is not None and old.container:
            # Its container is there already and waits to be started.
            lease = replace(
                lease,
                state=HELD,
                container=old.container,
                container_name=old.container_name,
                expires=None,
                held_at=self.now,
                hold_until=self._hold_until(allowed.hold, self.settings.reservation_seconds),
            )
        self.granted.add(lease.id)
        self.put(lease)
        self._lease_event("gpu.reserved", lease, waited=round(self.now - waiter.asked, 3))

    # --- leases -----------------------------------------------------------------------------------

    def lease(self, lease_id: str) -> Lease | None:
        """One lease."""
        return rows.lease_by_id(self.connection, lease_id)

    def put(self, lease: Lease) -> None:
        """Write one lease; its file follows after the commit."""
        rows.put_lease(self.connection, lease)
        self.touched.add(lease.id)
        self._loaded = None

    def bind(self, lease: Lease, container: str, name: str) -> None:
        """The container has the lease, and runs or is about to."""
        self.put(bound(lease, container, name, self.now))
        if lease.state != BOUND or lease.container != container:
            self._lease_event("gpu.bound", self.lease(lease.id) or lease)

    def hold(self, lease: Lease, since: float) -> None:
        """The container stopped; its slots are kept for a while.

        :param since: when it stopped, seconds of the book's clock.
        """
        since = min(since, self.now)
        until = None if lease.hold is None else since + max(lease.hold, LEAST_HOLD_SECONDS)
        self.put(replace(lease, state=HELD, held_at=since, hold_until=until))
        seconds = None if until is None else round(until - self.now, 3)
        self._lease_event("gpu.held", lease, for_seconds=seconds)

    def revoke(self, lease: Lease, why: str) -> None:
        """First step of an end: no start from now on. The slots stay taken until the second."""
        if lease.revoked is None:
            self.put(replace(lease, revoked=self.now))
            self._lease_event("gpu.revoked", lease, why=why)

    def end_or_resume(self, lease: Lease, users: Sequence[SeenContainer]) -> bool:
        """Second step of an end: free, unless a start was faster than the removal of the file.

        :param users: the containers that name the lease, asked for after its file was removed.
        :returns: whether the lease ended.
        """
        alive = [user for user in users if user.alive]
        if alive:
            lease = replace(lease, revoked=None)
            mine = next((user for user in alive if user.id == lease.container), alive[0])
            self.put(lease)
            self.bind(lease, mine.id, mine.name)
            self._lease_event("gpu.resumed", lease, why=f"container {mine.name} runs with it")
            return False
        self.free(lease, users)
        return True

    def free(self, lease: Lease, users: Sequence[SeenContainer], why: str = "") -> None:
        """The slots are nobody's; the lease's name stays while a container has it."""
        kept = next((user for user in users if user.id == lease.container), None)
        kept = kept or (users[0] if users else None)
        if kept is None:
            rows.drop_lease(self.connection, lease.id)
            self.touched.add(lease.id)
            self._loaded = None
        else:
            self.put(
                replace(
                    lease,
                    state=FREE,
                    container=kept.id,
                    container_name=kept.name,
                    revoked=None,
                    stale=False,
                    expires=None,
                    held_at=None,
                    hold_until=None,
                )
            )
        self._lease_event("gpu.released", lease, **({"why": why} if why else {}))

    def forget(self, lease: Lease) -> None:
        """Nothing names an ended lease any more."""
        rows.drop_lease(self.connection, lease.id)
        self.touched.add(lease.id)
        waiter = self.waiter(lease.id)
        if waiter is not None:
            what = "its container was removed"
            self.end_waiter(waiter, {"what": what, "where": "", "remedy": "", "rule": "lease"})
        self._loaded = None

    def _hold_until(self, hold: float | None, least: float) -> float | None:
        return None if hold is None else self.now + max(hold, least)

    def _lease_event(self, event_type: str, lease: Lease, **more: Any) -> None:
        details = lease_details(lease, self.board.by_uuid)
        self.event(event_type, lease.user, **details, **more)

    # --- slots ------------------------------------------------------------------------------------

    def put_block(self, block: Block) -> None:
        """A slot is not handed out from now on."""
        rows.put_block(self.connection, block)
        self._loaded = None

    def drop_block(self, block: Block) -> None:
        """The block is lifted."""
        rows.drop_block(self.connection, block.slot, block.why)
        self._loaded = None

    def look(self, inventory: Inventory) -> list[str]:
        """Record what NVML says; the kinds of what changed."""
        kinds = []
        before = rows.meta(self.connection, "driver")
        if before != inventory.state:
            rows.put_meta(self.connection, "driver", inventory.state)
            kind = "driver_ready" if inventory.state == READY else inventory.state
            kinds.append(kind)
            self.event(f"gpu.{kind}", None, reason=inventory.reason, before=before)
        rows.put_meta(self.connection, "driver_reason", inventory.reason)
        known = self.board.slots
        slots, changes = settled(known, inventory)
        leased = {uuid for lease in self.board.leases for uuid in lease.slots}
        # Lost slots stay in sight; gone ones only as long as somebody has a lease on them.
        kept = tuple(s for s in slots if s.health != "gone" or s.uuid in leased)
        if kept != known:
            rows.put_slots(self.connection, kept)
            uuids = {slot.uuid for slot in kept}
            for block in rows.blocks(self.connection):
                if block.slot not in uuids:
                    rows.drop_block(self.connection, block.slot, block.why)
        for change in changes:
            if change.kind != "slot_new" or known:
                kinds.append(change.kind)
                self.event(f"gpu.{change.kind}", None, subject=change.subject, **change.details)
        self._loaded = None
        return kinds


def settle(change: Change) -> None:
    """What every change ends with: times that have come count, and the queue is served."""
    now = change.now
    for waiter in change.board.waiters:
        if not waiter.lease and now - waiter.seen > UNSEEN_SECONDS:
            change.end_waiter(waiter, _ended("left", "the one who waited went away", waiter))
    for lease in change.board.leases:
        if lease.revoked is not None:
            continue
        if lease.state == RESERVED and lease.expires is not None and lease.expires <= now:
            change.revoke(lease, "no container was made with it in time")
        if lease.state == HELD and lease.hold_until is not None and lease.hold_until <= now:
            change.revoke(lease, "gpu_hold_after_stop has passed")
    result = pass_queue(change.board, now, change.settings.placement)
    for waiter, refusal in result.refused:
        if refusal.rule != "slots":
            change.end_waiter(waiter, refusal.as_dict())
    for waiter, slots in result.granted:
        change.grant(waiter, slots)
    # Last, so that even with a time of 0 what is free is had.
    for waiter in change.board.waiters:
        if waiter.deadline is not None and waiter.deadline <= now:
            change.end_waiter(waiter, _ended("timeout", "gpu_wait_timeout has passed", waiter))


def _ended(rule: str, what: str, waiter: Waiter) -> dict[str, str]:
    where = waiter.allowance.origins.get("gpu_wait_timeout", "") if rule == "timeout" else ""
    return {"rule": rule, "what": what, "where": where, "remedy": "Ask again"}
