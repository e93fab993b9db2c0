# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the host in one SQLite file: leases, queue, owners, and events not yet logged.

Writers take a lock file (flock(2)) and then ``BEGIN IMMEDIATE``; the lock is kept until the files that
follow from a commit are written too. Readers take neither (WAL, https://sqlite.org/wal.html). A commit
is on the disk when it returns (``synchronous=FULL``), save one that says that it need not be.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .durable import flush
from .store_faults import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreVersion,
    corrupt,
    other_version,
    told,
)
from .store_lock import LOCK_SECONDS, identity, take_lock
from .store_schema import UPGRADES, VERSION, statements

__all__ = [
    "STATE_PATH",
    "VERSION",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreMissing",
    "StoreVersion",
    "check",
    "migrate",
    "move_aside",
    "open_store",
    "version_of",
]

STATE_PATH = "/var/lib/ds01/state.db"
_RECOVERY_SECONDS = 0.01
APPLICATION_ID = 0x44533031  # "DS01", shown by file(1)

_carried_over: list[sqlite3.Connection] = []


class Store:
    """One open store. Threads have connections of their own.

    :param path: the SQLite file; the lock file lies beside it.
    """

    def __init__(self, path: str = STATE_PATH) -> None:
        self.path = path
        self.lock_path = os.path.splitext(path)[0] + ".lock"
        self._local = threading.local()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection.

        :raises StoreError: as :func:`open_store`.
        """
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is not None and self._local.pid != os.getpid():
            # Opened before a fork: SQLite forbids even to close it here.
            _carried_over.append(found)
            found = None
        if found is not None and not found.in_transaction and identity(self.path) != self._file():
            # The store was put aside and made anew; what is written to the old one counts nothing.
            self.close()
            found = None
        if found is None:
            # Before it is opened: one that is put aside in between is then opened anew.
            opened = identity(self.path)
            with told(self.path):
                found = _connect(self.path)
            self._local.connection, self._local.pid = found, os.getpid()
            self._local.file = opened
        return found

    def _file(self) -> tuple[int, int] | None:
        known: tuple[int, int] | None = getattr(self._local, "file", None)
        return known

    def close(self) -> None:
        """Close this thread's connection."""
        found = getattr(self._local, "connection", None)
        if found is not None and self._local.pid == os.getpid():
            found.close()
        self._local.connection = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the writers' lock; within one thread it may be taken again.

        :raises StoreError: another process keeps it for longer than :data:`LOCK_SECONDS`.
        """
        if getattr(self._local, "held", 0) == os.getpid():
            yield
            return
        descriptor = take_lock(self.lock_path)
        self._local.held = os.getpid()
        try:
            yield
        finally:
            self._local.held = 0
            os.close(descriptor)

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Lock, then one transaction: all of it is on the disk at the end, or none.

        :param durable: False: it does not wait for the disk; a power cut may undo the last of these,
            a killed process none.
        :raises StoreError: the store cannot be read or written; nothing was changed then.
        """
        with self.locked():
            connection = self.connection()
            with told(self.path), _synchronous(connection, durable):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    _roll_back(connection)
                    raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view, with no lock."""
        connection = self.connection()
        if connection.in_transaction:
            yield connection
            return
        with told(self.path):
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                _roll_back(connection)


@contextmanager
def _synchronous(connection: sqlite3.Connection, durable: bool) -> Iterator[None]:
    if durable:
        yield
        return
    connection.execute("PRAGMA synchronous=NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous=FULL")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def open_store(path: str = STATE_PATH) -> Store:
    """Open the store of this version.

    :raises StoreMissing: there is none.
    :raises StoreVersion: it is of another version.
    :raises StoreCorrupt: it is damaged.
    """
    store = Store(path)
    store.connection()
    return store


def version_of(path: str = STATE_PATH) -> int | None:
    """The version of the store at ``path``; None where there is none.

    :raises StoreCorrupt: it is no store of ours, or damaged.
    """
    if not os.path.exists(path):
        return None
    with told(path):
        connection = sqlite3.connect(
            f"file:{_quoted(path)}?mode=rw", uri=True, isolation_level=None
        )
        try:
            return _version(connection, path)
        finally:
            connection.close()


def migrate(path: str = STATE_PATH, fault: Callable[[str], None] = lambda _name: None) -> bool:
    """Make the store, or bring it to this version with all that is in it.

    :param fault: told the name of each step (``locked``, ``decided``, ``committed``); tests die there.
    :returns: whether anything was done.
    :raises StoreVersion: it is of a newer version than this one knows, or of one that never was.
    :raises StoreCorrupt: it is damaged.
    """
    with Store(path).locked():
        fault("locked")
        found = version_of(path)
        if found == VERSION:
            return False
        if found is None:
            _create(path)
        else:
            _upgrade(path, found, fault)
        fault("committed")
        return True


def check(path: str = STATE_PATH) -> None:
    """Look at every page of the store (``PRAGMA quick_check``).

    :raises StoreError: it is missing, of another version, or damaged.
    """
    store = open_store(path)
    try:
        with store.reading() as connection:
            row = connection.execute("PRAGMA quick_check(1)").fetchone()
            if row[0] != "ok":
                raise corrupt(path, str(row[0]))
    finally:
        store.close()


def move_aside(path: str, suffix: str) -> list[str]:
    """Put a damaged store out of the way, with what belongs to it.

    :param suffix: appended to the names; a time stamp.
    :returns: the new names.
    """
    moved = []
    for part in ("", "-wal", "-shm"):
        if os.path.exists(path + part):
            target = f"{path}{part}.{suffix}"
            os.replace(path + part, target)
            moved.append(target)
    return moved


def _upgrade(path: str, found: int, fault: Callable[[str], None]) -> None:
    """All steps in one transaction, the version's number among them: the old store or the new one."""
    if not 1 <= found < VERSION:
        raise other_version(found, VERSION, path)
    with told(path):
        connection = sqlite3.connect(
            f"file:{_quoted(path)}?mode=rw", uri=True, isolation_level=None, timeout=LOCK_SECONDS
        )
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            for version in range(found, VERSION):
                for statement in statements(UPGRADES[version]):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")
            fault("decided")
            connection.execute("COMMIT")
        finally:
            # What is not committed is undone.
            connection.close()


def _create(path: str) -> None:
    """Under a hidden name first, so that a crash leaves no half a store behind."""
    work = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
    for part in ("", "-journal", "-wal", "-shm"):
        if os.path.exists(work + part):
            os.unlink(work + part)
    with told(path):
        os.close(os.open(work, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(work, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN")
            for version in range(VERSION):
                for statement in statements(UPGRADES[version]):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        for part in ("-wal", "-shm"):
            # What a former store left: SQLite would play its pages into the new one.
            if os.path.exists(path + part):
                os.unlink(path + part)
        os.replace(work, path)
        flush(os.path.dirname(path) or ".")


def _connect(path: str) -> sqlite3.Connection:
    """A connection. After a crash the first one to come recovers the log, and SQLite turns others away
    at once, without regard to the time that they would wait (https://sqlite.org/wal.html, section 7).
    """
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return _open(path)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= until:
                raise
            time.sleep(_RECOVERY_SECONDS)


def _open(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        raise StoreMissing(
            "there is no state store", path, "Run site.yml (its role runtime makes the store)"
        )
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=LOCK_SECONDS,
        check_same_thread=False,
    )
    try:
        found = _version(connection, path)
        if found != VERSION:
            raise other_version(found, VERSION, path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, path: str) -> int:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise corrupt(path, "the file is no ds01 store")
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
