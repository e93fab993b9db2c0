# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book against NVML's processes: foreign use, and slots that are gone."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core import reconcile as do
from ds01.core.gpus import (
    DRIVER_ABSENT,
    DRIVER_RESTARTING,
    GONE,
    LOST,
    READY,
    Inventory,
    Slot,
    inventory,
)
from ds01.core.leases import RESERVED, Block
from reconcile_cases import (
    GIB,
    GPU0,
    GPU1,
    MIG3,
    NOW,
    SLOTS,
    UNIX,
    container,
    kinds,
    lease,
    process,
    run,
)


@pytest.mark.parametrize("health", [LOST, GONE, "unknown"])
def test_a_lease_whose_slot_is_not_there_is_stale(health: str) -> None:
    parent = [Slot("GPU-1", "1", "GPU-1", "", GIB, 7), MIG3]
    known = SLOTS if health != "unknown" else (GPU1,)
    lost = ("GPU-0",) if health == LOST else ()
    seen = Inventory(READY, slots=tuple(parent), lost=lost)
    slot = "MIG-20" if health == GONE else "GPU-0"
    (action,) = run([lease(slots=(slot,))], [container()], slots=known, seen=seen)
    assert (action.kind, action.lease, action.slots) == (do.STALE, "L1", (slot,))


def test_a_stale_lease_is_sound_again_with_its_own_slot_alone() -> None:
    gone = Slot("GPU-0", "0", "GPU-0", "", 40 * GIB, 7, LOST)
    (action,) = run([lease(stale=True)], [container()], slots=(gone, GPU1))
    assert (action.kind, action.lease) == (do.UNSTALE, "L1")
    still = Inventory(READY, slots=(GPU1,))
    assert run([lease(stale=True)], [container()], slots=(gone, GPU1), seen=still) == []


@pytest.mark.parametrize("state", [DRIVER_ABSENT, DRIVER_RESTARTING])
def test_without_a_driver_containers_are_compared_and_slots_are_not(state: str) -> None:
    foreign = Block("GPU-1", "foreign", "process 1")
    seen = Inventory(state, "no")
    found = run([lease()], [container("exited")], [process("GPU-1")], [foreign], seen)
    assert kinds(found) == [do.HOLD]


def test_a_process_of_nobody_blocks_its_slot_with_what_is_known_of_it() -> None:
    started = UNIX - 3600
    (action,) = run(processes=[process("GPU-1", started=started)])
    assert action.block == Block(
        "GPU-1",
        "foreign",
        "process 4711 (python x.py) of bob since 2027-01-15 07:00 UTC",
        since=NOW,
    )


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"user": ""}, "process 4711 (python x.py) of uid 1002"),
        ({"user": "", "uid": -1}, "process 4711 (python x.py) of an unknown user"),
        ({"command": ""}, "process 4711 of bob"),
        ({"container_id": "c9"}, "process 4711 (python x.py) of bob in container name-c9"),
        ({"started": 1e300}, "process 4711 (python x.py) of bob since a time unknown"),
    ],
)
def test_what_is_not_known_of_a_process_is_not_said(more: dict[str, Any], text: str) -> None:
    (action,) = run([], [container(id="c9", leases=())], [process("GPU-1", **more)])
    assert action.block is not None
    assert action.block.text == text


def test_several_processes_make_one_block() -> None:
    found = run(
        processes=[process(pid=3, started=9.0), process(pid=2, started=9.0), process(pid=1)]
    )
    assert [action.why for action in found] == [
        "process 1 (python x.py) of bob; and 2 more",
    ]


def test_a_process_of_the_leases_container_is_no_foreign_use() -> None:
    busy = process(container_id="c1")
    assert run([lease()], [container()], [busy]) == []
    assert kinds(run([lease(RESERVED, expires=NOW)], [container()], [busy])) == [do.BIND]


def test_foreign_use_of_a_leased_slot_is_reported_and_the_slot_stays() -> None:
    found = run([lease()], [container()], [process()])
    assert kinds(found) == [do.BLOCK, do.INTRUDER]
    assert found[1].holders == ("L1",)
    assert found[1].user == "bob"
    assert found[1].details == {
        "index": "0",
        "pid": 4711,
        "command": "python x.py",
        "started": 0.0,
        "uses": True,
        "holder": "alice",
    }


def test_a_process_on_a_split_gpu_blocks_all_of_its_parts() -> None:
    found = run(processes=[process("GPU-2")])
    assert [action.slots for action in found] == [("MIG-20",), ("MIG-23",)]


def test_a_process_listed_at_its_part_and_at_the_gpu_counts_once() -> None:
    found = run(processes=[process("GPU-2"), process("MIG-23")])
    assert [action.slots for action in found] == [("MIG-23",)]
    held = lease(slots=("MIG-20",))
    assert run([held], [container()], [process("GPU-2", container_id="c1")]) == []


