# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine, the kernel, the accounts and the file system, as ownership asks for them. Ports and a lookout.

:class:`OwnerLookout` makes the domain's types of what the adapters find; tests have worlds of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .errors import Ds01Error
from .owners import IMAGE, NETWORK, VOLUME, Account, ContainerFacts, Mount, PathFacts

LOOKS = 32
"""So many inspections are under way at once."""


@dataclass(frozen=True)
class Seen:
    """A container.

    :param facts: without ``cgroup`` and ``uids``: see :meth:`OwnerWorld.inside`.
    :param whole: it was inspected; the engine's list does not tell all.
    :param started: when it was started and ended last, seconds of the wall clock; 0: never.
    :param inspection: as the engine answers.
    """

    facts: ContainerFacts
    whole: bool = True
    started: float = 0.0
    finished: float = 0.0
    exit_code: int = 0
    inspection: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Thing:
    """An image, a volume or a network.

    :param name: of an image its first reference; ``names``: all of them.
    :param created: seconds of the wall clock; of an image when it was built, wherever that was.
    :param anonymous: a volume that the engine named itself, for a container that it was making.
    """

    kind: str
    id: str
    name: str
    created: float = 0.0
    names: tuple[str, ...] = ()
    anonymous: bool = False


class AccountsOfHost(Protocol):
    """The host's accounts, as :class:`.owners.AccountsPort`, which may stay silent."""

    def by_uid(self, uid: int) -> Account | None:
        """The account of a uid."""

    def by_name(self, name: str) -> Account | None:
        """The account of a name."""

    def like(self, name: str) -> tuple[Account, ...]:
        """Known accounts whose name is this one in another spelling of its domain."""

    def unsure(self) -> bool:
        """Whether anything that was asked since the last call got no answer."""


class OwnerWorld(Protocol):
    """This host. What the engine refuses, or does not answer, is a :class:`Ds01Error`."""

    @property
    def accounts(self) -> AccountsOfHost:
        """Its accounts."""

    def now(self) -> float:
        """Seconds of the wall clock."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""

    def listed(self, ids: Sequence[str] = ()) -> Sequence[Seen]:
        """All containers, or some, as the engine's list tells; one call."""

    def look(self, ids: Sequence[str], seconds: float) -> Mapping[str, Seen | None]:
        """Containers by their ids; None for one that is not there.

        One whose inspection hangs is left out; asked for again, the answer to the first question
        counts.

        :param seconds: how long all of them are waited for.
        """

    def inside(self, container: str, parent: str) -> tuple[str, tuple[int, ...]]:
        """Path of a container's cgroup and the uids of its processes; the engine is not asked."""

    def things(self, kind: str) -> Sequence[Thing]:
        """All images, volumes or networks; one call."""

    def thing(self, kind: str, identity: str) -> Thing | None:
        """One of them; an image by its id or reference."""

    def paths(self, wanted: Iterable[str], seconds: float) -> Mapping[str, PathFacts]:
        """What the file system says of some paths.

        :param seconds: how long all of them are waited for; later questions may find more.
        """

    def members(self, group: str) -> tuple[str, ...]:
        """Names of the members of a Unix group; those that were last known while nobody can tell."""


