# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book's rows: leases, requests, slots and blocks, to and from the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

from .events import Event
from .gpus import Slot
from .leases import HOLDING, Allowance, Ask, Block, Lease, Waiter

_LEASE = tuple(field.name for field in fields(Lease))
_UPSERT = (
    f"INSERT INTO leases ({', '.join(_LEASE)}) VALUES ({', '.join('?' * len(_LEASE))}) "
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _LEASE if name != "id")
)


# The same texts are read with each decision; what comes of them is never changed.
_Read = TypeVar("_Read", bound=Callable[..., Any])


def sound(read: _Read) -> _Read:
    """A cell that cannot be understood is damage, as a page is that SQLite cannot read."""

    @wraps(read)
    def reader(*args: Any) -> Any:
        try:
            return read(*args)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise sqlite3.DatabaseError(f"malformed row: {error!r:.80}") from error

    return cast("_Read", reader)


@lru_cache(maxsize=4096)
def _ask(text: str) -> Ask:
    data = json.loads(text)
    return Ask(
        data["count"], data["kind"], tuple(data["devices"]), data["note"], data.get("name", "")
    )


@lru_cache(maxsize=4096)
def _allowance(text: str) -> Allowance:
    return Allowance(**json.loads(text))


@lru_cache(maxsize=4096)
def _uuids(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _lease(row: tuple[Any, ...]) -> Lease:
    data = dict(zip(_LEASE, row, strict=True))
    data["slots"] = _uuids(data["slots"])
    data["ask"] = _ask(data["ask"])
    data["stale"] = bool(data["stale"])
    return Lease(**data)


@sound
def holding(connection: sqlite3.Connection) -> list[Lease]:
    """The leases that hold slots, in the order in which they were made."""
    marks = ", ".join(f"'{state}'" for state in sorted(HOLDING))
    query = f"SELECT {', '.join(_LEASE)} FROM leases WHERE state IN ({marks}) ORDER BY created, id"
    return [_lease(row) for row in connection.execute(query)]


@sound
def every_lease(connection: sqlite3.Connection) -> list[Lease]:
    """All leases, ended ones whose container is still there included."""
    query = f"SELECT {', '.join(_LEASE)} FROM leases ORDER BY created, id"
    return [_lease(row) for row in connection.execute(query)]


@sound
def lease_by_id(connection: sqlite3.Connection, lease_id: str) -> Lease | None:
    """One lease."""
    query = f"SELECT {', '.join(_LEASE)} FROM leases WHERE id = ?"
    row = connection.execute(query, (lease_id,)).fetchone()
    return None if row is None else _lease(row)


def put_lease(connection: sqlite3.Connection, lease: Lease) -> None:
    """Write one lease, and which slots it takes.

    :raises sqlite3.DatabaseError: a slot is taken by a lease that nothing else knows of. In a sound
        book no decision gives a slot twice, so the book is damaged.
    """
    data = {name: getattr(lease, name) for name in _LEASE}
    data["slots"] = json.dumps(lease.slots)
    data["ask"] = json.dumps(asdict(lease.ask))
    data["stale"] = int(lease.stale)
    connection.execute(_UPSERT, tuple(data.values()))
    connection.execute("DELETE FROM taken WHERE lease = ?", (lease.id,))
    if lease.holding:
        try:
            connection.executemany(
                "INSERT INTO taken (slot, lease) VALUES (?, ?)",
                [(uuid, lease.id) for uuid in lease.slots],
            )
        except sqlite3.IntegrityError as error:
            raise sqlite3.DatabaseError(f"malformed leases: {error}") from error


def drop_lease(connection: sqlite3.Connection, lease_id: str) -> None:
    """Forget a lease."""
    connection.execute("DELETE FROM taken WHERE lease = ?", (lease_id,))
    connection.execute("DELETE FROM leases WHERE id = ?", (lease_id,))


@sound
def waiters(connection: sqlite3.Connection) -> list[Waiter]:
    """The requests in the queue."""
    query = "SELECT ticket, asked, seen, deadline, ask, allowance, lease FROM queue ORDER BY ticket"
    return [
        Waiter(row[0], row[1], row[2], row[3], _ask(row[4]), _allowance(row[5]), row[6])
        for row in connection.execute(query)
    ]


def put_waiter(connection: sqlite3.Connection, waiter: Waiter) -> None:
    """Write one request."""
    connection.execute(
        "INSERT OR REPLACE INTO queue (ticket, asked, seen, deadline, ask, allowance, lease) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            waiter.ticket,
            waiter.asked,
            waiter.seen,
            waiter.deadline,
            json.dumps(asdict(waiter.ask)),
            json.dumps(asdict(waiter.allowance)),
            waiter.lease,
        ),
    )


