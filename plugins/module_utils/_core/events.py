# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event log: one JSON object a line, appended by anyone, read later (:mod:`.event_reading`).

A line is shorter than 4 KiB and goes out in a single write(2) on a descriptor
opened with O_APPEND, so that writers need no lock and never mix (write(2): with
O_APPEND, seeking to the end and writing is one step). The file is opened for
each event: after logrotate(8) has moved it away the next event finds the new one.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .errors import Ds01Error

EVENTS_PATH = "/var/log/ds01/events.jsonl"
SCHEMA_VERSION = 1
MAX_LINE_BYTES = 4096
"""A whole line, its newline included, stays below this many bytes."""

# Events name people and what they ran: readable by root and the log readers of
# the distribution, not by every user of the machine.
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
READER_GROUP = "adm"

_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\Z")
_TYPE_MAX = 100
_NAME_MAX = 256
_DEPTH_MAX = 8
_AT_ONCE = 64
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
# Tried in this order until the line fits: characters kept of a string, items of a list.
_CUTS = ((None, None), (1024, 64), (256, 32), (64, 16), (16, 4))


class EventError(Ds01Error):
    """An event that cannot be written, or a log that cannot be read.

    :ivar written: lines that were whole on the disk before the fault.
    :ivar lost: events that were lost.
    """

    written, lost = 0, 1


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(timezone.utc)