class ThingsPort(Protocol):
    """The adapter of the engine; rows as :mod:`.._host.engine_things` describes them."""

    def listed(self, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Containers as the list tells."""

    def look(self, container: str) -> dict[str, Any] | None:
        """One container."""

    def volumes(self) -> list[dict[str, Any]]:
        """All volumes."""

    def volume(self, name: str) -> dict[str, Any] | None:
        """One volume."""

    def networks(self) -> list[dict[str, Any]]:
        """All networks but the engine's own."""

    def network(self, identity: str) -> dict[str, Any] | None:
        """One network."""

    def images(self) -> list[dict[str, Any]]:
        """All images."""

    def image(self, reference: str) -> dict[str, Any] | None:
        """One image."""


class CgroupsPort(Protocol):
    """The adapter of the tree of cgroups."""

    def find(self, container: str, parent: str = "") -> str:
        """Path of a container's cgroup; empty when it has none."""

    def uids(self, cgroup: str) -> tuple[int, ...]:
        """Real uids of the processes in it."""


class AccountsPortOfHost(Protocol):
    """The adapter of the accounts."""

    def by_uid(self, uid: int) -> Any:
        """With ``uid``, ``name`` and ``home``, or None."""

    def by_name(self, name: str) -> Any:
        """With ``uid``, ``name`` and ``home``, or None."""

    def like(self, name: str) -> tuple[Any, ...]:
        """Several of them."""

    def unsure(self) -> bool:
        """Whether anything got no answer."""


class PathsPort(Protocol):
    """The adapter of the file system."""

    def look(self, wanted: Iterable[str], seconds: float | None = None) -> Mapping[str, Any]:
        """With the fields of :class:`.owners.PathFacts`."""


class HostAccounts:
    """The adapter's accounts as the domain's."""

    def __init__(self, adapter: AccountsPortOfHost) -> None:
        self._adapter = adapter

    def by_uid(self, uid: int) -> Account | None:
        """The account of a uid."""
        return _account(self._adapter.by_uid(uid))

    def by_name(self, name: str) -> Account | None:
        """The account of a name."""
        return _account(self._adapter.by_name(name))

    def like(self, name: str) -> tuple[Account, ...]:
        """Known accounts whose name is this one in another spelling of its domain."""
        return tuple(Account(*row) for row in self._adapter.like(name))

    def unsure(self) -> bool:
        """Whether anything got no answer."""
        return self._adapter.unsure()


def _account(row: Any) -> Account | None:
    return None if row is None else Account(*row)


class OwnerLookout:
    """This host through its adapters.

    :param engine: gives the engine's adapter anew for each question, as its socket may move.
    :param fault: the engine adapter's exception, which has ``what``, ``where`` and ``remedy``.
    :param members: of a Unix group; may hang.
    """

    def __init__(
        self,
        engine: Callable[[], ThingsPort],
        cgroups: CgroupsPort,
        accounts: AccountsPortOfHost,
        paths: PathsPort,
        fault: type[Exception],
        members: Callable[[str], tuple[str, ...]] = lambda _group: (),
    ) -> None:
        self._engine = engine
        self._cgroups = cgroups
        self._paths = paths
        self._fault = fault
        self._members = members
        self._changed = threading.Condition()
        self._begun: set[str] = set()
        self._found: dict[str, Seen | Exception | None] = {}
        self.accounts: AccountsOfHost = HostAccounts(accounts)

    def now(self) -> float:
        """Seconds of the wall clock."""
        return time.time()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._fault as error:
            what, where = getattr(error, "what", str(error)), getattr(error, "where", "")
            raise Ds01Error(what, where, getattr(error, "remedy", "")) from error

    def listed(self, ids: Sequence[str] = ()) -> list[Seen]:
        """All containers, or some, as the engine's list tells."""
        with self._told():
            return [Seen(facts_of(row), whole=False) for row in self._engine().listed(ids)]

    def look(self, ids: Sequence[str], seconds: float) -> dict[str, Seen | None]:
        """Containers by their ids; see :meth:`OwnerWorld.look`."""
        waiting = dict.fromkeys(ids)
        end = time.monotonic() + seconds
        answers: dict[str, Seen | None] = {}
        with self._changed:
            while True:
                for one in list(waiting):
                    if one in self._found:
                        del waiting[one]
                        found = self._found.pop(one)
                        if not isinstance(found, Exception):
                            answers[one] = found
                    else:
                        self._begin(one)
                left = end - time.monotonic()
                if not waiting or left <= 0 or not self._changed.wait(left):
                    return answers

    def _begin(self, one: str) -> None:
        if one not in self._begun and len(self._begun) < LOOKS:
            self._begun.add(one)
            threading.Thread(target=self._look, args=(one,), name="looks", daemon=True).start()

    def _look(self, one: str) -> None:
        found: Seen | Exception | None
        try:
            row = self._engine().look(one)
            found = None if row is None else seen(row)
        except Exception as error:  # whatever it is, this container is asked for again
            found = error
        with self._changed:
            self._begun.discard(one)
            if len(self._found) >= LOOKS * 8:
                self._found.clear()
            self._found[one] = found
            self._changed.notify_all()

    def inside(self, container: str, parent: str) -> tuple[str, tuple[int, ...]]:
        """Path of a container's cgroup and the uids of its processes."""
        cgroup = self._cgroups.find(container, parent)
        return cgroup, self._cgroups.uids(cgroup)

    def things(self, kind: str) -> list[Thing]:
        """All images, volumes or networks."""
        engine = self._engine()
        ask = {IMAGE: engine.images, VOLUME: engine.volumes, NETWORK: engine.networks}
        with self._told():
            return [Thing(kind, **row) for row in ask[kind]()]

    def thing(self, kind: str, identity: str) -> Thing | None:
        """One of them."""
        engine = self._engine()
        ask = {IMAGE: engine.image, VOLUME: engine.volume, NETWORK: engine.network}
        with self._told():
            row = ask[kind](identity)
        return None if row is None else Thing(kind, **row)

    def paths(self, wanted: Iterable[str], seconds: float) -> dict[str, PathFacts]:
        """What the file system says of some paths."""
        return {
            path: PathFacts(path, row.uid, row.links, row.above, row.reachable)
            for path, row in self._paths.look(wanted, seconds).items()
        }

    def members(self, group: str) -> tuple[str, ...]:
        """Names of the members of a Unix group."""
        return self._members(group) if group else ()


def seen(row: Mapping[str, Any]) -> Seen:
    """An inspected container from the adapter's row."""
    return Seen(
        facts_of(row["facts"]),
        started=row["started"],
        finished=row["finished"],
        exit_code=row["exit_code"],
        inspection=row["inspection"],
    )


def facts_of(row: Mapping[str, Any]) -> ContainerFacts:
    """A container's facts from the adapter's row."""
    mounts = tuple(Mount(source, read_only) for source, read_only in row.get("mounts", ()))
    return replace(ContainerFacts(**{**row, "mounts": ()}), mounts=mounts)
