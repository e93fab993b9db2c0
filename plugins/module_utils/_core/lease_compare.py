# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases against the engine's containers; part of :mod:`.reconcile`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .foreign import resolve
from .gpus import OK, READY, Inventory, Slot
from .leases import BOUND, FREE, HELD, HOLDING, RESERVED, Lease
from .sightings import (
    ADOPT,
    BIND,
    BUSY,
    CONFLICT,
    END,
    FORGET,
    HOLD,
    RENEW,
    RETAKE,
    SHARED,
    STALE,
    START,
    UNKNOWN,
    UNSTALE,
    Action,
    LeaseFile,
    SeenContainer,
    SeenProcess,
)

GRACE_SECONDS = 60.0
"""A container bound this recently may still be on its way from create to start."""
ENGINE_START_SECONDS = 120.0
"""What the engine finds dead when it starts, it marks as finished then: seen with 26.1.5, two seconds
after the start of its process, with exit code 255. So much later on a host with many containers."""


class Leases:
    """The book as it will be once the actions are carried out."""

    def __init__(self, leases: Iterable[Lease]) -> None:
        self.leases = {lease.id: lease for lease in sorted(leases, key=lambda lease: lease.id)}
        self.actions: list[Action] = []

    def holders(self) -> dict[str, Lease]:
        """Who has which slot."""
        held = (lease for lease in self.leases.values() if lease.state in HOLDING)
        return {slot: lease for lease in held for slot in lease.slots}

    def bind(self, lease: Lease, seen: SeenContainer, now: float) -> None:
        self.leases[lease.id] = replace(
            lease, state=BOUND, container=seen.id, bound_at=now, held_at=None, hold_until=None
        )
        self.actions.append(
            Action(BIND, lease.id, seen.id, seen.name, lease.slots, at=now, why=seen.state)
        )

    def hold(self, lease: Lease, seen: SeenContainer, at: float) -> None:
        until = None if lease.hold is None else at + lease.hold
        self.leases[lease.id] = replace(
            lease, state=HELD, container=seen.id, held_at=at, hold_until=until
        )
        self.actions.append(
            Action(HOLD, lease.id, seen.id, seen.name, lease.slots, at=at, why=seen.state)
        )

    def end(self, lease: Lease, why: str, forget: bool, now: float) -> None:
        if forget:
            del self.leases[lease.id]
        else:
            self.leases[lease.id] = replace(lease, state=FREE)
        self.actions.append(
            Action(
                END,
                lease.id,
                lease.container,
                lease.container_name,
                lease.slots,
                at=now,
                why=why,
                forget=forget,
            )
        )

    def stale(self, known: Iterable[Slot]) -> None:
        """Mark leases whose slots are not there, and those whose slots are back."""
        sound = {slot.uuid for slot in known if slot.health == OK}
        for lease in list(self.leases.values()):
            missing = tuple(slot for slot in lease.slots if slot not in sound)
            if lease.state in HOLDING and bool(missing) != lease.stale:
                kind = STALE if missing else UNSTALE
                self.leases[lease.id] = replace(lease, stale=bool(missing))
                self.actions.append(Action(kind, lease.id, lease.container, slots=missing))


class Look:
    """The engine's containers and when they were seen."""

    def __init__(
        self,
        containers: tuple[SeenContainer, ...],
        now: float,
        unix_now: float,
        looked: float,
        engine_since: float | None,
        start_failed: frozenset[str],
        starting: frozenset[str],
        waiting: frozenset[str],
    ) -> None:
        self.containers = containers
        self.now = now
        self.unix_now = unix_now
        self.looked = looked
        self.engine_since = engine_since
        self.start_failed = start_failed
        self.starting = starting
        self.waiting = waiting

    def stopped(self, seen: SeenContainer) -> float | None:
        """Book's time at which it stopped; None if it never ran. Never in the future."""
        if seen.state == "created" or not seen.finished:
            return None
        return min(self.now, self.now - (self.unix_now - seen.finished))

    def engine_owes_start(self, lease: Lease, seen: SeenContainer) -> bool:
        """Whether the engine should have started it when the engine itself started.

        An ``unless-stopped`` container is one that ran when the engine went down only if the book
        has not seen it stop. Source: docker-run(1), restart policies.
        """
        policies = ("always", "unless-stopped") if lease.state == BOUND else ("always",)
        if seen.restart_policy not in policies or seen.state != "exited" or lease.stale:
            return False
        if self.engine_since is None:
            return lease.state == BOUND
        slack = ENGINE_START_SECONDS if lease.state == BOUND else 0.0
        return seen.finished < self.engine_since + slack


