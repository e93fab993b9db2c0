# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book against the engine's containers: who gets what back, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core import reconcile as do
from ds01.core.leases import BOUND, FREE, HELD, RESERVED, Block, Lease
from ds01.core.reconcile import LeaseFile, SeenContainer
from reconcile_cases import NOW, UNIX, container, kinds, lease, process, run

HOUR_OLD: dict[str, Any] = {"held_at": NOW - 3600, "hold_until": NOW + 900}


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
        # The engine does not tell its state: its start may be under way.
        (lease(RESERVED, expires=NOW - 60), "busy", []),
        (lease(BOUND, hold=0.0), "busy", []),
        (lease(HELD, held_at=NOW - 3600, hold_until=NOW), "busy", []),
        (lease(FREE), "busy", []),
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


def test_a_container_that_runs_counts_before_one_in_an_unknown_state() -> None:
    have = lease(HELD, held_at=NOW - 3600, hold_until=NOW)
    found = run([have], [container("busy"), container(id="c2")])
    assert [(action.kind, action.container) for action in found] == [
        (do.SHARED, "c1"),
        (do.BIND, "c2"),
    ]
    assert kinds(run([have], [container("busy"), container("exited", id="c2")])) == [do.SHARED]


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


def test_a_lost_lease_of_a_container_in_an_unknown_state_waits() -> None:
    assert run([], [container("busy")], files=FILE) == []


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


BEFORE: dict[str, Any] = {"finished": UNIX - 900}
AFTER: dict[str, Any] = {"finished": UNIX - 100}
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
    have: Lease, policy: str, when: dict[str, Any], since: float | None, expected: list[str]
) -> None:
    seen = container("exited", restart_policy=policy, **when)
    assert kinds(run([have], [seen], engine_since=since)) == expected


def test_a_start_that_failed_is_not_tried_again_and_the_hold_begins() -> None:
    seen = container("exited", restart_policy="always", **BEFORE)
    have = lease(BOUND, hold=60.0)
    (action,) = run([have], [seen], engine_since=ENGINE, start_failed=["c1"])
    assert (action.kind, action.at) == (do.HOLD, NOW)
    held = lease(HELD, held_at=NOW - 60, hold_until=NOW)
    assert kinds(run([held], [seen], engine_since=ENGINE, start_failed=["c1"])) == [do.END]
    ended = lease(FREE)
    assert run([ended], [seen], engine_since=ENGINE, start_failed=["c1"]) == []


@pytest.mark.parametrize("state", [BOUND, HELD, FREE])
def test_a_container_that_is_being_started_is_left_alone(state: str) -> None:
    seen = container("exited", restart_policy="always", **BEFORE)
    have = lease(state, hold=0.0, hold_until=NOW)
    assert run([have], [seen], engine_since=ENGINE, starting=["c1"]) == []


def test_a_renewal_that_waits_is_not_asked_for_again() -> None:
    seen = container("exited", restart_policy="always", **BEFORE)
    assert run([lease(FREE)], [seen], engine_since=ENGINE, waiting=["L1"]) == []


def test_a_container_that_was_never_started_is_not_started() -> None:
    seen = container("created", restart_policy="always")
    assert kinds(run([lease(BOUND)], [seen], engine_since=UNIX)) == [do.HOLD]
