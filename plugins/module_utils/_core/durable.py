# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that survive a power cut whole: write aside, fsync(2), rename(2), fsync the directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator


def replace_link(path: str, target: str, work: str) -> None:
    """Make ``path`` a link to ``target`` in one step; ``work`` is a free name beside it."""
    if os.path.lexists(work):
        os.unlink(work)
    os.symlink(target, work)
    os.replace(work, path)
    flush(os.path.dirname(path))


def replace_file(path: str, text: str) -> None:
    """Write a whole file in one step: whoever reads sees the old text or the new."""
    work = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    with open(work, "w", encoding="utf-8") as out:
        out.write(text)
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
