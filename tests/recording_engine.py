# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that records every byte it is asked with, and answers as a test wishes.

A request is answered by the answer whose name is a segment of its path
(``GET /containers/chunked/json``), else plainly. Everything that arrives is read strictly by
:mod:`http_judge`, then by h11; what either refuses, and what arrives when nothing may, is a fault.
"""

from __future__ import annotations

import hashlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from http_judge import (
    HEAD_MAX,
    Head,
    NotStrictError,
    ShortError,
    read_chunks,
    read_head,
    second_opinion,
)

API = "1.45"
PATIENCE = 20.0
"""Seconds that the engine waits for bytes of a request that has begun."""
KEEP = 4 << 20
"""Bytes of a body up to which it is kept, and judged by h11 too."""


@dataclass
class Seen:
    """A request as it arrived.

    :param connection: number of the connection it came by.
    :param complete: whether all of its body came.
    :param after: bytes that came after an upgrade.
    """

    head: Head
    connection: int
    body: bytes = b""
    size: int = 0
    digest: str = ""
    complete: bool = False
    after: bytes = b""

    @property
    def what(self) -> tuple[str, str, bytes]:
        """Method, target, body."""
        return self.head.method.decode(), self.head.target.decode(), self.body

    @property
    def path(self) -> str:
        """Target without its query."""
        return self.head.target.decode().partition("?")[0]


class Wire:
    """A connection's reading side: what has come and was not yet read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.record: list[bytes] = []

    def fill(self) -> None:
        """Wait for more; ShortError at the end."""
        try:
            more = self.sock.recv(1 << 18)
        except (TimeoutError, ConnectionError) as error:
            raise ShortError from error
        if not more:
            raise ShortError
        self.buffer += more

    def until(self, mark: bytes) -> bytes:
        """Up to and with a mark."""
        while (end := self.buffer.find(mark)) < 0:
            if len(self.buffer) > HEAD_MAX:
                raise NotStrictError("a line without end")
            self.fill()
        return self._cut(end + len(mark))

    def take(self, size: int) -> bytes:
        """So many bytes."""
        parts: list[bytes] = []
        while size > len(self.buffer):
            size -= len(self.buffer)
            parts.append(self._cut(len(self.buffer)))
            self.fill()
        return b"".join([*parts, self._cut(size)])

    def _cut(self, size: int) -> bytes:
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        self.record.append(found)
        return found

    def idle(self) -> bytes:
        """What is there though nothing was asked for; empty as well when the peer has ended."""
        if self.buffer:
            return self.buffer
        # Not select(2): a whole run of the tests may have descriptors beyond what it takes.
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(0):
            return b""
        try:
            return self.sock.recv(64, socket.MSG_PEEK)
        except OSError:
            return b""


@dataclass
class Exchange:
    """One request and the way to answer it.

    :param close: whether the connection ends with the answer.
    :param stream: whether bytes are no longer HTTP.
    """

    engine: RecordingEngine
    wire: Wire
    seen: Seen
    close: bool
    stream: bool = False
    _read: bool = False

    def body(self) -> bytes:
        """Read the request's body to its end, and judge the request."""
        if self._read:
            return self.seen.body
        self._read = True
        head = self.seen.head
        if head.length is None:
            body = b"".join(read_chunks(lambda: self.wire.until(b"\r\n"), self.wire.take))
        else:
            body = self.wire.take(head.length)
        self.seen.size, self.seen.digest = len(body), hashlib.blake2b(body).hexdigest()
        if len(body) <= KEEP:
            self.seen.body = body
            difference = second_opinion(b"".join(self.wire.record), head, body)
            if difference:
                self.engine.fault(f"{head.method!r} {head.target[:80]!r}: {difference}")
        self.seen.complete = True
        return body

    def send(self, data: bytes) -> None:
        """Send bytes as they are; until they are there nothing may have come that was not asked."""
        if self._read and not self.stream and (early := self.wire.idle()):
            self.engine.fault(
                f"before the answer to {self.seen.what[:2]} there came {early[:200]!r}"
            )
        self.wire.sock.sendall(data)

    def head(self, status: str = "200 OK", *lines: str) -> None:
        """Send an answer's head."""
        own = ["Connection: close"] if self.close else []
        told = [f"HTTP/1.1 {status}", f"Api-Version: {API}", "Server: Docker/26.1.5 (linux)"]
        self.send("\r\n".join([*told, *own, *lines, "", ""]).encode())

    def reply(self, body: bytes, status: str = "200 OK", *lines: str) -> None:
        """Send an answer with its length."""
        self.head(status, f"Content-Length: {len(body)}", *lines)
        if self.seen.head.method != b"HEAD":
            self.send(body)

    def raw(self) -> bytes:
        """The bytes that come next, empty at the end."""
        try:
            if not self.wire.buffer:
                self.wire.fill()
        except ShortError:
            return b""
        data, self.wire.buffer = self.wire.buffer, b""
        if len(self.seen.after) < KEEP:
            self.seen.after += data
        return data


