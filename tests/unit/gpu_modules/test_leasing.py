# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ds01_gpu_alloc leases and waits: from its parameters to its result, with a real store."""

from __future__ import annotations

import os

import pytest
from gpu_world import World, lease_files

# --- leasing --------------------------------------------------------------------------------------


def test_a_named_request_is_leased_once(world: World) -> None:
    first = {"user": "alice", "request": "course", "note": "week 3"}
    second = {"user": "alice", "request": "thesis"}
    answers = world.six_steps(first, second)
    lease = answers[1]["lease"]
    assert (lease["user"], lease["uid"], lease["state"]) == ("alice", 1001, "reserved")
    assert (lease["request"], lease["note"]) == ("course", "week 3")
    assert lease["device"] == f"ds01.local/lease={lease['id']}"
    assert [slot["profile"] for slot in lease["slots"]] == ["2g.10gb"]
    assert answers[3]["lease"] == lease
    assert answers[5]["lease"]["id"] != lease["id"]
    ids = sorted((lease["id"], answers[5]["lease"]["id"]))
    assert lease_files(world) == [f"ds01-{name}.json" for name in ids]
    assert answers[1]["diff"]["before"].count("free") == 5
    assert "reserved for alice (course)" in answers[1]["diff"]["after"]


def test_a_run_after_one_that_was_killed_makes_the_lease_whole(world: World) -> None:
    lease = world.alloc(user="alice", request="course")["lease"]["id"]
    os.unlink(world.top / "cdi" / f"ds01-{lease}.json")  # killed before it was written
    again = world.alloc(user="alice", request="course")
    assert (again["changed"], again["lease"]["id"]) == (False, lease)
    assert lease_files(world) == [f"ds01-{lease}.json"]


def test_a_lease_that_nobody_took_in_time_is_leased_anew(world: World) -> None:
    first = world.alloc(user="alice", request="course")["lease"]
    world.now += 121
    foretold = world.alloc(check=True, user="alice", request="course")
    second = world.alloc(user="alice", request="course")
    assert foretold["changed"] and second["changed"]
    assert first["id"] != second["lease"]["id"]
    assert lease_files(world) == [f"ds01-{second['lease']['id']}.json"]


def test_without_a_name_each_run_is_a_request_of_its_own(world: World) -> None:
    assert world.alloc(user="alice")["lease"]["id"] != world.alloc(user="alice")["lease"]["id"]


def test_two_users_may_use_the_same_name(world: World) -> None:
    one = world.alloc(user="alice", request="course")
    other = world.alloc(user="bob", request="course")
    assert other["changed"] and one["lease"]["id"] != other["lease"]["id"]


def test_a_name_is_not_taken_over_for_something_else(world: World) -> None:
    world.alloc(user="carol", request="thesis", kind="full")
    refused = world.alloc(user="carol", request="thesis", kind="mig")
    assert "is a lease of something else already" in refused["msg"]
    assert "state=released" in refused["msg"]
    refused = world.alloc(user="carol", request="thesis", devices=["1"])
    assert "is a lease of something else already" in refused["msg"]


def test_explicit_devices_are_leased_by_index_or_uuid(world: World) -> None:
    lease = world.alloc(user="carol", devices=["1"], request="pair")["lease"]
    assert [slot["uuid"] for slot in lease["slots"]] == ["GPU-1"]
    assert not world.alloc(user="carol", devices=["GPU-1"], request="pair")["changed"]
    refused = world.alloc(user="carol", devices=["GPU-1"])
    assert "1 is leased to carol" in refused["msg"]


def test_a_user_may_be_named_by_uid(world: World) -> None:
    assert world.alloc(user="1002")["lease"]["user"] == "bob"


def test_a_directory_account_is_a_user_like_any_other(world: World) -> None:
    lease = world.alloc(user="h.baker@hertie-school.lan")["lease"]
    assert (lease["user"], lease["uid"]) == ("h.baker@hertie-school.lan", 70001)


def test_a_second_name_of_one_uid_has_no_limits_of_its_own(world: World) -> None:
    world.alloc(user="alice", count=2)
    refused = world.alloc(user="alice-too")
    assert refused["rule"] == "max_mig_instances"
    assert "alice" in refused["msg"]


def test_a_lease_of_a_container_is_renewed_under_its_id(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease, state="exited")
    ended = world.alloc(state="released", lease=lease)
    assert ended["lease"]["state"] == "free"
    answers = world.six_steps({"user": "alice", "lease": lease}, {"user": "bob"})
    assert answers[1]["lease"]["id"] == lease
    assert answers[1]["lease"]["container_name"] == "training"
    assert f"ds01-{lease}.json" in lease_files(world)


def test_a_lease_of_somebody_else_is_not_renewed(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    assert world.alloc(user="bob", lease=lease)["rule"] == "owner"


# --- waiting --------------------------------------------------------------------------------------


def test_what_is_not_free_is_refused_at_once(world: World) -> None:
    for name in ("alice", "alice", "bob"):
        world.alloc(user=name)
    for check in (True, False):
        assert world.alloc(check=check, user="bob")["rule"] == "busy"
        taken = world.alloc(check=check, user="bob", devices=["2:0"])
        assert "2:0 is leased to alice" in taken["msg"]
    assert world.info()["queue"] == []


def test_a_request_waits_until_a_slot_comes_free(world: World) -> None:
    taken = [world.alloc(user=name)["lease"]["id"] for name in ("alice", "alice", "bob")]
    foretold = world.alloc(check=True, user="bob", wait=60)
    assert foretold["changed"] and foretold["lease"] is None
    assert foretold["waiting"]["position"] == 1
    assert world.info()["queue"] == []

    def free_one() -> None:
        world.on_sleep = lambda: None
        assert [row["user"] for row in world.info()["queue"]] == ["bob"]
        world.alloc(state="released", lease=taken[0])

    world.on_sleep = free_one
    lease = world.alloc(user="bob", wait=60)["lease"]
    assert lease["user"] == "bob" and lease["state"] == "reserved"


def test_a_wait_that_was_for_nothing_leaves_the_queue(world: World) -> None:
    for name in ("alice", "alice", "bob"):
        world.alloc(user=name)
    refused = world.alloc(user="bob", wait=3)
    assert "nothing that fits came free in 3 s" in refused["msg"]
    assert world.info()["queue"] == []


def test_a_run_that_is_broken_off_leaves_the_queue(world: World) -> None:
    for name in ("alice", "alice", "bob"):
        world.alloc(user=name)

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.alloc(user="bob", wait=3)
    assert world.info()["queue"] == []
