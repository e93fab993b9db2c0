# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease book: request, reserve, bind, hold, free. One transaction decides.

A grant is committed first and its file written after it: nobody knows the id before. An end goes the
other way in two steps: the lease is revoked (committed), its file removed, and only when the engine,
asked after that, runs no container with it, its slots are free. So a crash at any step leaves a slot
taken rather than taken twice, and :meth:`Book.repair` or the next change finishes what was begun.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from . import book_rows as rows
from .allot import Board, pass_queue, refuse_taken
from .book_change import Change, adopted
from .book_frame import FAULT_POINTS, SETTLE_SECONDS
from .book_slots import Slots
from .book_view import EngineView, Outcome, Queued, Report, Snapshot
from .errors import Ds01Error
from .events import Event, EventError, append
from .gpu_request import check, use_of, well_formed
from .lease_files import sound_id
from .leases import BOUND, FREE, HELD, RESERVED, Allowance, Ask, Lease, Refused, Waiter

__all__ = [
    "FAULT_POINTS",
    "SETTLE_SECONDS",
    "Book",
    "EngineView",
    "Outcome",
    "Queued",
    "Report",
    "Snapshot",
]

REFUSAL_SECONDS = 60.0
"""The same refusal of the same user is an event once in so long."""
REFUSALS_KEPT = 1000


