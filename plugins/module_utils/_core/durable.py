# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that survive a power cut whole: write aside, fsync(2), rename(2), fsync the directory."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator

WORK_SUFFIX = ".new"


def replace_link(path: str, target: str, work: str) -> None:
    """Make ``path`` a link to ``target`` in one step; ``work`` is a free name beside it."""
    if os.path.lexists(work):
        os.unlink(work)
    os.symlink(target, work)
    os.replace(work, path)
    flush(os.path.dirname(path))


def replace_file(path: str, text: str | bytes, mode: int | None = None) -> None:
    """Write a whole file in one step: whoever reads sees the old text or the new.

    :param mode: permissions of the new file; None leaves them to the umask.
    """
    # Not only hidden: what reads a directory by suffix (CDI does) takes hidden files too.
    work = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}{WORK_SUFFIX}")
    with open(work, "wb") as out:
        if mode is not None:
            os.fchmod(out.fileno(), mode)
        out.write(text.encode() if isinstance(text, str) else text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(work, path)
    flush(os.path.dirname(path))


def remove(path: str) -> None:
    """Remove a file, a link or a directory with all that is in it; nothing there is fine."""
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.lexists(path):
        shutil.rmtree(path)


def files(top: str) -> Iterator[str]:
    """The regular files under ``top``, in a stable order; links are left out."""
    for directory, directories, names in os.walk(top):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                yield path


def flush_tree(top: str) -> None:
    """Put all files and directories under ``top`` on the disk."""
    for path in files(top):
        flush(path)
    for directory, _directories, _names in os.walk(top):
        flush(directory)


def flush(path: str) -> None:
    """Put one file, or the entries of one directory, on the disk (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_filesystem(path: str) -> None:
    """Put everything of one file system on the disk (syncfs(2)).

    One call for hundreds of small files; unlike sync(2) it does not wait for the other file
    systems, among which may be an NFS server that does not answer.

    :param path: a directory of that file system.
    :raises OSError: it could not be written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