def test_a_process_of_a_container_younger_than_the_list_is_judged_next_time() -> None:
    late = process("GPU-1", container_id="c9", started=UNIX - 5)
    foreign = Block("GPU-1", "foreign", "process 1")
    assert run([], [], [late]) == []
    assert run([], [], [late], [foreign]) == []
    # With no list at all the free slot is not handed out, and a leased one is left alone.
    assert kinds(run([], None, [late])) == [do.BLOCK]
    assert run([lease(RESERVED, slots=("GPU-1",))], None, [late]) == []
    # It has been there for long and is in no list: another engine's.
    old = process("GPU-1", container_id="c9", started=UNIX - 600)
    assert kinds(run([], [], [old])) == [do.BLOCK]


@pytest.mark.parametrize(
    ("gpus", "blocked"),
    [
        (("all",), ["GPU-0", "GPU-1", "MIG-20", "MIG-23"]),
        (("count:2",), ["GPU-0", "GPU-1"]),
        (("count:3",), ["GPU-0", "GPU-1", "MIG-20", "MIG-23"]),
        (("count:x",), []),
        (("0",), ["GPU-0"]),
        (("2",), ["MIG-20", "MIG-23"]),
        (("2:3",), ["MIG-23"]),
        (("2:1",), []),
        (("GPU-1",), ["GPU-1"]),
        (("GPU-2",), ["MIG-20", "MIG-23"]),
        (("MIG-23",), ["MIG-23"]),
        (("MIG-GPU-2/1/0",), ["MIG-20", "MIG-23"]),
        (("minor:0",), ["GPU-1"]),
        (("minor:2",), ["MIG-20", "MIG-23"]),
        (("minor:7", "nonsense"), []),
        (("0", "1"), ["GPU-0", "GPU-1"]),
    ],
)
def test_what_a_container_can_open_without_a_lease_is_blocked(
    gpus: tuple[str, ...], blocked: list[str]
) -> None:
    old = container(id="c5", leases=(), gpus=gpus)
    found = run([], [old])
    assert [action.slots[0] for action in found] == blocked
    assert {action.why for action in found} <= {"container name-c5 can open it without a lease"}
    stopped = container("exited", id="c5", leases=(), gpus=gpus)
    assert run([], [stopped]) == []


def test_a_watcher_may_see_all_gpus_but_not_use_them() -> None:
    exporter = container(id="c5", name="dcgm-exporter", leases=(), gpus=("all",))
    assert run([], [exporter], watchers=["dcgm-exporter"]) == []
    busy = process("GPU-1", container_id="c5")
    (action,) = run([], [exporter], [busy], watchers=["dcgm-exporter"])
    assert (action.kind, action.slots) == (do.BLOCK, ("GPU-1",))


def test_a_containers_own_lease_is_not_foreign_to_it() -> None:
    found = run([lease()], [container(gpus=("0", "1"))])
    assert [action.slots for action in found] == [("GPU-1",)]


def test_a_block_that_no_longer_applies_is_lifted() -> None:
    foreign = Block("GPU-1", "foreign", "process 1", since=5.0)
    (action,) = run(blocks=[foreign])
    assert (action.kind, action.block) == (do.LIFT, foreign)


def test_a_block_of_a_slot_that_is_no_more_is_lifted() -> None:
    foreign = Block("MIG-99", "foreign", "process 1", since=5.0)
    assert kinds(run(blocks=[foreign])) == [do.LIFT]


def test_a_block_of_a_lost_gpu_stays_since_nothing_is_known() -> None:
    seen = Inventory(READY, slots=(GPU1,), lost=("GPU-0",))
    foreign = Block("GPU-0", "foreign", "process 1", since=5.0)
    assert run(blocks=[foreign], seen=seen, slots=(GPU0, GPU1)) == []


def test_a_block_keeps_its_age_when_its_text_changes() -> None:
    foreign = Block("GPU-1", "foreign", "process 1", since=5.0)
    (action,) = run(processes=[process("GPU-1")], blocks=[foreign])
    assert action.block is not None
    assert (action.kind, action.block.since) == (do.BLOCK, 5.0)
    assert run(processes=[process("GPU-1")], blocks=[action.block]) == []


def test_a_drained_slot_is_the_admins_business() -> None:
    drained = Block("GPU-1", "drained", "new fan", by="dana")
    assert run(blocks=[drained]) == []
    assert kinds(run(processes=[process("GPU-1")], blocks=[drained])) == [do.BLOCK]


def test_minors_come_out_of_the_reading() -> None:
    row = {"uuid": "GPU-1", "index": 0, "minor": 3, "memory": GIB}
    lost = {"index": 1, "lost": True}
    seen = inventory({"state": READY, "gpus": [row, lost]})
    assert seen.minors == ((3, "GPU-1"),)
    old = container(id="c5", leases=(), gpus=("minor:3",))
    assert [action.slots for action in run([], [old], seen=seen, slots=())] == [("GPU-1",)]
