# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of owners: who made what, whose it was found to be, and who said otherwise.

The gateway writes who made a thing (:meth:`OwnerBook.reserve`, :meth:`OwnerBook.bind`,
:meth:`OwnerBook.record`), an administrator whose it shall be (:meth:`OwnerBook.set_owner`), and whoever
looks at the engine what was found (:meth:`OwnerBook.apply`). Neither overwrites the other's part.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from . import book_rows
from . import owner_rows as rows
from .book_clock import Clock, host_clock
from .book_log import commit_event, log_committed
from .errors import Ds01Error
from .events import EVENTS_PATH, Event
from .owner_apply import Batch
from .owner_claim import Claim, bind_leases, claim, said
from .owner_events import details
from .owner_find import find
from .owner_intents import Intent
from .owner_limits import MARKS, TooMany, room_for_intent, sweep_intents
from .owners import EXEC, IMAGE, Made, Owner, Record, SetBy
from .store import Store

__all__ = ["CURSOR", "FAULT_POINTS", "Intent", "OwnerBook", "TooMany"]

FAULT_POINTS = ("locked", "decided", "committed", "event_appended", "events_logged")
"""Where tests let a process die."""
CURSOR = "engine_cursor"


class OwnerBook:
    """Whose the engine's things are. Whoever opens the store may ask and write.

    :param store: the state store.
    :param source: the program's name in events.
    :param fault: told the name of each step of :data:`FAULT_POINTS`; tests die there.
    :param clock: the host's clocks.
    """

    def __init__(
        self,
        store: Store,
        events_path: str = EVENTS_PATH,
        source: str = "ds01d",
        fault: Callable[[str], None] = lambda _name: None,
        clock: Clock = host_clock,
    ) -> None:
        self.store = store
        self.events_path = events_path
        self.source = source
        self.fault = fault
        self.clock = clock

    @contextlib.contextmanager
    def _change(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Lock, decide, commit, log."""
        with self.store.locked():
            self.fault("locked")
            with self.store.transaction(durable) as connection:
                yield connection
                self.fault("decided")
            self.fault("committed")
            log_committed(self.store, self.events_path, self.fault)

    # --- the gateway's word ----------------------------------------------------------------------

    def reserve(self, intent: Intent) -> None:
        """Somebody is about to make a thing; on the disk when it returns.

        :raises TooMany: he has too much under way.
        :raises StoreError: it cannot be written.
        """
        with self._change() as connection:
            room_for_intent(connection, intent.uid, intent.user, self.clock().wall)
            rows.put_intent(connection, intent)

    def abandon(self, token: str) -> None:
        """Nothing came of an intent."""
        with self._change() as connection:
            rows.drop_intent(connection, token)

    def ended(self, token: str, at: float) -> None:
        """The engine has answered, and may still tell of what was made.

        :param at: seconds of the wall clock.
        """
        with self._change() as connection:
            connection.execute("UPDATE intents SET ended = ? WHERE token = ?", (at, token))

    def orphan(
        self, gateway_alive: str | Iterable[str], open_streams: Iterable[str] = ()
    ) -> list[Intent]:
        """The intents of gateways that are gone, marked as such; none of theirs is bound any more.

        :param gateway_alive: :attr:`.owner_intents.Intent.gateway` of the one that is there, or of all.
        :param open_streams: tokens of intents that outlive their gateway: the pump has their streams.
        """
        spared = set(open_streams)
        alive = {gateway_alive} if isinstance(gateway_alive, str) else set(gateway_alive)
        gone = [one for one in self.intents() if one.gateway not in alive]
        found = [one for one in gone if one.token not in spared]
        if any(one.orphaned is None for one in found):
            with self._change() as connection:
                now = self.clock().wall
                connection.executemany(
                    "UPDATE intents SET orphaned = ? WHERE token = ? AND orphaned IS NULL",
                    [(now, one.token) for one in found],
                )
            tokens = {one.token for one in found}
            found = [one for one in self.intents() if one.token in tokens]
        return found

    def intents(self, kind: str | None = None) -> list[Intent]:
        """What is being made, in the order in which it was asked for."""
        with self.store.reading() as connection:
            found: list[Intent] = rows.intents(connection, kind)
            return found

    def bind(
        self,
        token: str,
        thing_id: str,
        name: str = "",
        *,
        parent: str = "",
        lease_ids: Iterable[str] = (),
    ) -> bool:
        """A thing came of an intent: one transaction takes the one away and records the other.

        :param name: as it is called; empty where only the engine knows.
        :param lease_ids: GPU leases that the container names. Those that are its maker's and free to be
            bound are bound to it with the same commit; others are left to the lease book's comparison.
        :returns: whether the thing is recorded as the intent's user's; False where it was known before.
        :raises Ds01Error: there is neither such an intent nor what came of it.
        """
        with self._change() as connection:
            intent = rows.intent(connection, token)
            if intent is None:
                return self._bound_before(connection, thing_id)
            rows.drop_intent(connection, token)
            made = intent.made()
            name = name or intent.name
            taken = self._claim(connection, Claim(intent.kind, thing_id, made, name, parent))
            now = self.clock()
            bind_leases(connection, now, self.source, intent.uid, lease_ids, thing_id, name)
            return taken

    def _bound_before(self, connection: sqlite3.Connection, thing_id: str) -> bool:
        if rows.things(connection, "id = ? AND made IS NOT NULL", thing_id):
            return True
        raise Ds01Error(
            f"nothing is known of what {thing_id[:12]} came of",
            "owners",
            "It is looked at with the next sync: ds01 owners show tells what was found",
        )

    def record(
        self,
        kind: str,
        thing_id: str,
        made: Made,
        *,
        name: str = "",
        parent: str = "",
        durable: bool = True,
    ) -> bool:
        """Who made a thing that no intent was written for.

        :param durable: False: not worth waiting for the disk; a power cut may undo it.
        :returns: as :meth:`bind`.
        """
        with self._change(durable) as connection:
            return self._claim(connection, Claim(kind, thing_id, made, name, parent))

    def claim_mended(self, token: str, thing_id: str, name: str = "") -> bool:
        """A thing was found to be what came of an intent that its gateway did not bind.

        The intent of an image stays until it is swept: one load or build makes several.

        :returns: as :meth:`bind`; False too where the intent is not there any more.
        """
        with self._change() as connection:
            intent = rows.intent(connection, token)
            if intent is None:
                return False
            if intent.kind != IMAGE:
                rows.drop_intent(connection, token)
            made = intent.made(mended=intent.kind != IMAGE or intent.orphaned is not None)
            name = name or intent.name
            return self._claim(connection, Claim(intent.kind, thing_id, made, name, ""))

    def _claim(self, connection: sqlite3.Connection, wanted: Claim) -> bool:
        return claim(connection, wanted, self.clock().wall)

    # --- reading ----------------------------------------------------------------------------------

    def records(
        self, kind: str | None = None, gone: bool = False, uid: int | None = None
    ) -> list[Record]:
        """What is known, in the order in which it was made.

        :param gone: with what is there no more, for as long as that is kept.
        :param uid: only what is this owner's.
        """
        where = "1" if gone else "gone IS NULL"
        values: tuple[str | int, ...] = ()
        if kind is not None:
            where, values = f"{where} AND kind = ?", (kind,)
        if uid is not None:
            where, values = f"{where} AND uid = ?", (*values, uid)
        with self.store.reading() as connection:
            return [row.record for row in rows.things(connection, where, *values)]

    def get(self, kind: str, thing_id: str) -> Record | None:
        """One thing by its full id."""
        with self.store.reading() as connection:
            row = rows.thing(connection, kind, thing_id)
            return None if row is None else row.record

    def find(
        self, ref: str, gone: bool = True, uid: int | None = None, kind: str | None = None
    ) -> list[Record]:
        """What somebody may mean: see :func:`.owner_find.find`."""
        with self.store.reading() as connection:
            return find(connection, ref, gone, uid, kind)

    def past(
        self, kind: str | None = None, uid: int | None = None, most: int = 1000
    ) -> tuple[list[Record], int]:
        """What is gone, the last first, and how many more there are.

        :param kind: only of this kind; likewise ``uid``, the owner's.
        """
        where = "gone IS NOT NULL AND (? IS NULL OR kind = ?) AND (? IS NULL OR uid = ?)"
        values = (kind, kind, uid, uid)
        with self.store.reading() as connection:
            last = f"rowid IN (SELECT rowid FROM things WHERE {where} ORDER BY gone DESC LIMIT ?)"
            found = [row.record for row in rows.things(connection, last, *values, most)]
            count = f"SELECT count(*) FROM things WHERE {where}"
            more = connection.execute(count, values).fetchone()[0] - len(found)
        return sorted(found, key=lambda one: -(one.gone or 0.0)), more

    def earlier(self, record: Record, most: int) -> list[Record]:
        """What had a thing's name before it and is gone, the last first."""
        where = "kind = ? AND name = ? AND id != ? AND gone IS NOT NULL"
        values = (record.kind, record.name, record.id)
        with self.store.reading() as connection:
            last = f"rowid IN (SELECT rowid FROM things WHERE {where} ORDER BY gone DESC LIMIT ?)"
            found = [row.record for row in rows.things(connection, last, *values, most)]
        return sorted(found, key=lambda one: -(one.gone or 0.0))

    def undecided(self) -> list[Record]:
        """Things whose maker or administrator's word is newer than what was concluded of them."""
        with self.store.reading() as connection:
            return [row.record for row in rows.things(connection, "undecided = 1")]

    # --- what was found ---------------------------------------------------------------------------

    def apply(
        self,
        changes: Iterable[Record],
        told: Iterable[Event] = (),
        cursor: float | None = None,
    ) -> list[str]:
        """Write what was found, and the engine's events that tell of it: one transaction.

        ``made`` and ``set_by`` of a change are those from which its owner was concluded; they are not
        written. Where the store's are others by now, the owner stays as it is and the id is returned:
        such things have to be concluded anew. An event of the engine that was told before is not told
        again, nor is one of an owner that was not taken.

        :param told: of the engine: with its own time, and ``id`` in the details.
        :param cursor: up to where the engine's events are in; whole nanoseconds are kept exactly.
        """
        with self._change() as connection:
            batch = Batch(connection, self.clock().wall)
            for change in changes:
                batch.put(change)
            for event in told:
                if batch.news(event):
                    commit_event(connection, event)
            if cursor is not None:
                book_rows.put_meta(connection, CURSOR, json.dumps(cursor))
            batch.trim()
            return batch.stale

    def cursor(self) -> float | None:
        """Up to where the engine's events are in; None before the first."""
        with self.store.reading() as connection:
            text = book_rows.meta(connection, CURSOR)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            # Events that come twice are told once, so the start is as good.
            return None

    # --- an administrator's word ------------------------------------------------------------------

    def set_owner(self, kind: str, thing_id: str, set_by: SetBy) -> bool:
        """An administrator says whose a thing is; whether that is new.

        :raises Ds01Error: nothing is known of it.
        """
        with self._change() as connection:
            row = self._must(connection, kind, thing_id)
            before = row.record.set_by
            if before is not None and replace(before, by=set_by.by, at=set_by.at) == set_by:
                return False
            more = {"reason": set_by.reason} if set_by.reason else {}
            self._put_word(connection, row, set_by, "owner.set", set_by.by, **more)
            return True

    def unset_owner(self, kind: str, thing_id: str, by: str) -> bool:
        """An administrator takes his word back; whether there was one.

        :raises Ds01Error: nothing is known of it.
        """
        with self._change() as connection:
            row = self._must(connection, kind, thing_id)
            before = row.record.set_by
            if before is None:
                return False
            self._put_word(connection, row, None, "owner.unset", by)
            return True

    def _must(self, connection: sqlite3.Connection, kind: str, thing_id: str) -> rows.Row:
        row: rows.Row | None = rows.thing(connection, kind, thing_id)
        if row is None:
            raise Ds01Error(
                f"nothing is known of a {kind} {thing_id[:80]!r}", "owners", "See: ds01 owners list"
            )
        return row

    def _put_word(
        self,
        connection: sqlite3.Connection,
        row: rows.Row,
        set_by: SetBy | None,
        event_type: str,
        by: str,
        **more: Any,
    ) -> None:
        """Write an administrator's word, and tell of it."""
        one = row.record
        owner = said(one.made, set_by) or Owner()
        record = replace(one, set_by=set_by, owner=owner, updated=self.clock().wall)
        rows.put_thing(connection, rows.Row(record, row.known, one.kind != EXEC))
        was = {"was": one.owner.user or None, "was_uid": one.owner.uid}
        told = {**details(record), "kind": one.kind, "by": by, **was, **more}
        event = Event(event_type, self.source, user=owner.user or None, details=told)
        commit_event(connection, event)

    # --- an end -----------------------------------------------------------------------------------

    def forget(self, before: float) -> int:
        """Forget what was gone before, and intents that nothing comes of any more.

        :param before: seconds of the wall clock.
        :returns: how many things.
        """
        with self._change() as connection:
            sweep_intents(connection, self.clock().wall)
            rows.forget_told(connection, MARKS)
            return int(rows.drop_things(connection, "gone IS NOT NULL AND gone < ?", (before,)))
