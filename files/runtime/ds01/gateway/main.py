# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 gateway``: from systemd's socket to an open door.

Signals: SIGTERM ends it within :data:`DRAIN_SECONDS`, or :data:`CHANGE_SECONDS` while something is
being changed or made; what is under way is finished if it can be by then, streams go to the pump, and
who knocks meanwhile waits in the socket. Settings and limits that change are in force within a second
or two.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath

from ds01.core.errors import Ds01Error
from ds01.core.events import EVENTS_PATH
from ds01.core.gateway_settings import GatewaySettings
from ds01.core.store import STATE_PATH
from ds01.daemon.systemd import Notifier, notifier, passed_sockets, watchdog_seconds
from ds01.door_refusals import REFUSALS_PATH
from ds01.gateway.access import ACCESS_PATH, AccessLog
from ds01.gateway.counters import COUNTERS_PATH, Counters
from ds01.gateway.door import Door, token_of
from ds01.gateway.handover import Ended, Pump
from ds01.gateway.owned import Owned
from ds01.gateway.people import People, Places
from ds01.gateway.recorder import Recorder, own_identity
from ds01.host.peer import Peer, peer_of

RELEASE_LINK = "/opt/ds01/current"
DRAIN_SECONDS = 0.8
CHANGE_SECONDS = 1.1
SETTLE_SECONDS = 2.0
TAKE_OVER_SECONDS = 2.0
TICK_SECONDS = 2.0
SWITCH_SECONDS = 0.0005
BACKLOG = 4096
_OPTIONS = (
    "listen",
    "engine",
    "pump",
    "settings",
    "limits",
    "events",
    "access",
    "counters",
    "store",
)


def run(words: Sequence[str] = ()) -> int:
    """Open the door on the socket that systemd passed, or on a path of its own (for tests).

    :param words: ``--listen PATH`` and so on, and ``--any-cgroup``: every peer counts as a process of
        the host.
    :raises Ds01Error: there is no socket, or an option is none.
    """
    options, any_cgroup = _options(words)
    told, watchdog = notifier(), watchdog_seconds()
    listener = _listener(options.get("listen", ""))
    # The journal gets whole lines at once.
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return asyncio.run(_Service(options, any_cgroup, listener, told, watchdog).run())


def _options(words: Sequence[str]) -> tuple[dict[str, str], bool]:
    left = list(words)
    found: dict[str, str] = {}
    any_cgroup = False
    while left:
        word = left.pop(0)
        if word == "--any-cgroup":
            any_cgroup = True
        elif word.removeprefix("--") in _OPTIONS and word.startswith("--") and left:
            found[word[2:]] = left.pop(0)
        else:
            raise Ds01Error(f"{word!r} is no option", "ds01 gateway", "systemd starts it")
    return found, any_cgroup


