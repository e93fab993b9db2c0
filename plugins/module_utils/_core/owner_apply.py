# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found at the engine, into the rows of the book of owners, inside one transaction."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import replace

from . import owner_rows as rows
from .events import Event
from .owner_claim import REUSED
from .owner_limits import OF_CONTAINER, trim_gone
from .owners import CONTAINER, EXEC, Record

ENGINE_EVENTS = ("container.", "image.", "volume.", "network.")


class Batch:
    """One transaction of what was found.

    :param now: seconds of the wall clock.
    :ivar stale: ids of things that have to be concluded anew.
    """

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.stale: list[str] = []
        self._ended: set[tuple[str, int | None]] = set()

    def put(self, change: Record) -> None:
        """Write one thing as it was found, its maker and an administrator's word left as they are."""
        row = rows.thing(self.connection, change.kind, change.id)
        looked = change.updated or self.now
        blank = rows.Row(Record(change.kind, change.id), self.now, False)
        if row is None:
            row, new = blank, True
        elif row.record.gone is None or change.gone is not None:
            new = False
        elif looked < row.record.gone:
            # Looked at before it ended: that is news of yesterday.
            self.stale.append(change.id)
            return
        else:
            # It is there again: a volume or image of the same id is another one.
            new = change.kind in REUSED
            row = blank if new else row
        self._merge(change, row, new, looked)

    def _merge(self, change: Record, row: rows.Row, new: bool, looked: float) -> None:
        before = row.record
        record = replace(change, made=before.made, set_by=before.set_by, updated=looked)
        undecided = False
        if (change.made, change.set_by) != (before.made, before.set_by):
            self.stale.append(change.id)
            if not new and change.kind in REUSED:
                # The one that was looked at may be the one before.
                return
            record = replace(record, owner=before.owner, origin=before.origin)
            undecided = True
        record = replace(record, parent=record.parent or before.parent)
        same = not new and undecided == row.undecided
        if same and replace(record, updated=before.updated) == before:
            return
        rows.put_thing(self.connection, rows.Row(record, row.known, undecided))
        if record.gone is not None and before.gone is None:
            self._ended.add((record.kind, record.owner.uid))
            if record.kind == CONTAINER:
                rows.drop_things(self.connection, OF_CONTAINER, (EXEC, record.id))

    def news(self, event: Event) -> bool:
        """Whether an event shall be told: not twice, and not of an owner that was not taken."""
        shown = str(event.details.get("id") or "")
        if event.event_type.startswith("owner."):
            ids = [one.removeprefix("sha256:") for one in self.stale]
            return not (shown and any(one.startswith(shown) for one in ids))
        if not event.event_type.startswith(ENGINE_EVENTS):
            return True
        parts = [
            event.event_type,
            event.timestamp.isoformat(),
            shown,
            event.details.get("reference"),
        ]
        mark = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]
        return bool(rows.mark_told(self.connection, mark))

    def trim(self) -> None:
        """Keep the newest of what is gone."""
        for kind, uid in self._ended:
            trim_gone(self.connection, kind, uid)
