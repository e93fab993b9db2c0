# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down who makes what, in a thread of its own: the store waits for the disk, the loop for nobody.

One thread does one thing after the other: first what a client waits for that was made, then what users
ask, each in turn. What waits is bounded: each request that waits here holds a place among its user's
requests, and beyond :data:`QUEUE_MAX` a new one is refused at once. What has to be said of a request that
is over (a thing made, a request without effect) is kept and tried again until the store takes it; a
gateway that dies before leaves a row that whoever syncs makes good.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from ds01.core.errors import Ds01Error
from ds01.core.events import EVENTS_PATH
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_intents import Intent
from ds01.core.owners import Made
from ds01.core.store import STATE_PATH, Store, StoreError, StoreMissing, StoreVersion
from ds01.gateway.counters import Counters

SOURCE = "ds01-gateway"
QUEUE_MAX = 512
KEPT_MAX = 4096
"""Ends of requests that the store did not take yet."""
WAIT_SECONDS = 10.0
"""How long a request waits for the store."""
RECORD_SECONDS = 2.0
"""The same where the thing is there already, and nobody is refused any more."""
AGAIN_SECONDS = 3.0
SOON_SECONDS = 0.2
PATIENCE: dict[type[Exception], float] = {StoreVersion: 8.0, StoreMissing: 1.0}
"""How long a request waits for a store that an upgrade, or its repair, is about to bring back."""
REPEAT_SECONDS = 60.0

T = TypeVar("T")


class LateError(Ds01Error):
    """The store did not take it in time, or too much waits for it."""


@dataclass
class _Job:
    """One thing to do.

    :param uid: whose turn it takes.
    :param due: when it is too late for it; seconds of the monotonic clock, as ``again``.
    :param lasting: it is tried again until it is done.
    :param again: when it is tried again.
    :param undo: for one that was given up while it was being done.
    """

    name: str
    uid: int
    call: Callable[[OwnerBook], Any]
    future: Future[Any]
    due: float
    lasting: bool = False
    undo: Callable[[OwnerBook], Any] | None = None
    given_up: bool = False
    again: float = 0.0


def own_identity(pid: int = 0) -> str:
    """A name of this process that no other has had since the host was installed."""
    process = f"/proc/{pid or os.getpid()}/stat"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        begun = Path(process).read_text(encoding="utf-8", errors="replace")
        return f"{boot[:13]}.{pid or os.getpid()}.{begun.rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return f"{time.time():.6f}.{pid or os.getpid()}"


