# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's side of the pump: streams are handed over, and their ends are heard of.

A stream stays here too until the pump says that it has taken it. Whatever the pump had not taken when
it went away is sent once more to the next one, which knows a stream that it already has by its key.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ds01.pump.wire import SEND_BUFFER, HandOver, encode

AGAIN_SECONDS = (0.02, 1.0)
"""Between tries to connect: the first pause, which doubles, and the longest."""
MESSAGE_MAX = 256 * 1024
_LATER = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)


@dataclass(frozen=True)
class Ended:
    """A stream has ended.

    :param up_bytes: what reached the engine through the pump.
    :param down_bytes: what reached the client through it.
    :param seconds: since the pump took it.
    :param why: ``done`` (both said so), ``client closed``, ``engine closed``, ``refused: …`` (never
        taken) or ``lost: …``.
    """

    tag: str
    uid: int
    up_bytes: int
    down_bytes: int
    seconds: float
    why: str


@dataclass
class _Handed:
    """What is here until the pump has it."""

    uid: int
    tag: str
    datagram: bytes
    client: socket.socket
    engine: socket.socket
    sent: bool = False

    def close(self) -> None:
        self.client.close()
        self.engine.close()


class Pump:
    """The connection to the pump, in the running event loop.

    :param path: its socket.
    :param on_ended: called in the loop for each stream that ended, whoever handed it over.
    :param on_open: called in the loop with the tags of the streams that a pump has which was found
        just now, as far as they have a part after a dot.
    """

    def __init__(
        self,
        path: str,
        on_ended: Callable[[Ended], None],
        on_open: Callable[[list[str]], None] = lambda _tags: None,
    ) -> None:
        self._path = path
        self._on_ended = on_ended
        self._on_open = on_open
        self._open: list[str] = []
        self._socket: socket.socket | None = None
        self._handed: dict[str, _Handed] = {}
        self._waits: Counter[int] = Counter()
        self._there: Counter[int] = Counter()
        self._pause = AGAIN_SECONDS[0]
        self._timer: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._closed = False

    # --- for the gateway ------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is a pump, or a socket of systemd's that starts one."""
        return self._socket is not None

    def start(self) -> None:
        """Connect, now and whenever it is needed; no pump is no error."""
        self._loop = asyncio.get_running_loop()
        self._connect()

    def close(self) -> None:
        """End the connection. What was sent is the pump's; what was not ends."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._disconnect()
        for handed in self._handed.values():
            handed.close()
        self._handed.clear()

    async def settle(self, seconds: float) -> bool:
        """Wait until the pump has all that it was handed; False when it has not in that time.

        For the end of a gateway: then no stream depends on it any more.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._settled.wait(), seconds)
        return not self._handed

    def streams_of(self, uid: int) -> int:
        """Streams of a user: those in the pump, whoever handed them over, and those on their way."""
        return self._there[uid] + self._waits[uid]

    def hand_over(
        self,
        client: socket.socket,
        engine: socket.socket,
        *,
        mode: str,
        uid: int,
        tag: str,
        up: bytes = b"",
        down: bytes = b"",
    ) -> None:
        """Give both sockets away; nobody here may use them any more.

        :param mode: :data:`ds01.pump.wire.BOTH` or :data:`~ds01.pump.wire.DOWN`.
        :param tag: up to 64 of A-Z, a-z, 0-9, ``_``, ``.`` and ``-``.
        :param up: bytes owed to the engine before all others, 128 KiB at most; ``down``: to the client.
        :raises ds01.pump.wire.BadMessage: one of these is not so; the sockets are still the caller's.
        """
        key = os.urandom(8).hex()
        datagram = encode(HandOver(key, tag, mode, uid, bytes(up), bytes(down)))
        self._handed[key] = _Handed(uid, tag, datagram, client, engine)
        self._waits[uid] += 1
        self._settled.clear()
        self._send()

    # --- the connection -------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._closed or self._socket is not None:
            return
        connection = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            self._later(self._connect)
            return
        self._socket = connection
        self._loop.add_reader(connection.fileno(), self._hear)
        self._send()

    def _later(self, what: Callable[[], None]) -> None:
        if self._closed:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._pause, what)
        self._pause = min(AGAIN_SECONDS[1], self._pause * 2)

    def _disconnect(self) -> None:
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None
        for handed in self._handed.values():
            handed.sent = False
        self._later(self._connect)

    def _send(self) -> None:
        if self._socket is None:
            return
        self._loop.remove_writer(self._socket.fileno())
        for key, handed in list(self._handed.items()):
            if handed.sent:
                continue
            rights = struct.pack("2i", handed.client.fileno(), handed.engine.fileno())
            try:
                self._socket.sendmsg(
                    [handed.datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                )
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    self._loop.add_writer(self._socket.fileno(), self._send)
                elif error.errno in _LATER:
                    self._later(self._send)
                elif error.errno in (errno.EMSGSIZE, errno.EBADF):
                    self._finish(key, f"refused: {error.strerror}")
                    continue
                else:
                    self._disconnect()
                return
            handed.sent = True

    def _finish(self, key: str, why: str = "") -> None:
        """It is not ours any more."""
        handed = self._handed.pop(key, None)
        if handed is None:
            return
        self._waits[handed.uid] -= 1
        if not self._waits[handed.uid]:
            del self._waits[handed.uid]
        handed.close()
        if not self._handed:
            self._settled.set()
        if why:
            self._on_ended(Ended(handed.tag, handed.uid, 0, 0, 0.0, why))

    # --- what the pump says ---------------------------------------------------------------------------

    def _hear(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._disconnect()
                return
            self._pause = AGAIN_SECONDS[0]
            try:
                ended = self._understand(json.loads(data))
            except (ValueError, KeyError, TypeError, AttributeError):
                # A pump of another release. What it does with streams is right all the same.
                continue
            if ended:
                self._on_ended(ended)

    def _understand(self, message: dict[str, Any]) -> Ended | None:
        if "streams" in message:
            self._there = Counter({int(uid): int(n) for uid, n in message["streams"].items()})
            self._open = []
        elif "open" in message:
            self._open += [str(tag) for tag in message["open"]]
            if not message["more"]:
                self._on_open(self._open)
                self._open = []
        elif "taken" in message:
            self._count(message)
            self._finish(str(message["taken"]))
        elif "ended" in message:
            ended = message["ended"]
            self._count(ended)
            self._finish(str(ended["key"]))
            up, down, seconds = int(ended["up"]), int(ended["down"]), float(ended["seconds"])
            tag, uid, why = str(ended["tag"]), int(ended["uid"]), str(ended["why"])
            return Ended(tag, uid, up, down, seconds, why)
        return None

    def _count(self, facts: dict[str, Any]) -> None:
        uid, now = int(facts["uid"]), int(facts["now"])
        if now:
            self._there[uid] = now
        else:
            self._there.pop(uid, None)
