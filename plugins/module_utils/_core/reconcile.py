# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book against the world: what to do so that leases, containers and processes agree.

Pure: looks come in, actions go out, and the same looks in another order give the same actions.
Whoever carries them out does so in their order, and checks RETAKE and ADOPT once more against the
book: a slot whose lease could not be ended yet is still somebody's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from .foreign import SlotUse
from .gpus import READY, Inventory, Slot, settled
from .lease_compare import Compare, Leases, Look
from .leases import Block, Lease
from .sightings import (
    ADOPT,
    BIND,
    BLOCK,
    CONFLICT,
    END,
    FORGET,
    HOLD,
    INTRUDER,
    LIFT,
    RENEW,
    REPORTS,
    RETAKE,
    SHARED,
    STALE,
    START,
    UNKNOWN,
    UNSTALE,
    Action,
    LeaseFile,
    SeenContainer,
    SeenProcess,
)

__all__ = [
    "ADOPT",
    "BIND",
    "BLOCK",
    "CONFLICT",
    "END",
    "FORGET",
    "HOLD",
    "INTRUDER",
    "LIFT",
    "RENEW",
    "REPORTS",
    "RETAKE",
    "SHARED",
    "STALE",
    "START",
    "UNKNOWN",
    "UNSTALE",
    "Action",
    "LeaseFile",
    "SeenContainer",
    "SeenProcess",
    "plan",
]


def plan(
    leases: Sequence[Lease],
    slots: Sequence[Slot],
    blocks: Sequence[Block],
    inventory: Inventory,
    containers: Sequence[SeenContainer] | None,
    processes: Sequence[SeenProcess],
    now: float,
    unix_now: float,
    *,
    looked: float | None = None,
    files: Mapping[str, LeaseFile] | None = None,
    engine_since: float | None = None,
    start_failed: Collection[str] = (),
    starting: Collection[str] = (),
    watchers: Collection[str] = (),
    waiting: Collection[str] = (),
) -> list[Action]:
    """What to do so that the book agrees with the engine and NVML.

    :param leases: all of the book, free ones included.
    :param slots: the book's slots; the inventory is taken into account here.
    :param containers: all there are; None while the engine does not answer: then nothing is
        concluded about them, and nothing is freed.
    :param now: seconds of the book's clock.
    :param unix_now: the same moment, seconds of the wall clock.
    :param looked: book's time before the containers were listed (default: now). Leases bound
        since then are left alone: the list is older than they are.
    :param files: what the files in /run/cdi say, by lease id.
    :param engine_since: when the engine's process started, seconds of the wall clock; None if not
        known. A container that stopped before is one that the engine found stopped.
    :param start_failed: ids of containers that could not be started since: not tried again, and
        held from now on.
    :param starting: ids of containers whose start is under way: left alone.
    :param watchers: names of containers that may have all GPUs open without using them, such as
        an exporter of metrics; their processes count like any other.
    :param waiting: ids of leases whose renewal waits in the queue.
    """
    known, _unused = settled(slots, inventory)
    book = Leases(leases)
    open_slots: list[tuple[SeenContainer, Iterable[str]]] = []
    if inventory.state == READY:
        book.stale(known)
    if containers is not None:
        look = Look(
            tuple(sorted(containers, key=lambda seen: (seen.created, seen.id))),
            now,
            unix_now,
            now if looked is None else looked,
            engine_since,
            frozenset(start_failed),
            frozenset(starting),
            frozenset(waiting),
        )
        compare = Compare(book, look)
        compare.known_leases()
        compare.lost_leases(files or {}, inventory, known, processes)
        open_slots = compare.open_slots
    if inventory.state == READY:
        book.stale(known)  # adopted ones
        use = SlotUse(known, book.holders(), now, unix_now)
        use.processes(processes, containers)
        openers = [seen for seen in containers or () if seen.name not in watchers]
        use.containers(openers, inventory, open_slots)
        book.actions += use.actions(blocks, engine_answers=containers is not None)
    return book.actions
