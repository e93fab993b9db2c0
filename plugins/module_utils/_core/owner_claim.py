# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A maker's claim on a thing, inside a transaction of the book of owners."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from . import book_rows
from . import owner_rows as rows
from .book_change import bound, lease_details
from .book_clock import Moment, anchor_from, tick
from .book_log import commit_event
from .events import Event
from .lease_files import sound_id
from .leases import BOUND
from .owner_decide import decide_thing
from .owner_limits import trim_execs
from .owners import CONTAINER, EXEC, IMAGE, VOLUME, Account, Made, Owner, Record, SetBy

REUSED = frozenset({IMAGE, VOLUME})
"""Kinds whose id says what it is, not which: after an end the same id is another thing."""
SLACK_SECONDS = 1.0
"""The engine's times and the wall clock's are one clock's, rounded."""


@dataclass(frozen=True)
class Claim:
    """Somebody made a thing through the door."""

    kind: str
    id: str
    made: Made
    name: str
    parent: str


class _Named:
    """The accounts that a record itself names, for what is concluded before anybody has looked."""

    def __init__(self, *accounts: Account) -> None:
        self._accounts = accounts

    def by_uid(self, uid: int) -> Account | None:
        return next((one for one in self._accounts if one.uid == uid), None)

    def by_name(self, name: str) -> Account | None:
        return next((one for one in self._accounts if one.name == name), None)

    def like(self, name: str) -> tuple[Account, ...]:
        return ()


def said(made: Made | None, set_by: SetBy | None) -> Owner | None:
    """What an administrator's word or the gateway's record alone says; None where there is neither."""
    named = [Account(one.uid, one.user) for one in (set_by, made) if one is not None]
    return decide_thing(made, set_by, _Named(*named)) if named else None


def claim(connection: sqlite3.Connection, wanted: Claim, now: float) -> bool:
    """Record who made a thing; whether it is recorded so.

    The first claim on a thing stays. A volume's or image's id may come again after its end, and its end
    may be heard of late; what the gateway says was made is then another thing than what is recorded. But
    an image that was there before it was asked for is nobody's for pulling it once more.

    Whoever concludes owners tells of a change: a container's row is left undecided for that.
    """
    row = rows.thing(connection, wanted.kind, wanted.id)
    made = wanted.made
    if row is None or _another(row, made):
        record = Record(
            kind=wanted.kind,
            id=wanted.id,
            name=wanted.name,
            created=made.at,
            parent=wanted.parent,
        )
        row = rows.Row(record, now, False)
    elif row.record.made is not None:
        return (row.record.made.uid, row.record.made.at) == (made.uid, made.at)
    elif wanted.kind == IMAGE and row.known < made.at:
        return False
    before = row.record
    owner = said(made, before.set_by) or Owner()
    record = replace(
        before,
        name=before.name or wanted.name,
        parent=before.parent or wanted.parent,
        made=made,
        owner=owner,
        updated=now,
    )
    rows.put_thing(connection, rows.Row(record, row.known, wanted.kind == CONTAINER))
    if wanted.kind == EXEC:
        trim_execs(connection, owner.uid, wanted.parent)
    return True


def _another(row: rows.Row, made: Made) -> bool:
    """Whether what was made is another thing than the one that is recorded under its id."""
    one = row.record
    if one.kind not in REUSED:
        return False
    if one.gone is not None:
        return one.gone <= made.at + SLACK_SECONDS
    return one.kind == VOLUME and row.known < made.at - SLACK_SECONDS


def bind_leases(
    connection: sqlite3.Connection,
    moment: Moment,
    source: str,
    uid: int,
    lease_ids: Iterable[str],
    container: str,
    name: str,
) -> None:
    """Bind those leases to a container that are its maker's and not another container's.

    The lease files stay as they are: they name the slots, which do not change.

    :param moment: the host's clocks now.
    """
    found = [
        book_rows.lease_by_id(connection, one) for one in dict.fromkeys(lease_ids) if sound_id(one)
    ]
    ours = [
        lease
        for lease in found
        if lease is not None
        and lease.uid == uid
        and lease.holding
        and lease.revoked is None
        and lease.container in ("", container)
        and not (lease.state == BOUND and lease.container == container)
    ]
    if not ours:
        return
    text = book_rows.meta(connection, "clock")
    anchor = tick(None if text is None else anchor_from(text), moment)
    slots = {slot.uuid: slot for slot in book_rows.slots(connection)}
    for lease in ours:
        lease = bound(lease, container, name, anchor.book)
        book_rows.put_lease(connection, lease)
        details = lease_details(lease, slots)
        commit_event(connection, Event("gpu.bound", source, user=lease.user, details=details))
    book_rows.put_meta(connection, "clock", anchor.as_text())
