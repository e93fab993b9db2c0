# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine and the processes on GPUs, as the book asks for them, from the adapters that look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from .errors import Ds01Error
from .gpus import Inventory
from .sightings import SeenContainer, SeenProcess


class EnginePort(Protocol):
    """The adapter of the engine; its rows have the fields of :class:`.sightings.SeenContainer`."""

    def containers(self) -> Sequence[Mapping[str, Any]]:
        """All containers."""

    def containers_of(self, lease: str) -> Sequence[Mapping[str, Any]]:
        """The containers that name a lease, each asked for by itself."""


class ProcessPort(Protocol):
    """What the host knows of one process."""

    @property
    def uid(self) -> int:
        """Of its owner."""

    @property
    def user(self) -> str:
        """Name of its owner."""

    @property
    def command(self) -> str:
        """For people."""

    @property
    def container_id(self) -> str:
        """Empty outside of containers."""

    @property
    def started(self) -> float:
        """Seconds of the wall clock."""


class ProcessesPort(Protocol):
    """The adapter of the process table."""

    def look(self, pid: int) -> ProcessPort | None:
        """One process; None when it has ended."""


class Lookout:
    """What is there now.

    :param fault: the engine adapter's exception, which has ``what``, ``where`` and ``remedy``.
    """

    def __init__(
        self, engine: EnginePort, processes: ProcessesPort, fault: type[Exception]
    ) -> None:
        self._engine = engine
        self._processes = processes
        self._fault = fault

    @contextmanager
    def told(self) -> Iterator[None]:
        """The engine's errors as the project's own.

        :raises Ds01Error: instead of the adapter's exception.
        """
        try:
            yield
        except self._fault as error:
            what, where = getattr(error, "what", str(error)), getattr(error, "where", "")
            raise Ds01Error(what, where, getattr(error, "remedy", "")) from error

    def containers(self) -> list[SeenContainer]:
        """All containers.

        :raises Ds01Error: the engine does not answer.
        """
        with self.told():
            return [SeenContainer(**row) for row in self._engine.containers()]

    def containers_of(self, lease_id: str) -> list[SeenContainer]:
        """The containers that name a lease, each asked for by itself.

        :raises Ds01Error: the engine does not answer.
        """
        with self.told():
            return [SeenContainer(**row) for row in self._engine.containers_of(lease_id)]

    def processes(self, found: Inventory) -> list[SeenProcess]:
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
