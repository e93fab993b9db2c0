# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that keeps the records of owners in step with the engine, and publishes them.

It is apart from the book of leases: whatever goes wrong here is told and tried again, and no lease waits
for it. Woken by events, by commits of others, by inspections that come late, and by a timer.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.core.owner_events import cursor_text
from ds01.core.owner_settings import OwnerSettings
from ds01.core.owner_sync import OwnerSync
from ds01.core.store import StoreCorrupt, StoreError
from ds01.daemon.ear import Recorder
from ds01.daemon.server import log_fault

SETTLE_SECONDS = 0.4
"""Between the engine's change of a state and the event that tells it."""
VOLUME_SECONDS = 0.02
LISTENING_SECONDS = 0.1
"""What the engine remembers comes within that time."""
PATIENCE_SECONDS = 0.5
"""So long a full look holds up the events of others; what takes longer is asked for again."""
BATCH_MOST = 256
QUEUE_MOST = 20000
REPLAY_MARGIN_NANO = 1_000_000_000
"""The engine stamps an event a moment before it sends it, and others may overtake it."""
ASK_AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
PUBLISH_AGAIN_SECONDS = 1.0
FORGET_SECONDS = 3600.0


class Tracker(Recorder):
    """Keeps the records.

    :param settings: read anew before each full look.
    :param log: where faults are told.
    """

    def __init__(
        self,
        sync: OwnerSync,
        settings: Callable[[], OwnerSettings] = OwnerSettings,
        log: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ) -> None:
        self._sync = sync
        self._settings = settings
        self._log = log
        self._fail: Callable[[StoreCorrupt], None] = lambda _error: None
        self._wake = threading.Condition()
        self._events: deque[Mapping[str, Any]] = deque()
        self._committed = False
        self._wanted: list[Future[dict[str, Any]]] = []
        self._sync_due = 0.0
        self._deep = True
        self._dirty = True
        self._publish_at = 0.0
        self._ask_at = 0.0
        self._stopping = False
        self._nano: int | None = None
        self._left_off: int | None = None
        self._lost: frozenset[str] = frozenset()
        self._asked = 0
        self._failures = 0
        self._forgotten = time.monotonic()
        self._error = ""
        self._not_looked = ""
        self._not_published = ""
        self._thread = threading.Thread(target=self._run, name="owners", daemon=True)

    @property
    def fault(self) -> str:  # type: ignore[override]
        """What is wrong now, in words; empty while all is well."""
        return self._error or self._not_looked or self._not_published

    # --- from other threads ---------------------------------------------------------------------------

    def begin(self, fail: Callable[[StoreCorrupt], None]) -> None:
        """Begin.

        :param fail: told that the store is damaged; in the thread, which ends then.
        """
        self._fail = fail
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End; what is under way is finished, if that does not take long."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def since(self) -> str | None:
        """From when on the engine's events are wanted."""
        nano = self._nano
        if nano is None:
            try:
                found = self._sync.book.cursor()
            except Ds01Error:
                found = None
            nano = None if found is None else int(found)
        if nano is not None and nano > time.time_ns() + REPLAY_MARGIN_NANO:
            nano = None  # the clock was set back since; asking for the future would make us deaf
        self._left_off = nano
        return None if nano is None else cursor_text(max(0, nano - REPLAY_MARGIN_NANO))

    def listening(self) -> None:
        """The engine is (again) listened to: what no event told is looked for."""
        with self._wake:
            self._deep = True
            self._sync_due = time.monotonic() + LISTENING_SECONDS
            self._wake.notify_all()

    def hear(self, event: Mapping[str, Any]) -> None:
        """Something happened at the engine."""
        nano = event.get("timeNano")
        with self._wake:
            if isinstance(nano, int):
                if nano == self._left_off:
                    # The engine remembers all since then: nothing has to be inspected anew.
                    self._deep = False
                self._nano = nano
            if len(self._events) >= QUEUE_MOST or "Actor" not in event:
                # Lost: it is found by looking.
                self._sync_due = min(self._sync_due, time.monotonic() + SETTLE_SECONDS)
                self._deep = True
            else:
                self._events.append(event)
            self._wake.notify_all()

    def commits(self) -> None:
        """Somebody has written to the store."""
        with self._wake:
            self._committed = True
            self._wake.notify_all()

    def want_sync(self) -> Future[dict[str, Any]]:
        """Have all compared now.

        :returns: what :meth:`OwnerSync.sync` found to tell: numbers, and ``faults`` in words.
        """
        future: Future[dict[str, Any]] = Future()
        with self._wake:
            if self._stopping:
                future.set_exception(Ds01Error("the daemon is ending", "ds01d"))
            else:
                self._wanted.append(future)
                self._wake.notify_all()
        return future

    def sync_now(self) -> dict[str, Any]:
        """The same, waited for.

        :raises Ds01Error: the engine does not answer, or the store cannot be written.
        """
        return self.want_sync().result()

    # --- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._stopping and (left := self._idle_for()) > 0:
                    self._wake.wait(left)
                if self._stopping:
                    break
            try:
                self._turn()
            except StoreCorrupt as error:
                self._told(error)
                self._fail(error)
                break
            except Ds01Error as error:
                self._failed(error)
            except Exception as error:
                log_fault(error)
                self._failed(Ds01Error(f"{type(error).__name__}: {error}", "owners"))
            else:
                self._failures, self._error = 0, ""
        with self._wake:
            self._stopping = True
            wanted, self._wanted = self._wanted, []
        for future in wanted:
            future.set_exception(Ds01Error("the daemon is ending", "ds01d"))

    def _idle_for(self) -> float:
        """Seconds until something is to be done; not above zero: it is now."""
        if self._events or self._committed or self._wanted:
            return 0.0
        until = self._sync_due
        if self._sync.unfinished:
            until = min(until, self._ask_at)
        if self._dirty:
            until = min(until, self._publish_at)
        return until - time.monotonic()

    def _turn(self) -> None:
        """Do what is to be done."""
        self._take_events()
        with self._wake:
            committed, self._committed = self._committed, False
        if committed:
            self._committed_to()
        if not self._sync.unfinished:
            self._asked = 0
        elif time.monotonic() >= self._ask_at:
            if self._sync.finish():
                self._dirty, self._publish_at = True, 0.0
            self._ask_at = time.monotonic() + _step(ASK_AGAIN_SECONDS, self._asked)
            self._asked += 1
        if self._wanted or time.monotonic() >= self._sync_due:
            self._look()
        elif self._dirty and time.monotonic() >= self._publish_at:
            self._publish(full=False)

    def _committed_to(self) -> None:
        """Others have written to the store."""
        if self._sync.commits_seen():
            self._dirty, self._publish_at = True, 0.0
        lost = self._sync.lost()
        if lost - self._lost:
            # A gateway is gone, or got no answer: what came of its requests is there by now or soon.
            try:
                if self._sync.mend():
                    self._dirty, self._publish_at = True, 0.0
            except StoreError:
                raise
            except Ds01Error:
                pass  # the engine does not answer: the full look tries again
            self._sync_due = min(self._sync_due, time.monotonic() + SETTLE_SECONDS)
        self._lost = lost

    def _take_events(self) -> None:
        while True:
            batch = self._next_batch()
            if not batch:
                return
            try:
                if self._sync.heard(batch):
                    self._dirty = True
                    self._ask_at, self._asked = time.monotonic() + ASK_AGAIN_SECONDS[0], 0
            except Ds01Error:
                raise  # what could not be written is given again
            except Exception as error:
                # Given again it would fail again; what it told is found by looking.
                log_fault(error)
                self._deep, self._sync_due = True, 0.0
            with self._wake:
                for _event in batch:
                    self._events.popleft()
            if self._dirty:
                self._publish(full=False)

    def _next_batch(self) -> list[Mapping[str, Any]]:
        with self._wake:
            if self._events and _is_volume(self._events[-1]):
                # Most often it is made for a container of which the engine tells next.
                self._wake.wait_for(lambda: not _is_volume(self._events[-1]), VOLUME_SECONDS)
            return [self._events[i] for i in range(min(len(self._events), BATCH_MOST))]

    def _look(self) -> None:
        """Compare all, for the timer and for all who want it."""
        with self._wake:
            wanted, self._wanted = self._wanted, []
            deep, self._deep = self._deep, False
        try:
            self._sync.settings = self._read_settings()
            self._sync_due = time.monotonic() + self._sync.settings.sync_seconds
            self._sync.sync(self._settle, deep, PATIENCE_SECONDS)
            self._forget()
            self._publish(full=True)
        except BaseException as error:
            self._deep = self._deep or deep
            for future in wanted:
                future.set_exception(error)
            raise
        for future in wanted:
            future.set_result(self._summary())
        self._not_looked = "; ".join(self._sync.faults.values())

    def _settle(self) -> None:
        """Let events come that are on their way."""
        until = time.monotonic() + SETTLE_SECONDS
        while (left := until - time.monotonic()) > 0:
            self._take_events()
            with self._wake:
                if not self._events:
                    self._wake.wait(min(left, 0.05))
        self._take_events()

    def _read_settings(self) -> OwnerSettings:
        try:
            return self._settings()
        except Ds01Error as error:
            self._log(f"ds01d: {error}: the settings stay as they were")
            return self._sync.settings

    def _forget(self) -> None:
        """The past is kept for a set time."""
        if time.monotonic() - self._forgotten >= FORGET_SECONDS:
            self._forgotten = time.monotonic()
            self._sync.book.forget(time.time() - self._sync.settings.history_seconds)

    def _publish(self, full: bool) -> None:
        self._dirty = True
        self._publish_at = time.monotonic() + PUBLISH_AGAIN_SECONDS
        self._dirty = not self._sync.publish(full)
        trouble = self._sync.publisher.trouble if self._sync.publisher and self._dirty else ""
        if trouble and trouble != self._not_published:
            self._log(f"ds01d: owners: {trouble}")
        self._not_published = trouble

    def _summary(self) -> dict[str, Any]:
        containers = list(self._sync.containers.values())
        return {
            "containers": len(containers),
            "unknown": sum(not one.owner.known for one in containers),
            "faults": dict(self._sync.faults),
        }

    # --- faults ---------------------------------------------------------------------------------------

    def _failed(self, error: Ds01Error) -> None:
        """Try again, less and less often; a full look then mends what was missed."""
        self._told(error)
        pause = _step(RETRY_SECONDS, self._failures)
        self._failures += 1
        with self._wake:
            self._sync_due = time.monotonic() + pause
            if not self._stopping:
                self._wake.wait_for(lambda: self._stopping, min(pause, RETRY_SECONDS[0]))

    def _told(self, error: Ds01Error) -> None:
        text = str(error)
        if text != self._error:
            self._log(f"ds01d: owners: {text}")
        self._error = text


def _is_volume(event: Mapping[str, Any]) -> bool:
    return (event.get("Type"), event.get("Action")) == ("volume", "create")


def _step(steps: tuple[float, ...], number: int) -> float:
    """The pause after so many tries."""
    return steps[min(number, len(steps) - 1)]
