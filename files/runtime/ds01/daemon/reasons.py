# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``why``: reasons in words, from what one caller may see. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ds01.core.gpus import DRIVER_ABSENT, OK, READY, Slot
from ds01.core.leases import BOUND, FREE, HELD, RESERVED, Lease
from ds01.core.owner_words import summary
from ds01.core.owners import ADMIN, CERTAIN, Record
from ds01.daemon.owner_views import shown_id
from ds01.daemon.views import View
from ds01.words import duration, eta_words

Reason = dict[str, str]


def reasons(
    view: View,
    subject: str,
    refusals: Mapping[int, Mapping[str, str]],
    at_door: Mapping[str, str] | None = None,
    boxes: Iterable[Record] = (),
) -> list[Reason]:
    """Why something is as it is.

    :param subject: a lease, slot or container; empty: all that is the caller's.
    :param refusals: each user's last refusal since the daemon started: the parts of an error.
    :param at_door: the caller's last refusal by the gateway: the parts of an error, and when.
    :param boxes: the containers that are meant, of those that the caller may see.
    """
    driver = list(_driver(view))
    if subject:
        owned = [reason for box in boxes for reason in _box(view, box)]
        if owned and not view.find_leases(subject) and not view.find_slot(subject):
            # A container that nobody wants GPUs for has nothing to do with their driver.
            return owned
        return driver + _about(view, subject, owned)
    return driver + _own(view, refusals) + list(_at_door(at_door))


def _at_door(refusal: Mapping[str, str] | None) -> Iterator[Reason]:
    if refusal:
        rule = f"rule {refusal['where']}, " if refusal["where"] else ""
        why = f"{refusal['what']} ({rule}{refusal['timestamp']})"
        reason = _reason("last refusal at the door", why, refusal["remedy"])
        # The docker wrapper shows it only where it fell into its own command's time.
        yield {**reason, "timestamp": refusal["timestamp"]}


def _own(view: View, refusals: Mapping[int, Mapping[str, str]]) -> list[Reason]:
    found = [r for row in view.queue()["queue"] if row["mine"] for r in _waits(row)]
    for lease in view.snapshot.leases:
        if lease.uid == view.uid:
            found += _lease(view, lease)
    if view.uid in refusals:
        refusal = refusals[view.uid]
        where = f" ({refusal['where']})" if refusal["where"] else ""
        found.append(_reason("last refusal", f"{refusal['what']}{where}", refusal["remedy"]))
    return found


def _about(view: View, subject: str, owned: list[Reason]) -> list[Reason]:
    slot = view.find_slot(subject)
    if slot is not None:
        return list(_slot(view, slot)) + owned
    found = [reason for lease in view.find_leases(subject) for reason in _lease(view, lease)]
    for row in view.queue()["queue"]:
        if row["ticket"] == subject:
            found += _waits(row)
    return found + [reason for reason in owned if reason not in found] or [_unknown(subject)]


def _box(view: View, box: Record) -> Iterator[Reason]:
    """A container: its lease, whose it is and why, and what follows from that."""
    name = box.name or shown_id(box)
    leases = [lease for lease in view.find_leases(box.id) if lease.container == box.id]
    for lease in leases:
        yield from _lease(view, lease)
    if box.gone is not None:
        ago = duration(view.snapshot.wall - box.gone)
        yield _reason(name, f"it is gone: it was removed {ago} ago")
    elif not leases:
        yield _reason(
            name,
            "it has no GPU lease: no GPU of this host is its own, and no GPU keeps it from starting",
        )
    yield _reason(name, f"whose it is: {summary(box.owner)}", _owner_remedy(view, box))
    for words in box.owner.contradictions:
        yield _reason(name, f"something speaks for somebody else: {words}")


def _owner_remedy(view: View, box: Record) -> str:
    if not view.admin or box.gone is not None:
        return "" if box.owner.confidence == CERTAIN else "Not so? The administrators can set it"
    command = f"ds01 owners set {shown_id(box)} USER"
    if not box.owner.known:
        return f"Only administrators see it, and nobody answers for it. Say whose it is: {command}"
    if box.owner.method == ADMIN:
        return f"Take that back: ds01 owners unset {shown_id(box)}"
    return "" if box.owner.confidence == CERTAIN else f"Not so? {command}"


