# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway counts, for whoever exports it: numbers that only grow, from its start on.

Published under /run as JSON::

    {"schema": 1, "started": 1766400000.0, "published": 1766400005.0,
     "counters": [{"name": "requests", "labels": {"route": "container_list", …}, "value": 12}, …],
     "gauges": {"connections": 3, …}, "status": {…}}

Times are seconds of the wall clock. A reader that sees another ``started`` knows that all began anew.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from ds01.core.durable import replace_file

COUNTERS_PATH = "/run/ds01/gateway-counters.json"
SCHEMA = 1
PUBLISH_SECONDS = 5.0
BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
"""Upper bounds of the classes of durations, in seconds; the last class has none."""
# Labels come from tables of ours, never from a request; this is for mistakes.
_SERIES_MAX = 5000

Key = tuple[str, tuple[tuple[str, str], ...]]


class Counters:
    """Numbers by name and labels, from any thread.

    :param path: where they are published; empty: nowhere.
    :param gauges: how things stand now (connections, streams, …); called in the thread that
        publishes, so it only reads.
    :param status: likewise, words.
    """

    def __init__(
        self,
        path: str = COUNTERS_PATH,
        gauges: Callable[[], Mapping[str, float]] = dict,
        status: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.path = path
        self.gauges = gauges
        self.status = status
        self._lock = threading.Lock()
        self._values: dict[Key, float] = {}
        self._started = time.time()
        self._published: Any = None
        self._complained = False

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add to one number.

        :param by: never negative.
        """
        self.add((name, tuple(labels.items())), by)

    def add(self, key: Key, by: float = 1) -> None:
        """Add to one number whose key is made already: labels in the same order each time."""
        with self._lock:
            if key in self._values:
                self._values[key] += by
            elif len(self._values) < _SERIES_MAX:
                self._values[key] = by

    def publish(self) -> None:
        """Replace the file if anything is another than it says; never raises for the file's sake."""
        with self._lock:
            values = dict(self._values)
        gauges, status = dict(self.gauges()), dict(self.status())
        state = (values, gauges, status)
        if not self.path or state == self._published:
            return
        record = {
            "schema": SCHEMA,
            "started": round(self._started, 3),
            "published": round(time.time(), 3),
            "counters": [
                {"name": name, "labels": dict(labels), "value": round(value, 6)}
                for (name, labels), value in sorted(values.items())
            ],
            "gauges": gauges,
            "status": status,
        }
        try:
            replace_file(self.path, json.dumps(record, separators=(",", ":")) + "\n", 0o644)
        except OSError as error:
            if not self._complained:
                self._complained = True
                print(f"ds01-gateway: {self.path}: {error.strerror}", file=sys.stderr)
        else:
            self._complained = False
            self._published = state


def bucket(seconds: float) -> str:
    """The class of a duration, by its upper bound: ``0.02``, or ``+Inf``."""
    place = bisect_left(BUCKETS, seconds)
    return f"{BUCKETS[place]:g}" if place < len(BUCKETS) else "+Inf"
