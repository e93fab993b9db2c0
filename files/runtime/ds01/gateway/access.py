# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway writes down: who asked what, and what was answered."""

from __future__ import annotations

from typing import NamedTuple

from ds01.core.callers import Caller
from ds01.host.peer import Peer

ACCESS_PATH = "/var/log/ds01/access.jsonl"


class Entry(NamedTuple):
    """One request and its answer. A tuple, since one is made for every request.

    :param caller: None where nobody could be told.
    :param peer: None where the kernel could not say.
    :param decision: ``allow``, ``would_deny`` or ``deny``.
    :param status: of the answer; 0 when there was none.
    :param seconds: from the request's head to the end of its answer.
    :param sent: bytes of the answer's body.
    :param received: bytes of the request's body.
    """

    caller: Caller | None
    peer: Peer | None
    method: str
    route: str
    kind: str
    path: str
    decision: str
    rule: str
    status: int
    seconds: float
    sent: int = 0
    received: int = 0
    note: str = ""


class AccessLog:
    """Writes entries down, in a thread; nothing here waits for the disk."""

    def __init__(self, path: str = ACCESS_PATH, events: str = "") -> None:
        self.path, self.events = path, events

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Write down what is there and end."""

    def record(self, entry: Entry) -> None:
        """Have an entry written down; never waits, drops and counts when too many wait."""
