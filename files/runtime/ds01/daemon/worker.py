# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that owns the book."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ds01.daemon.protocol import BUSY, RequestError

T = TypeVar("T")
JOBS_MAX = 2000
_IDLE_SECONDS = 1.0


class Worker:
    """One thread that does jobs in the order of their coming.

    It is a daemon thread: at a stop that waits for nobody a transaction is rolled back by SQLite.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[tuple[Future[Any], Callable[[], Any]] | None] = queue.Queue(
            JOBS_MAX
        )
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="book", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Have a job done.

        :raises RequestError: far too many wait already.
        """
        future: Future[T] = Future()
        try:
            self._jobs.put_nowait((future, job))
        except queue.Full:
            what = "the daemon has more to do than it can hold"
            raise RequestError(BUSY, what, "ds01d", "Try again in a moment") from None
        return future

    def stalled_for(self) -> float:
        """Seconds since the thread last showed that it goes on."""
        return time.monotonic() - self._progress if self._thread.is_alive() else float("inf")

    def stop(self, seconds: float) -> bool:
        """Finish what is there; whether it was finished in time."""
        try:
            self._jobs.put(None, timeout=seconds)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._progress = time.monotonic()
            try:
                item = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                return
            self._progress = time.monotonic()
            future, job = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except BaseException as error:  # it belongs to whoever gave the job
                future.set_exception(error)
            else:
                future.set_result(result)