Answer = Callable[[Exchange], None]


class RecordingEngine:
    """The engine: listens on a unix socket, a thread a connection.

    :param answers: answers by name, see :mod:`engine_answers`.
    """

    def __init__(self, path: Path, answers: dict[str, Answer]) -> None:
        self.path = path
        self.answers = answers
        self.seen: list[Seen] = []
        self.own: list[Seen] = []
        self.faults: list[str] = []
        self.ends: dict[int, str] = {}
        self.gate = threading.Event()
        self._lock = threading.Lock()
        self._socks: dict[int, socket.socket] = {}
        self._number = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4096)
        threading.Thread(target=self._accept, daemon=True, name="engine").start()

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._listener.close()
        with self._lock:
            for sock in self._socks.values():
                sock.close()

    def fault(self, text: str) -> None:
        """Note what must not have come."""
        with self._lock:
            self.faults.append(text)

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._socks)

    def wait(self, done: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Wait until something is so; tells whether it came to be."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._number += 1
                number = self._number
                self._socks[number] = sock
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        wire, end = Wire(sock), "closed by the engine"
        try:
            while self._one(wire, number):
                pass
        except ShortError:
            end = "cut off" if wire.buffer or wire.record else "ended"
        except NotStrictError as error:
            self.fault(f"{error}; bytes {b''.join(wire.record)[-200:] + wire.buffer[:200]!r}")
        except OSError as error:
            end = f"{type(error).__name__}"
        finally:
            with self._lock:
                self.ends[number] = end
                del self._socks[number]
            sock.close()

    def _one(self, wire: Wire, number: int) -> bool:
        """Serve one request; tells whether another may follow."""
        wire.record.clear()
        wire.sock.settimeout(None)
        if not wire.buffer:
            wire.fill()
        wire.sock.settimeout(PATIENCE)
        head = read_head(wire.until(b"\r\n\r\n"))
        if not head.target.startswith(b"/"):
            raise NotStrictError(f"target {head.target[:80]!r}")
        seen = Seen(head, number)
        own = head.target == b"/_ping" and head.values(b"host") == [b"ds01"]
        with self._lock:
            (self.own if own else self.seen).append(seen)
        exchange = Exchange(self, wire, seen, head.closes)
        name = next((part for part in seen.path.split("/") if part in self.answers), "")
        answer = self.answers[name] if name else plain
        answer(exchange)
        exchange.body()
        wire.record.clear()
        return not exchange.close


def plain(x: Exchange) -> None:
    """What an engine says to most."""
    body = x.body()
    path = x.seen.path
    if path.endswith("/_ping"):
        x.reply(b"OK", "200 OK", "Content-Type: text/plain; charset=utf-8")
    elif path.endswith("/version"):
        text = {"Version": "26.1.5", "ApiVersion": API, "MinAPIVersion": "1.24"}
        x.reply(json.dumps(text).encode(), "200 OK", "Content-Type: application/json")
    else:
        told = {"method": x.seen.head.method.decode(), "size": len(body)}
        x.reply(json.dumps(told).encode(), "200 OK", "Content-Type: application/json")
