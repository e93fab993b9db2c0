# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From committed events to the event log, each exactly once.

An event is committed together with what it tells of and carries an id. After the commit it is
appended to the log, the log is put on the disk, and the row goes. A crash in between leaves a row
whose event may be in the log already: the log's end is searched for its id first.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from . import book_rows as rows
from .durable import flush
from .events import MAX_LINE_BYTES, Event, EventError, append
from .store import Store

_AT_ONCE = 64
_TAIL_BYTES = 2 * _AT_ONCE * MAX_LINE_BYTES
"""What one pass may have logged before it died lies in it, with as much again of others."""


def commit_event(connection: sqlite3.Connection, event: Event) -> None:
    """Commit an event, under an id of its own, with what it tells of."""
    mark = rows.meta(connection, "events")
    if mark is None:
        mark = secrets.token_hex(4)
        rows.put_meta(connection, "events", mark)
    number = int(rows.meta(connection, "event_number") or 0) + 1
    rows.put_meta(connection, "event_number", str(number))
    # First, so that a line that is cut keeps it.
    others = {key: value for key, value in event.details.items() if key != "event_id"}
    details = {"event_id": f"{mark}-{number}", **others}
    rows.put_event(connection, replace(event, details=details))


def log_committed(store: Store, path: str, fault: Callable[[str], None]) -> None:
    """Append what is not logged yet; the writers' lock is held.

    A log that cannot be written keeps nobody from a GPU: the events stay committed and are logged
    with the next change.

    :raises StoreError: the store cannot be read.
    """
    connection = store.connection()
    while pending := rows.outbox(connection, _AT_ONCE):
        if not _log(connection, pending, path, fault):
            return


def _log(
    connection: sqlite3.Connection,
    pending: list[tuple[int, dict[str, Any]]],
    path: str,
    fault: Callable[[str], None],
) -> bool:
    """Log some events and forget that they were not; whether that was done."""
    try:
        logged = _tail(path)
        for _seq, data in pending:
            event = _event(data)
            mark = f'"event_id":"{event.details["event_id"]}"'.encode("ascii")
            if mark not in logged:
                append(path, event)
                fault("event_appended")
        flush(path)
    except (EventError, OSError):
        return False
    fault("events_logged")
    return _forget(connection, pending[-1][0])


def _event(data: dict[str, object]) -> Event:
    details = data["details"]
    return Event(
        str(data["event_type"]),
        str(data["source"]),
        user=None if data["user"] is None else str(data["user"]),
        details=details if isinstance(details, dict) else {},
        timestamp=datetime.fromisoformat(str(data["timestamp"])),
    )


def _tail(path: str) -> bytes:
    """The end of the log, and of its part before when that was just rotated away."""
    found = b""
    for part in (f"{path}.1", path):
        try:
            with open(part, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                stream.seek(max(0, size - _TAIL_BYTES))
                found += stream.read()
        except OSError:
            continue
    return found


def _forget(connection: sqlite3.Connection, last: int) -> bool:
    """Not worth waiting for the disk: a row that comes back after a power cut is found logged."""
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("DELETE FROM outbox WHERE seq <= ?", (last,))
    except sqlite3.Error:
        return False
    finally:
        connection.execute("PRAGMA synchronous=FULL")
    return True
