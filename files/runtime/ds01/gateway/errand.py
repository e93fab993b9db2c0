# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to the engine and its whole answer, whatever becomes of who asked.

For small bodies and answers: what the engine made is known even when the client has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01.gateway.body import UntilClose, response_body
from ds01.gateway.head import HttpError, ResponseHead, find_end, parse_response

if TYPE_CHECKING:
    from ds01.gateway.door import Door

ANSWER_MAX = 1024 * 1024
"""Bytes of an answer, its framing included."""
BEGUN_MAX = 4096
"""Bytes that are kept of one that is too long: the engine says first what it made."""
AGAIN_SECONDS = 0.02
_READ = 64 * 1024


class SilentError(Exception):
    """The engine gave no answer that can be used.

    :param what: in plain words.
    :param status: of the answer to the client.
    :param asked: whether the engine may have heard the request.
    :param begun: status and first content of an answer that was too long.
    """

    def __init__(
        self, what: str, status: int, asked: bool, begun: tuple[int, bytes] = (0, b"")
    ) -> None:
        self.what, self.status, self.asked = what, status, asked
        self.begun = begun
        super().__init__(what)


@dataclass
class Reply:
    """A whole answer.

    :param raw_head: its head as it came, :param raw_body: likewise with its framing.
    :param body: its content.
    :param sock: the connection, where another request may follow on it.
    """

    head: ResponseHead
    raw_head: bytes
    raw_body: bytes
    body: bytes
    sock: socket.socket | None


async def ask(
    door: Door, raw: bytes, method: str, sock: socket.socket | None = None, keep: bool = True
) -> Reply:
    """Send a request and read its answer.

    :param raw: the whole request.
    :param sock: a connection on which another request was answered before; it is this call's now.
    :param keep: whether another request may follow on the connection.
    :raises SilentError: there is no answer.
    """
    if sock is not None and not _fit(sock):
        sock.close()
        sock = None
    if sock is None:
        sock = await _connect(door)
    try:
        reply = await _exchange(door, sock, raw, method)
    except BaseException:
        sock.close()
        raise
    if reply.sock is None or not keep:
        sock.close()
        reply.sock = None
    return reply


def _fit(sock: socket.socket) -> bool:
    """Whether an idle connection is still there, and nothing came on it unasked."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


async def _connect(door: Door) -> socket.socket:
    end = door.loop.time() + door.settings.head_seconds
    while True:
        try:
            return door.connect_engine()
        except BlockingIOError:
            # Its queue is full; there is nothing to wait on but time.
            if door.loop.time() > end:
                what = "the engine has no room for another connection"
                raise SilentError(what, 503, asked=False) from None
            await asyncio.sleep(AGAIN_SECONDS)
        except OSError as error:
            what = f"the engine does not answer ({error.strerror or error})"
            raise SilentError(what, 503, asked=False) from error


async def _exchange(door: Door, sock: socket.socket, raw: bytes, method: str) -> Reply:
    sent = 0
    with contextlib.suppress(OSError):
        sent = sock.send(raw)
    # The rest, if there is one, while the answer is read: the engine may refuse before it has all.
    rest = door.loop.create_task(_send(door, sock, raw[sent:])) if sent < len(raw) else None
    try:
        return await _read(door, sock, method)
    finally:
        if rest is not None:
            rest.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rest


async def _send(door: Door, sock: socket.socket, data: bytes) -> None:
    # An engine that takes nothing more may have answered: what it said is read.
    with contextlib.suppress(OSError):
        await door.loop.sock_sendall(sock, data)


async def _read(door: Door, sock: socket.socket, method: str) -> Reply:
    data = b""
    try:
        while True:
            while (end := find_end(data, reply=True)) < 0:
                data += await _more(door, sock)
            head = parse_response(data[:end], method)
            if head.status >= 200:
                break
            if head.status == 101:
                what = "the engine changed to a protocol that nobody asked for"
                raise SilentError(what, 502, asked=True)
            data = data[end:]
        door.note_api(head.api)
        raw_head, data = data[:end], data[end:]
        return await _read_body(door, sock, head, raw_head, data)
    except HttpError as error:
        raise SilentError(error.what, 502, asked=True) from error


async def _read_body(
    door: Door, sock: socket.socket, head: ResponseHead, raw_head: bytes, data: bytes
) -> Reply:
    bounded = head.chunked or head.keep_alive or head.length is not None
    reader = response_body(head.length, head.chunked) if bounded else UntilClose()
    raw: list[bytes] = []
    content: list[bytes] = []
    while not reader.done:
        if data:
            taken, parts = reader.feed(memoryview(data))
            content += [bytes(part) for part in parts]
            raw.append(data[:taken])
            data = data[taken:]
            if sum(len(part) for part in raw) > ANSWER_MAX:
                begun = (head.status, b"".join(content)[:BEGUN_MAX])
                raise SilentError("the engine's answer is too long", 502, True, begun)
            continue
        data = await _more(door, sock, may_end=not bounded)
        if not data:
            reader.done = True
    # What comes after an answer was not asked for: nothing more is asked on that connection.
    fit = head.keep_alive and bounded and not data
    return Reply(head, raw_head, b"".join(raw), b"".join(content), sock if fit else None)


async def _more(door: Door, sock: socket.socket, may_end: bool = False) -> bytes:
    try:
        data = await door.loop.sock_recv(sock, _READ)
    except OSError:
        data = b""
    if not data and not may_end:
        what = "the engine ended the connection without an answer"
        raise SilentError(what, 502, asked=True)
    return data
