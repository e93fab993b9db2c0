# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stream: two sockets, and a kernel pipe for each way between them.

Bytes go from socket to pipe to socket with splice(2). They are never in this process, so what has left
one socket and not yet reached the other is in a pipe, and the pipe outlives the process.

A pipe is filled only when it is empty: a side whose other side does not take is not read, and what one
stream can hold is bounded.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import select
import socket
import termios

from ds01.pump.wire import BOTH

CHUNK = 256 * 1024
"""What one splice(2) may move; the pipe's size bounds it further."""
TURN = 128 * 1024
"""What one way of a stream may move before the others have their turn."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
GONE = select.EPOLLHUP | select.EPOLLERR


class Pipe:
    """A pipe of which only the reading end has to be kept: the other one can be opened again."""

    def __init__(self, reader: int) -> None:
        self.reader = reader
        os.set_blocking(reader, False)
        # proc(5), /proc/pid/fd: for a pipe this opens the same pipe.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self.writer = os.open(f"/proc/self/fd/{reader}", flags)
        self.size = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
        self.held = _held(reader)

    @classmethod
    def make(cls, owed: bytes) -> Pipe:
        """A pipe that holds these bytes, all of them.

        :raises OSError: the kernel gives no pipe of that size.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if len(owed) > fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ):
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, len(owed))
            if owed and os.write(writer, owed) != len(owed):
                raise OSError(errno.ENOSPC, "the pipe did not take what is owed")
            return cls(reader)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)

    def close(self) -> None:
        """Both ends."""
        os.close(self.reader)
        os.close(self.writer)


def _held(reader: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, count)
    return count[0]


class Way:
    """One direction of a stream.

    :param reads: whether anything is taken from the source at all.
    """

    __slots__ = ("broken", "copies", "done", "ended", "moved", "pipe", "reads", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket, pipe: Pipe, reads: bool) -> None:
        self.source = source
        self.sink = sink
        self.pipe = pipe
        self.reads = reads
        self.copies = False
        self.ended = False  # the source says no more
        self.done = False  # and all of it was said to the sink, or it cannot be
        self.broken = False  # it cannot be
        self.moved = 0

    def move(self, turn: int = TURN) -> bool:
        """Move what can be moved; whether only the turn's bound ended it."""
        while not self.done:
            if turn <= 0:
                return True
            if self.pipe.held:
                count = self._give()
                if not count:
                    return False
                turn -= count
            elif self.ended:
                _shut(self.sink, socket.SHUT_WR)
                self.done = True
            elif not self.reads or not self._take():
                return False
        return False

    def _give(self) -> int:
        try:
            count = os.splice(self.pipe.reader, self.sink.fileno(), CHUNK, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            self.sink_is_gone()
            return 0
        self.pipe.held -= count
        self.moved += count
        return count

    def _take(self) -> bool:
        """Fill the pipe, which is empty; False when there is nothing to be had now."""
        try:
            if self.copies:
                count = self._copy()
            else:
                count = os.splice(self.source.fileno(), self.pipe.writer, CHUNK, flags=_FLAGS)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EINVAL and not self.copies:
                self.copies = True  # a socket of a kind that the kernel does not splice
                return True
            count = 0  # connection reset: nothing more will come
        self.pipe.held += count
        self.ended = not count
        return True

    def _copy(self) -> int:
        # An empty pipe takes as much as it is large, always (pipe(7)).
        data = self.source.recv(min(CHUNK, self.pipe.size))
        return os.write(self.pipe.writer, data) if data else 0

    def sink_is_gone(self) -> None:
        """Nobody takes this any more. The source shall learn it as it would on a direct connection."""
        if not self.done:
            self.done = self.broken = True
            _shut(self.source, socket.SHUT_RD)


class Stream:
    """A client and an engine that talk to each other.

    :param mode: :data:`ds01.pump.wire.BOTH` or :data:`~ds01.pump.wire.DOWN`.
    """

    def __init__(
        self, client: socket.socket, engine: socket.socket, up: Pipe, down: Pipe, mode: str
    ) -> None:
        self.client = client
        self.engine = engine
        self.mode = mode
        self.up = Way(client, engine, up, reads=mode == BOTH)
        self.down = Way(engine, client, down, reads=True)
        self.why = ""

    def watch(self) -> list[tuple[int, int]]:
        """Descriptors and what to watch them for, edge-triggered (epoll(7)): an edge is a reason to
        try again, and a side that is stalled or half closed gives none."""
        base = select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        theirs = base | select.EPOLLIN if self.mode == BOTH else base
        return [(self.client.fileno(), theirs), (self.engine.fileno(), base | select.EPOLLIN)]

    def note(self, descriptor: int, mask: int) -> None:
        """What epoll said about one of the two."""
        is_client = descriptor == self.client.fileno()
        if is_client and mask & (select.EPOLLRDHUP | GONE) and not self.up.reads:
            self.up.ended = True  # a half-close, carried on although nothing else is
        if mask & select.EPOLLHUP:
            # Closed on both sides: whatever still goes there goes nowhere.
            way = self.down if is_client else self.up
            if not way.done:
                self.why = self.why or ("client closed" if is_client else "engine closed")
                way.sink_is_gone()

    def move(self) -> bool:
        """Move both ways; whether there is more to do at once."""
        more = self.up.move()
        more = self.down.move() or more
        return more and not self.over

    @property
    def over(self) -> bool:
        """Whether nothing will move any more."""
        return self.down.done and (self.up.done or self.mode != BOTH)

    def close(self) -> str:
        """End it; why it ended."""
        if not self.why:
            broken = "client closed" if self.down.broken else "engine closed"
            self.why = broken if self.down.broken or self.up.broken else "done"
        for end in (self.client, self.engine):
            hang_up(end)
        self.up.pipe.close()
        self.down.pipe.close()
        return self.why


def hang_up(end: socket.socket) -> None:
    """End a connection. Duplicates of the descriptor are elsewhere, so that to close it is not enough."""
    _shut(end, socket.SHUT_RDWR)
    end.close()


def _shut(end: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # not connected any more
        end.shutdown(how)