class Compare:
    """Leases against the engine's containers."""

    def __init__(self, book: Leases, look: Look) -> None:
        self.book = book
        self.look = look
        self.open_slots: list[tuple[SeenContainer, Iterable[str]]] = []
        """Running containers that have slots which are not theirs any more."""

    def known_leases(self) -> None:
        """Every lease of the book; ended ones last, so that they see who has their slots."""
        before = sorted(self.book.leases.values(), key=lambda lease: lease.state == FREE)
        for lease in before:
            named = [
                seen
                for seen in self.look.containers
                if lease.id in seen.leases or seen.id == lease.container
            ]
            if not named:
                self._without_container(lease)
                continue
            seen = self._first(named, lease.container)
            for other in named:
                if other is not seen:
                    self._report(SHARED, lease.id, other, lease.slots, holders=(lease.id,))
            if seen.alive:
                self._running(lease, seen)
            elif seen.state != BUSY:
                self._stopped(lease, seen)

    @staticmethod
    def _first(named: Iterable[SeenContainer], bound_to: str) -> SeenContainer:
        """The one a lease belongs to. Its slots stay taken as long as any of them runs."""

        def rank(seen: SeenContainer) -> tuple[bool, bool, bool, float, str]:
            return not seen.alive, seen.state != BUSY, seen.id != bound_to, seen.created, seen.id

        return min(named, key=rank)

    def _without_container(self, lease: Lease) -> None:
        now = self.look.now
        if lease.state == RESERVED:
            if lease.expires is not None and lease.expires <= now:
                self.book.end(lease, "expired", True, now)
        elif lease.state == FREE:
            del self.book.leases[lease.id]
            self.book.actions.append(Action(FORGET, lease.id, lease.container))
        elif not self._newer_than_the_list(lease):
            self.book.end(lease, "container_gone", True, now)

    def _newer_than_the_list(self, lease: Lease) -> bool:
        return lease.bound_at is not None and lease.bound_at > self.look.looked

    def _running(self, lease: Lease, seen: SeenContainer) -> None:
        if lease.state == FREE:
            self._retake(lease, seen)
        elif lease.state != BOUND or lease.container != seen.id:
            self.book.bind(lease, seen, self.look.now)

    def _retake(self, lease: Lease, seen: SeenContainer) -> None:
        holders = self.book.holders()
        taken = [slot for slot in lease.slots if slot in holders]
        if taken or not lease.slots:
            self.open_slots.append((seen, lease.slots))
            self._report(
                CONFLICT,
                lease.id,
                seen,
                lease.slots,
                holders=tuple(sorted({holders[slot].id for slot in taken})),
            )
            return
        self.book.leases[lease.id] = replace(
            lease, state=BOUND, container=seen.id, bound_at=self.look.now
        )
        self.book.actions.append(
            Action(RETAKE, lease.id, seen.id, seen.name, lease.slots, at=self.look.now)
        )

    def _stopped(self, lease: Lease, seen: SeenContainer) -> None:
        if lease.state == RESERVED:
            self.book.bind(lease, seen, self.look.now)
            lease = self.book.leases[lease.id]
        if seen.id in self.look.starting:
            return
        if self.look.engine_owes_start(lease, seen):
            if seen.id in self.look.start_failed:
                if lease.state == BOUND:
                    self.book.hold(lease, seen, self.look.now)
                    lease = self.book.leases[lease.id]
            elif lease.state != FREE:
                self.book.actions.append(Action(START, lease.id, seen.id, seen.name))
                return
            elif lease.id not in self.look.waiting:
                self.book.actions.append(Action(RENEW, lease.id, seen.id, seen.name))
        if lease.state == BOUND and not self._newer_than_the_list(lease):
            self._hold(lease, seen)
            lease = self.book.leases[lease.id]
        due = lease.hold_until is not None and lease.hold_until <= self.look.now
        if lease.state == HELD and due:
            self.book.end(lease, "hold_over", False, self.look.now)

    def _hold(self, lease: Lease, seen: SeenContainer) -> None:
        now = self.look.now
        bound = now if lease.bound_at is None else lease.bound_at
        stopped = self.look.stopped(seen)
        if stopped is not None and stopped > bound:
            self.book.hold(lease, seen, stopped)
        elif now >= bound + GRACE_SECONDS:
            # Never started since it was bound. An exited one may also have stopped before the
            # wall clock was set: then the hold begins now, rather than too early.
            self.book.hold(lease, seen, bound if stopped is None else now)

    def lost_leases(
        self,
        files: Mapping[str, LeaseFile],
        inventory: Inventory,
        known: Sequence[Slot],
        processes: Sequence[SeenProcess],
    ) -> None:
        """Leases that containers name and the book does not know."""
        named = {id_ for seen in self.look.containers for id_ in seen.leases}
        evidence = _Evidence(inventory, known, processes)
        ordered: list[tuple[bool, float, str, SeenContainer, list[SeenContainer]]] = []
        for lease_id in sorted(named - set(self.book.leases)):
            users = [seen for seen in self.look.containers if lease_id in seen.leases]
            first = self._first(users, "")
            ordered.append((not first.alive, first.created, lease_id, first, users))
        # Whoever runs comes before whoever does not.
        for _alive, _created, lease_id, first, users in sorted(ordered, key=lambda row: row[:3]):
            for other in users:
                if other is not first:
                    self._report(SHARED, lease_id, other)
            if first.state == BUSY:
                continue
            self._adopt(lease_id, first, files.get(lease_id), evidence)

    def _adopt(
        self, lease_id: str, seen: SeenContainer, file: LeaseFile | None, evidence: _Evidence
    ) -> None:
        if file is None:
            slots = evidence.slots(seen) if seen.alive else ()
            file = LeaseFile(slots)
        if not file.slots:
            self._report(UNKNOWN, lease_id, seen)
            return
        holders = self.book.holders()
        taken = sorted({holders[slot].id for slot in file.slots if slot in holders})
        if taken:
            if seen.alive:
                self.open_slots.append((seen, file.slots))
            self._report(CONFLICT, lease_id, seen, file.slots, holders=tuple(taken))
            return
        now = self.look.now
        state = BOUND if seen.alive else HELD
        self.book.leases[lease_id] = Lease(
            lease_id, file.uid, file.user, state, file.slots, now, container=seen.id, bound_at=now
        )
        self.book.actions.append(
            Action(
                ADOPT,
                lease_id,
                seen.id,
                seen.name,
                file.slots,
                state,
                at=now,
                uid=file.uid,
                user=file.user,
            )
        )

    def _report(
        self,
        kind: str,
        lease_id: str,
        seen: SeenContainer,
        slots: tuple[str, ...] = (),
        holders: tuple[str, ...] = (),
    ) -> None:
        self.book.actions.append(
            Action(
                kind,
                lease_id,
                seen.id,
                seen.name,
                slots,
                why=seen.state,
                holders=holders,
                details={"running": seen.alive},
            )
        )


class _Evidence:
    """Slots that a running container has, by what NVML and the kernel show."""

    def __init__(
        self, inventory: Inventory, known: Sequence[Slot], processes: Sequence[SeenProcess]
    ) -> None:
        self.inventory = inventory
        self.known = sorted(known, key=lambda slot: (slot.order, slot.uuid))
        self.processes = processes

    def slots(self, seen: SeenContainer) -> tuple[str, ...]:
        if self.inventory.state != READY:
            return ()
        used = {process.slot for process in self.processes if process.container_id == seen.id}
        found = tuple(slot.uuid for slot in self.known if slot.uuid in used)
        if found:
            return found
        minors = {f"minor:{minor}" for minor in seen.nodes}
        nodes = resolve(minors, self.known, self.inventory)
        return tuple(slot.uuid for slot in self.known if slot.uuid in nodes and not slot.is_mig)
