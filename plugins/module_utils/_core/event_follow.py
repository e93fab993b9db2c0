# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the event log as it grows: each event once, over every rotation.

A file is followed by its inode, not by its name. When another file has the log's name, the one before is
read to its end, then all that came between the two, then the new one. A writer that had opened the log
before it was moved writes to the moved file; so that one is looked at for as long as it exists.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from .event_reading import (
    Part,
    close_parts,
    decode,
    identity_of,
    matches,
    numbered,
    open_parts,
    unreadable,
)
from .events import EVENTS_PATH

_READ = 64 * 1024
_OLD_KEPT = 4
_LINE_MAX = 1024 * 1024
"""Far longer than an event; what has no end by then is none."""

BadLine = Callable[[str, int], None]


def follow_events(
    path: str = EVENTS_PATH,
    *,
    wait: Callable[[], bool],
    user: str | None = None,
    type_prefix: str | Sequence[str] | None = None,
    since: datetime | None = None,
    on_bad_line: BadLine | None = None,
) -> Iterator[dict[str, Any]]:
    """Events as they are written, in the order in which they stand in the log.

    :param wait: returns when the log may have changed, or after a while; False ends it.
    :param since: begin with what there is from this moment (aware) on; by default with what is written
        from now on.
    :param user: as ``type_prefix`` and ``on_bad_line``: see :func:`.event_reading.iter_events`.
    :raises EventError: the log, or a part of it, cannot be read.
    """
    follower = Follower(path, whole=since is not None, on_bad_line=on_bad_line)
    try:
        while True:
            for record in follower.news():
                if matches(record, user=user, type_prefix=type_prefix, since=since):
                    yield record
            if not wait():
                return
    finally:
        follower.close()


class Tail:
    """A part that may still grow.

    :param offset: bytes that are not read.
    """

    def __init__(self, part: Part, offset: int = 0) -> None:
        self.part = part
        self.offset = offset
        self._pending = b""

    def lines(self) -> Iterator[bytes]:
        """Whole lines that came since the last call; one that is half written waits for its end."""
        descriptor = self.part.stream.fileno()
        if os.fstat(descriptor).st_size < self.offset:
            # Somebody emptied it: what is in it now is new.
            self.offset, self._pending = 0, b""
        while data := os.pread(descriptor, _READ, self.offset):
            self.offset += len(data)
            *whole, self._pending = (self._pending + data).split(b"\n")
            yield from whole
            if len(self._pending) > _LINE_MAX:
                yield self._pending
                self._pending = b""

    @property
    def removed(self) -> bool:
        """Whether nobody who looks for it finds it any more."""
        return os.fstat(self.part.stream.fileno()).st_nlink == 0

    def is_part(self, part: Part) -> bool:
        """Whether a part of the log is this file, or what became of it when it was compressed."""
        if part.identity == self.part.identity:
            return True
        if not part.compressed or self.part.compressed:
            return False
        try:
            mine = os.pread(self.part.stream.fileno(), _READ, 0)
            return bool(mine) and part.content().read(_READ) == mine
        except (OSError, EOFError):
            return False

    def came_before(self, part: Part) -> bool:
        """Whether a part was written to after this file was."""
        mine, other = (os.fstat(p.stream.fileno()).st_mtime_ns for p in (self.part, part))
        return mine < other


class Follower:
    """Where somebody is in the log.

    :param whole: begin with the oldest part, not at the log's end.
    :param on_bad_line: told of lines that are no event: file, and number counted from where it began.
    """

    def __init__(
        self, path: str, *, whole: bool = False, on_bad_line: BadLine | None = None
    ) -> None:
        self._path = path
        self._on_bad_line = on_bad_line or (lambda _path, _number: None)
        self._old: list[Tail] = []
        self._now: Tail | None = None
        self._ahead: list[Part] = open_parts(path)
        if self._ahead and not whole:
            self._now = _at_end(self._ahead.pop())
            self._old = [_at_end(part) for part in self._ahead]
            self._ahead = []

    def close(self) -> None:
        """Follow no more; for ``contextlib.closing``."""
        tails = [*self._old, self._now] if self._now else self._old
        close_parts([*(tail.part for tail in tails), *self._ahead])

    def news(self) -> Iterator[dict[str, Any]]:
        """Events that came since the last look.

        :raises EventError: a part cannot be read.
        """
        yield from self._read_old()
        if self._now is not None:
            yield from self._read(self._now)
        if not self._ahead:
            self._ahead = self._newer()
        while self._ahead:
            part = self._ahead.pop(0)
            if self._now is not None:
                # It may have got its last lines after it was read and before it was moved.
                yield from self._read(self._now)
                self._old.append(self._now)
            if part.compressed:
                yield from self._decoded(part, (line for _number, line in numbered(part)))
                self._now = _at_end(part)
            else:
                self._now = Tail(part)
                yield from self._read(self._now)

    def _read_old(self) -> Iterator[dict[str, Any]]:
        for tail in list(self._old):
            gone = tail.removed or tail.part.compressed
            yield from self._read(tail)
            if gone or len(self._old) > _OLD_KEPT:
                self._old.remove(tail)
                tail.part.close()

    def _read(self, tail: Tail) -> Iterator[dict[str, Any]]:
        try:
            yield from self._decoded(tail.part, tail.lines())
        except OSError as error:
            raise unreadable(tail.part.path, error) from error

    def _decoded(self, part: Part, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines, 1):
            record = decode(line)
            if record is not None:
                yield record
            elif line.strip():
                self._on_bad_line(part.path, number)

    def _newer(self) -> list[Part]:
        """The parts that are newer than the one that is read, oldest first."""
        if self._now is None:
            return open_parts(self._path)
        there = identity_of(self._path)
        if there is None or there == self._now.part.identity:
            return []
        return _after(self._now, open_parts(self._path))


def _after(tail: Tail, parts: list[Part]) -> list[Part]:
    """Those of the parts that are newer than a file; the others are closed."""
    for place in reversed(range(len(parts))):
        if tail.is_part(parts[place]):
            return _chosen(parts, parts[place + 1 :])
    # It was removed: by hand, or because more rotations went by than parts are kept.
    newer = [part for part in parts if tail.came_before(part)]
    return _chosen(parts, newer or parts[-1:])


def _chosen(parts: list[Part], chosen: list[Part]) -> list[Part]:
    close_parts([part for part in parts if part not in chosen])
    return chosen


def _at_end(part: Part) -> Tail:
    """A part from its end on; a line that is being written belongs to what comes."""
    if part.compressed:
        return Tail(part, os.fstat(part.stream.fileno()).st_size)
    size = os.fstat(part.stream.fileno()).st_size
    start = max(0, size - _READ)
    before = os.pread(part.stream.fileno(), size - start, start)
    unfinished = len(before) - (before.rfind(b"\n") + 1)
    return Tail(part, size - unfinished if b"\n" in before or not start else size)
