# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book against containers and processes: who gets what back, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ds01.core import sightings as do
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
from ds01.core.leases import BOUND, FREE, HELD, RESERVED, Block, Lease
from ds01.core.reconcile import Action, LeaseFile, SeenContainer, SeenProcess, plan

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


HOUR_OLD = {"held_at": NOW - 3600, "hold_until": NOW + 900}


@pytest.mark.parametrize(
    ("have", "state", "expected"),
    [
        (lease(RESERVED, expires=NOW + 60), "created", [do.BIND]),
        (lease(RESERVED, expires=NOW - 60), "created", [do.BIND]),
        (lease(RESERVED, expires=NOW + 60), "running", [do.BIND]),
        # A renewed lease whose container is about to be started.
        (lease(RESERVED, expires=NOW + 60, hold=0.0), "exited", [do.BIND]),
        (lease(BOUND), "running", []),
        (lease(BOUND), "paused", []),
        (lease(BOUND), "restarting", []),
        (lease(BOUND), "exited", [do.HOLD]),
        (lease(BOUND), "dead", [do.HOLD]),
        (lease(BOUND), "removing", [do.HOLD]),
        (lease(BOUND, bound_at=NOW - 59), "created", []),
        (lease(BOUND, bound_at=NOW - 61), "created", [do.HOLD]),
        (lease(BOUND, bound_at=NOW - 59), "exited", []),
        (lease(BOUND, hold=200.0), "exited", [do.HOLD, do.END]),
        (lease(BOUND, hold=400.0), "exited", [do.HOLD]),
        (lease(BOUND, hold=None), "exited", [do.HOLD]),
        (lease(HELD, **HOUR_OLD), "exited", []),
        (lease(HELD, held_at=NOW - 3600, hold_until=None), "exited", []),
        (lease(HELD, held_at=NOW - 3600, hold_until=NOW), "exited", [do.END]),
        (lease(HELD, held_at=NOW - 3600, hold_until=NOW), "running", [do.BIND]),
        (lease(HELD, **HOUR_OLD), "running", [do.BIND]),
        (lease(HELD, **HOUR_OLD), "paused", [do.BIND]),
        (lease(HELD, **HOUR_OLD), "restarting", [do.BIND]),
        (lease(FREE), "running", [do.RETAKE]),
        (lease(FREE), "exited", []),
        (lease(FREE), "created", []),
    ],
)
def test_a_lease_follows_its_container(have: Lease, state: str, expected: list[str]) -> None:
    assert kinds(run([have], [container(state)])) == expected


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        (lease(RESERVED, expires=NOW + 60), []),
        (lease(RESERVED, expires=NOW), [(do.END, "expired", True)]),
        (lease(BOUND), [(do.END, "container_gone", True)]),
        (lease(HELD, **HOUR_OLD), [(do.END, "container_gone", True)]),
        (lease(FREE), [(do.FORGET, "", False)]),
    ],
)
def test_a_lease_without_container_ends(have: Lease, expected: list[tuple[str, str, bool]]) -> None:
    found = run([have], [container(id="other", leases=())])
    assert [(action.kind, action.why, action.forget) for action in found] == expected


@pytest.mark.parametrize("state", [RESERVED, BOUND, HELD, FREE])
def test_nothing_is_freed_while_the_engine_does_not_answer(state: str) -> None:
    due = lease(state, expires=NOW - 1, hold_until=NOW - 1)
    foreign = Block("GPU-1", "foreign", "container x can open it")
    assert run([due], None, blocks=[foreign]) == []


def test_a_lease_bound_after_the_containers_were_listed_is_left_alone() -> None:
    young = lease(BOUND, bound_at=NOW - 2)
    assert run([young], [], looked=NOW - 3) == []
    assert kinds(run([young], [], looked=NOW - 1)) == [do.END]
    stopped = container("exited", finished=UNIX - 1)
    assert run([young], [stopped], looked=NOW - 3) == []


@pytest.mark.parametrize(
    ("bound_ago", "stopped_ago", "state", "held_since"),
    [
        (3500, 300, "exited", NOW - 300),
        # The wall clock was set back: it cannot have stopped in the future.
        (3500, -500, "exited", NOW),
        # Set forward: the hold is not over before it began.
        (3500, 90_000, "exited", NOW),
        (3500, 0, "created", NOW - 3500),
    ],
)
def test_a_hold_begins_when_the_container_stopped(
    bound_ago: float, stopped_ago: float, state: str, held_since: float
) -> None:
    have = lease(BOUND, bound_at=NOW - bound_ago, hold=None)
    (action,) = run([have], [container(state, finished=UNIX - stopped_ago)])
    assert (action.kind, action.at) == (do.HOLD, held_since)


