# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One side of a conversation: a non-blocking socket, and what is still to be written to it.

Plain sockets and readiness instead of the event loop's transports: half-close, back-pressure and the
handing over of a descriptor need to know exactly which bytes are where. A side never holds more than
what one read of the other side brought.
Source: socket(7), unix(7).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

READ_MAX = 256 * 1024
"""Bytes of one read: more than a unix socket holds by default (socket(7), rmem_default)."""

#: Everything runs in one thread, and what is read is passed on before the next read.
_buffer = memoryview(bytearray(READ_MAX))

Bytes = bytes | memoryview
# The kernel takes no more than 1,024 (writev(2), IOV_MAX).
_PARTS_MAX = 64


def _nobody() -> None:
    """For a side that nobody listens to yet."""


class Side:
    """A connected socket in the event loop."""

    __slots__ = (
        "_broken",
        "_drained",
        "_loop",
        "_out",
        "_readable",
        "broken",
        "fd",
        "reading",
        "received",
        "sent",
        "sock",
        "writing_ended",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_readable: Callable[[], object] = _nobody,
        on_drained: Callable[[], object] = _nobody,
        on_broken: Callable[[], object] = _nobody,
    ) -> None:
        self._loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.on(on_readable, on_drained, on_broken)
        self._out: list[bytes] = []
        self.reading = False
        self.broken = False
        self.writing_ended = False
        self.sent = 0
        self.received = 0

    def on(
        self,
        readable: Callable[[], object],
        drained: Callable[[], object],
        broken: Callable[[], object],
    ) -> None:
        """Whom to tell.

        :param readable: there is something to read, or the end.
        :param drained: all that could not be written at once has been.
        :param broken: the peer takes nothing more.
        """
        self._readable, self._drained, self._broken = readable, drained, broken

    @property
    def pending(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._out)

    @property
    def owed(self) -> int:
        """Bytes that are still to be written."""
        return sum(len(part) for part in self._out)

    def resume(self) -> None:
        """Hear of what comes."""
        if not self.reading:
            self.reading = True
            self._loop.add_reader(self.fd, self._hear)

    def _hear(self) -> None:
        self._readable()

    def pause(self) -> None:
        """Hear nothing more: the peer waits once its socket is full."""
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self.fd)

    def read(self, most: int = READ_MAX) -> memoryview | None:
        """What is there; empty at the end, None when there is nothing yet.

        The memory is everybody's: it is good until the next read of any side.

        :raises OSError: the connection is broken.
        """
        try:
            count = self.sock.recv_into(_buffer, most)
        except (BlockingIOError, InterruptedError):
            return None
        self.received += count
        return _buffer[:count]

    def at_end(self) -> bool:
        """Whether the peer has ended its sending, and nothing of it is left to read.

        :raises OSError: the connection is broken.
        """
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False

    def write(self, parts: Sequence[Bytes]) -> bool:
        """Send, now or as soon as the peer takes it.

        :returns: whether all has gone; if not, give no more before ``on_drained``.
        """
        if self.broken:
            return True
        if self._out:
            self._out += [bytes(part) for part in parts]
            return False
        if len(parts) > _PARTS_MAX:
            parts = [b"".join(parts)]
        try:
            count = self.sock.send(parts[0]) if len(parts) == 1 else self.sock.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self._break()
            return True
        self.sent += count
        for part in parts:
            size = len(part)
            if count >= size:
                count -= size
                continue
            self._out.append(bytes(part[count:]))
            count = 0
        if self._out:
            self._loop.add_writer(self.fd, self._flush)
            return False
        return True

    def _flush(self) -> None:
        try:
            count = self.sock.sendmsg(self._out[:16])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._break()
            return
        self.sent += count
        while self._out and count >= len(self._out[0]):
            count -= len(self._out.pop(0))
        if self._out:
            self._out[0] = self._out[0][count:]
            return
        self._loop.remove_writer(self.fd)
        if self.writing_ended:
            self._shutdown()
        self._drained()

    def _break(self) -> None:
        if self._out:
            self._loop.remove_writer(self.fd)
            self._out = []
        self.broken = True
        self._broken()

    def end_writing(self) -> None:
        """The peer reads the end once it has read all."""
        if not self.writing_ended:
            self.writing_ended = True
            if not self._out:
                self._shutdown()

    def _shutdown(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True

    def let_go(self) -> bytes:
        """Leave the socket to somebody else.

        :returns: what is still to be written to it.
        """
        self.pause()
        left = b"".join(self._out)
        if self._out:
            self._loop.remove_writer(self.fd)
            self._out = []
        return left

    def close(self) -> None:
        """The end, whatever is still to be written."""
        if self.sock.fileno() >= 0:
            self.let_go()
            self.sock.close()
