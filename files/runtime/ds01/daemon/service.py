# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's life: what wakes it, what it does then, and how it ends.

Woken by commits of whoever made them (inotify on the store), by times of the book that come, by the
engine's events, by changes of the limits and settings, and by a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ds01.core.book_view import Snapshot
from ds01.core.callers import is_admin
from ds01.core.errors import Ds01Error
from ds01.core.gpu_settings import GpuSettings, read_settings
from ds01.core.leases import HELD
from ds01.core.owner_book import OwnerBook
from ds01.core.store import StoreCorrupt
from ds01.daemon.allowances import LimitsFile
from ds01.daemon.desk import GpuDesk
from ds01.daemon.ear import Ear
from ds01.daemon.owner_desk import OwnerDesk
from ds01.daemon.parts import Parts
from ds01.daemon.rounds import ContainerEvent, Rounds
from ds01.daemon.server import Board, Server, end_all, log_fault
from ds01.daemon.worker import Worker
from ds01.door_refusals import DoorRefusals
from ds01.host.inotify import Watch
from ds01.host.peer import Peer
from ds01.threads import Bounded, Hung

Work = Callable[[], Coroutine[Any, Any, Any]]
"""Made into a coroutine only when it begins, so that none is left that never began."""

TOUCH_SECONDS = 10.0
FIRST_LOOK_SECONDS = 30.0
EVENT_PAUSE_SECONDS = 0.5
ROUND_PAUSE_SECONDS = 1.5
STALL_SECONDS = 45.0
SLOW_STALL_SECONDS = 300.0
"""Longer than all time-outs of one look at the host together."""
STOP_SECONDS = 5.0