def test_of_two_containers_with_one_lease_the_bound_one_keeps_it() -> None:
    older = container(id="c0", created=UNIX - 9000)
    (action,) = run([lease(BOUND)], [container(), older])
    assert (action.kind, action.container, action.details) == (do.SHARED, "c0", {"running": True})


def test_of_two_containers_with_one_reservation_the_oldest_gets_it() -> None:
    older = container("created", id="c9", created=UNIX - 9000)
    newer = container("created", id="c8", created=UNIX - 100)
    found = run([lease(RESERVED, expires=NOW)], [newer, older])
    assert [(action.kind, action.container) for action in found] == [
        (do.SHARED, "c8"),
        (do.BIND, "c9"),
    ]
    assert found[0].details == {"running": False}


def test_a_lease_stays_taken_while_any_of_its_containers_runs() -> None:
    stopped = container("exited")
    other = container(id="c2")
    found = run([lease(BOUND)], [stopped, other])
    assert [(action.kind, action.container) for action in found] == [
        (do.SHARED, "c1"),
        (do.BIND, "c2"),
    ]
    found = run([lease(BOUND)], [other])
    assert [(action.kind, action.container) for action in found] == [(do.BIND, "c2")]


def test_a_running_container_whose_slots_went_to_somebody_else_is_a_conflict() -> None:
    theirs = lease(BOUND, id="L2", uid=1002, user="bob", container="c2")
    ended = lease(FREE, slots=("GPU-0", "GPU-1"))
    other = container(id="c2", leases=("L2",))
    found = run([ended, theirs], [container(), other])
    assert kinds(found) == [do.CONFLICT, do.BLOCK, do.INTRUDER, do.BLOCK]
    assert found[0].holders == ("L2",)
    assert (found[2].slots, found[2].container, found[2].holders) == (("GPU-0",), "c1", ("L2",))
    # The slot of its old lease that nobody has is not handed out.
    assert found[3].block is not None
    assert found[3].block.slot == "GPU-1"


FILE = {"L1": LeaseFile(("GPU-0", "GPU-1"), 1001, "alice")}


@pytest.mark.parametrize(
    ("state", "files", "adopted"),
    [
        ("running", FILE, (BOUND, ("GPU-0", "GPU-1"), 1001, "alice")),
        ("paused", FILE, (BOUND, ("GPU-0", "GPU-1"), 1001, "alice")),
        ("exited", FILE, (HELD, ("GPU-0", "GPU-1"), 1001, "alice")),
        ("running", {}, (BOUND, ("MIG-20",), -1, "")),
    ],
)
def test_a_lost_lease_is_adopted(
    state: str, files: dict[str, LeaseFile], adopted: tuple[Any, ...]
) -> None:
    seen = container(state, nodes=(0,))
    busy = process("MIG-20", container_id="c1")
    (action,) = run([], [seen], [busy] if not files else (), files=files)
    assert action.kind == do.ADOPT
    assert (action.state, action.slots, action.uid, action.user) == adopted
    assert action.container == "c1"


def test_a_lost_lease_is_adopted_by_the_nodes_of_its_container() -> None:
    (action,) = run([], [container(nodes=(0, 2))])
    # Minor 0 is GPU 1 on this host; minor 2 is split, so it says nothing.
    assert (action.kind, action.slots, action.uid) == (do.ADOPT, ("GPU-1",), -1)


@pytest.mark.parametrize(
    "seen",
    [container("exited", nodes=(0,)), container("created", nodes=(0,)), container()],
)
def test_a_lost_lease_of_which_nothing_is_known_is_reported(seen: SeenContainer) -> None:
    (action,) = run([], [seen])
    assert (action.kind, action.lease, action.container) == (do.UNKNOWN, "L1", "c1")
    assert action.is_report


def test_what_somebody_has_is_not_adopted() -> None:
    theirs = lease(BOUND, id="L2", slots=("GPU-1",), uid=1002, user="bob", container="c2")
    other = container(id="c2", leases=("L2",))
    found = run([theirs], [container(), other], files=FILE)
    assert do.ADOPT not in kinds(found)
    assert (found[0].kind, found[0].holders) == (do.CONFLICT, ("L2",))
    blocked = {action.block.slot for action in found if action.block}
    assert blocked == {"GPU-0", "GPU-1"}