def drop_waiter(connection: sqlite3.Connection, ticket: str) -> None:
    """Forget a request."""
    connection.execute("DELETE FROM queue WHERE ticket = ?", (ticket,))


@lru_cache(maxsize=1024)
def _slot(row: tuple[Any, ...]) -> Slot:
    return Slot(*row)


@sound
def slots(connection: sqlite3.Connection) -> list[Slot]:
    """The slots of the last look, lost and gone ones included."""
    query = "SELECT uuid, idx, parent, profile, memory, compute_slices, health FROM slots"
    return sorted(
        (Slot(*row) for row in connection.execute(query)), key=lambda s: (s.order, s.uuid)
    )


def put_slots(connection: sqlite3.Connection, found: Iterable[Slot]) -> None:
    """Write all slots anew."""
    connection.execute("DELETE FROM slots")
    connection.executemany(
        "INSERT INTO slots (uuid, idx, parent, profile, memory, compute_slices, health) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (s.uuid, s.index, s.parent, s.profile, s.memory, s.compute_slices, s.health)
            for s in found
        ],
    )


def blocks(connection: sqlite3.Connection) -> list[Block]:
    """Why slots are not handed out."""
    query = "SELECT slot, why, text, by, since FROM blocks ORDER BY slot, why"
    return [Block(*row) for row in connection.execute(query)]


def put_block(connection: sqlite3.Connection, block: Block) -> None:
    """Write one block, in place of the one of the same slot and reason."""
    connection.execute(
        "INSERT OR REPLACE INTO blocks (slot, why, text, by, since) VALUES (?, ?, ?, ?, ?)",
        (block.slot, block.why, block.text, block.by, block.since),
    )


def drop_block(connection: sqlite3.Connection, slot: str, why: str) -> None:
    """Lift one block."""
    connection.execute("DELETE FROM blocks WHERE slot = ? AND why = ?", (slot, why))


def meta(connection: sqlite3.Connection, key: str) -> str | None:
    """One value of the store's own."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def put_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Write one value of the store's own."""
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def put_ended(
    connection: sqlite3.Connection, waiter: Waiter, at: float, why: dict[str, str]
) -> None:
    """Remember for a while why a request ended without a lease."""
    connection.execute("DELETE FROM ended WHERE at < ?", (at - 600,))
    connection.execute(
        "INSERT OR REPLACE INTO ended (ticket, uid, at, why) VALUES (?, ?, ?, ?)",
        (waiter.ticket, waiter.allowance.uid, at, json.dumps(why)),
    )


@sound
def ended(connection: sqlite3.Connection, ticket: str) -> dict[str, str] | None:
    """Why a request ended without a lease, if that is not long ago."""
    row = connection.execute("SELECT why FROM ended WHERE ticket = ?", (ticket,)).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def put_event(connection: sqlite3.Connection, event: Event) -> None:
    """Commit an event with what it tells of."""
    data = {
        "event_type": event.event_type,
        "source": event.source,
        "user": event.user,
        "details": event.as_dict()["details"],
        "timestamp": event.timestamp.isoformat(),
    }
    connection.execute("INSERT INTO outbox (event) VALUES (?)", (json.dumps(data),))


@sound
def outbox(connection: sqlite3.Connection, most: int = 500) -> list[tuple[int, dict[str, Any]]]:
    """The first events that are not known to be logged, by their number."""
    rows = connection.execute("SELECT seq, event FROM outbox ORDER BY seq LIMIT ?", (most,))
    return [(row[0], json.loads(row[1])) for row in rows]
