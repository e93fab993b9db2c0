# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening to the engine's events in a thread of its own, for as long as the daemon runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ds01.core.errors import Ds01Error
from ds01.daemon.rounds import ContainerEvent, World
from ds01.daemon.server import log_fault

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_LONG_SECONDS = 60.0


class Ear:
    """Listens, and begins again when the stream ends: soon at first, then less and less often.

    :param tell: told each event, in the thread; False ends it.
    :param sleep: waits for some seconds (for tests).
    """

    def __init__(
        self,
        world: World,
        tell: Callable[[ContainerEvent], bool],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._world = world
        self._tell = tell
        self._sleep = sleep

    def begin(self) -> None:
        """Listen until the process ends, or nobody wants to be told."""
        threading.Thread(target=self.listen, name="engine", daemon=True).start()

    def listen(self) -> None:
        """Listen, in this thread."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                for event in self._world.events():
                    if not self._tell(event):
                        return
            except Ds01Error:
                pass  # the engine is down; the rounds say so
            except Exception as error:
                log_fault(error)
            failures = 0 if time.monotonic() - began > _LONG_SECONDS else failures + 1
            self._sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])