def _reason(subject: str, why: str, remedy: str = "") -> Reason:
    return {"subject": subject, "why": why, "remedy": remedy}


def _unknown(subject: str) -> Reason:
    return _reason(
        subject,
        "no lease, container, or GPU of this name is known that you may see; a container "
        "whose lease is not known here cannot start with it",
        "See what is yours: ds01 gpu status, ds01 owners list; ask for a new lease: ds01 gpu request",
    )


def _driver(view: View) -> Iterator[Reason]:
    state, reason = view.snapshot.driver, view.snapshot.driver_reason
    if state == READY:
        return
    words = (
        "no GPU driver is on this host" if state == DRIVER_ABSENT else "the driver does not answer"
    )
    if not state:
        words = "nobody has looked at the GPUs yet"
    detail = f" ({reason})" if reason else ""
    yield _reason(
        "GPU driver", f"{words}{detail}: nothing is handed out", "Tell the administrators"
    )


def _waits(row: Mapping[str, Any]) -> Iterator[Reason]:
    yield _reason(
        "your request" if row["mine"] else f"{row['user']}'s request",
        f"it waits as {row['position']} of {row['of']}: {row['reason']}; {eta_words(row['eta'])}",
        "A smaller request may be served earlier; who has what: ds01 gpu status",
    )


def _lease(view: View, lease: Lease) -> Iterator[Reason]:
    name = lease.container_name or lease.id
    now = view.snapshot.now
    if lease.stale:
        gone = [uuid for uuid in lease.slots if not _sound(view, uuid)]
        yield _reason(
            name,
            f"its lease is stale: {', '.join(gone) or 'its GPU'} is lost, or was partitioned anew, so "
            "it cannot start; it never gets another GPU by itself",
            f"Give it back and ask again: ds01 gpu release {lease.id}",
        )
    elif lease.state == FREE:
        yield _reason(
            name,
            "its lease has ended and its GPU was given back, so it cannot start",
            f"Ask for GPUs for it again: ds01 gpu request --renew {lease.id}",
        )
    elif lease.revoked is not None:
        yield _reason(name, "its lease is ending, so it cannot start", "Wait a moment")
    elif lease.state == RESERVED:
        left = duration((lease.expires or now) - now)
        yield _reason(
            name,
            f"reserved for you; no container has taken it, and it goes back in {left}",
            f"docker run --device ds01.local/lease={lease.id} IMAGE",
        )
    elif lease.state == HELD:
        left = "for ever" if lease.hold_until is None else f"for {duration(lease.hold_until - now)}"
        yield _reason(
            name, f"it has stopped and its GPU is held {left}: it can start", f"docker start {name}"
        )
    elif lease.state == BOUND:
        yield _reason(name, "its lease is in force: a GPU does not keep it from starting")


def _sound(view: View, uuid: str) -> bool:
    slot = view.find_slot(uuid)
    return slot is not None and slot.health == OK


def _slot(view: View, slot: Slot) -> Iterator[Reason]:
    row = view.slot(slot)
    name = f"GPU {slot.index}"
    state = row["state"]
    if row["text"]:
        yield _reason(name, row["text"], "Ask for another: ds01 gpu request")
    if state == "lost":
        yield _reason(name, "the GPU is lost: it fell off the bus", "Tell the administrators")
    elif state == "gone":
        yield _reason(name, "it is no more: its GPU was partitioned anew", "See ds01 gpu status")
    elif row["user"]:
        until = (
            ""
            if row["until"] is None
            else f", until in {duration(row['until'] - view.snapshot.wall)}"
        )
        where = f" in container {row['container']}" if row["container"] else ""
        yield _reason(
            name,
            f"leased to {row['user']}{where} ({state}{until})",
            "Wait for one: ds01 gpu request --wait",
        )
    elif state == "free":
        yield _reason(name, "it is free", "ds01 gpu request --device " + slot.index)
