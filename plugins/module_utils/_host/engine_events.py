# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's stream of events.

Source: Docker Engine API 1.45, ``GET /events``; RFC 9112, section 7.1 (chunked transfer coding).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from .engine import TIMEOUT_SECONDS, EngineError

_READ = 65536
_HEAD_MAX = 65536
#: An event has the labels of its container in it, whose length nobody limits; one this long is dropped,
#: and :data:`DROPPED` comes in its place.
_LINE_MAX = 4 * 1024 * 1024
DROPPED = "dropped"
"""Action of what stands for an event that was too long to be read: look at the engine as a whole."""


class Chunks:
    """Takes the chunks of a body apart, however they are cut into reads."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in what was read.

        :raises ValueError: it is not chunked as it should be.
        """
        self._buffer += data
        found = b""
        while not self.ended:
            if self._left > 2:
                part = self._buffer[: self._left - 2]
                found += part
                self._buffer = self._buffer[len(part) :]
                self._left -= len(part)
            if self._left > 2 or len(self._buffer) < self._left:
                break
            if self._left:
                if self._buffer[:2] != b"\r\n":
                    raise ValueError("a chunk does not end")
                self._buffer, self._left = self._buffer[2:], 0
            line, newline, rest = self._buffer.partition(b"\r\n")
            if not newline:
                if len(line) > 1024:
                    raise ValueError("a chunk has no size")
                break
            size = int(line.partition(b";")[0], 16)
            self._buffer = rest
            self._left = size + 2
            self.ended = size == 0
        return found


def events(
    path: str,
    since: float | str | None = None,
    idle: float = 1.0,
    timeout: float = TIMEOUT_SECONDS,
    until: float | None = None,
    **filters: list[str],
) -> Iterator[dict[str, Any] | None]:
    """What happens to containers or other things, until the engine ends the stream.

    The first thing yielded is None: the engine listens, so nothing that happens from now on is
    missed. None comes again after each idle time, so that whoever wants to stop can.

    :param path: the engine's socket.
    :param since: seconds since the epoch: what happened since then comes first, as far as the engine
        remembers it; as a text with nine decimals, since a float has no nanoseconds.
    :param idle: seconds.
    :param timeout: seconds for connecting and for the answer's head.
    :param until: seconds since the epoch: the engine ends the stream there, at once where it is past.
    :param filters: of the API, such as ``event=["start", "die"]``; the type is container if not given.
    :raises EngineError: no answer, an error, or what is no stream of events.
    """
    query = {"filters": json.dumps({"type": ["container"], **filters})}
    if since is not None:
        query["since"] = since if isinstance(since, str) else f"{since:.9f}"
    if until is not None:
        query["until"] = f"{until:.9f}"
    target = f"/events?{urlencode(query)}"
    where = f"{path} GET {target}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("ascii"))
        head, body = _head(sock, where)
        chunks = Chunks() if b"transfer-encoding: chunked" in head.lower() else None
        yield None
        sock.settimeout(idle)
        yield from _lines(sock, body, chunks, where)
    except TimeoutError as error:
        raise EngineError("the engine does not answer (timed out)", where) from error
    except OSError as error:
        what = f"the engine does not answer ({error})"
        raise EngineError(what, where, "see systemctl status docker") from error
    finally:
        sock.close()


def _head(sock: socket.socket, where: str) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(_READ)
        if not part or len(data) > _HEAD_MAX:
            raise EngineError("the answer is no HTTP", where, "is this a Docker engine?")
        data += part
    head, _unused, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if len(words) < 2 or not words[1].isdigit():
        raise EngineError("the answer is no HTTP", where, "is this a Docker engine?")
    status = int(words[1])
    if status != 200:
        raise EngineError(f"the engine says {status}", where, status=status)
    return head, body


class _Lines:
    """Takes lines apart; an empty one stands for one that was too long.

    An error instead would end the stream, and asking again bring the same event again, for ever.
    """

    def __init__(self) -> None:
        self._text = b""
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, without blank ones."""
        *lines, self._text = (self._text + data).split(b"\n")
        if lines and self._dropping:
            # The end of one that was told already.
            del lines[0]
            self._dropping = False
        found = [b"" if len(one) > _LINE_MAX else one for one in lines if one.strip()]
        if len(self._text) > _LINE_MAX:
            self._text = b""
            if not self._dropping:
                self._dropping = True
                found.append(b"")
        return found


def _lines(
    sock: socket.socket, body: bytes, chunks: Chunks | None, where: str
) -> Iterator[dict[str, Any] | None]:
    lines = _Lines()
    data = body
    while True:
        try:
            found = lines.feed(chunks.feed(data) if chunks else data)
        except ValueError as error:
            raise EngineError(f"the stream is broken: {error}", where) from error
        for line in found:
            yield _event(line, where) if line else {"Type": "", "Action": DROPPED}
        if chunks is not None and chunks.ended:
            return
        try:
            data = sock.recv(_READ)
        except TimeoutError:
            data = b""
            yield None
        else:
            if not data:
                return


def _event(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise EngineError("an event is no JSON", where, "is this a Docker engine?") from error
    if not isinstance(value, dict):
        raise EngineError("an event is no object", where)
    return value
