# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door itself: who may come in, and what all connections share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from ds01.core.callers import Caller, Refusal
from ds01.core.gateway_decision import DENY, Verdict, error_body
from ds01.core.gateway_settings import GatewaySettings
from ds01.core.routes import HIJACK, OPAQUE, STREAM, Route
from ds01.gateway.access import AccessLog, Entry
from ds01.gateway.answers import answer
from ds01.gateway.engine_line import EngineLine
from ds01.gateway.gather import Held
from ds01.gateway.handover import Ended, Pump
from ds01.gateway.link import IDLE, Link
from ds01.gateway.people import NOBODY, People
from ds01.gateway.recorder import Recorder
from ds01.gateway.shares import Shares
from ds01.gateway.volumes import Volumes
from ds01.host.peer import Peer, PeerError, peer_of

_UCRED = struct.Struct("iII")
_ACCEPTS = 32
"""Connections taken in one turn of the event loop, so that a flood of them leaves room for others."""
SWEEP_SECONDS = 1.0
FRESH_SECONDS = 0.2
"""A client that has just come sends its request at once; it gets so long before the gateway ends."""
_REMEMBERED = 16384
PARKED_SECONDS = 0.5
_PARKED_MAX = 2048


class Door(EngineLine):
    """Accepts connections and holds what they share.

    :param listener: the socket that clients connect to.
    :param who: who a peer is (for tests).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        settings: GatewaySettings,
        people: People,
        log: AccessLog,
        pump: Pump,
        recorder: Recorder,
        who: Callable[[socket.socket], Peer] = peer_of,
    ) -> None:
        super().__init__(loop, settings)
        self.people = people
        self.pump = pump
        self.recorder = recorder
        self.shares = Shares(loop, settings.requests_per_user)
        self.held = Held()
        self.volumes = Volumes()
        self._listener = listener
        self._log = log
        self._who = who
        self._links: dict[Link, None] = {}
        self._per_user: Counter[int] = Counter()
        self._heading: dict[Link, float] = {}
        self._makings: set[asyncio.Task[Any]] = set()
        self._accepting = False
        self._parked: dict[socket.socket, None] = {}
        self._handed = 0
        self._streams: dict[str, Entry] = {}
        self.accepted = 0
        self.refused = 0

    # --- coming in ----------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._accept_again()
        self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _accept_again(self) -> None:
        if not self.closing and not self._accepting:
            self._accepting = True
            self.loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _turn in range(_ACCEPTS):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of descriptors or memory: those who knock wait in the socket.
                self._accepting = False
                self.loop.remove_reader(self._listener.fileno())
                self.loop.call_later(0.2, self._accept_again)
                return
            self._take_in(sock)

    def _take_in(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.accepted += 1
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        share = _UCRED.unpack(raw)[1]
        if self._per_user[share] >= self.settings.connections_per_user and share:
            # Before anything that costs more.
            self._turn_away(sock, share)
            return
        peer: Peer | None = None
        refused: Refusal | None = None
        try:
            peer = self._who(sock)
        except PeerError as error:
            refused = Refusal(f"this connection is refused: {error.what}", "Try again")
            # Root that is gone may have been a container's: it takes nothing of root's share.
            share = share or NOBODY
        if peer:
            share, refused = self.people.share_of(peer)
        if share and len(self._links) - self._per_user[0] >= self.settings.connections_total:
            self._turn_away(sock, share)
            return
        if share and self._per_user[share] >= self.settings.connections_per_user:
            self._turn_away(sock, share)
            return
        link = Link(self, sock, peer, share, refused)
        self._links[link] = None
        self._per_user[share] += 1
        link.start()

    def _turn_away(self, sock: socket.socket, share: int) -> None:
        """Too many connections: a short answer, and the end, but not at once.

        Who would come again as fast as he is refused would keep this process busy with himself; so
        his refusal takes a moment, and beyond that many there is no answer.
        """
        self.refused += 1
        what = "you have too many connections to the engine open"
        if self._per_user[share] < self.settings.connections_per_user:
            what = "the gateway has too many connections open"
        verdict = Verdict(DENY, "limit.connections", what, "Close some, or try again later", 503)
        if self.refused % 64 == 1:
            self.record(Entry(None, None, "", "", "", "", DENY, verdict.rule, 503, 0.0))
        if len(self._parked) >= _PARKED_MAX:
            sock.close()
            return
        self._parked[sock] = None
        self.loop.call_later(PARKED_SECONDS, self._turn_away_now, sock, verdict)

    def _turn_away_now(self, sock: socket.socket, verdict: Verdict) -> None:
        if sock not in self._parked:
            return
        del self._parked[sock]
        with contextlib.suppress(OSError):
            sock.send(answer(verdict, error_body(verdict), self.api_shown, close=True))
        sock.close()

    def forget(self, link: Link) -> None:
        """A connection has ended, or is the pump's now."""
        if link in self._links:
            del self._links[link]
            self._heading.pop(link, None)
            self._per_user[link.share] -= 1
            if not self._per_user[link.share]:
                del self._per_user[link.share]

    # --- what all connections share -----------------------------------------------------------

    @property
    def gauges(self) -> dict[str, int]:
        """How much is under way."""
        return {
            "connections": len(self._links),
            "users": len(self._per_user),
            "requests_running": self.shares.running,
            "requests_waiting": self.shares.waiting,
            "connections_accepted": self.accepted,
            "connections_refused": self.refused,
            "tasks": len(self._tasks) + len(self._makings),
            "bodies_held": self.held.total,
            "records_waiting": self.recorder.waiting,
        }

    def record(self, entry: Entry) -> None:
        """Write down a request and its answer."""
        self._log.record(entry)

    def remember_stream(self, entry: Entry, token: str = "") -> str:
        """Keep what is known of a stream until the pump tells of its end.

        :param token: of what was written down of it, for whichever gateway hears of its end.
        :returns: the name under which the pump will.
        """
        self._handed += 1
        if len(self._streams) > _REMEMBERED:
            # Ends that the pump could not tell of, because it was started anew.
            del self._streams[next(iter(self._streams))]
        tag = f"{os.getpid()}-{self._handed}" + (f".{token}" if token else "")
        self._streams[tag] = entry
        return tag

    def stream_ended(self, ended: Ended) -> None:
        """The pump tells of the end of a stream, perhaps of an earlier gateway's."""
        token = token_of(ended.tag)
        if token:
            self.recorder.ended(ended.uid, token, time.time())
        entry = self._streams.pop(ended.tag, None)
        if entry is not None:
            self.record(
                entry._replace(
                    seconds=entry.seconds + ended.seconds,
                    sent=ended.down_bytes,
                    received=ended.up_bytes,
                    note=f"stream ended: {ended.why}",
                )
            )

    def begin_making(self, work: Coroutine[Any, Any, None]) -> None:
        """Make something: the gateway does not end before it is made, if that can be."""
        task = self.loop.create_task(work)
        self._makings.add(task)
        task.add_done_callback(self._made)

    def _made(self, task: asyncio.Task[Any]) -> None:
        self._makings.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self.loop.call_exception_handler({"message": "a making failed", "exception": error})

    def head_begins(self, link: Link) -> None:
        """A part of a head is there; the rest has so long to come."""
        self._heading.setdefault(link, self.loop.time() + self.settings.head_seconds)

    def head_ends(self, link: Link) -> None:
        """The head is whole."""
        if self._heading:
            self._heading.pop(link, None)

    def _sweep(self) -> None:
        now = self.loop.time()
        for link in [link for link, due in self._heading.items() if due <= now]:
            del self._heading[link]
            link.too_slow()
        idle, stall = now - self.settings.idle_seconds, now - self.settings.stall_seconds
        for link in [link for link in self._links if link.moved < max(idle, stall)]:
            if link.state == IDLE and link.moved < idle:
                link.drop()
            elif link.stalls and link.moved < stall:
                link.drop("gateway")
        if not self.closing:
            self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def no_stream_for(self, caller: Caller, route: Route | None) -> Verdict | None:
        """Why no stream can be opened now; None when it can, or the route opens none."""
        if route is None or route.kind not in (HIJACK, OPAQUE, STREAM):
            return None
        if caller.uid and self.pump.streams_of(caller.uid) >= self.settings.streams_per_user:
            what = (
                f"you have {self.settings.streams_per_user} streams open (terminals, logs, events)"
            )
            return Verdict(DENY, "limit.streams", what, "End some of them", 429)
        if route.kind != STREAM and not self.pump.ready:
            what = "the service that carries open streams does not answer"
            remedy = "Try again in a moment; administrators: systemctl status ds01-pump"
            return Verdict(DENY, "pump.silent", what, remedy, 503)
        return None

    def use(self, settings: GatewaySettings) -> None:
        """Other settings hold from now on."""
        if settings.engine_socket != self.settings.engine_socket:
            self.drop_spare()
        self.settings = settings
        self.shares.most = settings.requests_per_user

    # --- closing ------------------------------------------------------------------------------

    def close(self) -> None:
        """Accept no more; who knocks waits in the socket for the next gateway."""
        self.closing = True
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._listener.fileno())
        for link in list(self._links):
            if link.exchange is not None:
                link.exchange.hand_over_now()
            if link.served and link.at_rest:
                link.drop()
        self.loop.call_later(FRESH_SECONDS, self._drop_idle)

    def _drop_idle(self) -> None:
        """Those who came just now and have asked nothing had their time."""
        for link in list(self._links):
            if link.at_rest:
                link.drop()

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way."""
        return not self._links and not self._makings

    @property
    def changing(self) -> bool:
        """Whether the engine is asked to change something, and has not answered."""
        asked = (link.exchange for link in self._links)
        return bool(self._makings) or any(one is not None and one.changes for one in asked)

    async def abandon(self) -> None:
        """Break off what is still under way."""
        self.drop_spare()
        for sock in self._parked:
            sock.close()
        self._parked.clear()
        for link in list(self._links):
            link.drop("gateway")
        left = [*self._tasks, *self._makings]
        for task in left:
            task.cancel()
        # They say what they know of what they leave behind.
        if left:
            await asyncio.wait(left, timeout=0.2)


def token_of(tag: str) -> str:
    """What a stream was written down under; empty where nothing was."""
    return tag.partition(".")[2]
