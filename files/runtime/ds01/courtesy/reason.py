# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a failed build: the reason that the door gave and the client did not show."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ds01 import client as daemon
from ds01.cli.output import printable
from ds01.core.errors import Ds01Error
from ds01.core.events import parse_timestamp
from ds01.courtesy.context import goes_here
from ds01.daemon import protocol

SUBJECT = "last refusal at the door"
PATIENCE_SECONDS = 5
PAUSES_SECONDS = (0.1, 0.3)
"""The gateway writes a refusal down after it has answered: so long is looked for it, and no longer, since
most builds that fail were refused by nobody."""


def tell(since: str, words: Sequence[str]) -> int:
    """Print the caller's last refusal, if it fell into the time of the command.

    :param since: when the command began, in seconds since boot (proc_uptime(5)).
    :param words: what follows ``docker``.
    """
    signal.signal(signal.SIGALRM, lambda _number, _frame: os._exit(0))
    signal.alarm(PATIENCE_SECONDS)
    try:
        if goes_here(words, os.environ):
            for line in _look(began(float(since))):
                print(f"ds01: {printable(line)}", file=sys.stderr)
    except (Ds01Error, OSError, ValueError, KeyError, KeyboardInterrupt):
        pass  # the client has told what it knows
    return 0


def _look(after: float) -> list[str]:
    for seconds in PAUSES_SECONDS:
        time.sleep(seconds)
        found = lines(daemon.ask("why", path=protocol.SOCKET_PATH).get("reasons", ()), after)
        if found:
            return found
    return []


def began(since: float) -> float:
    """A time since boot as one of the wall clock."""
    with open("/proc/uptime", encoding="ascii") as stream:
        up = float(stream.read().split()[0])
    return time.time() - (up - since)


def lines(reasons: Sequence[Mapping[str, Any]], after: float) -> list[str]:
    """The refusal in words.

    :param after: an older one is of an earlier command, in seconds of the wall clock.
    """
    for reason in reasons:
        # /proc/uptime counts hundredths of a second.
        if reason.get("subject") == SUBJECT and _moment(reason) >= after - 0.05:
            remedy = [str(reason["remedy"])] if reason.get("remedy") else []
            return [f"the door refused this: {reason['why']}", *remedy]
    return []


def _moment(reason: Mapping[str, Any]) -> float:
    """When it was, in seconds of the wall clock.

    :raises ValueError: it does not say.
    """
    return parse_timestamp(str(reason["timestamp"])).timestamp()
