# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the book, the engine and NVML say: one plan suffices, and no slot is doubled or lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ds01.core import reconcile as do
from ds01.core.gpus import READY, Inventory
from ds01.core.leases import BOUND, FREE, HELD, HOLDING, RESERVED, Block, Lease
from ds01.core.reconcile import Action, LeaseFile, SeenContainer, SeenProcess, plan
from hypothesis import given
from hypothesis import strategies as st
from reconcile_cases import NOW, SEEN, SLOTS, UNIX

IDS = ["L1", "L2", "L3"]
CONTAINERS = ["c1", "c2", "c3"]
UUIDS = [slot.uuid for slot in SLOTS]
AGES = st.sampled_from([-100.0, 0.0, 1.0, 59.0, 61.0, 500.0, 1000.0, 90_000.0])
STATES = ["created", "running", "paused", "restarting", "exited", "dead", "removing", "busy"]


@dataclass(frozen=True)
class World:
    leases: tuple[Lease, ...]
    blocks: tuple[Block, ...]
    seen: Inventory
    containers: tuple[SeenContainer, ...] | None
    processes: tuple[SeenProcess, ...]
    files: dict[str, LeaseFile]
    engine_since: float | None

    def plan(self) -> list[Action]:
        return plan(
            self.leases,
            SLOTS,
            self.blocks,
            self.seen,
            self.containers,
            self.processes,
            NOW,
            UNIX,
            files=self.files,
            engine_since=self.engine_since,
        )


@st.composite
def leases(draw: st.DrawFn) -> tuple[Lease, ...]:
    """Leases of a sound book: no slot has two."""
    found = []
    left = list(UUIDS)
    for lease_id in draw(st.lists(st.sampled_from(IDS), unique=True)):
        state = draw(st.sampled_from([RESERVED, BOUND, HELD, FREE]))
        pool = left if state in HOLDING else UUIDS
        count = draw(st.integers(0, min(2, len(pool))))
        slots = tuple(draw(st.permutations(pool))[:count])
        if state in HOLDING:
            left = [uuid for uuid in left if uuid not in slots]
        moment = st.none() | AGES.map(lambda age: NOW - age)
        found.append(
            Lease(
                lease_id,
                1001,
                "alice",
                state,
                slots,
                NOW - 9000,
                container="" if state == RESERVED else draw(st.sampled_from(CONTAINERS)),
                bound_at=None if state == RESERVED else NOW - abs(draw(AGES)),
                expires=draw(moment) if state == RESERVED else None,
                hold_until=draw(moment) if state == HELD else None,
                hold=draw(st.sampled_from([None, 0.0, 900.0])),
                stale=draw(st.booleans()),
            )
        )
    return tuple(found)


@st.composite
def containers(draw: st.DrawFn) -> tuple[SeenContainer, ...]:
    return tuple(
        SeenContainer(
            name,
            f"name-{name}",
            draw(st.sampled_from(STATES)),
            created=UNIX - draw(AGES),
            finished=draw(st.just(0.0) | AGES.map(lambda age: UNIX - age)),
            leases=tuple(draw(st.lists(st.sampled_from(IDS), max_size=2, unique=True))),
            restart_policy=draw(st.sampled_from(["", "always", "unless-stopped"])),
            gpus=tuple(draw(st.lists(st.sampled_from(["all", "0", "GPU-2"]), max_size=1))),
            nodes=tuple(draw(st.lists(st.integers(0, 2), max_size=2, unique=True))),
        )
        for name in draw(st.lists(st.sampled_from(CONTAINERS), unique=True))
    )


PROCESSES = st.lists(
    st.builds(
        SeenProcess,
        pid=st.integers(1, 4),
        slot=st.sampled_from([*UUIDS, "GPU-2"]),
        container_id=st.sampled_from(["", *CONTAINERS]),
    ),
    max_size=4,
).map(tuple)
BLOCKS = st.lists(
    st.builds(
        Block,
        slot=st.sampled_from(UUIDS),
        why=st.sampled_from(["foreign", "drained"]),
        text=st.just("text"),
    ),
    unique_by=lambda block: (block.slot, block.why),
).map(tuple)
INVENTORIES = st.sampled_from(
    [
        SEEN,
        Inventory("driver_absent", "no"),
        Inventory(READY, slots=SLOTS[1:3], lost=("GPU-0",)),
    ]
)
FILES = st.dictionaries(
    st.sampled_from(IDS),
    st.builds(
        LeaseFile,
        slots=st.lists(st.sampled_from(UUIDS), max_size=2, unique=True).map(tuple),
        uid=st.just(1001),
        user=st.just("alice"),
    ),
)
WORLDS = st.builds(
    World,
    leases=leases(),
    blocks=BLOCKS,
    seen=INVENTORIES,
    containers=containers() | st.none(),
    processes=PROCESSES,
    files=FILES,
    engine_since=st.none() | AGES.map(lambda age: UNIX - age),
)


