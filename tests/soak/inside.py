# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into a running service: ``python -m soak.inside REPORT MODULE ARGUMENTS…`` runs the module.

On SIGUSR2 it writes what it holds to the file REPORT: tasks, timers, watched descriptors, and how
many objects of each of our classes there are. The service itself knows nothing of it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any

OURS = "ds01."


def holdings() -> dict[str, Any]:
    """What this process holds now; garbage is collected first."""
    gc.collect()
    objects: Counter[str] = Counter()
    sockets = 0
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__module__.startswith(OURS):
            objects[f"{kind.__module__.removeprefix(OURS)}.{kind.__qualname__}"] += 1
        elif isinstance(thing, socket.socket) and thing.fileno() >= 0:
            sockets += 1
    return {
        "sockets": sockets,
        "objects": dict(objects),
        "threads": threading.active_count(),
        **_of_the_loop(),
    }


def _of_the_loop() -> dict[str, int]:
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        return {"tasks": 0, "watched": 0, "timers": 0}
    # Private, and stable since Python 3.4: the public face counts tasks only.
    watched = len(loop._selector.get_map() or ())
    timers = sum(not timer.cancelled() for timer in loop._scheduled)
    return {"tasks": len(asyncio.all_tasks(loop)), "watched": watched, "timers": timers}


def _answer_to(report: str) -> None:
    def write(_number: int, _frame: FrameType | None) -> None:
        with open(f"{report}.new", "w", encoding="utf-8") as stream:
            json.dump(holdings(), stream)
        os.replace(f"{report}.new", report)

    signal.signal(signal.SIGUSR2, write)


if __name__ == "__main__":
    _answer_to(sys.argv[1])
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
