# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of every change of the book: lock, decide, commit, make the lease files so, log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from . import book_rows as rows
from .book_change import Change, adopted, settle
from .book_clock import Anchor, Clock, anchor_from, host_clock, tick
from .book_log import log_committed
from .errors import Ds01Error
from .events import EVENTS_PATH
from .gpu_settings import GpuSettings
from .lease_files import LeaseFiles, sound_id
from .leases import Lease, Refused
from .reconcile import SeenContainer
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
        # When this process first saw that a revoked lease has no file, by id and revocation.
        self.file_gone: dict[tuple[str, float | None], float] = {}

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
        names = {name for name in change.touched if sound_id(name)}
        if not names and not whole:
            return
        with self.store.reading() as connection:
            slots = {slot.uuid: slot for slot in rows.slots(connection)}
            if whole:
                self.files.sweep()
                leases = {lease.id: lease for lease in rows.holding(connection)}
                names |= set(leases)
                if adopted(connection):
                    names |= set(self.files.present())
            else:
                found = [rows.lease_by_id(connection, name) for name in names]
                leases = {lease.id: lease for lease in found if lease and lease.holding}
        wanted = {
            name: lease
            for name, lease in leases.items()
            if name in names and lease.revoked is None and not lease.stale
        }
        for name in sorted(names - set(wanted)):
            self._drop_file(name)
            if name in leases:
                self.file_gone.setdefault((name, leases[name].revoked), self.now())
        failed: list[tuple[Lease, Exception]] = []
        for name, lease in sorted(wanted.items()):
            try:
                if self.files.write(lease, [slots[uuid] for uuid in lease.slots]):
                    self.fault("file_written")
            except (OSError, Ds01Error) as error:
                # A file that is there already stays as it is; a slot without a description is shown.
                if name in change.granted:
                    failed.append((lease, error))
        if failed:
            self._take_back(failed)

    def _take_back(self, failed: Sequence[tuple[Lease, Exception]]) -> None:
        """Grants that no file could be written for never were.

        :raises Ds01Error: always; it says so.
        """
        for lease, _error in failed:
            # It may be there although its writer failed: the directory could not be flushed.
            self._drop_file(lease.id)
        with self.store.transaction() as connection:
            now = self._now(connection)
            change = Change(connection, now, self.files, self.source, self.settings)
            for lease, _error in failed:
                users = [SeenContainer(lease.container, lease.container_name, "exited")]
                why = "its lease file could not be written"
                change.free(lease, users if lease.container else [], why)
        lease, error = failed[0]
        raise Ds01Error(
            f"the lease file cannot be written, so nothing was granted ({error})",
            self.files.path(lease.id),
            "Look at the free space and the permissions of that directory",
        )

    def _drop_file(self, lease_id: str) -> bool:
        try:
            removed = self.files.remove(lease_id)
        except OSError as error:
            raise Ds01Error(
                f"the lease file cannot be removed, so its slots stay taken ({error.strerror})",
                self.files.path(lease_id),
                "Mend that directory; ds01d tries again by itself",
            ) from error
        if removed:
            self.fault("file_removed")
        return removed

    def _anchor(self, connection: sqlite3.Connection) -> Anchor:
        text = rows.meta(connection, "clock")
        return tick(None if text is None else anchor_from(text), self.clock())

    def now(self) -> float:
        """Seconds of the book's clock."""
        with self.store.reading() as connection:
            return self._now(connection)

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
