# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 pump``: one epoll(7) loop over control connections and streams.

Signals: SIGTERM ends the process, not its streams, which systemd keeps for the next one. SIGUSR1 lets
nothing new in and ends the process, with :data:`DRAINED`, when the last stream has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

from ds01.daemon.systemd import Notifier, notifier, passed_descriptors, watchdog_seconds
from ds01.pump.control import Peer
from ds01.pump.keep import TABLE, Store, Table, slot_of
from ds01.pump.streams import Streams
from ds01.pump.wire import BadMessage

RELEASE_LINK = "/opt/ds01/current"
DRAINED = 77
"""Exit status of a drained pump; its unit does not restart on it."""
TICK = 2.0
AGAIN = 0.005
"""Seconds between tries to reach a store that takes nothing."""
BACKLOG = 64
"""Messages to the store, and connections, that may wait; hand-overs wait in their connections."""
END_SECONDS = 2.0
"""How long an end waits for the store."""


class Pump:
    """The loop.

    :param listener: where gateways connect; none (its unit was stopped): the streams that are left are
        moved to their ends.
    :param release: the link that names the release in force.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        streams: Streams,
        told: Notifier,
        release: str = RELEASE_LINK,
    ) -> None:
        self._listener = listener
        self._streams = streams
        self._told = told
        self._link = release
        self._release = _leads_to(release)
        self._epoll = streams.epoll
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._peers: dict[int, Peer] = {}
        self._stop = False
        self._drain = False

    def run(self, watchdog: float | None = None) -> int:
        """Until a signal, or another release; the exit status."""
        listener = self._listener
        if listener is None:
            self._drain = self._streams.full = True
        else:
            listener.setblocking(False)
            self._add(listener.fileno(), lambda _mask: self._accept(listener))
        self._heed_signals()
        self._streams.tell = self._tell_all
        self._told.tell(READY=1)
        tick = min(TICK, watchdog / 3) if watchdog else TICK
        due, said = 0.0, ""
        while not self._finished():
            now = time.monotonic()
            if now >= due:
                due = now + tick
                if watchdog:
                    self._told.tell(WATCHDOG=1)
                if said != self._status():
                    said = self._status()
                    self._told.tell(STATUS=said)
                self._stop |= _leads_to(self._link) not in (None, self._release)
            self._turn(0 if self._streams.busy else AGAIN if self._streams.store else due - now)
        self._told.tell(STOPPING=1)
        self._end()
        return DRAINED if self._drain else 0

    def _finished(self) -> bool:
        if self._stop:
            return True
        return self._drain and not self._streams.count and not self._streams.store

    def _end(self) -> None:
        """Take what lies in the connections already: a gateway that ends just now cannot send it once
        more. What comes later, or does not get into the store, is sent to the next process."""
        for peer in list(self._peers.values()):
            self._hear(peer, select.EPOLLIN)
        limit = time.monotonic() + END_SECONDS
        while self._streams.store and time.monotonic() < limit:
            time.sleep(AGAIN)
            self._streams.store.flush()
        for peer in self._peers.values():
            peer.flush()

    def _turn(self, seconds: float) -> None:
        for descriptor, mask in self._epoll.poll(max(0.0, seconds), 512):
            handler = self._handlers.get(descriptor)
            if handler:
                handler(mask)
            else:
                self._streams.note(descriptor, mask)
        self._streams.store.flush()
        if len(self._streams.store) >= BACKLOG:
            time.sleep(AGAIN)  # hand-overs wait in their connections, readable all the time
        self._streams.move()
        for peer in list(self._peers.values()):
            if not peer.flush():
                self._forget(peer)

    def _add(
        self, descriptor: int, handler: Callable[[int], None], mask: int = select.EPOLLIN
    ) -> None:
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, mask)

    def _status(self) -> str:
        return f"{self._streams.count} streams" + (", drains" if self._drain else "")

    # --- signals ------------------------------------------------------------------------------------

    def _heed_signals(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._wake = theirs  # held for as long as the loop lives
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        self._add(ours.fileno(), lambda _mask: self._signalled(ours))

    def _signalled(self, ours: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in ours.recv(64):
                if number != signal.SIGUSR1:
                    self._stop = True
                elif not self._drain:
                    self._drain = self._streams.full = True
                    if self._listener is not None:
                        self._epoll.unregister(self._listener.fileno())

    # --- control connections ------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _unused = listener.accept()
        except OSError:
            return
        peer = Peer.of(connection)
        if peer is None:
            connection.close()
            return
        descriptor = connection.fileno()
        self._peers[descriptor] = peer
        self._add(descriptor, lambda mask: self._hear(peer, mask))
        for message in self._streams.news():
            peer.tell(message)

    def _hear(self, peer: Peer, mask: int) -> None:
        while len(self._streams.store) < BACKLOG:
            try:
                received = peer.receive()
            except BlockingIOError:
                return
            except BadMessage as error:
                print(f"ds01-pump: a hand-over is refused: {error}", file=sys.stderr)
                continue
            except OSError:
                received = None
            if received is None:
                self._forget(peer)
                return
            order, client, engine = received
            self._streams.take(order, client, engine, peer.tell)

    def _tell_all(self, message: dict[str, object]) -> bool:
        for peer in self._peers.values():
            peer.tell(message)
        return bool(self._peers)

    def _forget(self, peer: Peer) -> None:
        descriptor = peer.fileno()
        if self._peers.pop(descriptor, None):
            del self._handlers[descriptor]
            self._epoll.unregister(descriptor)
            peer.close()


def _leads_to(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None


def run(arguments: Sequence[str] = ()) -> int:
    """Serve the socket that systemd passed, or that of ``--listen PATH``; the exit status."""
    told, watchdog = notifier(), watchdog_seconds()
    kept: dict[int, dict[str, int]] = {}
    listener: socket.socket | None = None
    table: int | None = None
    for name, descriptor in passed_descriptors():
        place = slot_of(name)
        if place and place[1] not in kept.setdefault(place[0], {}):
            kept[place[0]][place[1]] = descriptor
        elif name == TABLE and table is None:
            table = descriptor
        elif listener is None and not place:
            listener = socket.socket(fileno=descriptor)
        else:
            os.close(descriptor)
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if "--listen" in options:
        listener = _listen(options["--listen"])
    if listener is None and not kept:
        print(
            "ds01-pump: this is started by systemd, which passes it its socket. "
            "systemctl start ds01-pump.socket",
            file=sys.stderr,
        )
        return 2
    store = Store(told.address)
    streams = Streams(store, _table(table, store))
    streams.begin(kept)
    return Pump(listener, streams, told, options.get("--release", RELEASE_LINK)).run(watchdog)


def _table(descriptor: int | None, store: Store) -> Table:
    """The one that was kept. One that this release does not read is no use: its streams end."""
    if descriptor is not None:
        try:
            return Table(descriptor)
        except (OSError, ValueError) as error:
            print(f"ds01-pump: {error}: the streams that were kept end", file=sys.stderr)
        os.close(descriptor)
        store.drop([TABLE])
    table = Table()
    store.keep([(TABLE, table.descriptor)])
    return table


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    before = os.umask(0o177)
    listener.bind(path)
    os.umask(before)
    listener.listen(BACKLOG)
    return listener
