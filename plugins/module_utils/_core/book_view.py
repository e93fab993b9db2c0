# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book as others see it: outcomes, snapshots, and what it asks the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .gpus import Slot
from .leases import Block, Lease, Waiter
from .reconcile import Action, SeenContainer


class EngineView(Protocol):
    """What the book asks the engine."""

    def containers_of(self, lease_id: str) -> Sequence[SeenContainer]:
        """The containers that name a lease, each asked for by itself, so that the answer waits for
        a start that is under way.

        :raises Ds01Error: the engine does not answer.
        """


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    :param ended: why it waits no more and has nothing: the parts of an error.
    """

    granted: Lease | None = None
    waiting: Waiter | None = None
    ended: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Queued:
    """A request in the queue.

    :param position: from 1.
    :param eta: seconds from now, an estimate; None where nothing tells.
    :param reason: why it waits.
    """

    waiter: Waiter
    position: int
    eta: float | None
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """The book at one moment.

    :param leases: ended ones whose container is still there included.
    :param now: seconds of the book's clock.
    :param wall: seconds since the epoch at the same moment.
    :param driver: one of the states of :mod:`.gpus`; empty before the first look.
    """

    slots: tuple[Slot, ...]
    leases: tuple[Lease, ...]
    queue: tuple[Queued, ...]
    blocks: tuple[Block, ...]
    now: float
    wall: float
    driver: str
    driver_reason: str = ""

    def wall_of(self, moment: float) -> float:
        """A time of the book as seconds since the epoch."""
        return self.wall + moment - self.now


@dataclass(frozen=True)
class Report:
    """What a reconciliation did, and what is left for others: starts, renewals, things to tell."""

    actions: tuple[Action, ...] = ()
