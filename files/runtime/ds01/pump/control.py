# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One control connection: a gateway that hands over and is told of ends."""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque

from ds01.pump.wire import DATAGRAM_MAX, BadMessage, HandOver, decode, stream_socket

UNREAD_MAX = 20_000
"""Messages that wait for a gateway. One that leaves more is not there any more."""
_RIGHTS = socket.CMSG_SPACE(2 * struct.calcsize("i"))

_buffer = bytearray(DATAGRAM_MAX + 1)


class Peer:
    """The other end of a control connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._unread: deque[bytes] = deque()
        self._dropped = False

    @classmethod
    def of(cls, connection: socket.socket) -> Peer | None:
        """None where the other end is another user (the socket's mode says the same)."""
        size = struct.calcsize("3i")
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _pid, uid, _gid = struct.unpack("3i", found)
        return cls(connection) if uid in (0, os.geteuid()) else None

    def fileno(self) -> int:
        """Of the connection."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def tell(self, message: dict[str, object]) -> None:
        """Send, now or when the other end reads."""
        if len(self._unread) >= UNREAD_MAX:
            self._dropped = True
        if not self._dropped:
            self._unread.append(json.dumps(message).encode())

    def flush(self) -> bool:
        """Send what waits; False when the other end is gone or does not read."""
        try:
            while self._unread and not self._dropped:
                self._socket.send(self._unread[0])
                self._unread.popleft()
        except BlockingIOError:
            pass
        except OSError:
            return False
        return not self._dropped

    def receive(self) -> tuple[HandOver, socket.socket, socket.socket] | None:
        """The next hand-over; None at the end of the connection.

        :raises BadMessage: it is not as it must be; its descriptors are closed.
        :raises BlockingIOError: there is none now.
        """
        size, extra, flags, _unused = self._socket.recvmsg_into(
            [_buffer], _RIGHTS, socket.MSG_CMSG_CLOEXEC
        )
        if not size and not extra:
            return None
        descriptors = array.array("i")
        for level, kind, data in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or size > DATAGRAM_MAX:
                raise BadMessage("it is too long")
            if len(descriptors) != 2:
                raise BadMessage(f"{len(descriptors)} descriptors came with it, not two")
            if _same(*descriptors):
                raise BadMessage("both descriptors are the same socket")
            order = decode(bytes(_buffer[:size]))
        except BadMessage:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        try:
            client = stream_socket(descriptors[0])
        except BadMessage:
            os.close(descriptors[1])
            raise
        try:
            return order, client, stream_socket(descriptors[1])
        except BadMessage:
            client.close()
            raise


def _same(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)
