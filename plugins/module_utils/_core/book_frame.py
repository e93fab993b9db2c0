# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of every change of the book: lock, decide, commit, make the lease files so, log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from . import book_rows as rows
from .book_change import Change, settle
from .book_clock import Anchor, Clock, anchor_from, host_clock, tick
from .book_log import log_committed
from .errors import Ds01Error
from .events import EVENTS_PATH
from .gpu_settings import GpuSettings
from .lease_files import LeaseFiles, sound_id
from .leases import FREE, Lease, Refused
from .store import Store

SETTLE_SECONDS = 1.0
"""Between the removal of a lease file and the question to the engine: it learns of the removal by
inotify(7), and a start that had read the file before is then under way and makes the question wait."""

FAULT_POINTS = (
    "locked",
    "decided",
    "committed",
    "file_written",
    "file_removed",
    "event_appended",
    "events_logged",
    "revoked",
    "engine_asked",
)
"""Where tests let a process die."""


class Frame:
    """What every operation of the book goes through.

    :param store: the state store.
    :param files: the lease files.
    :param clock: the host's clocks.
    :param source: the program's name in events.
    :param settle_seconds: see :data:`SETTLE_SECONDS`.
    :param fault: told the name of each step of :data:`FAULT_POINTS`; tests die there.
    """

    def __init__(
        self,
        store: Store,
        files: LeaseFiles,
        clock: Clock = host_clock,
        settings: GpuSettings | None = None,
        events_path: str = EVENTS_PATH,
        source: str = "ds01d",
        settle_seconds: float = SETTLE_SECONDS,
        fault: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.store = store
        self.files = files
        self.clock = clock
        self.settings = settings or GpuSettings()
        self.events_path = events_path
        self.source = source
        self.settle_seconds = settle_seconds
        self.fault = fault

    # --- the frame of every change ----------------------------------------------------------------

    @contextlib.contextmanager
    def _change(self, whole: bool = False) -> Iterator[Change]:
        """Lock, decide, commit, make the files so, log.

        :param whole: all lease files are compared, not just those of this change.
        """
        with self.store.locked():
            self.fault("locked")
            with self.store.transaction() as connection:
                anchor = self._anchor(connection)
                change = Change(connection, anchor.book, self.files, self.source, self.settings)
                yield change
                settle(change)
                rows.put_meta(connection, "clock", anchor.as_text())
                self.fault("decided")
            self.fault("committed")
            try:
                self._project(change, whole)
            finally:
                log_committed(self.store, self.events_path, self.fault)

    def _project(self, change: Change, whole: bool) -> None:
        """Make the lease files what the book says.

        :raises Ds01Error: a new lease's file could not be written; the lease was taken back.
        """
        with self.store.reading() as connection:
            leases = {lease.id: lease for lease in rows.holding(connection)}
            slots = {slot.uuid: slot for slot in rows.slots(connection)}
        names = set(change.touched)
        if whole:
            names |= set(leases) | set(self.files.present())
        failed: list[tuple[str, Exception]] = []
        for name in sorted(names):
            lease = leases.get(name)
            try:
                if lease is None or lease.revoked is not None or lease.stale:
                    if sound_id(name):
                        self._drop_file(name)
                elif self.files.write(lease, [slots[uuid] for uuid in lease.slots]):
                    self.fault("file_written")
            except (OSError, Ds01Error, KeyError) as error:
                failed.append((name, error))
        if failed:
            self._take_back(change, failed)

    def _take_back(self, change: Change, failed: Sequence[tuple[str, Exception]]) -> None:
        names = [name for name, _error in failed if name in change.granted]
        with self.store.transaction() as connection:
            for name in names:
                lease = rows.lease_by_id(connection, name)
                if lease is not None and lease.container:
                    rows.put_lease(connection, replace(lease, state=FREE))
                else:
                    rows.drop_lease(connection, name)
        if names:
            name, error = failed[0]
            raise Ds01Error(
                f"the lease file cannot be written, so nothing was granted ({error})",
                self.files.path(name),
                "Look at the free space and the permissions of that directory",
            )

    def _drop_file(self, lease_id: str) -> bool:
        removed = self.files.remove(lease_id)
        if removed:
            self.fault("file_removed")
        return removed

    def _anchor(self, connection: sqlite3.Connection) -> Anchor:
        text = rows.meta(connection, "clock")
        return tick(None if text is None else anchor_from(text), self.clock())

    def _now(self, connection: sqlite3.Connection) -> float:
        return float(self._anchor(connection).book)

    def _must(self, change: Change, lease_id: str) -> Lease:
        lease = change.lease(lease_id) if sound_id(lease_id) else None
        if lease is None:
            raise Refused(
                "lease", f"there is no lease {lease_id[:80]!r}", "lease", "ds01 gpu status"
            )
        return lease

    def _get(self, lease_id: str) -> Lease:
        with self.store.reading() as connection:
            lease = rows.lease_by_id(connection, lease_id) if sound_id(lease_id) else None
        if lease is None:
            raise Refused(
                "lease", f"there is no lease {lease_id[:80]!r}", "lease", "ds01 gpu status"
            )
        return lease
