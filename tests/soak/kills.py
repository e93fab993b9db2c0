# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills at named steps. A worker arms one fault point; when the book passes it, SIGKILL.

What a worker did is in its log, one line an entry, written with O_APPEND before anything else
happens: so a killed worker has told where it died.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


class Log:
    """A log that survives its writer's death."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, kind: str, detail: str = "") -> None:
        """One entry."""
        os.write(self._file, json.dumps([kind, detail]).encode() + b"\n")


def entries(paths: Iterable[Path]) -> Counter[tuple[str, str]]:
    """How often each entry stands in these logs."""
    found: Counter[tuple[str, str]] = Counter()
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            kind, detail = json.loads(line)
            found[kind, detail] += 1
    return found


class Killer:
    """Passed to the book as ``fault``.

    :param points: where to die, one of them chosen at a time; empty: never.
    :param passes: most times that an armed point is passed before it kills.
    """

    def __init__(
        self, points: Iterable[str], rng: random.Random, log: Log, passes: int = 3
    ) -> None:
        self._points = list(points)
        self._rng = rng
        self._log = log
        self._most = passes
        self._armed = ""
        self._passes = 0

    def arm(self) -> None:
        """Choose the next place to die; what was armed before and not passed is forgotten."""
        if self._points:
            self._armed = self._rng.choice(self._points)
            self._passes = self._rng.randint(1, self._most)

    def disarm(self) -> None:
        """Live on."""
        self._armed = ""

    def __call__(self, name: str) -> None:
        if name != self._armed:
            return
        self._passes -= 1
        if self._passes <= 0:
            self._log.add("kill", name)
            os.kill(os.getpid(), signal.SIGKILL)
