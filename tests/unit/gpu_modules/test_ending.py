# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ds01_gpu_alloc ends leases, drains slots and reconciles; ds01_gpu_info tells it all."""

from __future__ import annotations

import os

from gpu_world import GIB, World, lease_files, store

# --- ending ---------------------------------------------------------------------------------------


def test_a_lease_ends_once(world: World) -> None:
    world.alloc(user="alice", request="course")
    world.alloc(user="alice", request="thesis")
    answers = world.six_steps(
        {"state": "released", "user": "alice", "request": "course"},
        {"state": "released", "user": "alice", "request": "thesis"},
    )
    assert answers[1]["lease"]["request"] == "course"
    assert answers[3]["lease"] is None
    assert lease_files(world) == []
    assert world.info()["leases"] == []


def test_a_lease_ends_by_the_name_of_its_container(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease, state="exited", name="training")
    world.alloc(state="reconciled")
    assert world.alloc(state="released", container="other")["changed"] is False
    assert world.alloc(state="released", container="training")["changed"]
    assert not world.alloc(state="released", container="training")["changed"]


def test_a_lease_in_use_is_not_ended(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease, state="running")
    for check in (True, False):
        refused = world.alloc(check=check, state="released", lease=lease)
        assert refused["rule"] == "running"
        assert "docker stop training" in refused["msg"]


def test_nothing_is_freed_while_the_engine_does_not_answer(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.containers = None
    assert "the engine is being restarted" in world.alloc(state="released", lease=lease)["msg"]
    assert len(world.info()["leases"]) == 1


def test_a_lease_that_is_not_there_has_ended(world: World) -> None:
    assert world.alloc(state="released", lease="l0123456789abcdef") == {
        "changed": False,
        "lease": None,
        "diff": world.alloc(state="released", lease="../../etc/passwd")["diff"],
        "invocation": world.alloc(state="released", lease="l0123456789abcdef")["invocation"],
    }


# --- slots ----------------------------------------------------------------------------------------


def test_a_drained_slot_is_not_handed_out(world: World) -> None:
    answers = world.six_steps(
        {"state": "drained", "slot": "0", "reason": "fan"},
        {"state": "drained", "slot": "GPU-1", "reason": "fan too"},
    )
    assert answers[1]["slot"] == {"uuid": "GPU-0", "index": "0", "profile": "", "drained": True}
    assert "0 GPU: drained: fan" in answers[1]["diff"]["after"]
    assert "0 is drained: fan" in world.alloc(user="carol", devices=["0"])["msg"]
    answers = world.six_steps(
        {"state": "undrained", "slot": "0"}, {"state": "undrained", "slot": "1"}
    )
    assert answers[1]["slot"]["drained"] is False
    assert world.alloc(user="carol", devices=["0"])["lease"]["slots"][0]["index"] == "0"
    assert world.events().count("gpu.drained") == 2


def test_a_lease_on_a_drained_slot_goes_on(world: World) -> None:
    lease = world.alloc(user="carol", devices=["0"])["lease"]["id"]
    world.alloc(state="drained", slot="0", reason="fan")
    assert [row["id"] for row in world.info()["leases"]] == [lease]


def test_reconciling_mends_once(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease)
    foretold = world.alloc(check=True, state="reconciled")
    assert world.info()["leases"][0]["state"] == "reserved"
    done = world.alloc(state="reconciled")
    assert foretold["changed"] and done["changed"]
    assert foretold["reconciled"] == done["reconciled"] != []
    assert world.info()["leases"][0]["state"] == "bound"
    for check in (True, False):
        again = world.alloc(check=check, state="reconciled")
        assert (again["changed"], again["reconciled"]) == (False, [])


def test_a_store_that_was_lost_hands_no_running_containers_slot_out(world: World) -> None:
    lease = world.alloc(user="carol", devices=["0"])["lease"]["id"]
    world.container(lease)
    world.alloc(state="reconciled")
    os.unlink(world.paths["store_path"])
    store.migrate(world.paths["store_path"])
    for check in (True, False):
        refused = world.alloc(check=check, user="carol", devices=["0"])
        assert "0 is leased to carol in container training" in refused["msg"]
    assert [row["id"] for row in world.info()["leases"]] == [lease]
    assert lease_files(world) == [f"ds01-{lease}.json"]


def test_a_gpu_in_use_without_a_lease_is_not_leased(world: World) -> None:
    world.gpus[0]["processes"] = [{"pid": os.getpid(), "slot": "GPU-0", "memory": GIB}]
    for check in (True, False):
        refused = world.alloc(check=check, user="carol", devices=["0"])
        assert "0 is in use without a lease" in refused["msg"]
    lease = world.alloc(user="carol", kind="full")["lease"]
    assert [slot["index"] for slot in lease["slots"]] == ["1"]
    assert str(os.getpid()) in world.info()["slots"][0]["blocked"]


def test_nothing_is_leased_while_nobody_knows_what_runs(world: World) -> None:
    world.containers = None
    for check in (True, False):
        assert "the engine is being restarted" in world.alloc(check=check, user="alice")["msg"]


def test_reconciling_records_a_lost_gpu(world: World) -> None:
    world.alloc(state="reconciled")
    world.gpus[0] = {"index": 0, "uuid": "GPU-0", "lost": True}
    assert world.info()["driver"]["changes"] == ["gpu_lost 0"]
    assert world.alloc(state="reconciled")["changed"]
    assert world.info()["slots"][0]["health"] == "lost"


# --- reading --------------------------------------------------------------------------------------


def test_info_tells_slots_leases_and_use_and_changes_nothing(world: World) -> None:
    world.alloc(user="carol", devices=["0"], note="thesis")
    world.alloc(state="drained", slot="1", reason="fan")
    world.alloc(user="alice")
    before = world.state()
    found = world.info()
    assert world.info(check=True) == found | {"invocation": world.info(check=True)["invocation"]}
    assert world.state() == before
    assert found["driver"] == {
        "state": "ready",
        "reason": "",
        "version": "550.90.07",
        "changes": [],
    }
    rows = {row["index"]: row for row in found["slots"]}
    assert (rows["0"]["user"], rows["0"]["free"], rows["0"]["equivalents"]) == ("carol", False, 1.0)
    assert (rows["1"]["drained"], rows["1"]["free"]) == ("fan", False)
    assert (rows["2:0"]["user"], rows["2:1"]["free"]) == ("alice", True)
    assert [(row["user"], row["equivalents"], row["mig_instances"]) for row in found["users"]] == [
        ("alice", 0.2857, 1),
        ("carol", 1.0, 0),
    ]


def test_info_tells_a_driver_that_does_not_answer(world: World) -> None:
    world.alloc(user="alice")
    world.driver = "driver_restarting"
    found = world.info()
    assert found["driver"]["state"] == "driver_restarting"
    assert found["driver"]["reason"] == "Driver Not Loaded"
    assert len(found["leases"]) == 1


def test_info_tells_a_slot_that_the_vendors_spec_does_not_describe(world: World) -> None:
    (world.top / "vendor" / "nvidia.json").unlink()
    refused = world.alloc(user="alice")
    assert refused["failed"]
    assert lease_files(world) == []
