# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host as the daemon looks at it: the engine, NVML and the processes on the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ds01.core.lookout import Lookout
from ds01.core.sightings import SeenContainer
from ds01.daemon.rounds import ContainerEvent
from ds01.host import nvml
from ds01.host.engine import EngineError, find_socket
from ds01.host.engine_events import events
from ds01.host.engine_gpu import GpuEngine, engine_since
from ds01.host.procs import Processes

ACTIONS = ["create", "start", "die", "pause", "unpause", "rename", "destroy"]


class HostWorld(Lookout):
    """This host. The engine's socket is found anew where it moved meanwhile."""

    def __init__(self) -> None:
        self._docker = GpuEngine()
        super().__init__(self._docker, Processes(), EngineError)

    def gpus(self) -> Mapping[str, Any]:
        """What NVML says."""
        return nvml.read()

    def containers(self) -> list[SeenContainer]:
        """All containers.

        :raises Ds01Error: the engine does not answer.
        """
        self._docker.path = find_socket()
        return super().containers()

    def engine_since(self) -> float | None:
        """When the engine's process started, seconds of the wall clock."""
        return engine_since()

    def start(self, container: str) -> None:
        """Start a container.

        :raises Ds01Error: the engine does not start it.
        """
        with self.told():
            self._docker.start(container)

    def events(self) -> Iterator[ContainerEvent]:
        """What happens to containers, until the engine ends the stream.

        :raises Ds01Error: the engine does not answer.
        """
        listening = False
        with self.told():
            # Each idle minute None comes, as it did when the engine began to listen.
            for found in events(find_socket(), idle=60.0, event=ACTIONS):
                if found is not None:
                    yield ContainerEvent(str(found.get("Action", "")), _container(found))
                elif not listening:
                    listening = True
                    yield ContainerEvent("")


def _container(found: Mapping[str, Any]) -> str:
    actor = found.get("Actor")
    return str(actor.get("ID", "")) if isinstance(actor, dict) else ""
