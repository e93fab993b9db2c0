# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the event log and its rotated parts, whatever logrotate(8) does meanwhile.

It moves the log to ``.1`` and that one, compressed, to ``.2.gz`` and so on. All parts are opened before
one is read: whoever opened them one after the other would miss what is moved in between, or read it twice.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast

from .events import EVENTS_PATH, READER_GROUP, EventError, parse_timestamp

Identity = tuple[int, int]
"""Device and inode."""

_LOOKS = 50
_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Part:
    """One file of the log, open.

    :param path: its name when it was opened.
    """

    path: str
    stream: IO[bytes]

    @property
    def compressed(self) -> bool:
        """Whether its name says so."""
        return self.path.endswith(".gz")

    @property
    def identity(self) -> Identity:
        """Which file it is, whatever its name is by now."""
        found = os.fstat(self.stream.fileno())
        return found.st_dev, found.st_ino

    def content(self) -> IO[bytes]:
        """Its lines, from the first."""
        self.stream.seek(0)
        if not self.compressed:
            return self.stream
        # GzipFile reads and iterates like any binary file; typeshed does not say so.
        return cast("IO[bytes]", gzip.open(self.stream, "rb"))

    def close(self) -> None:
        """Read no more."""
        self.stream.close()


def open_parts(path: str) -> list[Part]:
    """The parts that there are, oldest first, the log itself last; each line is in one of them.

    :raises EventError: one cannot be opened.
    """
    for _attempt in range(_LOOKS):
        parts = _open_all(path)
        if parts is not None and [(part.path, part.identity) for part in parts] == _present(path):
            return parts
        close_parts(parts or ())
        time.sleep(_LOOK_SECONDS)
    # Something renames them all the time.
    return _open_all(path) or []


def close_parts(parts: Sequence[Part]) -> None:
    """Read them no more."""
    for part in parts:
        part.close()


def identity_of(path: str) -> Identity | None:
    """Which file stands there; None where none does.

    :raises EventError: that may not be looked at.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    return found.st_dev, found.st_ino


def iter_events(
    path: str = EVENTS_PATH,
    *,
    user: str | None = None,
    type_prefix: str | Sequence[str] | None = None,
    since: datetime | None = None,
    on_bad_line: Callable[[str, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Events of the log and of its rotated parts (``.1``, ``.2.gz``, …), oldest first.

    :param user: only events that concern this user.
    :param type_prefix: only these types and those below them (``limits`` takes ``limits.applied``).
    :param since: only events from this moment (aware) on.
    :param on_bad_line: told file and line number of lines that are no event; they are passed over.
    :raises EventError: a part cannot be read.
    """
    with contextlib.ExitStack() as stack:
        parts = open_parts(path)
        for part in parts:
            stack.callback(part.close)
        for part in parts:
            for number, line in numbered(part):
                record = decode(line)
                if record is None:
                    if on_bad_line is not None and line.strip():
                        on_bad_line(part.path, number)
                elif matches(record, user=user, type_prefix=type_prefix, since=since):
                    yield record


def numbered(part: Part) -> Iterator[tuple[int, bytes]]:
    """The lines of a part with their numbers, from 1.

    :raises EventError: it cannot be read to its end.
    """
    lines = iter(part.content())
    number = 0
    while True:
        try:
            line = next(lines, None)
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(part.path, error) from error
        if line is None:
            return
        number += 1
        yield number, line


def matches(
    record: Mapping[str, Any],
    *,
    user: str | None = None,
    type_prefix: str | Sequence[str] | None = None,
    since: datetime | None = None,
) -> bool:
    """Whether a read event passes the filters of :func:`iter_events`."""
    if user is not None and record.get("user") != user:
        return False
    wanted = (type_prefix,) if isinstance(type_prefix, str) else type_prefix
    if wanted is not None:
        words = f"{record.get('event_type', '')}."
        if not words.startswith(tuple(prefix.rstrip(".") + "." for prefix in wanted)):
            return False
    if since is None:
        return True
    try:
        return parse_timestamp(str(record.get("timestamp", ""))) >= since
    except ValueError:
        return False


def decode(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(record, dict) and isinstance(record.get("event_type"), str)
    return record if is_event else None


def unreadable(path: str, error: Exception) -> EventError:
    """What to say of a part that cannot be read."""
    remedy = "The file is damaged or unreadable; move it away to read the others"
    if isinstance(error, PermissionError):
        remedy = f"Run as root or as a member of the group {READER_GROUP}"
    return EventError(f"the event log cannot be read: {error}", path, remedy)


def _names(path: str) -> list[str]:
    """Names of the rotated parts, oldest (highest number) first, and of the log itself.

    While a part is compressed there are both; what is whole then is the one that is not compressed.
    """
    directory, base = os.path.split(path)
    pattern = re.compile(re.escape(base) + r"\.(\d+)(?:\.gz)?\Z")
    try:
        names = os.listdir(directory or ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(path, error) from error
    found: dict[int, str] = {}
    for name in sorted(names, reverse=True):
        # Of two with one number the shorter, ".1" and not ".1.gz", comes last.
        if match := pattern.match(name):
            found[int(match[1])] = name
    rotated = [os.path.join(directory, found[number]) for number in sorted(found, reverse=True)]
    return [*rotated, path] if base in names else rotated


def _present(path: str) -> list[tuple[str, Identity | None]]:
    return [(name, identity_of(name)) for name in _names(path)]


def _open_all(path: str) -> list[Part] | None:
    """All parts; None when one was moved away meanwhile."""
    parts: list[Part] = []
    for name in _names(path):
        try:
            parts.append(Part(name, open(name, "rb")))  # noqa: SIM115  (it is read later)
        except FileNotFoundError:
            close_parts(parts)
            return None
        except OSError as error:
            close_parts(parts)
            raise unreadable(name, error) from error
    return parts