def carried_out(world: World, actions: Sequence[Action]) -> World:
    """The world after a plan, with a book and an engine that do as they are told."""
    book = {lease.id: lease for lease in world.leases}
    blocks = {(block.slot, block.why): block for block in world.blocks}
    engine = {seen.id: seen for seen in world.containers or ()}
    for action in actions:
        old = book.get(action.lease)
        if action.kind == do.ADOPT:
            more: dict[str, Any] = {"container": action.container, "bound_at": action.at}
            book[action.lease] = Lease(
                action.lease, action.uid, action.user, action.state, action.slots, NOW, **more
            )
        elif action.kind in (do.BLOCK, do.LIFT):
            assert action.block is not None
            key = (action.block.slot, action.block.why)
            if action.kind == do.BLOCK:
                blocks[key] = action.block
            else:
                del blocks[key]
        elif action.kind in (do.START, do.RENEW):
            engine[action.container] = replace(engine[action.container], state="running")
        elif old is not None and not action.is_report:
            _follow(book, old, action)
    # A renewal is granted its old slots if they are free; else it waits, and so does the start.
    for action in actions:
        if action.kind == do.RENEW:
            lease = book[action.lease]
            taken = {s for other in book.values() if other.state in HOLDING for s in other.slots}
            if lease.slots and not taken & {*lease.slots}:
                book[lease.id] = replace(lease, state=BOUND, bound_at=NOW)
    return replace(
        world,
        leases=tuple(book.values()),
        blocks=tuple(blocks.values()),
        containers=None if world.containers is None else tuple(engine.values()),
    )


def _follow(book: dict[str, Lease], lease: Lease, action: Action) -> None:
    changes: dict[str, dict[str, Any]] = {
        do.BIND: {
            "state": BOUND,
            "container": action.container,
            "bound_at": action.at,
            "hold_until": None,
        },
        do.RETAKE: {"state": BOUND, "container": action.container, "bound_at": action.at},
        do.HOLD: {
            "state": HELD,
            "container": action.container,
            "hold_until": None if lease.hold is None else action.at + lease.hold,
        },
        do.END: {"state": FREE},
        do.FORGET: {},
        do.STALE: {"stale": True},
        do.UNSTALE: {"stale": False},
    }
    book[lease.id] = replace(lease, **changes[action.kind])
    if action.forget or action.kind == do.FORGET:
        del book[lease.id]


def holders(world: World) -> list[str]:
    return [slot for lease in world.leases if lease.state in HOLDING for slot in lease.slots]


@given(WORLDS)
def test_after_the_plan_there_is_nothing_left_to_do(world: World) -> None:
    first = world.plan()
    after = carried_out(world, first)
    if any(action.kind in (do.ADOPT, do.START, do.RENEW) for action in first):
        # What was adopted may have to be started, and what was started has to be bound.
        after = carried_out(after, after.plan())
        after = carried_out(after, after.plan())
    assert [action for action in after.plan() if not action.is_report] == []


@given(WORLDS)
def test_no_slot_ever_has_two_leases(world: World) -> None:
    book = holders(carried_out(world, world.plan()))
    assert len(book) == len(set(book))


@given(WORLDS)
def test_no_slot_of_a_running_container_is_freed(world: World) -> None:
    before = {lease.id: lease for lease in world.leases if lease.state in HOLDING}
    after = {lease.id: lease for lease in carried_out(world, world.plan()).leases}
    for seen in world.containers or ():
        for lease_id in seen.leases:
            if seen.state == "busy" and lease_id in before:
                assert after[lease_id].slots == before[lease_id].slots
                assert after[lease_id].state in HOLDING
            if seen.alive and lease_id in before:
                assert after[lease_id].state == BOUND
                assert after[lease_id].slots == before[lease_id].slots


@given(WORLDS)
def test_a_silent_engine_frees_nothing(world: World) -> None:
    silent = replace(world, containers=None)
    after = carried_out(silent, silent.plan())
    assert sorted(holders(after)) == sorted(holders(world))
    assert {(block.slot, block.why) for block in after.blocks} >= {
        (block.slot, block.why) for block in world.blocks
    }


@given(WORLDS)
def test_every_known_use_of_an_unleased_slot_is_blocked(world: World) -> None:
    after = carried_out(world, world.plan())
    if world.seen is not SEEN:
        return
    listed = {seen.id for seen in world.containers or ()}
    taken = set(holders(after))
    blocked = {block.slot for block in after.blocks if block.why == "foreign"}
    for process in world.processes:
        known = not process.container_id or process.container_id in listed
        if known and process.slot in UUIDS and process.slot not in taken:
            assert process.slot in blocked


@given(WORLDS)
def test_drained_slots_are_not_touched(world: World) -> None:
    after = carried_out(world, world.plan())
    assert {block for block in after.blocks if block.why == "drained"} == {
        block for block in world.blocks if block.why == "drained"
    }


@given(world=WORLDS, data=st.data())
def test_the_order_of_what_is_seen_does_not_matter(world: World, data: st.DataObject) -> None:
    shuffled = replace(
        world,
        leases=tuple(data.draw(st.permutations(world.leases))),
        blocks=tuple(data.draw(st.permutations(world.blocks))),
        containers=None
        if world.containers is None
        else tuple(data.draw(st.permutations(world.containers))),
        processes=tuple(data.draw(st.permutations(world.processes))),
    )
    assert shuffled.plan() == world.plan()
