# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening to the engine's events in a thread of its own, for as long as the daemon runs.

One connection serves the leases and the records of owners. The latter want what happened while nobody
listened; to the leases only news are told, since a full look at the host follows each connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.core.store import StoreCorrupt
from ds01.daemon.rounds import ContainerEvent, World
from ds01.daemon.server import log_fault

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_LONG_SECONDS = 60.0
REPLAY_SECONDS = 5.0
"""What the engine remembers comes at once. After so long all is news, also where the wall clock was set
back in between."""
_OF_LEASES = frozenset({"create", "start", "die", "pause", "unpause", "rename", "destroy"})


class Recorder:
    """Who keeps records of what the engine tells; this one keeps none.

    :ivar fault: what is wrong now, in words; empty while all is well.
    """

    fault = ""

    def begin(self, fail: Callable[[StoreCorrupt], None]) -> None:
        """Begin.

        :param fail: told that the store is damaged, in another thread.
        """

    def stop(self, seconds: float) -> None:
        """End; waits so long for what is under way."""

    def commits(self) -> None:
        """Somebody has written to the store."""

    def since(self) -> str | None:
        """From when on events are wanted, as the engine takes it; called in the ear's thread."""
        return None

    def listening(self) -> None:
        """The engine is (again) listened to; in the ear's thread."""

    def hear(self, event: Mapping[str, Any]) -> None:
        """Something happened; in the ear's thread."""


class Ear:
    """Listens, and begins again when the stream ends: soon at first, then less and less often.

    :param tell: told each event of a container, in the thread; False ends it.
    :param sleep: waits for some seconds (for tests).
    :param recorder: told all, also what comes late.
    """

    def __init__(
        self,
        world: World,
        tell: Callable[[ContainerEvent], bool],
        sleep: Callable[[float], object] = time.sleep,
        recorder: Recorder | None = None,
    ) -> None:
        self._world = world
        self._tell = tell
        self._sleep = sleep
        self._recorder = recorder or Recorder()

    def begin(self) -> None:
        """Listen until the process ends, or nobody wants to be told."""
        threading.Thread(target=self.listen, name="engine", daemon=True).start()

    def listen(self) -> None:
        """Listen, in this thread."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                if not self._listen_once():
                    return
            except Ds01Error:
                pass  # the engine is down; the rounds say so
            except Exception as error:
                log_fault(error)
            failures = 0 if time.monotonic() - began > _LONG_SECONDS else failures + 1
            self._sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])

    def _listen_once(self) -> bool:
        """Listen to one stream until it ends; False when nobody wants to be told any more."""
        asked, began = time.time_ns(), time.monotonic()
        listening = False
        for event in self._world.events(self._recorder.since()):
            if not listening:
                listening = True
                self._recorder.listening()
                if not self._tell(ContainerEvent("")):
                    return False
            if event is None:
                continue
            self._recorder.hear(event)
            news = _nano(event) >= asked or time.monotonic() - began > REPLAY_SECONDS
            if news and _is_of_leases(event) and not self._tell(_container(event)):
                return False
        return True


def _nano(event: Mapping[str, Any]) -> int:
    found = event.get("timeNano")
    return found if isinstance(found, int) else time.time_ns()


def _is_of_leases(event: Mapping[str, Any]) -> bool:
    is_container = event.get("Type", "container") == "container"
    return is_container and event.get("Action") in _OF_LEASES


def _container(event: Mapping[str, Any]) -> ContainerEvent:
    actor = event.get("Actor")
    identity = str(actor.get("ID", "")) if isinstance(actor, dict) else ""
    return ContainerEvent(str(event.get("Action", "")), identity)
