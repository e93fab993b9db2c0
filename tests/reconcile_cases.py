# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases, containers and processes for the tests of reconciliation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ds01.core.gpus import READY, Inventory, Slot
from ds01.core.leases import BOUND, RESERVED, Block, Lease
from ds01.core.reconcile import Action, SeenContainer, SeenProcess, plan

NOW, UNIX = 10_000.0, 1_800_000_000.0
GIB = 1024**3
MINUTE = 60.0

GPU0 = Slot("GPU-0", "0", "GPU-0", "", 40 * GIB, 7)
GPU1 = Slot("GPU-1", "1", "GPU-1", "", 40 * GIB, 7)
MIG0 = Slot("MIG-20", "2:0", "GPU-2", "2g.10gb", 10 * GIB, 2)
MIG3 = Slot("MIG-23", "2:3", "GPU-2", "3g.20gb", 20 * GIB, 3)
SLOTS = (GPU0, GPU1, MIG0, MIG3)
SEEN = Inventory(READY, slots=SLOTS, minors=((0, "GPU-1"), (1, "GPU-0"), (2, "GPU-2")))


def lease(state: str = BOUND, slots: tuple[str, ...] = ("GPU-0",), **more: Any) -> Lease:
    given: dict[str, Any] = {
        "id": "L1",
        "uid": 1001,
        "user": "alice",
        "created": NOW - 3600,
        "hold": 7200.0,
    }
    if state != RESERVED:
        given |= {"container": "c1", "container_name": "train", "bound_at": NOW - 3500}
    return Lease(state=state, slots=slots, **{**given, **more})


def container(state: str = "running", id: str = "c1", **more: Any) -> SeenContainer:
    given: dict[str, Any] = {"created": UNIX - 3550, "leases": ("L1",), "name": f"name-{id}"}
    if state in ("exited", "dead", "removing"):
        given["finished"] = UNIX - 5 * MINUTE
    return SeenContainer(id, state=state, **{**given, **more})


def run(
    leases: Sequence[Lease] = (),
    containers: Sequence[SeenContainer] | None = (),
    processes: Sequence[SeenProcess] = (),
    blocks: Sequence[Block] = (),
    seen: Inventory = SEEN,
    slots: Sequence[Slot] = SLOTS,
    **more: Any,
) -> list[Action]:
    return plan(leases, slots, blocks, seen, containers, processes, NOW, UNIX, **more)


def kinds(actions: Sequence[Action]) -> list[str]:
    return [action.kind for action in actions]


def process(slot: str = "GPU-0", pid: int = 4711, **more: Any) -> SeenProcess:
    given: dict[str, Any] = {"uid": 1002, "user": "bob", "command": "python x.py"}
    return SeenProcess(pid, slot, **{**given, **more})