def test_who_runs_is_adopted_before_who_does_not() -> None:
    files = {"L1": LeaseFile(("GPU-0",), 1001, "alice"), "L2": LeaseFile(("GPU-0",), 1002, "bob")}
    stopped = container("exited", id="c1")
    runs = container(id="c2", leases=("L2",), created=UNIX)
    found = run([], [stopped, runs], files=files)
    assert [(action.kind, action.lease) for action in found] == [
        (do.ADOPT, "L2"),
        (do.CONFLICT, "L1"),
    ]


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
    late = process("GPU-1", container_id="c9")
    foreign = Block("GPU-1", "foreign", "process 1")
    assert run([], [], [late]) == []
    assert run([], [], [late], [foreign]) == []
    # With no list at all the free slot is not handed out, and a leased one is left alone.
    assert kinds(run([], None, [late])) == [do.BLOCK]
    assert run([lease(RESERVED, slots=("GPU-1",))], None, [late]) == []


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


BEFORE, AFTER = {"finished": UNIX - 900}, {"finished": UNIX - 100}
ENGINE = UNIX - 600


@pytest.mark.parametrize(
    ("have", "policy", "when", "since", "expected"),
    [
        (lease(BOUND), "always", BEFORE, ENGINE, [do.START]),
        (lease(BOUND), "unless-stopped", BEFORE, ENGINE, [do.START]),
        # The engine marks what it finds dead when it starts.
        (lease(BOUND), "always", {"finished": ENGINE + 20}, ENGINE, [do.START]),
        (lease(BOUND), "always", BEFORE, None, [do.START]),
        (lease(BOUND), "no", BEFORE, ENGINE, [do.HOLD]),
        (lease(BOUND), "", BEFORE, ENGINE, [do.HOLD]),
        (lease(BOUND), "on-failure", BEFORE, ENGINE, [do.HOLD]),
        # Stopped by somebody while nobody looked.
        (lease(BOUND), "always", AFTER, ENGINE, [do.HOLD]),
        (lease(BOUND, stale=True, slots=("GPU-9",)), "always", BEFORE, ENGINE, [do.HOLD]),
        (lease(HELD, **HOUR_OLD), "always", BEFORE, ENGINE, [do.START]),
        (lease(HELD, hold_until=NOW - 1), "always", BEFORE, ENGINE, [do.START]),
        (lease(HELD, **HOUR_OLD), "always", AFTER, ENGINE, []),
        (lease(HELD, **HOUR_OLD), "always", {"finished": ENGINE + 20}, ENGINE, []),
        (lease(HELD, **HOUR_OLD), "always", BEFORE, None, []),
        (lease(HELD, **HOUR_OLD), "unless-stopped", BEFORE, ENGINE, []),
        (lease(FREE), "always", BEFORE, ENGINE, [do.RENEW]),
        (lease(FREE), "always", AFTER, ENGINE, []),
        (lease(FREE), "unless-stopped", BEFORE, ENGINE, []),
    ],
)
def test_what_the_engine_should_have_started_is_started(
    have: Lease, policy: str, when: dict[str, float], since: float | None, expected: list[str]
) -> None:
    seen = container("exited", restart_policy=policy, **when)
    assert kinds(run([have], [seen], engine_since=since)) == expected


def test_a_start_that_failed_is_not_tried_again() -> None:
    seen = container("exited", restart_policy="always", **BEFORE)
    found = run([lease(BOUND)], [seen], engine_since=ENGINE, start_failed=["c1"])
    assert kinds(found) == [do.HOLD]


def test_a_renewal_that_waits_is_not_asked_for_again() -> None:
    seen = container("exited", restart_policy="always", **BEFORE)
    assert run([lease(FREE)], [seen], engine_since=ENGINE, waiting=["L1"]) == []


def test_a_container_that_was_never_started_is_not_started() -> None:
    seen = container("created", restart_policy="always")
    assert kinds(run([lease(BOUND)], [seen], engine_since=UNIX)) == [do.HOLD]


def test_minors_come_out_of_the_reading() -> None:
    row = {"uuid": "GPU-1", "index": 0, "minor": 3, "memory": GIB}
    lost = {"index": 1, "lost": True}
    seen = inventory({"state": READY, "gpus": [row, lost]})
    assert seen.minors == ((3, "GPU-1"),)
    old = container(id="c5", leases=(), gpus=("minor:3",))
    assert [action.slots for action in run([], [old], seen=seen, slots=())] == [("GPU-1",)]
