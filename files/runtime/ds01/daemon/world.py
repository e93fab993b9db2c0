# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host as the daemon looks at it: the engine, NVML and the processes on the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.core.gpus import Inventory
from ds01.core.sightings import SeenContainer, SeenProcess
from ds01.daemon.rounds import ContainerEvent
from ds01.host import nvml
from ds01.host.engine import EngineError, find_socket
from ds01.host.engine_events import events
from ds01.host.engine_gpu import GpuEngine, engine_since
from ds01.host.procs import Processes

ACTIONS = ["create", "start", "die", "pause", "unpause", "rename", "destroy"]


class HostWorld:
    """This host. The engine's socket is found anew where it moved meanwhile."""

    def __init__(self) -> None:
        self._engine = GpuEngine()
        self._processes = Processes()

    def gpus(self) -> Mapping[str, Any]:
        """What NVML says."""
        return nvml.read()

    def containers(self) -> Sequence[SeenContainer]:
        """All containers.

        :raises Ds01Error: the engine does not answer.
        """
        with _told():
            self._engine.path = find_socket()
            return [SeenContainer(**row) for row in self._engine.containers()]

    def containers_of(self, lease_id: str) -> Sequence[SeenContainer]:
        """The containers that name a lease.

        :raises Ds01Error: the engine does not answer.
        """
        with _told():
            return [SeenContainer(**row) for row in self._engine.containers_of(lease_id)]

    def processes(
        self, found: Inventory, containers: Sequence[SeenContainer] | None
    ) -> Sequence[SeenProcess]:
        """What the host knows of the processes that NVML sees; ended ones are left out."""
        seen = []
        for on_gpu in found.processes:
            process = self._processes.look(on_gpu.pid)
            if process is not None:
                seen.append(
                    SeenProcess(
                        pid=on_gpu.pid,
                        slot=on_gpu.slot,
                        uid=process.uid,
                        user=process.user,
                        command=process.command,
                        container_id=process.container_id,
                        started=process.started,
                    )
                )
        return seen

    def engine_since(self) -> float | None:
        """When the engine's process started, seconds of the wall clock."""
        return engine_since()

    def start(self, container: str) -> None:
        """Start a container.

        :raises Ds01Error: the engine does not start it.
        """
        with _told():
            self._engine.start(container)

    def events(self) -> Iterator[ContainerEvent]:
        """What happens to containers, until the engine ends the stream.

        :raises Ds01Error: the engine does not answer.
        """
        listening = False
        with _told():
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


@contextmanager
def _told() -> Iterator[None]:
    """The engine's errors in our words."""
    try:
        yield
    except EngineError as error:
        raise Ds01Error(error.what, error.where, error.remedy) from error
