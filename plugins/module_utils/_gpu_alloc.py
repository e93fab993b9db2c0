# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ds01_gpu_alloc does: leases by name, ends, drains and reconciliation, for playbooks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from . import _gpu_shell as shell
from ._core.book import Book, Outcome, Snapshot
from ._core.errors import Ds01Error
from ._core.gpu_request import named_slots, well_formed
from ._core.leases import ANY, Allowance, Ask, Lease, Refused
from ._core.lookout import Lookout
from ._core.sightings import RENEW, START, Action

NAME_MAX = 64
POLL_SECONDS = 1.0
#: Which options a state reads; another one that is set is a mistake, not to be passed over.
OPTIONS = {
    "allocated": {"user", "request", "count", "kind", "devices", "note", "wait", "lease"},
    "released": {"user", "request", "lease", "container"},
    "drained": {"slot", "reason"},
    "undrained": {"slot"},
    "reconciled": set[str](),
}


def change(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Open the book, or in check mode a copy of it, and do what is asked.

    :param params: the module's.
    :returns: the module's result.
    :raises Ds01Error: it cannot be done; nothing was changed then.
    """
    _refuse_strange(params)
    engine = shell.engine(params["engine_socket"])
    with shell.opened(params, "ds01_gpu_alloc", trial=check_mode) as book:
        if params["state"] == "allocated":
            _reconcile(book, engine)
        elif params["state"] in ("drained", "undrained"):
            book.look(shell.inventory_now())
        before = book.snapshot(eta=False)
        result = STATES[params["state"]](book, params, engine, check_mode)
        after = book.snapshot(eta=False)
    result["diff"] = {
        "before": shell.table(before),
        "after": shell.table(after),
        "before_header": params["store_path"],
        "after_header": params["store_path"],
    }
    return result


def _refuse_strange(params: Mapping[str, Any]) -> None:
    """Options of another state, and names that cannot be meant."""
    state = params["state"]
    known = OPTIONS[state]
    for option in sorted(set[str]().union(*OPTIONS.values()) - known):
        if params[option] not in (None, 0):
            raise Ds01Error(
                f"{option} says nothing with state={state}", option, "Leave it out, or set state"
            )
    name = params["request"]
    if name is not None and not (0 < len(name) <= NAME_MAX and name.isprintable()):
        raise Ds01Error(f"a request's name has 1 to {NAME_MAX} printable characters", "request")
    if params["wait"] < 0:
        raise Ds01Error("wait is no number of seconds", "wait", "0 does not wait")


# --- leasing --------------------------------------------------------------------------------------


def allocate(book: Book, params: Mapping[str, Any], engine: Lookout, trial: bool) -> dict[str, Any]:
    """Lease slots, or find the lease that a former run made for the same."""
    ask = well_formed(_ask(params))
    account = shell.account_of(params["user"])
    allowance = shell.allowance_of(account, params["limits_path"])
    # Between the look for the lease and the request no other run comes in.
    with book.store.locked():
        snapshot = book.snapshot(eta=False)
        known = _known(snapshot, account.uid, params)
        if known and params["lease"] and not _says_what(params):
            ask = known.ask
        if known and known.revoked is not None:
            raise Refused("lease", f"lease {known.id} is being ended", "", "Try again in a moment")
        if known and known.holding:
            _refuse_another(known, ask, snapshot)
            return _answer(book, Outcome(granted=known), changed=False)
        renewed = params["lease"] or (known.id if known else "")
        outcome = _request(book, ask, allowance, params["wait"] > 0, renewed)
    if outcome.waiting and not trial:
        outcome = _wait(book, outcome.waiting.ticket, params["wait"], engine)
    return _answer(book, outcome, changed=True)


def _reconcile(book: Book, engine: Lookout) -> list[Action]:
    """Compare the book with the engine and NVML, and finish what is under way or was broken off.

    With the daemon down nobody else does. A book that was lost and made anew knows only after this
    which slots running containers have, and no book knows without it who uses a GPU without a lease.

    :raises Ds01Error: the engine does not answer: then nobody knows what runs.
    """
    looked = book.now()
    containers = engine.containers()
    found = shell.inventory_now()
    report = book.reconcile(found, containers, engine.processes(found), looked=looked)
    if any(lease.revoked is not None for lease in book.snapshot(eta=False).leases):
        book.finish(engine)
        time.sleep(book.settle_seconds)
        book.finish(engine)
    return list(report.actions)


def _says_what(params: Mapping[str, Any]) -> bool:
    return any(params[option] is not None for option in ("count", "kind", "devices"))


def _ask(params: Mapping[str, Any]) -> Ask:
    count, kind = params["count"], params["kind"]
    return Ask(
        count=1 if count is None else count,
        kind=ANY if kind is None else kind,
        devices=tuple(params["devices"] or ()),
        note=params["note"] or "",
        name=params["request"] or "",
    )


def _known(book: Snapshot, uid: int, params: Mapping[str, Any]) -> Lease | None:
    """The user's lease that is renewed, or that a request with this name has led to."""
    if params["lease"]:
        found = next((lease for lease in book.leases if lease.id == params["lease"]), None)
        # Somebody else's is for the book to refuse.
        return found if found and found.uid == uid else None
    return _named(book, uid, params["request"] or "")


def _request(book: Book, ask: Ask, allowance: Allowance, queue: bool, renewed: str) -> Outcome:
    """Ask the book, unless a request with that name waits already.

    :raises Refused: it is not allowed, or nothing is free and nobody wants to wait.
    """
    if ask.name:
        for queued in book.snapshot(eta=False).queue:
            waiter = queued.waiter
            if (waiter.allowance.uid, waiter.ask.name) != (allowance.uid, ask.name):
                continue
            if queue:
                return Outcome(waiting=waiter)
            raise Refused(
                "busy",
                f"request {ask.name} of {allowance.user} waits already, "
                f"at position {queued.position} of the queue",
                "request",
                "Set wait to wait for it, or state=released to give it up",
            )
    return book.request(ask, allowance, queue=queue, lease=renewed)


def _named(book: Snapshot, uid: int, name: str) -> Lease | None:
    """A user's lease by the name of its request; one that holds slots before one that has ended."""
    mine = [lease for lease in book.leases if name and (lease.uid, lease.ask.name) == (uid, name)]
    return max(mine, key=lambda lease: (lease.holding, lease.created), default=None)


def _refuse_another(lease: Lease, ask: Ask, book: Snapshot) -> None:
    """A name that is in use for something else.

    :raises Refused: what is asked for now is not what the lease is.
    """
    if ask.devices:
        same = tuple(slot.uuid for slot in named_slots(ask, book.slots)) == lease.slots
    else:
        same = (ask.count, ask.kind) == (lease.ask.count, lease.ask.kind) and not lease.ask.devices
    if not same:
        raise Refused(
            "request",
            f"request {ask.name} of {lease.user} is a lease of something else already: {lease.id}",
            "request",
            "Release it first (state=released), or give the request another name",
        )


def _wait(book: Book, ticket: str, seconds: int, engine: Lookout) -> Outcome:
    """Wait in the queue. With the daemon down nobody else moves it, so it is moved here.

    :raises Refused: the request ended, or nothing came free in time; it is out of the queue then.
    """
    until = time.monotonic() + seconds
    try:
        while True:
            outcome = book.poll(ticket) or Outcome(ended={"what": "the request was given up"})
            if outcome.ended:
                ended = {"what": "", "where": "", "remedy": "", "rule": "left", **outcome.ended}
                raise Refused(ended["rule"], ended["what"], ended["where"], ended["remedy"])
            if outcome.granted:
                return outcome
            left = until - time.monotonic()
            if left <= 0:
                raise Refused(
                    "busy",
                    f"nothing that fits came free in {seconds} s",
                    "wait",
                    "Wait longer, or see who has what with M(ds01.infra.ds01_gpu_info)",
                )
            time.sleep(min(POLL_SECONDS, left))
            book.finish(engine)
            book.settle()
    except BaseException:
        book.cancel(ticket, "nobody waits for it any more")
        raise


def _answer(book: Book, outcome: Outcome, changed: bool) -> dict[str, Any]:
    snapshot = book.snapshot()
    waiting = None
    for queued in snapshot.queue:
        if outcome.waiting and queued.waiter.ticket == outcome.waiting.ticket:
            row = shell.queue_row(queued, snapshot)
            waiting = {key: row[key] for key in ("position", "estimate")}
    lease = shell.lease_row(outcome.granted, snapshot)
    return {"changed": changed, "lease": lease, "waiting": waiting}


# --- ending ---------------------------------------------------------------------------------------


def release(book: Book, params: Mapping[str, Any], engine: Lookout, trial: bool) -> dict[str, Any]:
    """End a lease, or take a request out of the queue. What is not there has ended."""
    snapshot = book.snapshot(eta=False)
    lease = _find(snapshot, params)
    if lease is None or not lease.holding:
        return {
            "changed": _give_up(book, snapshot, params),
            "lease": shell.lease_row(lease, snapshot),
        }
    after = book.release(lease.id, shell.who(), engine)
    if after.holding and after.revoked is None:
        raise Refused(
            "running",
            f"container {after.container_name} was started with this lease meanwhile",
            "lease",
            f"Stop it first: docker stop {after.container_name}",
        )
    return {"changed": True, "lease": shell.lease_row(after, snapshot)}


def _find(book: Snapshot, params: Mapping[str, Any]) -> Lease | None:
    if params["lease"]:
        return next((lease for lease in book.leases if lease.id == params["lease"]), None)
    if params["request"]:
        return _named(book, shell.account_of(params["user"]).uid, params["request"])
    wanted = params["container"]
    found = [
        lease
        for lease in book.leases
        if lease.container
        and (
            lease.container_name == wanted
            or (len(wanted) >= 12 and lease.container.startswith(wanted))
        )
    ]
    return max(found, key=lambda lease: (lease.holding, lease.created), default=None)


def _give_up(book: Book, snapshot: Snapshot, params: Mapping[str, Any]) -> bool:
    """Take a named request out of the queue; whether there was one."""
    if not params["request"]:
        return False
    uid = shell.account_of(params["user"]).uid
    for queued in snapshot.queue:
        waiter = queued.waiter
        if (waiter.allowance.uid, waiter.ask.name) == (uid, params["request"]):
            return book.cancel(waiter.ticket, f"released by {shell.who()}")
    return False


# --- slots and the whole --------------------------------------------------------------------------


def drain(book: Book, params: Mapping[str, Any], engine: Lookout, trial: bool) -> dict[str, Any]:
    """Hand out a slot no more."""
    changed = book.drain(params["slot"], params["reason"], shell.who())
    return {"changed": changed, "slot": _slot(book, params)}


def undrain(book: Book, params: Mapping[str, Any], engine: Lookout, trial: bool) -> dict[str, Any]:
    """Hand a slot out again."""
    changed = book.undrain(params["slot"], shell.who())
    return {"changed": changed, "slot": _slot(book, params)}


def _slot(book: Book, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = book.snapshot(eta=False)
    slot = named_slots(Ask(devices=(params["slot"],)), snapshot.slots)[0]
    drained = any((b.slot, b.why) == (slot.uuid, "drained") for b in snapshot.blocks)
    return {**shell.slot_row(slot), "drained": drained}


def reconcile(
    book: Book, params: Mapping[str, Any], engine: Lookout, trial: bool
) -> dict[str, Any]:
    """Make book, engine and GPUs agree.

    What is to be done to containers (a start) is told and left to the daemon.
    """
    seen = shell.seen_changes(book.snapshot(eta=False), shell.inventory_now())
    actions = _reconcile(book, engine)
    done = [a for a in actions if not a.is_report and a.kind not in (START, RENEW)]
    words = [*seen, *(shell.told(action, book.snapshot(eta=False)) for action in actions)]
    return {"changed": bool(seen or done), "reconciled": words}


STATES = {
    "allocated": allocate,
    "released": release,
    "drained": drain,
    "undrained": undrain,
    "reconciled": reconcile,
}
