# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reconciliation sees (containers, processes, lease files) and the actions that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .leases import Block

# Kinds of actions that change the book.
BIND = "bind"
"""Lease becomes bound to ``container``: from reserved, from held, or from another container."""
HOLD = "hold"
"""Container stopped at ``at``: lease becomes held."""
END = "end"
"""Lease ends, for the reason ``why``; with ``forget`` nothing names it any more."""
FORGET = "forget"
"""A free lease that no container names any more."""
RETAKE = "retake"
"""A free lease becomes bound again with its old slots: its container runs and they are nobody's."""
ADOPT = "adopt"
"""A lease the book lost: ``slots``, ``uid``, ``user``, ``state`` (bound or held) and container."""
STALE = "stale"
UNSTALE = "unstale"
BLOCK = "block"
"""``block`` is to be in force, in place of the one of the same slot and reason."""
LIFT = "lift"
"""``block`` does not apply any more."""

# Kinds of actions on the engine, for whoever may start containers.
START = "start"
"""Start ``container``: its restart policy says so and the engine did not."""
RENEW = "renew"
"""Ask for new slots under the lease's old id, then start ``container``."""

# Reports: nothing to do but to tell. They come again as long as what they tell is so.
SHARED = "shared"
"""``container`` names a lease that another container has."""
CONFLICT = "conflict"
"""A running ``container`` has ``slots`` that are leased to somebody else."""
UNKNOWN = "unknown"
"""``container`` names a lease that nothing is known of."""
INTRUDER = "intruder"
"""Something uses, or can open, ``slots`` that are leased to somebody else."""

REPORTS = frozenset({SHARED, CONFLICT, UNKNOWN, INTRUDER})

BUSY = "busy"
"""State of a container that the engine does not tell, as its start or stop hangs: left alone."""
ALIVE = frozenset({"running", "paused", "restarting"})
"""States of a container that has its devices, or gets them back by itself."""


@dataclass(frozen=True)
class SeenContainer:
    """A container as the engine shows it, stopped ones included.

    :param state: ``created``, ``running``, ``paused``, ``restarting``, ``exited``, ``dead``,
        ``removing``, or :data:`BUSY`.
    :param created: seconds of the wall clock, as ``finished`` (0: it never ended).
    :param leases: ids out of its CDI requests ``ds01.local/lease=<id>``.
    :param gpus: what it can open without a lease: ``all``, ``count:2``, ``minor:0``, UUIDs and
        indices (``0``, ``0:1``) of GPUs and MIG devices.
    :param nodes: minors of the GPU nodes that a running one has, where the adapter looked.
    """

    id: str
    name: str
    state: str
    pid: int = 0
    created: float = 0.0
    finished: float = 0.0
    leases: tuple[str, ...] = ()
    restart_policy: str = ""
    gpus: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether it has its devices now, or gets them back by itself."""
        return self.state in ALIVE


@dataclass(frozen=True)
class SeenProcess:
    """A process that NVML sees on a slot, with what the host knows of it.

    :param slot: UUID of the slot, or of a MIG-enabled GPU.
    :param command: cut and without control characters.
    :param container_id: empty outside of containers.
    :param started: seconds of the wall clock, 0 if not known.
    """

    pid: int
    slot: str
    uid: int = -1
    user: str = ""
    command: str = ""
    container_id: str = ""
    started: float = 0.0


@dataclass(frozen=True)
class LeaseFile:
    """What a lease file in /run/cdi tells of its lease, when the book has lost it."""

    slots: tuple[str, ...]
    uid: int = -1
    user: str = ""


@dataclass(frozen=True)
class Action:
    """One thing to do, or to tell.

    :param kind: one of this module's constants.
    :param at: seconds of the book's clock.
    :param why: for people and events.
    :param holders: of a report: the leases that the slots belong to.
    :param details: of a report: what is known, for the event.
    """

    kind: str
    lease: str = ""
    container: str = ""
    container_name: str = ""
    slots: tuple[str, ...] = ()
    state: str = ""
    at: float = 0.0
    uid: int = -1
    user: str = ""
    why: str = ""
    forget: bool = False
    block: Block | None = None
    holders: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_report(self) -> bool:
        """Whether there is nothing to do but to tell."""
        return self.kind in REPORTS
