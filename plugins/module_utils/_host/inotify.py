# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Being woken when a file in a directory changes (inotify(7)), with the standard library alone."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
CHANGES = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE

_HEAD = struct.Struct("iIII")
_BUFFER = 64 * 1024


class Watch:
    """Names of files that changed in some directories.

    :param directories: those that exist; a missing one is an error.
    :raises OSError: a directory cannot be watched, or the user has too many watches.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._paths: dict[int, str] = {}
        mask = CHANGES | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
        for directory in directories:
            number = libc.inotify_add_watch(self._fd, os.fsencode(directory), mask)
            if number < 0:
                code = ctypes.get_errno()
                self.close()
                raise OSError(code, os.strerror(code), directory)
            self._paths[number] = directory

    def fileno(self) -> int:
        """The descriptor to wait on (poll(2), or asyncio's ``add_reader``)."""
        return int(self._fd)

    def changed(self) -> set[str]:
        """Paths of the files that changed since the last call.

        After an overflow, or when a directory itself is gone, its path alone stands for anything in
        it.
        """
        found: set[str] = set()
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return found
            offset = 0
            while offset < len(data):
                number, mask, _cookie, size = _HEAD.unpack_from(data, offset)
                offset += _HEAD.size
                name = os.fsdecode(data[offset : offset + size].rstrip(b"\0"))
                offset += size
                if mask & IN_Q_OVERFLOW:
                    found |= set(self._paths.values())
                elif number in self._paths:
                    folder = self._paths[number]
                    found.add(os.path.join(folder, name) if name else folder)

    def close(self) -> None:
        """No more wake-ups."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
