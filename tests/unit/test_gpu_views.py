# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published views: who has what, since when, until when, and no secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ds01.core.book_view import Queued, Snapshot
from ds01.core.gpu_views import allocations, asked, gpu_state
from ds01.core.gpus import GONE, LOST, READY
from ds01.core.leases import BOUND, FREE, HELD, RESERVED, Allowance, Ask, Block, Waiter
from reconcile_cases import GPU0, GPU1, MIG0, MIG3, NOW, SLOTS, UNIX, lease

BOB = Waiter(
    "secret-ticket", NOW - 60, NOW, NOW + 600, Ask(2, "full", note="thesis"), Allowance(1002, "bob")
)


def snapshot(**more: Any) -> Snapshot:
    given: dict[str, Any] = {"slots": SLOTS, "leases": (), "queue": (), "blocks": ()}
    return Snapshot(now=NOW, wall=UNIX, driver=READY, **{**given, **more})


def slot_of(found: dict[str, Any], index: str) -> dict[str, Any]:
    (slot,) = (slot for slot in found["slots"] if slot["index"] == index)
    assert isinstance(slot, dict)
    return slot


def test_a_slot_says_who_has_it_since_when_and_until_when() -> None:
    have = lease(HELD, ("MIG-20",), id="secret-lease", held_at=NOW - 30, hold_until=NOW + 870)
    found = allocations(snapshot(leases=(have,)))
    assert slot_of(found, "2:0") == {
        "index": "2:0",
        "uuid": "MIG-20",
        "gpu_uuid": "GPU-2",
        "profile": "2g.10gb",
        "memory": 10 * 1024**3,
        "compute_slices": 2,
        "gpu_equivalents": 0.286,
        "health": "ok",
        "state": "held",
        "user": "alice",
        "uid": 1001,
        "container": {"id": "c1", "name": "train"},
        "since": "2027-01-15T07:59:30.000Z",
        "until": "2027-01-15T08:14:30.000Z",
        "message": None,
    }
    assert found["schema_version"] == 1
    assert found["generated_at"] == "2027-01-15T08:00:00.000Z"
    assert found["driver"] == {"state": "ready", "reason": ""}


@pytest.mark.parametrize(
    ("have", "state", "since", "until"),
    [
        (lease(RESERVED, expires=NOW + 120), "reserved", "07:00:00", "08:02:00"),
        (lease(BOUND), "bound", "07:01:40", None),
        (lease(BOUND, max_runtime=7200.0), "bound", "07:01:40", "09:01:40"),
        (lease(HELD, held_at=NOW, hold_until=None), "held", "08:00:00", None),
        (lease(FREE), "free", None, None),
    ],
)
def test_the_times_are_those_of_the_leases_state(
    have: Any, state: str, since: str | None, until: str | None
) -> None:
    slot = slot_of(allocations(snapshot(leases=(have,))), "0")
    assert slot["state"] == state
    assert (slot["since"] or "")[11:19] == (since or "")
    assert (slot["until"] or "")[11:19] == (until or "")


def test_the_clock_of_the_wall_can_be_given() -> None:
    assert allocations(snapshot(), UNIX + 60)["generated_at"] == "2027-01-15T08:01:00.000Z"


DRAINED = Block("GPU-1", "drained", "new fan", "dana", NOW - 60)
FOREIGN = Block("GPU-1", "foreign", "process 4711 of bob", since=NOW - 30)


@pytest.mark.parametrize(
    ("blocks", "state", "message"),
    [
        ((), "free", None),
        ((DRAINED,), "drained", "drained: new fan"),
        ((FOREIGN,), "foreign", "process 4711 of bob"),
        ((FOREIGN, DRAINED), "drained", "drained: new fan; process 4711 of bob"),
    ],
)
def test_why_a_free_slot_is_not_handed_out(
    blocks: tuple[Block, ...], state: str, message: str | None
) -> None:
    slot = slot_of(allocations(snapshot(blocks=blocks)), "1")
    assert (slot["state"], slot["message"], slot["user"]) == (state, message, None)


def test_a_drained_slot_in_use_is_its_users_and_says_so() -> None:
    have = lease(BOUND, ("GPU-1",))
    slot = slot_of(allocations(snapshot(leases=(have,), blocks=(DRAINED,))), "1")
    assert (slot["state"], slot["user"], slot["message"]) == ("bound", "alice", "drained: new fan")


