# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at NVML and the engine, and mending the book by what is seen; one thread, as each may hang.

Starting a container takes seconds and may fail for ever, so that has a thread and a back-off of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ds01.core import sightings
from ds01.core.book import Book
from ds01.core.errors import Ds01Error
from ds01.core.events import Event, EventError, append
from ds01.core.gpus import DRIVER_RESTARTING, Inventory, inventory
from ds01.core.leases import Refused
from ds01.core.sightings import Action, SeenContainer, SeenProcess
from ds01.daemon.worker import Worker
from ds01.threads import Bounded, Hung

NVML_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True)
class ContainerEvent:
    """Something that happened to a container; an empty action: the engine is (again) listened to.

    :param action: ``create``, ``start``, ``die``, ``destroy``.
    """

    action: str
    container: str = ""


class World(Protocol):
    """The host as reconciliation needs it. Whatever the engine refuses is a :class:`Ds01Error`."""

    def gpus(self) -> Mapping[str, Any]:
        """What NVML says, as :func:`ds01.core.gpus.inventory` takes it; may hang."""

    def containers(self) -> Sequence[SeenContainer]:
        """All containers."""

    def processes(self, found: Inventory) -> Sequence[SeenProcess]:
        """What is known of the processes that NVML sees."""

    def containers_of(self, lease_id: str) -> Sequence[SeenContainer]:
        """The containers that name a lease, each asked for by itself."""

    def engine_since(self) -> float | None:
        """When the engine's process started, seconds of the wall clock."""

    def start(self, container: str) -> None:
        """Start a container."""

    def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
        """The engine's events as it sends them, until the connection ends.

        None comes first: the engine is listened to; and again when nothing happens for a while.

        :param since: seconds with nine decimals: what happened since then comes first.
        """


class Starts:
    """Starts containers, and not again too soon those that do not start.

    :param tell: writes an event.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self,
        world: World,
        tell: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._world = world
        self._tell = tell
        self._clock = clock
        self._thread = Worker()
        self._under_way: set[str] = set()
        self._failed: dict[str, tuple[float, float]] = {}

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Start no more; nobody waits for a start that is under way."""
        self._thread.stop(0)

    def under_way(self) -> list[str]:
        """Containers that are being started."""
        return sorted(self._under_way)

    def failed(self) -> list[str]:
        """Containers that failed to start a short while ago."""
        now = self._clock()
        return [name for name, (until, _pause) in list(self._failed.items()) if until > now]

    def not_now(self) -> list[str]:
        """Containers that are being started, or failed to a short while ago."""
        return [*self.under_way(), *self.failed()]

    def start(self, action: Action) -> None:
        """Have a container started."""
        if action.container not in self.not_now():
            self._under_way.add(action.container)
            self._thread.submit(lambda: self.try_one(action))

    def try_one(self, action: Action) -> None:
        """Start a container now and tell how it went."""
        name = action.container_name
        details = {"container": action.container, "container_name": name, "lease": action.lease}
        try:
            self._world.start(action.container)
        except Ds01Error as error:
            _until, last = self._failed.get(action.container, (0.0, FIRST_PAUSE_SECONDS / 2))
            pause = min(LONGEST_PAUSE_SECONDS, last * 2)
            self._failed[action.container] = (self._clock() + pause, pause)
            failure = {**details, "error": str(error), "next_try_seconds": pause}
            self._tell(Event("container.start_failed", "ds01d", details=failure))
        else:
            self._failed.pop(action.container, None)
            # That the container was started the engine tells itself.
            self._tell(Event("gpu.container_started", "ds01d", details=details))
        finally:
            self._under_way.discard(action.container)


class Rounds:
    """Full looks at the host.

    :param renew: asks for new slots for a lease that has ended, by its id.
    """

    def __init__(
        self,
        book: Book,
        world: World,
        renew: Callable[[str], None],
        nvml_seconds: float = NVML_SECONDS,
    ) -> None:
        self._book = book
        self._world = world
        self._renew = renew
        self._nvml = Bounded("NVML", 1)
        self._nvml_seconds = nvml_seconds
        self.starts = Starts(world, self.tell)
        self.engine_fault = ""
        self.renewing: set[str] = set()
        """Leases that wait for new slots for their containers: nobody waits for them but we."""

    def tell(self, event: Event) -> None:
        """An event that hangs on no change of the book; a full log stops nothing."""
        try:
            append(self._book.events_path, event)
        except EventError:
            return

    def gpus(self) -> Inventory:
        """What NVML says; that it hangs is something it says too."""
        try:
            return inventory(self._nvml.call(self._world.gpus, self._nvml_seconds))
        except Hung as error:
            return Inventory(DRIVER_RESTARTING, str(error))
        except Exception as error:  # whatever the driver's library does, nothing is handed out
            return Inventory(DRIVER_RESTARTING, f"{type(error).__name__}: {error}")

    def look(self) -> None:
        """Record what NVML says, and nothing else.

        :raises Ds01Error: the store cannot be used.
        """
        self._book.look(self.gpus())

    def go(self) -> dict[str, Any]:
        """One round: look, mend, finish what ends, start what should run.

        :raises Ds01Error: the store cannot be used.
        """
        found = self.gpus()
        looked = self._book.now()
        containers: Sequence[SeenContainer] | None = None
        since = None
        # Asked before the list is made: what starts meanwhile may be listed as stopped.
        starting = self.starts.under_way()
        try:
            containers = self._world.containers()
            since = self._world.engine_since()
            self.engine_fault = ""
        except Ds01Error as error:
            self.engine_fault = str(error)
        processes = self._world.processes(found)
        report = self._book.reconcile(
            found,
            containers,
            processes,
            looked=looked,
            engine_since=since,
            start_failed=self.starts.failed(),
            starting=starting,
        )
        self._book.finish(self._world)
        for action in report.actions:
            if action.kind == sightings.START:
                self.starts.start(action)
            elif action.kind == sightings.RENEW:
                self._try_renewal(action)
        return {
            "driver": found.state,
            "engine": self.engine_fault or "ok",
            "actions": [_row(action) for action in report.actions],
        }

    def _try_renewal(self, action: Action) -> None:
        """Ask for slots for a container that its restart policy wants to run."""
        self.renewing.add(action.lease)
        try:
            self._renew(action.lease)
        except Refused:
            return  # the book has told it
        except Ds01Error as error:
            details = {"lease": action.lease, "container": action.container, "error": str(error)}
            self.tell(Event("lease.renewal_failed", "ds01d", details=details))


def _row(action: Action) -> dict[str, Any]:
    return {
        "kind": action.kind,
        "lease": action.lease,
        "container": action.container_name or action.container,
        "slots": list(action.slots),
        "why": action.why,
    }
