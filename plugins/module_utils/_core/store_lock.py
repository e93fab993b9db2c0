# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock that writers of the store take: flock(2) on a file beside it."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from .store_faults import StoreError, unwritable

LOCK_SECONDS = 20.0
_POLL_SECONDS = 0.001


def take_lock(path: str) -> int:
    """An exclusive lock on the lock file, as a descriptor whose closing gives it back."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
                raise unwritable(path, os.strerror(error.errno)) from error
            raise StoreError(
                f"the lock file cannot be opened: {error.strerror}", path, "Run as root"
            ) from error
        if _take(descriptor, until) and _same_file(descriptor, path):
            return descriptor
        os.close(descriptor)
        if time.monotonic() >= until:
            raise StoreError(
                f"another process has kept the store for {LOCK_SECONDS:.0f} s",
                path,
                "See which one with fuser -v; a restart of ds01d.service is safe at any time",
            )


def _take(descriptor: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _same_file(descriptor: int, path: str) -> bool:
    """Whether the path still names the locked file: somebody may have removed it."""
    mine = os.fstat(descriptor)
    return identity(path) == (mine.st_dev, mine.st_ino)


def identity(path: str) -> tuple[int, int] | None:
    """Which file a path names: device and inode; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
