# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the steps of a path are, links followed by hand, and never longer waited for than a moment.

Source: path_resolution(7), openat(2) and O_PATH in open(2), readlinkat(2). A path may lie on a file
server that does not answer: what looks at it hangs in the kernel then, and nothing ends it.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SECONDS = 2.0
FRESH_SECONDS = 5.0
LINKS_MAX = 40
"""As many as the kernel follows (path_resolution(7))."""
_THREADS = 32
_EACH = 4
_KEPT = 2000
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP)


@dataclass(frozen=True)
class PathLook:
    """What the file system says of a path; fields as in the domain's ``PathFacts``."""

    path: str
    uid: int | None = None
    links: tuple[int, ...] = ()
    above: int | None = None
    reachable: bool = True


def look(path: str) -> PathLook:
    """Follow a path; may hang.

    What cannot be looked at for other reasons than that it is not there is out of reach.
    """
    links: list[int] = []
    above: int | None = None
    if not path.startswith("/") or "\0" in path:
        return PathLook(path)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        steps = path.split("/")[::-1]
        above = owner = os.fstat(here).st_uid
        while steps:
            step = steps.pop()
            if step in ("", "."):
                continue
            found = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            info = os.fstat(found)
            if stat.S_ISLNK(info.st_mode):
                links.append(info.st_uid)
                try:
                    target = os.readlink("", dir_fd=found)
                finally:
                    os.close(found)
                if len(links) > LINKS_MAX:
                    return PathLook(path, None, tuple(links), above)
                if target.startswith("/"):
                    top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                    os.close(here)
                    here, owner = top, os.fstat(top).st_uid
                steps += target.split("/")[::-1]
                continue
            os.close(here)
            here, owner = found, info.st_uid
            if stat.S_ISDIR(info.st_mode) or not any(s not in ("", ".") for s in steps):
                above = owner
    except OSError as error:
        return PathLook(path, None, tuple(links), above, error.errno in _NOT_THERE)
    finally:
        os.close(here)
    return PathLook(path, owner, tuple(links), above)


class Paths:
    """Looks at paths in threads that may hang, of which there are few, and fewer for one place.

    :param seconds: how long all paths of one call are waited for.
    :param follow: looks at one path (for tests).
    """

    def __init__(
        self,
        seconds: float = SECONDS,
        follow: Callable[[str], PathLook] = look,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._follow = follow
        self._clock = clock
        self._changed = threading.Condition()
        self._known: dict[str, tuple[float, PathLook]] = {}
        self._begun: dict[str, float] = {}

    def look(self, wanted: Iterable[str], seconds: float | None = None) -> dict[str, PathLook]:
        """What the file system says of some paths; one that does not answer in time is out of reach.

        :param seconds: how long all are waited for, if not the usual time.
        """
        paths = list(dict.fromkeys(wanted))
        patience = self._seconds if seconds is None else seconds
        end = self._clock() + patience
        with self._changed:
            self._forget()
            while True:
                missing = [path for path in paths if path not in self._known]
                for path in missing:
                    self._begin(path)
                left = end - self._clock()
                if left <= 0 or all(self._is_hopeless(path, patience) for path in missing):
                    break
                self._changed.wait(left)
            return {
                path: self._known[path][1]
                if path in self._known
                else PathLook(path, reachable=False)
                for path in paths
            }

    def _begin(self, path: str) -> None:
        same_place = sum(_place(other) == _place(path) for other in self._begun)
        if path in self._begun or same_place >= _EACH or len(self._begun) >= _THREADS:
            return
        self._begun[path] = self._clock()
        threading.Thread(target=self._run, args=(path,), name="owner-paths", daemon=True).start()

    def _run(self, path: str) -> None:
        try:
            found = self._follow(path)
        except OSError:
            found = PathLook(path, reachable=False)
        with self._changed:
            self._begun.pop(path, None)
            self._known[path] = (self._clock(), found)
            self._changed.notify_all()

    def _is_hopeless(self, path: str, patience: float) -> bool:
        """Others have waited for this place in vain, and it is as silent as before."""
        since = [at for other, at in self._begun.items() if _place(other) == _place(path)]
        return bool(since) and self._clock() - min(since) > patience

    def _forget(self) -> None:
        now = self._clock()
        if len(self._known) > _KEPT:
            self._known.clear()
        for path, (at, _found) in list(self._known.items()):
            if now - at >= FRESH_SECONDS:
                del self._known[path]


def _place(path: str) -> str:
    """Where a path lies, roughly: what hangs is a mount, and homes are mounted one by one."""
    return "/".join(path.split("/", 3)[:3])