class Daemon:
    """``ds01d``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.ending = asyncio.Event()
        self.book = parts.book
        self._worker = Worker()
        self._slow = Worker()
        self._limits = LimitsFile(parts.places.limits)
        self.rounds = Rounds(self.book, parts.world, self._renew)
        owners = OwnerBook(self.book.store, self.book.events_path, self.book.source)
        self.desk = GpuDesk(
            self.book,
            parts.world,
            self._limits,
            parts.directory,
            self.rounds.go,
            DoorRefusals(parts.places.refusals),
            OwnerDesk(owners, parts.sync_owners, parts.directory, lambda: parts.tracker.fault),
        )
        self.server = Server(
            parts.listener, self.desk, self._worker, self._slow, self._is_admin, parts.who
        )
        self._admin_gid: int | None = None
        self._groups = Bounded("groups", 2)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wanted = asyncio.Event()
        self._release = _link(parts.places.release)
        self._refreshing = False
        self._again = False
        self._mark: Any = None
        self._containers: dict[str, str] = {}
        self._due: asyncio.TimerHandle | None = None
        self._due_pause = 0.05
        self.failure: Ds01Error | None = None

    # --- life ---------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        self._worker.start()
        self._slow.start()
        self.rounds.starts.begin()
        watch = self._watch()
        loop.add_reader(watch.fileno(), self._files_changed, watch)
        try:
            await self._reload(first=True)
            await self._job(self.book.repair)
            # The engine is not asked yet: at a boot it is started after us.
            first = self._spawn(lambda: self._job(self.rounds.look, slow=True))
            await asyncio.wait({first}, timeout=FIRST_LOOK_SECONDS)
            await self._refresh()
            # Renewals of before the restart are ours to wait for again.
            queue = (await self._job(lambda: self.book.snapshot(eta=False))).queue
            self.rounds.renewing |= {row.waiter.lease for row in queue if row.waiter.lease}
            self._wanted.set()
            kept = (self._keep_looking, self.server.run, self._keep_touching, self._keep_alive)
            for work in kept:
                self._spawn(work)
            self._parts.tracker.begin(self._fail_soon)
            Ear(self._parts.world, self._hears, recorder=self._parts.tracker).begin()
            self._parts.notifier.tell(READY=1, STATUS="serving")
            await self.ending.wait()
        except Ds01Error as error:
            self._fail(error)
        finally:
            self._parts.notifier.tell(STOPPING=1)
            loop.remove_reader(watch.fileno())
            watch.close()
            await self._end()
        if self.failure:
            print(f"ds01d: {self.failure}", file=sys.stderr)
        return 1 if self.failure else 0

    async def _end(self) -> None:
        await self.server.stop()
        if self._due:
            self._due.cancel()
        await end_all(self._tasks)
        for stop in (self._parts.tracker.stop, self._worker.stop):
            await asyncio.get_running_loop().run_in_executor(None, stop, STOP_SECONDS)
        # What these do may hang, and nothing depends on its end.
        self._slow.stop(0)
        self.rounds.starts.stop()

    def heed_signals(self) -> None:
        """SIGTERM and SIGINT end, SIGHUP reads settings and limits anew; in the main thread only."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ending.set)
        loop.add_signal_handler(signal.SIGINT, self.ending.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload))

    def stop(self) -> None:
        """Begin to end; in the loop's thread."""
        self.ending.set()

    def _fail(self, error: Ds01Error) -> None:
        """End so that systemd starts us anew: what is wrong is mended at a start."""
        self.failure = error
        self.ending.set()

    def _fail_soon(self, error: Ds01Error) -> None:
        """The same, from another thread, unless the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, error)

    def _spawn(self, work: Work) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Work) -> None:
        """Nothing that goes wrong in the background ends the daemon but a damaged store."""
        try:
            await work()
        except StoreCorrupt as error:
            self._fail(error)
        except Ds01Error as error:
            print(f"ds01d: {error}", file=sys.stderr)
        except Exception as error:
            log_fault(error)

    async def _job(self, call: Callable[[], Any], slow: bool = False) -> Any:
        return await self.server.job(call, slow)

    # --- settings and limits --------------------------------------------------------------------------

    async def _reload(self, first: bool = False) -> None:
        """Read settings and limits anew."""
        if not first:
            now = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
            self._parts.notifier.tell(RELOADING=1, MONOTONIC_USEC=now)
        try:
            settings = read_settings(self._parts.places.settings)
        except Ds01Error as error:
            print(f"ds01d: {error}", file=sys.stderr)
            settings = self.book.settings
        self.book.settings = settings
        await self._find_admins(settings)
        if not first:
            await self._renew_allowances()
            self._parts.notifier.tell(READY=1, STATUS="serving")

    async def _find_admins(self, settings: GpuSettings) -> None:
        name = settings.admin_group
        self._admin_gid = None
        if name:
            found = asyncio.wrap_future(self._groups.submit(lambda: self._parts.group_id(name)))
            try:
                self._admin_gid = await asyncio.wait_for(asyncio.shield(found), 5)
            except (asyncio.TimeoutError, Hung):
                print(
                    f"ds01d: group {name} cannot be looked up: root alone is admin", file=sys.stderr
                )

    def _is_admin(self, peer: Peer) -> bool:
        return is_admin(peer, self._admin_gid)

    async def _renew_allowances(self) -> None:
        """The limits may have changed, or an override have ended: those who wait follow."""
        snapshot: Snapshot = await self._job(lambda: self.book.snapshot(eta=False))
        uids = {row.waiter.allowance.uid for row in snapshot.queue}
        uids |= {lease.uid for lease in snapshot.leases if lease.holding}
        for uid in uids:
            try:
                account = await self._parts.directory.account(uid)
                self.desk.allowances[uid] = self._limits.allowance(account)
            except Ds01Error:
                continue  # it keeps what it had
        known = self.desk.allowances
        old = {row.waiter.allowance.uid: row.waiter.allowance for row in snapshot.queue}
        changed = {uid: known[uid] for uid in old if uid in known and known[uid] != old[uid]}
        if changed:
            await self._job(lambda: self.book.set_allowances(changed))

    def _renew(self, lease_id: str) -> None:
        """New slots for an ended lease, by the limits that are known; in the slow thread."""
        lease = self.book.lease(lease_id)
        if lease is None:
            return
        # Asked anew: the limits may have changed, or the account be gone, since the lease ended.
        account = self._loop_future(self._parts.directory.account(lease.uid))
        known = self.desk.allowances[lease.uid] = self._limits.allowance(account)
        self.book.request(lease.ask, known, lease=lease_id)

    def _loop_future(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine gives, for another thread than the loop's."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- what wakes it --------------------------------------------------------------------------------

    def _watch(self) -> Watch:
        self._loop = asyncio.get_running_loop()
        known = self._parts.places
        places = (self.book.store.path, known.limits, known.settings, known.release)
        folders = dict.fromkeys(os.path.dirname(path) for path in places)
        return Watch(folder for folder in folders if os.path.isdir(folder))

    def _files_changed(self, watch: Watch) -> None:
        changed = watch.changed()
        store, places = self.book.store.path, self._parts.places
        folder = os.path.dirname(store)
        if changed & {store, folder} and not os.path.exists(store):
            self._fail(StoreCorrupt("the state store has been removed", store))
        if changed & {store, f"{store}-wal", folder}:
            self._spawn(self._refresh)
            self._parts.tracker.commits()
        if changed & {places.limits, places.settings}:
            self._spawn(self._reload)
        if places.release in changed and _link(places.release) not in (None, self._release):
            print("ds01d: another release is in force: starting anew", file=sys.stderr)
            self.ending.set()

    async def _refresh(self) -> None:
        """Look at the book, publish it, tell those who wait; many wake-ups at once are one."""
        if self._refreshing:
            self._again = True
            return
        self._refreshing = True
        try:
            again = True
            while again:
                self._again = False
                self._shown(*await self._job(self._look))
                again = self._again
        finally:
            self._refreshing = False

    def _look(self) -> tuple[Snapshot, Board, Any]:
        snapshot = self.book.snapshot()
        queue = [(row.waiter.ticket, row.waiter.deadline, row.reason) for row in snapshot.queue]
        mark = (
            *(snapshot.slots, snapshot.leases, snapshot.blocks, queue),
            *(snapshot.driver, snapshot.driver_reason),
        )
        try:
            self._parts.places.publish(snapshot, mark)
        except OSError as error:
            print(f"ds01d: the views cannot be published: {error}", file=sys.stderr)
        return snapshot, self.desk.board(snapshot), mark

    def _shown(self, snapshot: Snapshot, board: Board, mark: Any) -> None:
        self.server.show(board, mark != self._mark)
        if mark != self._mark:
            self._mark = mark
            self._due_pause = 0.05
            self._containers = {o.container: o.id for o in snapshot.leases if o.container}
            if any(o.state == HELD and o.bound_at is None for o in snapshot.leases):
                # A renewed lease: its container may have to be started.
                self._wanted.set()
        self._set_due(board.due_in)

    def _set_due(self, seconds: float | None) -> None:
        if self._due:
            self._due.cancel()
            self._due = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            delay = max(seconds + 0.01, self._due_pause)
            self._due = loop.call_later(delay, lambda: self._spawn(self._come_due))

    async def _come_due(self) -> None:
        """A time has come. What cannot end yet (the engine is down) is tried less and less often."""
        self._due_pause = min(30.0, self._due_pause * 2)
        await self._job(self.book.settle)
        await self._job(lambda: self.book.finish(self._parts.world), slow=True)
        await self._refresh()

    async def _keep_touching(self) -> None:
        """Those who wait on a connection are still there."""
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            if self.server.tickets or self.rounds.renewing:
                await self._guarded(lambda: self._job(self._touch))

    def _touch(self) -> None:
        self.desk.touch(self.server.tickets)
        for lease in list(self.rounds.renewing):
            outcome = self.book.poll(lease)
            if outcome is None or not outcome.waiting:
                self.rounds.renewing.discard(lease)

    async def _keep_looking(self) -> None:
        """Rounds: by the clock, and soon after something asked for one."""
        while True:
            try:
                await asyncio.wait_for(self._wanted.wait(), self.book.settings.reconcile_seconds)
            except asyncio.TimeoutError:
                await self._guarded(self._renew_allowances)
            await asyncio.sleep(EVENT_PAUSE_SECONDS)
            self._wanted.clear()
            await self._guarded(self._round)
            # Where containers come and go all the time it does not look all the time.
            await asyncio.sleep(ROUND_PAUSE_SECONDS)

    async def _round(self) -> None:
        directory = self.book.files.directory
        if os.path.isdir(os.path.dirname(directory)) and not os.access(directory, os.W_OK):
            # Removed, or removed and made anew outside of what this process may write to.
            what = "the directory of the lease files is gone: starting anew makes it"
            self._fail(Ds01Error(what, directory))
            return
        await self._job(self.rounds.go, slow=True)
        fault = self.rounds.engine_fault or self._parts.tracker.fault
        self._parts.notifier.tell(STATUS=f"serving; {fault}" if fault else "serving")

    async def _keep_alive(self) -> None:
        """The watchdog: only while the book's thread goes on."""
        if not self._parts.watchdog:
            return
        while True:
            alive = self._worker.stalled_for() < min(STALL_SECONDS, self._parts.watchdog)
            if alive and self._slow.stalled_for() < SLOW_STALL_SECONDS:
                self._parts.notifier.tell(WATCHDOG=1)
            await asyncio.sleep(self._parts.watchdog / 3)

    # --- the engine -----------------------------------------------------------------------------------

    def _hears(self, event: ContainerEvent) -> bool:
        """From the thread that listens to the engine; whether it is still wanted."""
        try:
            self._loop.call_soon_threadsafe(self._engine_says, event)
        except RuntimeError:
            return False  # the loop has ended
        return not self.ending.is_set()

    def _engine_says(self, event: ContainerEvent) -> None:
        """A container's step goes into the book at once; a round sees to the rest."""
        lease = self._containers.get(event.container)
        steps = {
            "start": self.book.container_started,
            "die": self.book.container_stopped,
            "destroy": self.book.container_gone,
        }
        step = steps.get(event.action)
        if lease and step:
            self._spawn(lambda: self._job(lambda: step(lease, event.container)))
        self._wanted.set()


def _link(path: str) -> str | None:
    """Where a link leads; None where there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return None