class Book(Slots):
    """The lease book of this host. Whoever opens the store decides; the daemon has no private truth.

    Parameters are those of :class:`.book_frame.Frame`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # When this process told a refusal last, so that asking in a loop does not fill the log.
        self._refused: dict[tuple[int, str, Ask], float] = {}

    # --- asking ---------------------------------------------------------------------------------

    def request(
        self,
        ask: Ask,
        allowance: Allowance,
        *,
        queue: bool = True,
        lease: str = "",
        ticket: str = "",
    ) -> Outcome:
        """Reserve slots, or wait for them.

        :param queue: whether to wait when nothing fits now.
        :param lease: an ended lease that gets new slots under its old id.
        :param ticket: makes it idempotent: the same ticket again gives what came of it.
        :raises Refused: no waiting would help, or nothing fits and ``queue`` is False.
        :raises Ds01Error: the store or a lease file cannot be written; nothing was granted.
        """
        try:
            return self._request(ask, allowance, queue, lease, ticket)
        except Refused as refusal:
            self._tell_refusal(refusal, ask, allowance)
            raise

    def _request(
        self, ask: Ask, allowance: Allowance, queue: bool, lease: str, ticket: str
    ) -> Outcome:
        ask = well_formed(ask)
        ticket = lease or ticket or f"l{secrets.token_hex(8)}"
        if not sound_id(ticket):
            raise Refused("ticket", f"{ticket[:80]!r} is no ticket", "ticket")
        with self._change() as change:
            known = self._known(change, ticket, allowance.uid, renewing=bool(lease))
            if known is not None:
                return known
            board = change.board
            if not adopted(change.connection):
                raise Refused(
                    "driver",
                    "the lease book is new and was not compared with the engine's containers yet",
                    "",
                    "Try again in a moment; ds01d does it when the engine answers",
                )
            if not board.ready:
                raise Refused(
                    "driver",
                    "the GPU driver does not answer, so nothing is handed out",
                    change.driver_reason,
                    "Tell your administrator; 'ds01 gpu status' shows when it is back",
                )
            used = use_of(board.leases, board.by_uuid, allowance.uid)
            others = [w for w in board.waiters if w.allowance.uid == allowance.uid]
            check(ask, allowance, board.slots, used, others)
            deadline = None if allowance.wait is None or lease else change.now + allowance.wait
            waiter = Waiter(ticket, change.now, change.now, deadline, ask, allowance, lease)
            if ask.devices:
                queue = False
            granted = self._try(change, waiter)
            if not granted and not queue:
                raise self._nothing_free(waiter, board)
            change.put_waiter(waiter)
            if not granted:
                change.event("gpu.queued", allowance.user, ask=asdict(ask), ticket=ticket)
        return self.poll(ticket, seen=False) or Outcome()

    def _known(self, change: Change, ticket: str, uid: int, renewing: bool) -> Outcome | None:
        """What is there already under this ticket.

        :raises Refused: it is somebody else's, or a lease that cannot be renewed.
        """
        lease = change.lease(ticket)
        waiter = change.waiter(ticket)
        owner = lease.uid if lease else waiter.allowance.uid if waiter else uid
        if owner != uid:
            raise Refused("owner", "this ticket is somebody else's", "ticket")
        if waiter:
            return Outcome(waiting=waiter)
        if lease is None:
            if renewing:
                raise Refused("lease", f"there is no lease {ticket}", "lease", "Ask for a new one")
            return None
        if lease.revoked is not None:
            what = f"lease {ticket} is being ended"
            raise Refused("lease", what, "lease", "Ask again in a moment")
        if lease.holding:
            # Whoever granted it may have died before its file was written.
            change.touched.add(lease.id)
            return Outcome(granted=lease)
        if not renewing:
            raise Refused("lease", f"lease {ticket} has ended", "ticket", "Ask for a new one")
        return None

    def _try(self, change: Change, waiter: Waiter) -> bool:
        board = replace(change.board, waiters=(*change.board.waiters, waiter))
        result = pass_queue(board, change.now, self.settings.placement)
        return any(served.ticket == waiter.ticket for served, _slots in result.granted)

    def _nothing_free(self, waiter: Waiter, board: Board) -> Refused:
        if waiter.ask.devices:
            return refuse_taken(waiter, board)
        return Refused(
            "busy",
            "no GPU that fits is free now",
            "",
            "Wait for one: ds01 gpu request --wait; see who has them: ds01 gpu status",
        )

    def _tell_refusal(self, refusal: Refused, ask: Ask, allowance: Allowance) -> None:
        key = (allowance.uid, refusal.rule, ask)
        now = time.monotonic()
        if now - self._refused.get(key, -REFUSAL_SECONDS) < REFUSAL_SECONDS:
            return
        if len(self._refused) >= REFUSALS_KEPT:
            self._refused.clear()
        self._refused[key] = now
        details = {"ask": asdict(ask), **refusal.as_dict()}
        event = Event("gpu.refused", self.source, user=allowance.user, details=details)
        # The refusal stands whether or not it can be recorded.
        with contextlib.suppress(EventError):
            append(self.events_path, event)

    def poll(self, ticket: str, seen: bool = True) -> Outcome | None:
        """What has come of a request; None when nothing is known of it (any more).

        :param seen: whether the one who waits is there; a request that nobody asks for is dropped
            after :data:`.book_change.UNSEEN_SECONDS`.
        """
        with self.store.reading() as connection:
            lease = rows.lease_by_id(connection, ticket)
            waiter = next((w for w in rows.waiters(connection) if w.ticket == ticket), None)
            ended = rows.ended(connection, ticket)
            now = self._now(connection)
        if waiter is not None:
            if seen and now - waiter.seen > 20:
                with self._change() as change:
                    current = change.waiter(ticket)
                    if current is not None:
                        change.put_waiter(replace(current, seen=change.now))
            return Outcome(waiting=waiter)
        if lease is not None and lease.holding and lease.revoked is None:
            return Outcome(granted=lease)
        return Outcome(ended=ended) if ended else None

    def cancel(self, ticket: str, why: str) -> bool:
        """Take a request out of the queue; a lease that came of it ends, if nothing uses it yet."""
        with self._change() as change:
            waiter = change.waiter(ticket)
            if waiter is not None:
                change.end_waiter(waiter, {"what": why, "where": "", "remedy": "", "rule": "left"})
                return True
            lease = change.lease(ticket)
            if lease is not None and lease.state == RESERVED and lease.revoked is None:
                change.revoke(lease, why)
                return True
        return False

    def set_allowances(self, allowances: Mapping[int, Allowance]) -> None:
        """Limits have changed: waiting requests follow them.

        :param allowances: by uid; users that are not in it keep theirs.
        """
        with self._change() as change:
            for waiter in change.board.waiters:
                new = allowances.get(waiter.allowance.uid)
                if new is not None and new != waiter.allowance:
                    deadline = None if new.wait is None else waiter.asked + new.wait
                    deadline = None if waiter.lease else deadline
                    change.put_waiter(replace(waiter, allowance=new, deadline=deadline))

    # --- a container's life -----------------------------------------------------------------------

    def bind(self, lease_id: str, container: str, container_name: str = "") -> Lease:
        """A container was created with the lease.

        :raises Refused: the lease has ended, or belongs to another container.
        """
        with self._change() as change:
            lease = self._must(change, lease_id)
            if lease.container and lease.container != container:
                raise Refused(
                    "lease",
                    f"lease {lease_id} belongs to container {lease.container_name}",
                    "lease",
                    "One lease is for one container: ask for another",
                )
            if not lease.holding or lease.revoked is not None:
                raise Refused("lease", f"lease {lease_id} has ended", "lease", "Ask for a new one")
            change.bind(lease, container, container_name)
        return self._get(lease_id)

    def container_started(self, lease_id: str, container: str) -> None:
        """The lease's container runs (again)."""
        with self._change() as change:
            lease = change.lease(lease_id)
            if lease and lease.state == HELD and lease.container == container:
                change.bind(lease, container, lease.container_name)

    def container_stopped(self, lease_id: str, container: str) -> None:
        """The lease's container stopped: its GPU is held for a while."""
        with self._change() as change:
            lease = change.lease(lease_id)
            if lease and lease.state == BOUND and lease.container == container:
                change.hold(lease, change.now)

    def container_gone(self, lease_id: str, container: str) -> None:
        """The lease's container was removed."""
        with self._change() as change:
            lease = change.lease(lease_id)
            if lease and lease.holding and lease.container == container:
                change.revoke(lease, "container removed")

    # --- ending -----------------------------------------------------------------------------------

    def release(self, lease_id: str, by: str, engine: EngineView, wait: bool = True) -> Lease:
        """End a lease.

        :param by: who asks, for the event.
        :param wait: wait for the second step, :attr:`settle_seconds`; else :meth:`finish` does it.
        :returns: the lease as it is then.
        :raises Refused: there is none, or a container runs with it.
        :raises Ds01Error: the engine does not answer: nothing is freed blindly.
        """
        lease = self._get(lease_id)
        if lease.holding and lease.revoked is None:
            running = [c.name for c in engine.containers_of(lease_id) if c.alive]
            if running:
                raise Refused(
                    "running",
                    f"container {running[0]} runs with this lease",
                    "lease",
                    f"Stop it first: docker stop {running[0]}",
                )
            with self._change() as change:
                lease = self._must(change, lease_id)
                if lease.holding and lease.revoked is None:
                    change.revoke(lease, f"released by {by}")
        if wait:
            for revoked in self._revoked():
                self._file_long_gone(revoked)
            time.sleep(self.settle_seconds)
            self.finish(engine)
            with self.store.reading() as connection:
                found = rows.lease_by_id(connection, lease_id)
            return found or replace(lease, state=FREE)
        return self._get(lease_id)

    def finish(self, engine: EngineView) -> list[str]:
        """The second step of every end whose time has come.

        :returns: ids of the leases that ended. While the engine does not answer, none does.
        """
        done = []
        for lease in self._revoked():
            if not self._file_long_gone(lease):
                continue
            try:
                users = engine.containers_of(lease.id)
            except Ds01Error:
                continue
            self.fault("engine_asked")
            with self._change() as change:
                current = change.lease(lease.id)
                if current is None or current.revoked != lease.revoked or not current.holding:
                    continue
                if change.end_or_resume(current, users):
                    done.append(lease.id)
            self.file_gone.pop((lease.id, lease.revoked), None)
        return done

    def _revoked(self) -> list[Lease]:
        with self.store.reading() as connection:
            return [one for one in rows.holding(connection) if one.revoked is not None]

    def _file_long_gone(self, lease: Lease) -> bool:
        """Whether this process has seen for :attr:`settle_seconds` that there is no file.

        The time of the revocation would not do: whoever revoked it may have been held up, or have
        died, before the file was removed.
        """
        if not self.files.gone(lease.id):
            with self._change() as change:
                change.touched.add(lease.id)
            return False
        key = (lease.id, lease.revoked)
        since = self.file_gone.setdefault(key, self.now())
        return self.now() - since >= self.settle_seconds
