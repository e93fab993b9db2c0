# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host as the daemon looks at it: the engine, NVML and the processes on the GPUs."""

from __future__ import annotations

import contextlib
import grp
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ds01.core.lookout import Lookout
from ds01.core.owner_lookout import OwnerLookout
from ds01.core.sightings import SeenContainer
from ds01.host import nvml
from ds01.host.container_cgroup import ContainerCgroups
from ds01.host.engine import EngineError, find_socket
from ds01.host.engine_events import events
from ds01.host.engine_gpu import GpuEngine, engine_since
from ds01.host.engine_things import EVENT_ACTIONS, EVENT_TYPES, ThingsEngine
from ds01.host.owner_accounts import OwnerAccounts
from ds01.host.paths import Paths
from ds01.host.procs import Processes
from ds01.threads import Bounded, Hung

IDLE_SECONDS = 60.0
GROUP_SECONDS = 60.0
GROUP_PATIENCE_SECONDS = 2.0


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

    def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
        """What happens at the engine, until it ends the stream.

        :raises Ds01Error: the engine does not answer.
        """
        with self.told():
            yield from events(
                find_socket(), since, idle=IDLE_SECONDS, type=EVENT_TYPES, event=EVENT_ACTIONS
            )


def owner_world() -> OwnerLookout:
    """This host as ownership looks at it."""
    groups = Groups()
    return OwnerLookout(
        lambda: ThingsEngine(find_socket()),
        ContainerCgroups(),
        OwnerAccounts(),
        Paths(),
        EngineError,
        groups.members,
    )


class Groups:
    """Members of Unix groups, asked for in a thread that may hang and remembered for a while."""

    def __init__(self) -> None:
        self._threads = Bounded("groups", 1)
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    def members(self, group: str) -> tuple[str, ...]:
        """Names of a group's members; those that were last known while nobody can tell."""
        now = time.monotonic()
        at, found = self._known.get(group, (-GROUP_SECONDS, ()))
        if now - at >= GROUP_SECONDS:
            # Where nobody answers the next one asks again, but not at once.
            with contextlib.suppress(Hung, OSError):
                found = self._threads.call(lambda: _members(group), GROUP_PATIENCE_SECONDS)
            self._known[group] = (now, found)
        return found


def _members(group: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(grp.getgrnam(group).gr_mem))
    except KeyError:
        return ()
