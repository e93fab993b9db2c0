# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes without end of which everybody knows the sum, sent and received in large pieces.

The pattern's period is a prime, so that no piece of a round size stands where another could: what is
lost, doubled or swapped changes the sum or the count.
"""

from __future__ import annotations

import io
import random
import socket
import zlib
from collections.abc import Iterator
from functools import lru_cache

PERIOD = 1_048_573
PIECE = 256 * 1024
_PATTERN = memoryview(random.Random(7).randbytes(PERIOD) * 2)


def pieces(size: int) -> Iterator[memoryview]:
    """The pattern's first ``size`` bytes."""
    at = 0
    while at < size:
        begin = at % PERIOD
        count = min(PIECE, size - at)
        yield _PATTERN[begin : begin + count]
        at += count


@lru_cache
def expected(size: int) -> int:
    """CRC-32 of the pattern's first ``size`` bytes."""
    total = 0
    for piece in pieces(size):
        total = zlib.crc32(piece, total)
    return total


class Sum:
    """Counts and sums what comes."""

    def __init__(self) -> None:
        self.size = 0
        self.crc = 0
        self._room = memoryview(bytearray(PIECE))

    def take(self, data: memoryview | bytes) -> None:
        """More of it."""
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def counted(self, stream: io.BufferedReader, size: int) -> None:
        """So many bytes of a stream.

        :raises EOFError: there are not so many.
        """
        while size:
            got = stream.readinto(self._room[: min(size, PIECE)])
            if not got:
                raise EOFError(f"{size} bytes are missing")
            self.take(self._room[:got])
            size -= got

    def chunked(self, stream: io.BufferedReader) -> None:
        """A chunked body, to its end."""
        while size := int(stream.readline(), 16):
            self.counted(stream, size)
            stream.readline()
        stream.readline()

    def rest(self, stream: io.BufferedReader) -> None:
        """All that comes."""
        while got := stream.readinto(self._room):
            self.take(self._room[:got])


def reader(sock: socket.socket) -> io.BufferedReader:
    """To read a socket by lines and by large pieces."""
    return io.BufferedReader(socket.SocketIO(sock, "r"), PIECE)


def send_chunked(sock: socket.socket, size: int) -> None:
    """Send the pattern as a chunked body."""
    for piece in pieces(size):
        sock.sendall(b"%x\r\n" % len(piece))
        sock.sendall(piece)
        sock.sendall(b"\r\n")
    sock.sendall(b"0\r\n\r\n")


def send_plain(sock: socket.socket, size: int) -> None:
    """Send the pattern as it is."""
    for piece in pieces(size):
        sock.sendall(piece)
