# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 events``: the event log, filtered, oldest first."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timedelta
from typing import Any

from ds01.cli.output import Exit, Output, printable
from ds01.core.errors import InputError, Problem
from ds01.core.events import iter_events, parse_timestamp, utc_now
from ds01.core.units import UnitError, parse_duration


def run(options: argparse.Namespace, output: Output) -> int:
    """Print the events that pass the filters; as JSON, one object a line, as they were written."""
    since = parse_since(options.since) if options.since else None
    bad = 0

    def count(_path: str, _line: int) -> None:
        nonlocal bad
        bad += 1

    for event in iter_events(
        options.log, user=options.user, type_prefix=options.type, since=since, on_bad_line=count
    ):
        if output.as_json:
            output.stream.write(json.dumps(event) + "\n")
        else:
            _show(event, output)
    if bad:
        print(f"ds01: {bad} damaged line(s) of {options.log} passed over", file=sys.stderr)
    return Exit.OK


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
