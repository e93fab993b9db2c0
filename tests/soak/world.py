# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The world of the soak: which containers exist, which run, and which GPUs these really use.

It plays the engine. It knows nothing of the book but the folder of lease files, as the engine does:
a container that names a lease starts if its file is there at that moment, and then uses the slots
that the file names, whatever the book thinks. Two running containers on one slot are noted the
moment they happen.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = "/dev/ds01-soak/"
"""Where the device nodes of the soak's slots are said to be: the UUID follows."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS containers (
  id TEXT PRIMARY KEY, uid INTEGER, lease TEXT, state TEXT, slots TEXT, created REAL, finished REAL
);
CREATE TABLE IF NOT EXISTS violations (text TEXT);
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, id TEXT, lease TEXT
);
"""


@dataclass(frozen=True)
class Container:
    """A container of the world.

    :param state: ``created``, ``running`` or ``exited``.
    :param slots: UUIDs that it uses; only a running one uses any.
    """

    id: str
    uid: int
    lease: str
    state: str
    slots: tuple[str, ...]
    created: float
    finished: float


class World:
    """The containers, in a file of their own.

    :param path: the file; made if it is not there.
    :param cdi: folder of the lease files.
    :param wall: the wall clock.
    """

    def __init__(self, path: Path, cdi: Path, wall: Callable[[], float] = time.time) -> None:
        self.cdi = cdi
        self._wall = wall
        self._locks = path.with_suffix(".locks")
        self._locks.mkdir(exist_ok=True)
        self._database = sqlite3.connect(path, timeout=120, isolation_level=None)
        # One after the other: the first after a kill recovers the log, which turns others away.
        with (self._locks / "opening").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=OFF")
            self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def create(self, name: str, uid: int, lease: str) -> None:
        """A new container, not yet started."""
        with self._alone() as database:
            database.execute(
                "INSERT INTO containers VALUES (?, ?, ?, 'created', '[]', ?, 0)",
                (name, uid, lease, self._wall()),
            )

    def start(self, name: str, takes: float = 0.0) -> bool:
        """Start it.

        :param takes: seconds between the look for the lease's file and the container's run.
        :returns: False where it is gone or its lease has no file: an unresolvable CDI device.
        """
        with self._lock(name):
            row = self._database.execute(
                "SELECT lease, state FROM containers WHERE id = ?", (name,)
            ).fetchone()
            if row is None:
                return False
            if row[1] == "running":
                return True
            slots = slots_of_file(self.cdi, row[0])
            if slots is None:
                return False
            time.sleep(takes)
            return self._run(name, row[0], slots)

    def _run(self, name: str, lease: str, slots: list[str]) -> bool:
        with self._alone() as database:
            changed = database.execute(
                "UPDATE containers SET state = 'running', slots = ? WHERE id = ?",
                (json.dumps(slots), name),
            ).rowcount
            if changed:
                self._complain_of_doubles(database, name, slots)
                _tell(database, "start", name, lease)
            return bool(changed)

    def wait_for_start(self, name: str) -> None:
        """Return when no start of it is under way."""
        with self._lock(name):
            pass

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        descriptor = os.open(self._locks / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _complain_of_doubles(
        self, database: sqlite3.Connection, name: str, slots: list[str]
    ) -> None:
        running = database.execute(
            "SELECT id, slots FROM containers WHERE state = 'running' AND id != ?", (name,)
        ).fetchall()
        for other, text in running:
            for slot in set(slots) & set(json.loads(text)):
                database.execute(
                    "INSERT INTO violations VALUES (?)",
                    (f"{name} started on {slot}, where {other} runs",),
                )

    def stop(self, name: str) -> bool:
        """Stop it; it uses no slot then. Whether it ran."""
        with self._alone() as database:
            row = database.execute(
                "SELECT lease FROM containers WHERE id = ? AND state = 'running'", (name,)
            ).fetchone()
            if row is None:
                return False
            database.execute(
                "UPDATE containers SET state = 'exited', slots = '[]', finished = ? WHERE id = ?",
                (self._wall(), name),
            )
            _tell(database, "die", name, row[0])
            return True

    def remove(self, name: str) -> bool:
        """Remove it, running or not. Whether it was there."""
        with self._alone() as database:
            row = database.execute(
                "SELECT lease, state FROM containers WHERE id = ?", (name,)
            ).fetchone()
            if row is None:
                return False
            database.execute("DELETE FROM containers WHERE id = ?", (name,))
            (self._locks / name).unlink(missing_ok=True)
            if row[1] == "running":
                _tell(database, "die", name, row[0])
            _tell(database, "destroy", name, row[0])
            return True

    def power_cut(self) -> None:
        """All stop at once, and nobody is told."""
        with self._alone() as database:
            database.execute(
                "UPDATE containers SET state = 'exited', slots = '[]', finished = ?"
                " WHERE state = 'running'",
                (self._wall(),),
            )

    def events(self, after: int) -> list[tuple[int, str, str, str]]:
        """The engine's events after a number: number, kind, container, lease."""
        return self._database.execute(
            "SELECT seq, kind, id, lease FROM events WHERE seq > ? ORDER BY seq", (after,)
        ).fetchall()

    def containers(self) -> list[Container]:
        """All there are, at one moment."""
        rows = self._database.execute(
            "SELECT id, uid, lease, state, slots, created, finished FROM containers ORDER BY rowid"
        ).fetchall()
        return [
            Container(name, uid, lease, state, tuple(json.loads(slots)), created, finished)
            for name, uid, lease, state, slots, created, finished in rows
        ]

    def violations(self) -> list[str]:
        """What must never have happened, and did."""
        return [text for (text,) in self._database.execute("SELECT text FROM violations")]


def _tell(database: sqlite3.Connection, kind: str, name: str, lease: str) -> None:
    database.execute("INSERT INTO events (kind, id, lease) VALUES (?, ?, ?)", (kind, name, lease))


def slots_of_file(cdi: Path, lease: str) -> list[str] | None:
    """The slots that a lease's file gives, read as the engine reads it; None without a file."""
    try:
        spec = json.loads((cdi / f"ds01-{lease}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    devices = [device for device in spec["devices"] if device["name"] == lease]
    if len(devices) != 1:
        raise ValueError(f"the file of {lease} has {len(devices)} devices of that name")
    nodes = devices[0]["containerEdits"]["deviceNodes"]
    return [node["path"].removeprefix(NODES) for node in nodes if node["path"].startswith(NODES)]
