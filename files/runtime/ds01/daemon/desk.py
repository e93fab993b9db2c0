# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs, with the book."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ds01.core.book import Book, EngineView, Outcome, Snapshot
from ds01.core.leases import ANY, Allowance, Ask, Lease, Refused, Waiter
from ds01.daemon import owner_desk, protocol
from ds01.daemon.allowances import Directory, LimitsFile
from ds01.daemon.owner_desk import Looked, OwnerDesk
from ds01.daemon.protocol import Request, RequestError, ended_line, error_line
from ds01.daemon.reasons import reasons
from ds01.daemon.server import Board, Caller
from ds01.daemon.views import View, one_of
from ds01.door_refusals import DoorRefusals
from ds01.host.accounts import HostAccount

ADMIN_VERBS = frozenset({"drain", "undrain", "reconcile"})
# They ask the engine, so they must not hold up the others.
SLOW_VERBS = frozenset({"release", "reconcile"})
_NAMED = frozenset({"request", "release", "drain", "undrain"})
_REFUSALS_KEPT = 1000
# Each of these leaves an event, and a log that is full of one user's tells nothing of the others.
COUNTED_VERBS = frozenset({"request", "release", "cancel"})
BURST = 60
SECONDS_EACH = 2.0


@dataclass(frozen=True)
class Prepared:
    """What was looked up for a request.

    :param account: whom it is for: the caller, or whom an administrator names.
    :param by: the caller's name.
    :param owners: what was looked up for a verb about owners.
    """

    account: HostAccount | None = None
    by: str = ""
    owners: Looked = field(default_factory=Looked)


