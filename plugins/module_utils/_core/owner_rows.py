# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of ownership: things of the engine and what is being made, to and from the store.

A cell that cannot be understood is damage, as in :mod:`.book_rows`. What a client wrote (labels, mounts)
is cut to a size, so that nobody fills the store with it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from .book_rows import sound
from .owner_intents import Intent
from .owners import ContainerFacts, Evidence, Made, Mount, Origin, Owner, Record, SetBy

LABEL_CHARACTERS = 4096
"""A path is no longer (PATH_MAX in limits.h), and no label that tells an owner is."""
FACTS_CHARACTERS = 256 * 1024
GONE_FACTS_CHARACTERS = 8 * 1024
"""What is gone is shown, not concluded from."""
_KEPT_CHARACTERS = 16 * 1024
"""Longer texts are read anew each time rather than kept."""
_TELLING = ("ds01.", "aime.", "devcontainer.", "com.docker.compose.")

_COLUMNS = (
    "kind, id, name, uid, parent, state, created, known, updated, gone, "
    "owner, origin, made, set_by, facts, undecided"
)
_NAMES = tuple(_COLUMNS.split(", "))
_PUT = (
    f"INSERT INTO things ({_COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))}) "
    "ON CONFLICT (kind, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in ("kind", "id"))
)
_INTENT = "token, kind, uid, at, gateway, ended, orphaned, data"


class Row:
    """A record with what the store alone knows of it.

    :ivar known: when this life of the thing was first recorded, seconds of the wall clock.
    :ivar undecided: its owner was not concluded anew since what decides it was changed.
    """

    __slots__ = ("known", "record", "undecided")

    def __init__(self, record: Record, known: float, undecided: bool) -> None:
        self.record = record
        self.known = known
        self.undecided = undecided


# --- texts ----------------------------------------------------------------------------------------
# The same texts are read with each look; what comes of them is never changed.


def _owner(text: str) -> Owner:
    return _kept_owner(text) if len(text) < _KEPT_CHARACTERS else _read_owner(text)


def _read_owner(text: str) -> Owner:
    data = json.loads(text)
    data["evidence"] = tuple(Evidence(**one) for one in data["evidence"])
    data["contradictions"] = tuple(data["contradictions"])
    return Owner(**data)


def _facts(text: str) -> ContainerFacts:
    return _kept_facts(text) if len(text) < _KEPT_CHARACTERS else _read_facts(text)


def _read_facts(text: str) -> ContainerFacts:
    data = json.loads(text)
    data["mounts"] = tuple(Mount(**one) for one in data["mounts"])
    for name in ("volumes", "uids", "leases"):
        data[name] = tuple(data[name])
    return ContainerFacts(**data)


_kept_owner = lru_cache(maxsize=2048)(_read_owner)
_kept_facts = lru_cache(maxsize=1024)(_read_facts)


@lru_cache(maxsize=4096)
def _made(text: str) -> Made:
    return Made(**json.loads(text))


@lru_cache(maxsize=256)
def _set_by(text: str) -> SetBy:
    return SetBy(**json.loads(text))


@lru_cache(maxsize=1024)
def _origin(text: str) -> Origin:
    return Origin(**json.loads(text))