@pytest.mark.parametrize("health", [LOST, GONE])
def test_a_lost_slot_still_names_its_lease(health: str) -> None:
    slots = (replace(GPU0, health=health), GPU1)
    have = lease(BOUND, stale=True)
    slot = slot_of(allocations(snapshot(slots=slots, leases=(have,))), "0")
    assert (slot["state"], slot["user"]) == (health, "alice")
    assert slot["message"] == "the slot of this lease is not there any more"


def test_a_slot_that_is_gone_and_nobodys_is_not_shown() -> None:
    old, new = replace(MIG0, uuid="MIG-old", health=GONE), MIG0
    found = allocations(snapshot(slots=(old, new)))
    assert [slot["uuid"] for slot in found["slots"]] == ["MIG-20"]


def test_the_use_of_each_user_is_added_up() -> None:
    mine = lease(BOUND, ("GPU-0", "MIG-23"))
    more = lease(HELD, ("MIG-20",), id="L2", held_at=NOW)
    unknown = lease(BOUND, ("GPU-1",), id="L3", uid=-1, user="", container="c9")
    ended = lease(FREE, ("GPU-1",), id="L4", uid=1002, user="bob")
    found = allocations(snapshot(leases=(mine, more, unknown, ended)))
    assert found["users"] == [
        {
            "user": None,
            "uid": None,
            "gpu_equivalents": 1.0,
            "mig_instances": 0,
            "slots": ["1"],
        },
        {
            "user": "alice",
            "uid": 1001,
            "gpu_equivalents": 1.714,
            "mig_instances": 2,
            "slots": ["0", "2:0", "2:3"],
        },
    ]
    assert slot_of(found, "1")["message"] == "the owner is not known"


def test_the_queue_says_what_is_asked_and_estimates() -> None:
    found = allocations(snapshot(queue=(Queued(BOB, 1, 300.0, "both GPUs are leased"),)))
    assert found["queue"] == [
        {
            "position": 1,
            "user": "bob",
            "uid": 1002,
            "asked": "2 full GPUs",
            "count": 2,
            "kind": "full",
            "devices": [],
            "note": "thesis",
            "since": "2027-01-15T07:59:00.000Z",
            "deadline": "2027-01-15T08:10:00.000Z",
            "eta": "2027-01-15T08:05:00.000Z",
            "eta_is_estimate": True,
            "reason": "both GPUs are leased",
        }
    ]
    (row,) = allocations(snapshot(queue=(Queued(BOB, 1, None, ""),)))["queue"]
    assert row["eta"] is None


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask(), "1 GPU of any kind"),
        (Ask(2), "2 GPUs of any kind"),
        (Ask(1, "full"), "1 full GPU"),
        (Ask(3, "mig"), "3 MIG devices"),
        (Ask(1, "2g.10gb"), "1 MIG device 2g.10gb"),
        (Ask(2, devices=("0", "2:1")), "GPU 0, 2:1"),
    ],
)
def test_a_request_is_said_in_words(ask: Ask, words: str) -> None:
    assert asked(ask) == words


def test_no_secret_is_published() -> None:
    leases = tuple(
        lease(state, (uuid,), id=f"secret-{state}")
        for state, uuid in [(RESERVED, "GPU-0"), (BOUND, "GPU-1"), (HELD, "MIG-20"), (FREE, "x")]
    )
    full = snapshot(leases=leases, queue=(Queued(BOB, 1, None, "wait"),), blocks=(DRAINED,))
    assert "secret" not in json.dumps([allocations(full), gpu_state(full)])


def test_the_earlier_systems_view_has_its_form() -> None:
    mine = lease(BOUND, ("MIG-20",))
    reserved = lease(RESERVED, ("MIG-23",), id="L2")
    found = gpu_state(snapshot(leases=(mine, reserved), blocks=(DRAINED,)))
    assert found == {
        "gpu_0": None,
        "gpu_1": {"user": None, "container": None, "state": "drained"},
        "gpu_2.0": {"user": "alice", "container": "train"},
        "gpu_2.3": {"user": "alice", "container": None},
    }


def test_a_slot_that_is_gone_does_not_hide_the_one_in_its_place() -> None:
    old = replace(MIG0, uuid="MIG-old", health=GONE)
    mine = lease(BOUND, ("MIG-old",))
    assert gpu_state(snapshot(slots=(old, MIG0, MIG3), leases=(mine,))) == {
        "gpu_2.0": None,
        "gpu_2.3": None,
    }
    lost = replace(GPU0, health=LOST)
    assert gpu_state(snapshot(slots=(lost,))) == {
        "gpu_0": {"user": None, "container": None, "state": "lost"}
    }