class Pace:
    """How often each user may ask: so many at once, and then one each few seconds.

    :param clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clear: dict[int, float] = {}

    def take(self, uid: int) -> None:
        """One more of this user.

        :raises RequestError: it is one too many now.
        """
        now = self._clock()
        clear = max(now, self._clear.get(uid, now)) + SECONDS_EACH
        if clear - now > BURST * SECONDS_EACH:
            what = f"more than {BURST} requests in a short time"
            remedy = f"Ask again in {SECONDS_EACH:g} s, and not in a loop: ds01 gpu request --wait"
            raise RequestError(protocol.BUSY, what, "ds01d", remedy, "pace")
        if len(self._clear) > _REFUSALS_KEPT:
            self._clear = {who: at for who, at in self._clear.items() if at > now}
        self._clear[uid] = clear


class GpuDesk:
    """The verbs of the daemon.

    :param reconcile: compares the book with the world now; returns what was done.
    :param door: what the gateway refused.
    :param owners: the verbs about owners; without it they are refused.
    """

    def __init__(
        self,
        book: Book,
        engine: EngineView,
        limits: LimitsFile,
        directory: Directory,
        reconcile: Callable[[], dict[str, Any]],
        door: DoorRefusals | None = None,
        owners: OwnerDesk | None = None,
    ) -> None:
        self.book = book
        self.owners = owners
        self._engine = engine
        self._limits = limits
        self._directory = directory
        self._reconcile = reconcile
        self.allowances: dict[int, Allowance] = {}
        self._refusals: dict[int, dict[str, str]] = {}
        self._door = door or DoorRefusals()
        self._pace = Pace()

    # --- before the worker --------------------------------------------------------------------------

    def is_slow(self, verb: str) -> bool:
        """Whether a verb waits for the engine."""
        return verb in SLOW_VERBS or verb in owner_desk.SLOW_VERBS

    async def prepare(self, request: Request, caller: Caller) -> Prepared:
        """Who it is about.

        :raises RequestError: the caller may not, or too often, or somebody is not known.
        """
        if request.verb in owner_desk.VERBS:
            return Prepared(owners=await self._owners().prepare(request, caller))
        if request.verb in ADMIN_VERBS and not caller.admin:
            what = f"{request.verb} is for administrators"
            raise RequestError(protocol.NOT_ALLOWED, what, "ds01d", "Ask one of them", "admin")
        if request.verb in COUNTED_VERBS and caller.uid:
            self._pace.take(caller.uid)
        user = request.get("user", "")
        if request.verb not in _NAMED:
            return Prepared()
        mine = await self._directory.account(caller.uid)
        if request.verb != "request" or not user or user == mine.name:
            return Prepared(mine, mine.name)
        if not caller.admin:
            what = f"{mine.name} cannot ask for {user}"
            remedy = "Leave the user out: everybody asks for himself"
            raise RequestError(protocol.NOT_ALLOWED, what, "user", remedy, "admin")
        return Prepared(await self._directory.account(user), mine.name)

    # --- in the worker ------------------------------------------------------------------------------

    def view(self, caller: Caller, snapshot: Snapshot | None = None) -> View:
        """The book as a caller may see it."""
        found = snapshot or self.book.snapshot()
        return View(found, caller.uid, caller.admin, self.allowances)

    def answer(self, request: Request, caller: Caller, prepared: Prepared) -> dict[str, Any]:
        """The answer of a verb that does not wait.

        :raises Ds01Error: it is refused, or the store cannot be used.
        """
        verb = request.verb
        if verb in owner_desk.VERBS:
            return self._owners().answer(request, caller, prepared.owners)
        if verb == "ping":
            return {"pong": True}
        if verb == "status":
            return self.view(caller).status(request.get("user", ""))
        if verb == "queue":
            return self.view(caller).queue()
        if verb == "why":
            subject = request.get("subject", "")
            at_door = self._door.of(caller.uid)
            boxes = self.owners.containers(subject, caller) if self.owners and subject else []
            return {"reasons": reasons(self.view(caller), subject, self._refusals, at_door, boxes)}
        if verb == "cancel":
            ticket = request.fields["ticket"]
            done = self.cancel(ticket, caller, "cancelled by its user")
            return {"changed": done}
        if verb == "release":
            return self._release(request.get("lease", ""), caller, prepared.by)
        if verb == "drain":
            slot, message = request.fields["slot"], request.get("message", "")
            return {"changed": self.book.drain(slot, message, prepared.by)}
        if verb == "undrain":
            return {"changed": self.book.undrain(request.fields["slot"], prepared.by)}
        return self._reconcile()

    def request(self, request: Request, caller: Caller, prepared: Prepared) -> dict[str, Any]:
        """``{"granted": …}`` or ``{"waiting": …}``.

        :raises Ds01Error: it is refused.
        """
        if prepared.account is None:
            raise RequestError(protocol.FAULT, "nobody was looked up for a request")
        allowance = self._limits.allowance(prepared.account)
        self.allowances[allowance.uid] = allowance
        lease_id = request.get("lease", "")
        ask = Ask(
            count=request.get("count", 1),
            kind=request.get("kind", ANY),
            devices=tuple(request.get("devices", ())),
            note=request.get("note", ""),
        )
        if lease_id:
            # The same as it was granted first: its container expects no less.
            lease = self._one(lease_id, caller)
            lease_id, ask = lease.id, lease.ask
        try:
            outcome = self.book.request(
                ask,
                allowance,
                queue=request.get("wait", True),
                lease=lease_id,
                ticket=request.get("ticket", ""),
            )
        except Refused as refusal:
            self._remember(allowance.uid, refusal)
            raise
        return self._outcome(outcome, caller)

    def poll(self, ticket: str, caller: Caller) -> dict[str, Any]:
        """What has come of a ticket.

        :raises RequestError: there is none of the caller's.
        """
        outcome = self.book.poll(ticket)
        mine = outcome is not None and self._owns(outcome, caller)
        if outcome is None or not mine:
            what = "there is no such request of yours (any more)"
            raise RequestError(protocol.NOT_FOUND, what, "ticket", "Ask again: ds01 gpu request")
        return self._outcome(outcome, caller)

    def cancel(self, ticket: str, caller: Caller, why: str) -> bool:
        """Give a ticket up, if it is the caller's."""
        outcome = self.book.poll(ticket, seen=False)
        if outcome is None or outcome.ended or not self._owns(outcome, caller):
            return False
        return self.book.cancel(ticket, why)

    def touch(self, tickets: list[str]) -> None:
        """Their holders are still there."""
        for ticket in tickets:
            self.book.poll(ticket, seen=True)

    def board(self, snapshot: Snapshot) -> Board:
        """What those who wait look at."""
        view = self.view(Caller(0, True), snapshot)
        # Each row goes to the holder of its ticket alone.
        rows = {r.waiter.ticket: {**view.waiting(r), "mine": True} for r in snapshot.queue}
        return Board(rows, self.book.due())

    def _owners(self) -> OwnerDesk:
        if self.owners is None:
            raise RequestError(protocol.HOST, "owners are not kept here", "ds01d")
        return self.owners

    @staticmethod
    def _owns(outcome: Outcome, caller: Caller) -> bool:
        if outcome.granted:
            return caller.admin or outcome.granted.uid == caller.uid
        if outcome.waiting:
            return caller.admin or outcome.waiting.allowance.uid == caller.uid
        # What has ended names nobody; the ticket is known to nobody else.
        return outcome.ended is not None

    def _outcome(self, outcome: Outcome, caller: Caller) -> dict[str, Any]:
        if outcome.ended:
            return ended_line(outcome.ended)
        view = self.view(caller)
        if outcome.granted:
            return {"granted": view.lease(outcome.granted)}
        waiter = outcome.waiting
        if waiter is None:
            raise RequestError(protocol.NOT_FOUND, "the request is not known any more", "ticket")
        return {"waiting": self._place(view, waiter)}

    @staticmethod
    def _place(view: View, waiter: Waiter) -> dict[str, Any]:
        for row in view.snapshot.queue:
            if row.waiter.ticket == waiter.ticket:
                return view.waiting(row)
        # Served between the two looks: the next one says so.
        return {
            "ticket": waiter.ticket,
            "position": 1,
            "of": 1,
            "eta": 0.0,
            "reason": "it is being served",
        }

    def _release(self, subject: str, caller: Caller, by: str) -> dict[str, Any]:
        lease = self._one(subject, caller)
        self.book.release(lease.id, by, self._engine, wait=False)
        return {"released": self.view(caller).lease(lease)}

    def _one(self, subject: str, caller: Caller) -> Lease:
        """The lease that is meant; without a subject the caller's only one.

        :raises RequestError: there is none, or there are several.
        """
        view = self.view(caller)
        if subject:
            found = view.find_leases(subject)
        else:
            found = [
                lease
                for lease in view.snapshot.leases
                if lease.uid == caller.uid and lease.holding and lease.revoked is None
            ]
        lease = one_of(found)
        if lease is not None:
            return lease
        if found:
            what = f"{len(found)} leases could be meant"
            remedy = "Name one by its id: ds01 gpu status --json"
        else:
            what = f"you have no lease {subject[:80]!r}" if subject else "you have no lease"
            remedy = "See ds01 gpu status"
        raise RequestError(protocol.NOT_FOUND, what, "lease", remedy)

    def _remember(self, uid: int, refusal: Refused) -> None:
        if len(self._refusals) >= _REFUSALS_KEPT:
            self._refusals.clear()
        self._refusals[uid] = error_line(refusal)["error"]