def _facts_text(facts: ContainerFacts, most: int) -> str:
    text = _text(facts)
    if len(text) <= most:
        return text
    labels = {
        key[:LABEL_CHARACTERS]: value[:LABEL_CHARACTERS] for key, value in facts.labels.items()
    }
    ordered = sorted(labels.items(), key=lambda one: (not one[0].startswith(_TELLING), one))
    mounts = [asdict(one) for one in facts.mounts]
    few = replace(
        facts,
        labels=dict(ordered[: _fitting(ordered, most // 2)]),
        mounts=facts.mounts[: _fitting(mounts, most // 4)],
        volumes=facts.volumes[: _fitting(facts.volumes, most // 8)],
    )
    return _text(few)


def _fitting(items: Iterable[Any], room: int) -> int:
    """How many of the first items fit."""
    count = 0
    for item in items:
        room -= len(json.dumps(item)) + 2
        if room < 0:
            break
        count += 1
    return count


def _text(value: Any) -> str:
    return json.dumps(asdict(value), separators=(",", ":"))


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


# --- things ---------------------------------------------------------------------------------------


def _row(cells: tuple[Any, ...]) -> Row:
    data = dict(zip(_NAMES, cells, strict=True))
    made, set_by, facts = data["made"], data["set_by"], data["facts"]
    record = Record(
        kind=data["kind"],
        id=data["id"],
        name=data["name"],
        owner=_owner(data["owner"]),
        origin=_origin(data["origin"]),
        state=data["state"],
        created=data["created"],
        updated=data["updated"],
        gone=data["gone"],
        made=None if made is None else _made(made),
        set_by=None if set_by is None else _set_by(set_by),
        facts=None if facts is None else _facts(facts),
        parent=data["parent"],
    )
    return Row(record, data["known"], bool(data["undecided"]))


@sound
def thing(connection: sqlite3.Connection, kind: str, thing_id: str) -> Row | None:
    """One thing."""
    query = f"SELECT {_COLUMNS} FROM things WHERE kind = ? AND id = ?"
    cells = connection.execute(query, (kind, thing_id)).fetchone()
    return None if cells is None else _row(cells)


@sound
def things(connection: sqlite3.Connection, where: str, *values: Any) -> list[Row]:
    """Things by a condition of the program's own, in the order in which they were made."""
    query = f"SELECT {_COLUMNS} FROM things WHERE {where} ORDER BY created, kind, id"
    return [_row(cells) for cells in connection.execute(query, values)]


def put_thing(connection: sqlite3.Connection, row: Row) -> None:
    """Write one thing whole."""
    one = row.record
    most = FACTS_CHARACTERS if one.gone is None else GONE_FACTS_CHARACTERS
    connection.execute(
        _PUT,
        (
            one.kind,
            one.id,
            one.name,
            one.owner.uid,
            one.parent,
            one.state,
            one.created,
            row.known,
            one.updated,
            one.gone,
            _text(one.owner),
            _text(one.origin),
            _optional(one.made),
            _optional(one.set_by),
            None if one.facts is None else _facts_text(one.facts, most),
            int(row.undecided),
        ),
    )


# --- what is being made ---------------------------------------------------------------------------


def _intent(cells: tuple[Any, ...]) -> Intent:
    token, kind, uid, at, gateway, ended, orphaned, data = cells
    return Intent(
        token=token,
        kind=kind,
        uid=uid,
        at=at,
        gateway=gateway,
        ended=ended,
        orphaned=orphaned,
        **json.loads(data),
    )


@sound
def intent(connection: sqlite3.Connection, token: str) -> Intent | None:
    """One intent."""
    query = f"SELECT {_INTENT} FROM intents WHERE token = ?"
    cells = connection.execute(query, (token,)).fetchone()
    return None if cells is None else _intent(cells)


@sound
def intents(connection: sqlite3.Connection, kind: str | None = None) -> list[Intent]:
    """All intents, or those of one kind, in the order in which they were had."""
    query = f"SELECT {_INTENT} FROM intents"
    where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
    return [_intent(c) for c in connection.execute(f"{query}{where} ORDER BY at, token", values)]


def put_intent(connection: sqlite3.Connection, one: Intent) -> None:
    """Write one intent; one with its token that is there already stays."""
    data: Mapping[str, Any] = {
        "user": one.user,
        "agent": one.agent,
        "container": one.container,
        "admin": one.admin,
        "name": one.name,
        "route": one.route,
        "fingerprint": dict(one.fingerprint),
    }
    connection.execute(
        f"INSERT OR IGNORE INTO intents ({_INTENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            one.token,
            one.kind,
            one.uid,
            one.at,
            one.gateway,
            one.ended,
            one.orphaned,
            json.dumps(data, separators=(",", ":")),
        ),
    )


def drop_intent(connection: sqlite3.Connection, token: str) -> None:
    """Forget an intent."""
    connection.execute("DELETE FROM intents WHERE token = ?", (token,))


def mark_told(connection: sqlite3.Connection, mark: str) -> bool:
    """Remember an event of the engine's; False where it was told before."""
    sql = "INSERT OR IGNORE INTO told (mark) VALUES (?)"
    return connection.execute(sql, (mark,)).rowcount == 1


def forget_told(connection: sqlite3.Connection, kept: int) -> None:
    """Keep the newest marks only."""
    connection.execute("DELETE FROM told WHERE seq <= (SELECT max(seq) FROM told) - ?", (kept,))


def drop_things(connection: sqlite3.Connection, where: str, values: Iterable[Any]) -> int:
    """Forget things by a condition of the program's own; how many."""
    return connection.execute(f"DELETE FROM things WHERE {where}", tuple(values)).rowcount