def _listener(path: str) -> socket.socket:
    passed = passed_sockets()
    if len(passed) == 1:
        return passed[0]
    if not path:
        raise Ds01Error(
            "this is started by systemd, which passes it its socket",
            "ds01 gateway",
            "systemctl start ds01-gateway.socket",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(BACKLOG)
    return listener


def _host_peer(sock: socket.socket) -> Peer:
    """For tests on machines whose cgroups are not those of a host."""
    return peer_of(sock, lambda _pid: "/system.slice/test.service")


class _Service:
    """The parts, wired."""

    def __init__(
        self,
        options: dict[str, str],
        any_cgroup: bool,
        listener: socket.socket,
        told: Notifier,
        watchdog: float | None,
    ) -> None:
        self._options = options
        self._who: Callable[[socket.socket], Peer] = _host_peer if any_cgroup else peer_of
        self._listener = listener
        self._told = told
        self._watchdog = watchdog
        self._stop = asyncio.Event()
        self._release = _leads_to(RELEASE_LINK)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._door: Door | None = None
        self._took_over = False
        # Without limits of the host there is no store of the host either (for tests).
        self._store = options.get("store", "" if "limits" in options else STATE_PATH)
        self.people = self._people()
        self.counters = Counters(
            options.get("counters", COUNTERS_PATH), self._gauges, lambda: self.people.faults
        )
        access = options.get("access", ACCESS_PATH)
        events = options.get("events", EVENTS_PATH)
        self.recorder = Recorder(self._store, events, self.counters)
        self.log = AccessLog(
            access,
            events,
            self.counters,
            REFUSALS_PATH if access == ACCESS_PATH else f"{access}.refusals",
        )

    def _people(self) -> People:
        given = Places()
        if "limits" in self._options:
            given = replace(given, limits=self._options["limits"], record="")
        if "settings" in self._options:
            given = replace(given, settings=self._options["settings"])
        owned = Owned(self._store, own_identity())
        return People(given, on_settings=self._other_settings, owned=owned)

    def _gauges(self) -> dict[str, float]:
        return dict(self._door.gauges) if self._door else {}

    def _settings(self) -> GatewaySettings:
        settings = self.people.settings
        if "engine" in self._options:
            settings = replace(settings, engine_socket=self._options["engine"])
        if "pump" in self._options:
            settings = replace(settings, pump_socket=self._options["pump"])
        return settings

    def _other_settings(self, _settings: GatewaySettings) -> None:
        """In the thread of the people."""
        loop, door = self._loop, self._door
        if loop and door:
            loop.call_soon_threadsafe(lambda: door.use(self._settings()))

    async def run(self) -> int:
        """Until a signal, or another release."""
        loop = self._loop = asyncio.get_running_loop()
        self.people.start()
        self.log.start()
        self.recorder.start()
        settings = self._settings()
        pump = Pump(settings.pump_socket, self._stream_ended, self._streams_open)
        door = self._door = Door(
            loop, self._listener, settings, self.people, self.log, pump, self.recorder, self._who
        )
        pump.start()
        # Where no pump tells of streams, none of them is open.
        loop.call_later(TAKE_OVER_SECONDS, self._streams_open, [])
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # Settings and limits are looked at each second; there is nothing more to do.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        # The log's thread shall not hold the interpreter while a request waits for it.
        sys.setswitchinterval(SWITCH_SECONDS)
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        door.open()
        self._told.tell(READY=1, STATUS="the door is open")
        await self._watch()
        self._told.tell(STOPPING=1)
        await self._end(door, pump)
        return 0

    def _stream_ended(self, ended: Ended) -> None:
        if self._door:
            self._door.stream_ended(ended)

    def _streams_open(self, tags: list[str]) -> None:
        """The pump tells which of the streams that were written down are open."""
        if not self._took_over:
            self._took_over = True
            self.recorder.take_over([token_of(tag) for tag in tags])

    async def _watch(self) -> None:
        """Tell systemd that the loop turns; end when another release is in force."""
        tick = min(TICK_SECONDS, self._watchdog / 3) if self._watchdog else TICK_SECONDS
        while not self._stop.is_set():
            self._told.tell(WATCHDOG=1)
            if _leads_to(RELEASE_LINK) not in ("", self._release):
                print("ds01-gateway: another release is in force: starting anew", file=sys.stderr)
                return
            try:
                await asyncio.wait_for(self._stop.wait(), tick)
            except asyncio.TimeoutError:
                continue

    async def _end(self, door: Door, pump: Pump) -> None:
        loop = asyncio.get_running_loop()
        door.close()
        began = loop.time()
        while not door.quiet:
            # What is being changed or made is worth waiting for: who knocks waits in the socket.
            patience = CHANGE_SECONDS if door.changing else DRAIN_SECONDS
            if loop.time() - began >= patience:
                break
            await asyncio.sleep(0.01)
        await door.abandon()
        await pump.settle(SETTLE_SECONDS)
        pump.close()
        self.recorder.stop()
        self.people.stop()
        self.log.stop()


def _leads_to(link: str) -> str:
    """Where a link leads; empty where there is none."""
    try:
        return PurePath(os.readlink(link)).name
    except OSError:
        return ""
