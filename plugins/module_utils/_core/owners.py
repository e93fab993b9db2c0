# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a thing of the engine is: what is known of it, and what was concluded. Pure.

A container, image, volume, network or exec has an owner with a method, a confidence and evidence, or
none. Nothing here looks at the host: facts come in from the adapters, and :mod:`.owner_decide` concludes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

# Kinds of things.
CONTAINER = "container"
IMAGE = "image"
VOLUME = "volume"
NETWORK = "network"
EXEC = "exec"
KINDS = (CONTAINER, IMAGE, VOLUME, NETWORK, EXEC)

# Methods: how an owner was found, the first that says something first.
ADMIN = "admin"
"""An administrator said so."""
GATEWAY = "gateway"
"""The gateway saw who made it: the kernel's word."""
DS01_LABEL = "ds01_label"
AIME_LABEL = "aime_label"
CONTAINER_NAME = "container_name"
DEVCONTAINER = "devcontainer"
MOUNT_PATH = "mount_path"
COMPOSE_DIR = "compose_dir"
CGROUP = "cgroup"
"""The user slice that it was put into."""
PROCESS = "process"
"""All its processes run as one account of the host."""
WITH_CONTAINER = "with_container"
"""A volume that the engine made together with a container: the container's owner."""
UNKNOWN = "unknown"
METHODS = (
    ADMIN,
    GATEWAY,
    DS01_LABEL,
    AIME_LABEL,
    CONTAINER_NAME,
    DEVCONTAINER,
    MOUNT_PATH,
    COMPOSE_DIR,
    CGROUP,
    PROCESS,
)

# Confidences.
CERTAIN = "certain"
"""Nobody but root could have made it say so."""
WEAK = "weak"
"""Whoever made the thing could have made it say so."""
NONE = "none"

# Interfaces: by which tool a container was made.
ATOMIC = "atomic"
ORCHESTRATION = "orchestration"
COMPOSE = "compose"
DEV_CONTAINER = "devcontainer"
DOCKER = "docker"
API = "api"
INTERFACES = (ATOMIC, ORCHESTRATION, COMPOSE, DEV_CONTAINER, DOCKER, API, UNKNOWN)

# Types: what a container is for, as far as its making tells.
INTERACTIVE = "interactive"
SERVICE = "service"
BATCH = "batch"
TYPES = (DEV_CONTAINER, COMPOSE, INTERACTIVE, SERVICE, BATCH, UNKNOWN)


@dataclass(frozen=True)
class Account:
    """An account of the host.

    :param home: its home directory; empty where it is not known.
    """

    uid: int
    name: str
    home: str = ""


class AccountsPort(Protocol):
    """The host's accounts. Each call may wait for a directory service, but not for long."""

    def by_uid(self, uid: int) -> Account | None:
        """The account of a uid; None when there is none."""

    def by_name(self, name: str) -> Account | None:
        """The account of this very name; None when there is none."""

    def like(self, name: str) -> tuple[Account, ...]:
        """Accounts whose name is this one in another spelling of its domain.

        Looked for among those that the host knows of (directories need not enumerate).
        """


@dataclass(frozen=True)
class Mount:
    """A directory or file of the host in a container.

    :param source: path on the host as the container's maker wrote it.
    """

    source: str
    read_only: bool = False


@dataclass(frozen=True)
class PathFacts:
    """What the host's file system says of a path.

    :param uid: owner of what the path leads to, links followed; None where it is not there.
    :param links: owners of the links that were followed on the way.
    :param above: owner of the deepest directory on the way that is there, itself included.
    :param reachable: False when the file system did not answer in time: nothing is known then.
    """

    path: str
    uid: int | None = None
    links: tuple[int, ...] = ()
    above: int | None = None
    reachable: bool = True


@dataclass(frozen=True)
class ContainerFacts:
    """A container as the engine and the kernel show it.

    :param created: seconds of the wall clock, as the engine tells it.
    :param state: of the engine: ``created``, ``running``, ``exited``, …
    :param mounts: bind mounts, of ``HostConfig.Binds`` and ``HostConfig.Mounts`` alike.
    :param volumes: names of its volumes.
    :param cgroup_parent: slice that was asked for, or the engine's default.
    :param cgroup: path of its cgroup, while it runs; empty otherwise.
    :param uids: real uids of its processes on the host, while it runs.
    :param tty: it has a terminal; ``stdin``: its input is kept open.
    :param leases: ids of the GPU leases that it names.
    """

    id: str
    name: str
    created: float = 0.0
    state: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[str, ...] = ()
    cgroup_parent: str = ""
    cgroup: str = ""
    uids: tuple[int, ...] = ()
    tty: bool = False
    stdin: bool = False
    restart_policy: str = ""
    leases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """Who made a thing through the door: the gateway's record.

    :param at: seconds of the wall clock.
    :param agent: what the client called itself (its User-Agent), cut.
    :param container: id of the container that it was asked from; empty on the host.
    :param admin: the caller had an administrator's rights.
    :param mended: the gateway died in between, and the thing was found to be the one it had asked for.
    :param restored: the store was lost since, and this is what the published view said.
    """

    uid: int
    user: str
    at: float
    agent: str = ""
    container: str = ""
    admin: bool = False
    mended: bool = False
    restored: bool = False


@dataclass(frozen=True)
class SetBy:
    """An administrator's word on whose a thing is.

    :param by: who said so.
    :param at: seconds of the wall clock.
    """

    uid: int
    user: str
    by: str
    at: float
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """One thing that speaks for an owner.

    :param uid: None where it names nobody who has one.
    :param user: the account's name; what was named, where there is no such account.
    :param words: for people: what it is, and who could have made it so.
    """

    method: str
    uid: int | None
    user: str
    confidence: str
    words: str


@dataclass(frozen=True)
class Owner:
    """Whose a thing is, and why.

    :param uid: None when nobody is known, or the account has none (any more).
    :param user: empty when nobody is known.
    :param evidence: all of it, the one that decided first.
    :param contradictions: what speaks for somebody else, in words.
    :param incomplete: something could not be looked at; what was concluded before outlives this.
    """

    uid: int | None = None
    user: str = ""
    method: str = UNKNOWN
    confidence: str = NONE
    evidence: tuple[Evidence, ...] = ()
    contradictions: tuple[str, ...] = ()
    incomplete: bool = False

    @property
    def known(self) -> bool:
        """Whether somebody is known."""
        return self.method != UNKNOWN


@dataclass(frozen=True)
class Origin:
    """By which tool a container was made and what it is for, each with its reason in words."""

    interface: str = UNKNOWN
    interface_words: str = ""
    container_type: str = UNKNOWN
    type_words: str = ""


@dataclass(frozen=True)
class Record:
    """A thing as the store keeps it.

    :param kind: one of :data:`KINDS`.
    :param id: the engine's full id; a volume's name; an image's id (``sha256:…``).
    :param name: of a container without its slash; a reference of an image.
    :param state: of a container; empty otherwise.
    :param created: seconds of the wall clock, as ``gone`` (None: it is there) and ``updated``.
    :param facts: of a container, as they were last seen; None where nobody has looked yet.
    :param parent: of an exec: the container's id.
    """

    kind: str
    id: str
    name: str = ""
    owner: Owner = Owner()
    origin: Origin = Origin()
    state: str = ""
    created: float = 0.0
    updated: float = 0.0
    gone: float | None = None
    made: Made | None = None
    set_by: SetBy | None = None
    facts: ContainerFacts | None = None
    parent: str = ""