def format_timestamp(moment: datetime) -> str:
    """An aware moment as RFC 3339 in UTC with milliseconds: 2026-11-21T23:59:59.007Z."""
    in_utc = moment.astimezone(timezone.utc)
    return in_utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{in_utc.microsecond // 1000:03d}Z"


def parse_timestamp(text: str) -> datetime:
    """The moment that an RFC 3339 text (or a bare date, taken as UTC) names.

    :raises ValueError: the text is no such moment.
    """
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    :param event_type: dotted lower-case words, widest first: ``limits.applied``.
    :param source: the program that says so: ``ds01_slices``, ``ds01d``.
    :param user: whom it concerns, by name; None when it concerns nobody in particular.
    :param details: what else there is to know; anything that JSON can hold.
    :param timestamp: when it happened (aware).
    :raises EventError: the type or the source is not usable as one.
    """

    event_type: str
    source: str
    user: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        if len(self.event_type) > _TYPE_MAX or not _TYPE.match(self.event_type):
            raise EventError(
                f"{self.event_type[:_TYPE_MAX]!r} is not an event type",
                "event_type",
                "Use dotted lower-case words such as limits.applied",
            )
        if not self.source or len(self.source) > _NAME_MAX:
            raise EventError(
                "an event needs a source of 1 to 256 characters",
                "source",
                "Name the program that reports it",
            )

    def as_dict(self) -> dict[str, Any]:
        """The object as it is written, before any cut."""
        return self._record(_plain(self.details, None, None, 0))

    def _record(self, details: Any) -> dict[str, Any]:
        record: dict[str, Any] = {
            "timestamp": format_timestamp(self.timestamp),
            "event_type": self.event_type,
            "source": _text(self.source, None),
            "details": details,
            "schema_version": SCHEMA_VERSION,
        }
        if self.user is not None:
            record["user"] = _text(self.user, _NAME_MAX)
        return record


def encode(event: Event) -> bytes:
    """The event as one line, newline included, below MAX_LINE_BYTES.

    What is too long is cut inside ``details`` and says so there (``…[+N]``,
    ``_truncated``), so that the line is always whole JSON.
    """
    record = event._record({})
    for string_max, items_max in _CUTS:
        details = _plain(event.details, string_max, items_max, 0)
        if string_max is not None:
            details["_truncated"] = True
        line = _dump({**record, "details": details})
        if len(line) < MAX_LINE_BYTES:
            return line
    keys = [_text(str(key), 32) for key in list(event.details)[:16]]
    return _dump({**record, "details": {"_truncated": True, "keys": keys}})


def append(path: str, event: Event) -> None:
    """Add one event to the log at ``path``, creating the file (0640 root:adm) if need be.

    :raises EventError: the file cannot be opened or written, the disk is full.
    """
    append_lines(path, encode(event))


def append_many(path: str, events: Iterable[Event]) -> None:
    """Add several events, in few writes.

    Several whole lines in one write(2) are as safe as one: with O_APPEND the kernel finds the end and
    writes in one step, under the file's lock, however much it is.

    :raises EventError: as :func:`append`; ``lost`` tells how many of them.
    """
    lines = [encode(event) for event in events]
    for start in range(0, len(lines), _AT_ONCE):
        try:
            append_lines(path, b"".join(lines[start : start + _AT_ONCE]))
        except EventError as error:
            error.lost = len(lines) - start - error.written
            raise


def append_lines(path: str, lines: bytes) -> None:
    """Add encoded lines, in one write.

    :raises EventError: as :func:`append`.
    """
    try:
        descriptor = _open_for_append(path)
        try:
            # A full disk once cut a line short: keep ours out of its remains.
            lead = b"" if _ends_with_newline(descriptor) else b"\n"
            written = os.write(descriptor, lead + lines)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _write_error(path, error) from error
    if written != len(lead) + len(lines):
        short = _write_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        short.written = lines[: max(0, written - len(lead))].count(b"\n")
        raise short


def _open_for_append(path: str) -> int:
    # O_RDWR because the last byte is looked at; O_NOFOLLOW because a link planted
    # in place of the log must not lead root's writes elsewhere.
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            _make_directory(os.path.dirname(path))
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue  # another writer made it first
        _hand_to_readers(descriptor, FILE_MODE)
        return descriptor


def _make_directory(directory: str) -> None:
    if not directory or os.path.isdir(directory):
        return
    os.makedirs(os.path.dirname(directory) or ".", exist_ok=True)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _hand_to_readers(descriptor, DIRECTORY_MODE)
    finally:
        os.close(descriptor)


def _hand_to_readers(descriptor: int, mode: int) -> None:
    """Give the readers' group its share; without that group root alone reads."""
    try:
        import grp

        os.fchown(descriptor, -1, grp.getgrnam(READER_GROUP).gr_gid)
    except (ImportError, KeyError, PermissionError):
        pass
    os.fchmod(descriptor, mode)


def _ends_with_newline(descriptor: int) -> bool:
    """Whether the last line is whole; a writer at work gets a moment to finish his.

    A write that spans two pages shows its first part before its second, so one look
    at the last byte does not tell a line cut by a full disk from one on its way.
    """
    for _attempt in range(20):
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return True
        time.sleep(0.001)
    return False


def _write_error(path: str, error: OSError) -> EventError:
    lost = "the action itself went on, its record is lost"
    remedies = {
        errno.ENOSPC: f"Free space on that file system; {lost}",
        errno.EDQUOT: f"Raise the quota of that file system; {lost}",
        errno.EROFS: "Remount that file system read-write",
        errno.EACCES: "Run as root: only root writes events",
        errno.EPERM: "Look for an immutable flag (lsattr) on the file",
        errno.ELOOP: "A symbolic link stands in place of the log; remove it",
    }
    remedy = remedies.get(error.errno or 0, "Look at the path and its file system")
    return EventError(f"the event could not be recorded: {error.strerror or error}", path, remedy)


def _dump(record: Mapping[str, Any]) -> bytes:
    text = _ENCODER.encode(record)
    # ensure_ascii escapes every control character but DEL.
    return text.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _text(value: str, limit: int | None) -> str:
    # File names may hold bytes that are no UTF-8 (surrogates here): JSON readers refuse them.
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "backslashreplace")
    clean = raw.decode("utf-8", "backslashreplace")
    if limit is None or len(clean) <= limit:
        return clean
    return f"{clean[:limit]}…[+{len(clean) - limit}]"


def _plain(value: Any, string_max: int | None, items_max: int | None, depth: int) -> Any:
    """The value as JSON can hold it, strings and collections cut to the given sizes."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Wider than most readers' integers, and without a bound on its length.
        return value if -(2**63) <= value < 2**64 else _text(hex(value), string_max)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > _DEPTH_MAX or not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return _text(value if isinstance(value, str) else str(value), string_max)
    if isinstance(value, Mapping):
        pairs = list(value.items())
        kept = pairs if items_max is None else pairs[:items_max]
        cut = {
            _text(str(key), string_max): _plain(item, string_max, items_max, depth + 1)
            for key, item in kept
        }
        if len(kept) < len(pairs):
            cut["…"] = f"+{len(pairs) - len(kept)}"
        return cut
    items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
    kept_items = items if items_max is None else items[:items_max]
    shown = [_plain(item, string_max, items_max, depth + 1) for item in kept_items]
    if len(kept_items) < len(items):
        shown.append(f"…[+{len(items) - len(kept_items)}]")
    return shown
