# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that may hang for ever, each user within a share of his own.

A look at a path of a user's may hang (a home on a server that is gone, a FUSE file system of his own
making), and so may a question to a directory. A thread that hangs in the kernel cannot be ended: it is
left behind, and counts until it comes back. So nobody has more than a few of them, and whoever has
used up his share is refused at once while all others are served.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TypeVar

from ds01.threads import Bounded, Hung

T = TypeVar("T")


class Slow:
    """Runs calls in threads, within a time.

    :param total: threads at most, hanging ones included.
    :param each: threads of one user at most.
    :param seconds: how long a call is waited for.
    """

    def __init__(self, name: str, total: int = 64, each: int = 4, seconds: float = 5.0) -> None:
        self._name = name
        self._threads = Bounded(name, total)
        self._each = each
        self._seconds = seconds
        self._lock = threading.Lock()
        self._busy: Counter[Hashable] = Counter()

    def begin(self, whose: Hashable, call: Callable[[], T]) -> Future[T]:
        """Begin a call; it has failed with :class:`Hung` already when the share is used up.

        :param whose: whose share it counts to; a uid, say.
        """
        with self._lock:
            full = self._busy[whose] >= self._each
            if not full:
                self._busy[whose] += 1
        if full:
            refused: Future[T] = Future()
            refused.set_exception(
                Hung(f"{self._name}: {self._each} earlier calls of {whose} have not come back")
            )
            return refused
        future = self._threads.submit(call)
        future.add_done_callback(lambda _future: self._end(whose))
        return future

    async def call(self, whose: Hashable, call: Callable[[], T], seconds: float = 0.0) -> T:
        """The result of a call, for an event loop, which goes on meanwhile.

        :param seconds: another time than the usual one.
        :raises Hung: it did not come in time, or the share is used up.
        """
        future = asyncio.wrap_future(self.begin(whose, call))
        wait = seconds or self._seconds
        # Not wait_for(): a cancelled wait must not seem to end what still hangs.
        done, _pending = await asyncio.wait([future], timeout=wait)
        if not done:
            future.add_done_callback(heed)
            raise Hung(f"{self._name}: no answer within {wait:g} s")
        return future.result()

    @property
    def busy(self) -> int:
        """Calls that have not come back."""
        with self._lock:
            return sum(self._busy.values())

    def _end(self, whose: Hashable) -> None:
        with self._lock:
            self._busy[whose] -= 1
            if self._busy[whose] <= 0:
                del self._busy[whose]


def heed(future: asyncio.Future[T]) -> None:
    """Take note of a late error, which asyncio would otherwise complain of."""
    if not future.cancelled():
        future.exception()
