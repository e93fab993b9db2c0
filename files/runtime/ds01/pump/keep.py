# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What outlives the pump: systemd's descriptor store, and a table of the streams in it.

systemd keeps a duplicate of what is sent with ``FDSTORE=1`` and passes all of it to the next process of
the service (sd_pid_notify_with_fds(3), https://systemd.io/FILE_DESCRIPTOR_STORE/). Four descriptors make
a stream: ``<slot>.c`` and ``<slot>.e``, the sockets of client and engine, ``<slot>.u`` and ``<slot>.d``,
the reading ends of the pipes towards engine and client.

Their names come back in one environment variable, and no such string may be longer than 128 KiB
(execve(2), MAX_ARG_STRLEN): so they are short, their number is bounded (:data:`SLOTS`), and what else is
to be known of a stream stands in a table, a memfd_create(2) of one row a slot that is kept as well.

A row in force is the commit: it is written after the descriptors were sent and before any byte moves.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SLOTS = 4096
ROLES = "ceud"
TABLE = "table"
_MAGIC = b"ds01 pump table 1\n"
_ROW = struct.Struct("=B4sIdQQ16s64s")
_ROW_SIZE = 128
_COUNTS = struct.Struct("=QQ")
_COUNTS_AT = struct.calcsize("=B4sId")


@dataclass
class Row:
    """What is kept of a stream besides its descriptors.

    :param started: seconds of CLOCK_MONOTONIC, which every process of a boot shares.
    """

    mode: str
    uid: int
    started: float
    key: str
    tag: str
    up: int = 0
    down: int = 0


class Table:
    """The rows, by slot from 1 to :data:`SLOTS`, in memory that a crash of the process leaves alone."""

    def __init__(self, descriptor: int | None = None) -> None:
        size = (SLOTS + 1) * _ROW_SIZE
        self.descriptor = (
            os.memfd_create("pump", os.MFD_CLOEXEC) if descriptor is None else descriptor
        )
        if descriptor is None:
            os.ftruncate(self.descriptor, size)
        if os.fstat(self.descriptor).st_size != size:
            raise ValueError("a table of another size")
        self._memory = mmap.mmap(self.descriptor, size)
        if descriptor is None:
            self._memory[: len(_MAGIC)] = _MAGIC
        if self._memory[: len(_MAGIC)] != _MAGIC:
            raise ValueError("a table of another kind")

    def put(self, slot: int, row: Row) -> None:
        """Put a row in force; its first byte, written last, does so."""
        texts = (row.mode.encode(), row.uid, row.started, row.up, row.down)
        at = slot * _ROW_SIZE
        _ROW.pack_into(self._memory, at, 0, *texts, row.key.encode(), row.tag.encode())
        self._memory[at] = 1

    def count(self, slot: int, up: int, down: int) -> None:
        """Note the bytes that were moved so far."""
        _COUNTS.pack_into(self._memory, slot * _ROW_SIZE + _COUNTS_AT, up, down)

    def clear(self, slot: int) -> None:
        """Take a row out of force."""
        self._memory[slot * _ROW_SIZE] = 0

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Those in force."""
        for slot in range(1, SLOTS + 1):
            used, mode, uid, started, up, down, key, tag = _ROW.unpack_from(
                self._memory, slot * _ROW_SIZE
            )
            if used:
                texts = (text.rstrip(b"\0").decode("ascii", "replace") for text in (mode, key, tag))
                mode_text, key_text, tag_text = texts
                yield slot, Row(mode_text, uid, started, key_text, tag_text, up, down)


def name_of(slot: int, role: str) -> str:
    """The name of a descriptor in systemd's store."""
    return f"{slot}.{role}"


def slot_of(name: str) -> tuple[int, str] | None:
    """Slot and role in a name; None where it is no such name."""
    number, _unused, role = name.partition(".")
    if role and role in ROLES and len(role) == 1 and number.isdigit() and 1 <= int(number) <= SLOTS:
        return int(number), role
    return None


class Store:
    """Sends to systemd, in order, and waits for nobody: what does not go now goes later.

    :param address: of systemd's notification socket; empty: nothing is kept, everything is "sent".
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._queue: deque[tuple[bytes, list[int], Callable[[], None] | None]] = deque()

    def __len__(self) -> int:
        """How much waits."""
        return len(self._queue)

    def keep(self, named: list[tuple[str, int]], then: Callable[[], None] | None = None) -> None:
        """Store descriptors. They must stay open until ``then`` is called, after the last was sent."""
        for index, (name, descriptor) in enumerate(named):
            text = f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}".encode()
            self._queue.append((text, [descriptor], then if index == len(named) - 1 else None))
        self.flush()

    def drop(self, names: list[str]) -> None:
        """Remove descriptors from the store."""
        for name in names:
            self._queue.append((f"FDSTOREREMOVE=1\nFDNAME={name}".encode(), [], None))
        self.flush()

    def flush(self) -> None:
        """Send what goes without waiting."""
        while self._queue:
            text, descriptors, then = self._queue[0]
            if not self._send(text, descriptors):
                return
            self._queue.popleft()
            if then:
                then()

    def _send(self, text: bytes, descriptors: list[int]) -> bool:
        if not self._address:
            return True
        try:
            if self._socket is None:
                kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind)
                self._socket.connect(self._address)
            rights = struct.pack(f"{len(descriptors)}i", *descriptors)
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
            self._socket.sendmsg([text], extra)
        except BlockingIOError:
            return False
        except OSError:
            # systemd re-executes itself, or too many descriptors are on their way: again, soon.
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            return False
        return True