class Recorder:
    """The owner book's only writer in the gateway.

    :param path: the store; empty: nothing is recorded.
    :param counters: told of each thing done, and of what failed.
    """

    def __init__(
        self,
        path: str = STATE_PATH,
        events: str = EVENTS_PATH,
        counters: Counters | None = None,
        book: Callable[[str, str], OwnerBook] | None = None,
    ) -> None:
        self.enabled = bool(path)
        self.identity = own_identity()
        self._make = book or (lambda path, events: OwnerBook(Store(path), events, SOURCE))
        self._places = (path, events)
        self._counters = counters or Counters("")
        self._wake = threading.Condition()
        self._first: deque[_Job] = deque()
        self._queue: deque[_Job] = deque()
        self._served: set[int] = set()
        self._again: deque[_Job] = deque()
        self._stopping = False
        self._complained: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self.enabled:
            self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Do what waits, and end.

        :param seconds: how long the store is waited for.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def waiting(self) -> int:
        """How much is still to be done."""
        return len(self._first) + len(self._queue) + len(self._again)

    # --- for the loop -----------------------------------------------------------------------------

    async def reserve(self, uid: int, make: Callable[[], Intent]) -> Intent:
        """Write down that something is asked for, before it is.

        :param uid: whose turn it takes.
        :param make: what to write down; called in the thread, since it may take a while.
        :raises Ds01Error: it is not written down.
        """
        made: list[Intent] = []

        def reserve(book: OwnerBook) -> Intent:
            made.append(make())
            book.reserve(made[0])
            return made[0]

        def undo(book: OwnerBook) -> None:
            if made:
                book.abandon(made[0].token)

        job = self._job("reserve", uid, reserve, undo=undo)
        return cast(Intent, await self._wait(job, self._queue, WAIT_SECONDS))

    async def bind(self, intent: Intent, thing: str, leases: Collection[str] = ()) -> None:
        """Tie what was written down to what came of it.

        :param leases: ids of the GPU leases that the container names.
        :raises Ds01Error: it is not done yet; it is tried again.
        """

        def bind(book: OwnerBook) -> None:
            try:
                book.bind(intent.token, thing, intent.name, lease_ids=leases)
            except StoreError:
                raise
            except Ds01Error:
                # What was written down is not there any more: the store is another one, say.
                book.record(intent.kind, thing, intent.made(), name=intent.name)

        job = self._job("bind", intent.uid, bind, lasting=True)
        await self._wait(job, self._first, WAIT_SECONDS)

    async def record(
        self,
        kind: str,
        thing: str,
        made: Made,
        name: str = "",
        parent: str = "",
        durable: bool = True,
    ) -> None:
        """Write down a thing that was made, and by whom.

        :param parent: of an exec: the container's id.
        :param durable: whether it has to outlive a power cut.
        :raises Ds01Error: it is not done yet; it is tried again.
        """

        def record(book: OwnerBook) -> None:
            book.record(kind, thing, made, name=name, parent=parent, durable=durable)

        job = self._job("record", made.uid, record, lasting=True)
        await self._wait(job, self._first, RECORD_SECONDS)

    def abandon(self, uid: int, token: str) -> None:
        """Nothing came of what was written down.

        :param uid: whose turn it takes.
        """
        self._later("abandon", uid, lambda book: book.abandon(token))

    def ended(self, uid: int, token: str, at: float) -> None:
        """What was written down is over; what came of it is for others to find out.

        :param uid: whose turn it takes.
        :param at: seconds of the wall clock.
        """
        self._later("end", uid, lambda book: book.ended(token, at))

    def take_over(self, streams: Collection[str]) -> None:
        """Leave what earlier gateways had under way to whoever syncs.

        :param streams: tokens of those whose streams are open still.
        """
        kept = frozenset(streams)

        def take_over(book: OwnerBook) -> None:
            book.orphan(self.identity, kept)

        self._later("orphan", 0, take_over)

    async def prepare(self, uid: int, call: Callable[[], T]) -> T:
        """Do something that takes the loop too long.

        :param uid: whose turn it takes.
        """
        job = self._job("prepare", uid, lambda _book: call())
        return cast(T, await self._wait(job, self._queue, WAIT_SECONDS))

    def _job(
        self,
        name: str,
        uid: int,
        call: Callable[[OwnerBook], Any],
        lasting: bool = False,
        undo: Callable[[OwnerBook], Any] | None = None,
    ) -> _Job:
        future: Future[Any] = Future()
        # It runs: a wait that is given up must not seem to end it.
        future.set_running_or_notify_cancel()
        return _Job(name, uid, call, future, time.monotonic() + WAIT_SECONDS, lasting, undo)

    def _later(self, name: str, uid: int, call: Callable[[OwnerBook], Any]) -> None:
        if self.enabled:
            # After what the same user asked before, so that nobody leaves more than he asks.
            self._put(self._job(name, uid, call, lasting=True), self._queue)

    def _put(self, job: _Job, queue: deque[_Job]) -> None:
        with self._wake:
            queue.append(job)
            self._wake.notify()

    async def _wait(self, job: _Job, queue: deque[_Job], seconds: float) -> Any:
        if queue is self._queue and len(queue) >= QUEUE_MAX:
            self._counters.count("records", what=job.name, result="refused")
            raise LateError("too many requests wait to be written down", self._places[0], "")
        self._put(job, queue)
        future = asyncio.wrap_future(job.future)
        try:
            done, _pending = await asyncio.wait([future], timeout=seconds)
        except asyncio.CancelledError:
            self._give_up(job)
            raise
        if not done:
            self._give_up(job)
            future.cancel()
            what = f"the store does not answer within {seconds:g} s"
            raise LateError(what, self._places[0], "")
        return future.result()

    def _give_up(self, job: _Job) -> None:
        with self._wake:
            if not job.lasting:
                job.given_up = True

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        book = self._make(*self._places)
        # What is wrong with it is said to who asks something of it.
        with contextlib.suppress(Ds01Error):
            book.intents()
        while True:
            job = self._next()
            if job is None:
                return
            if not self._do(book, job):
                book = self._make(*self._places)

    def _next(self) -> _Job | None:
        """What to do now; None at the end."""
        with self._wake:
            while True:
                if self._first:
                    return self._first.popleft()
                if self._queue:
                    return self._in_turn()
                if self._again and (self._stopping or self._again[0].again <= time.monotonic()):
                    return self._again.popleft()
                if self._stopping:
                    return None
                pause = self._again[0].again - time.monotonic() if self._again else None
                self._wake.wait(pause)

    def _in_turn(self) -> _Job:
        """The first job of somebody who was not served since all others were."""
        waiting = (one for one in self._queue if one.uid not in self._served)
        job = next(waiting, None)
        if job is None:
            self._served.clear()
            job = self._queue[0]
        self._served.add(job.uid)
        self._queue.remove(job)
        return job

    def _do(self, book: OwnerBook, job: _Job) -> bool:
        """Whether the book can be used on; not after an error that nobody thought of."""
        late = self._stopping or time.monotonic() > job.due
        if job.given_up or (late and not job.lasting):
            job.given_up = True
            _fail(job.future, LateError("the store is too slow", self._places[0], ""))
            return True
        try:
            result = job.call(book)
            if self._was_given_up(job) and job.undo is not None:
                job.undo(book)
        except Exception as error:  # whatever it is, the thread goes on and the request is told
            left = job.due - WAIT_SECONDS + PATIENCE.get(type(error), 0.0) - time.monotonic()
            if left > 0 and not self._stopping:
                self._try_again(job, SOON_SECONDS)
                return True
            self._failed(job, error)
            return isinstance(error, Ds01Error)
        self._counters.count("records", what=job.name, result="done")
        _tell(job.future, result)
        return True

    def _was_given_up(self, job: _Job) -> bool:
        with self._wake:
            return job.given_up

    def _failed(self, job: _Job, error: Exception) -> None:
        self._counters.count("records", what=job.name, result="failed")
        told = error
        if not isinstance(error, Ds01Error):
            told = Ds01Error(f"{type(error).__name__}: {error}", self._places[0], "ds01 doctor")
        self._complain(f"{job.name}: {told}")
        if job.lasting and not self._stopping:
            if len(self._again) < KEPT_MAX:
                self._try_again(job, AGAIN_SECONDS)
            else:
                self._counters.count("records", what=job.name, result="lost")
        _fail(job.future, told)

    def _try_again(self, job: _Job, seconds: float) -> None:
        job.again = time.monotonic() + seconds
        with self._wake:
            self._again.append(job)

    def _complain(self, text: str) -> None:
        """Once a minute for each kind of fault, into the journal."""
        now = time.monotonic()
        if len(self._complained) > 100:
            self._complained.clear()
        if now - self._complained.get(text[:80], -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._complained[text[:80]] = now
            print(f"ds01-gateway: owner book: {text}", file=sys.stderr, flush=True)


def _tell(future: Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
