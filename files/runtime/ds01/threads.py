# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads in which a call may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

T = TypeVar("T")


class Hung(Exception):
    """A call did not come back in time."""


class Bounded:
    """Runs calls that may hang for ever, such as into a driver or a directory service.

    A thread that hangs cannot be ended; so there are never more than ``most`` of them, and while
    that many hang every call fails at once.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._free = threading.BoundedSemaphore(most)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Begin a call; it has failed with :class:`Hung` already when too many hang."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        if not self._free.acquire(blocking=False):
            future.set_exception(Hung(f"{self._name}: earlier calls have not come back"))
            return future

        def run() -> None:
            try:
                result = call()
            except BaseException as error:
                self._free.release()
                future.set_exception(error)
            else:
                self._free.release()
                future.set_result(result)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future

    def call(self, call: Callable[[], T], seconds: float) -> T:
        """The result of a call.

        :raises Hung: it did not come in time.
        """
        future = self.submit(call)
        try:
            return future.result(seconds)
        except FutureTimeout:
            if future.done():
                raise
            raise Hung(f"{self._name}: no answer within {seconds:g} s") from None
