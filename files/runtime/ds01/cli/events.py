# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 events``: the event log, filtered, oldest first; with ``--follow`` also what comes."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import IO, Any

from ds01.cli.output import Exit, Output, printable
from ds01.core.errors import InputError, Problem
from ds01.core.event_follow import follow_events
from ds01.core.event_reading import iter_events
from ds01.core.events import parse_timestamp, utc_now
from ds01.core.units import UnitError, parse_duration
from ds01.host.inotify import Watch

LOOK_SECONDS = 1.0
"""How often a followed log is looked at if nothing wakes us: its directory may be made anew."""
POLL_SECONDS = 0.25
_PAUSE_SECONDS = 0.02


def run(options: argparse.Namespace, output: Output) -> int:
    """Print the events that pass the filters; as JSON, one object a line, as they were written."""
    since = parse_since(options.since) if options.since else None
    if options.follow:
        return _follow(options, output, since)
    bad = 0

    def count(_path: str, _line: int) -> None:
        nonlocal bad
        bad += 1

    found = iter_events(
        options.log, user=options.user, type_prefix=options.types, since=since, on_bad_line=count
    )
    for event in found:
        _print(event, output)
    if bad:
        print(f"ds01: {bad} damaged line(s) of {options.log} passed over", file=sys.stderr)
    return Exit.OK


def _follow(options: argparse.Namespace, output: Output, since: datetime | None) -> int:
    """What comes, each event at once, until Ctrl-C: that is how it is meant to end."""
    with contextlib.closing(Wait(options.log, output.stream)) as wait:
        found = follow_events(
            options.log,
            wait=wait,
            user=options.user,
            type_prefix=options.types,
            since=since,
            on_bad_line=_tell_bad,
        )
        try:
            _print_each(found, output)
        except KeyboardInterrupt:
            return Exit.OK
    return Exit.OK


def _print_each(events: Iterable[dict[str, Any]], output: Output) -> None:
    for event in events:
        _print(event, output)
        output.stream.flush()


def _tell_bad(path: str, _line: int) -> None:
    print(f"ds01: a damaged line of {path} passed over", file=sys.stderr)


class Wait:
    """Returns when the log may have changed, or after a moment.

    :param log: its path.
    :param stream: where events go to; when its reader has gone there is nothing to wait for.
    """

    def __init__(self, log: str, stream: IO[str]) -> None:
        self._log = log
        self._poll = select.poll()
        self._watch: Watch | None = None
        # No directory yet, or no inotify left for this user: it is looked at again and again.
        with contextlib.suppress(OSError):
            self._watch = Watch([os.path.dirname(log) or "."])
            self._poll.register(self._watch.fileno(), select.POLLIN)
        self._reader = -1
        with contextlib.suppress(OSError, ValueError):
            self._reader = stream.fileno()
            self._poll.register(self._reader, 0)

    def close(self) -> None:
        """Wait no more."""
        if self._watch:
            self._watch.close()

    def __call__(self) -> bool:
        """Wait.

        :raises BrokenPipeError: nobody reads any more.
        """
        until = time.monotonic() + (LOOK_SECONDS if self._watch else POLL_SECONDS)
        while (left := until - time.monotonic()) > 0:
            ready = dict(self._poll.poll(left * 1000))
            if ready.get(self._reader, 0) & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError
            if self._watch and self._watch.fileno() in ready and self._concerns_log():
                break
            if ready:
                # The access log beside it changes with each request at the door.
                time.sleep(_PAUSE_SECONDS)
        return True

    def _concerns_log(self) -> bool:
        changed = self._watch.changed() if self._watch else set()
        folder = os.path.dirname(self._log) or "."
        return any(path == folder or path.startswith(self._log) for path in changed)


def parse_since(text: str) -> datetime:
    """A moment from a date, a time (RFC 3339) or a duration before now.

    :raises InputError: the text is none of these.
    """
    try:
        return parse_timestamp(text)
    except ValueError:
        pass
    try:
        return utc_now() - timedelta(seconds=parse_duration(text))
    except (UnitError, OverflowError):
        problem = Problem(
            "error",
            f"{text!r} is no moment",
            "--since",
            "Write 2026-11-21, 2026-11-21T18:00Z, or a duration before now such as 2h",
        )
        raise InputError([problem]) from None


def _print(event: dict[str, Any], output: Output) -> None:
    if output.as_json:
        output.stream.write(json.dumps(event) + "\n")
    else:
        _show(event, output)


def _show(event: dict[str, Any], output: Output) -> None:
    details = event.get("details")
    pairs = details.items() if isinstance(details, dict) else ()
    words = [f"{key}={_short(value)}" for key, value in pairs]
    output.line(
        (str(event.get("timestamp", "?")), "dim"),
        f"  {event['event_type']}",
        f"  {event['user']}" if event.get("user") else "",
        f"  {' '.join(words)}" if words else "",
        (f"  ({event.get('source', '?')})", "dim"),
    )


def _short(value: Any) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
