# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into a running service: ``python -m soak.inside REPORT MODULE ARGUMENTS…`` runs the module.

When somebody opens the FIFO ``REPORT.ask`` for writing, it writes what it holds to the file REPORT:
tasks, timers, watched descriptors, and how many objects of each of our classes there are. The
service itself knows nothing of it, but for one more thread; a signal would wake it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import runpy
import socket
import sys
import threading
from collections import Counter
from typing import Any

OURS = "ds01."
_loops: list[asyncio.BaseEventLoop] = []


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
        **_of_loops(),
    }


def _of_loops() -> dict[str, int]:
    found = Counter(tasks=0, watched=0, timers=0)
    for loop in _loops:
        # Private, and stable since Python 3.4: the public face counts tasks only.
        inside: Any = loop
        found["tasks"] += len(asyncio.all_tasks(loop))
        found["watched"] += len(inside._selector.get_map() or ())
        found["timers"] += sum(not timer.cancelled() for timer in list(inside._scheduled))
    return dict(found)


def _note_loops() -> None:
    run = asyncio.BaseEventLoop.run_forever

    def run_forever(loop: asyncio.BaseEventLoop) -> None:
        _loops.append(loop)
        try:
            run(loop)
        finally:
            _loops.remove(loop)

    asyncio.BaseEventLoop.run_forever = run_forever  # type: ignore[method-assign]


def _answer_to(report: str) -> None:
    asked = f"{report}.ask"
    if not os.path.exists(asked):
        os.mkfifo(asked, 0o600)

    def wait_and_write() -> None:
        while True:
            with open(asked, encoding="utf-8") as stream:
                stream.read()
            with open(f"{report}.new", "w", encoding="utf-8") as stream:
                json.dump(holdings(), stream)
            os.replace(f"{report}.new", report)

    threading.Thread(target=wait_and_write, name="inside", daemon=True).start()


if __name__ == "__main__":
    _note_loops()
    _answer_to(sys.argv[1])
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
