# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules tell whose a container is, and change nothing by it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from owner_world import World, store


def test_a_container_is_found_by_id_by_its_first_digits_and_by_name(world: World) -> None:
    key = world.container("train", "ab01", **{"ds01.user": "alice"})
    world.container("other", "cd02")
    for wanted in (key, key[:12], key[:4], "train"):
        found = world.owner(container=wanted)
        assert not found["changed"] and found["current"]
        row = found["container"]
        assert (row["id"], row["name"], row["owner"], row["owner_uid"]) == (
            key,
            "train",
            "alice",
            1001,
        )
        assert (row["method"], row["confidence"]) == ("ds01_label", "weak")
        assert row["summary"].startswith("alice, because its label ds01.user names alice; weak")
        assert row["created_at"] == "2026-11-22T12:00:00Z"


def test_nothing_is_changed_by_looking_not_even_the_records(world: World) -> None:
    world.container("train", **{"ds01.user": "alice"})
    before = world.state()
    assert world.owner(container="train")["container"]["owner"] == "alice"
    assert world.info()["things"][0]["owner"] == "alice"
    assert world.state() == before


def test_a_container_that_is_not_there_is_told_as_nothing(world: World) -> None:
    world.container("train")
    found = world.owner(container="none")
    assert found["container"] is None and not found["changed"]


def test_one_of_several_is_never_taken_silently(world: World) -> None:
    first, second = world.container("one", "abcd1"), world.container("two", "abcd2")
    refused = world.owner(container="abcd")
    assert refused["failed"]
    assert "'abcd' could be any of 2 containers" in refused["msg"]
    assert first in refused["msg"] and second in refused["msg"]
    assert "Name one by its id" in refused["msg"]
    assert world.owner(container="abcd1")["container"]["name"] == "one"


def test_a_name_means_the_container_that_has_it_now(world: World) -> None:
    old = world.container("train", "a1", **{"ds01.user": "alice"})
    world.owner(state="synced")
    world.remove(old)
    new = world.container("train", "b2", **{"ds01.user": "bob"})
    found = world.owner(container="train")["container"]
    assert (found["id"], found["owner"]) == (new, "bob")
    gone = world.owner(container=old)["container"]
    assert (gone["state"], gone["owner"]) == ("gone", "alice")
    assert gone["gone_at"]


def test_what_the_gateway_saw_is_certain_and_a_forged_label_contradicts_it(world: World) -> None:
    key = world.container("train", **{"ds01.user": "bob"})
    world.made(key, "alice", "train")
    row = world.owner(container="train")["container"]
    assert (row["owner"], row["method"], row["confidence"]) == ("alice", "gateway", "certain")
    assert row["contradictions"] == ["its label ds01.user names bob"]
    assert row["interface"] == "docker" and row["managed"]
    assert row["made"]["agent"] == "Docker-Client/26.1.5 (linux)"
    assert [one["user"] for one in row["evidence"]] == ["alice", "bob"]


def test_the_list_is_narrowed_down_by_all_that_is_asked_for(world: World) -> None:
    world.container("a1", "a1", **{"ds01.user": "alice"})
    world.container("a2", "a2", **{"ds01.user": "alice"})
    forged = world.container("b1", "b1", **{"ds01.user": "bob"})
    world.made(forged, "alice")
    world.container("x1", "c1")
    gone = world.container("a3", "d1", **{"ds01.user": "alice"})
    world.engine.volumes = [{"Name": "data", "CreatedAt": "2026-11-22T12:00:00Z", "Labels": None}]
    world.owner(state="synced")
    world.remove(gone)

    def names(**params: Any) -> list[str]:
        return sorted(thing["name"] for thing in world.info(**params)["things"])

    assert names() == ["a1", "a2", "b1", "x1"]
    assert names(user="alice") == names(user="1001") == ["a1", "a2", "b1"]
    assert names(user="alice", contradicted=True) == ["b1"]
    assert names(unknown=True) == ["x1"]
    assert names(user="alice", gone=True) == ["a1", "a2", "a3", "b1"]
    assert names(name="a1") == names(name="a1a1") == ["a1"]
    assert names(name="zz") == []
    assert names(kinds=["volume"]) == ["data"]
    assert names(kinds=["volume", "container"], unknown=True) == ["data", "x1"]
    assert world.info()["users"] == [
        {"user": "alice", "uid": 1001, "things": 3},
        {"user": None, "uid": None, "things": 1},
    ]


def test_with_the_engine_away_the_records_are_told_as_they_are_with_a_warning(world: World) -> None:
    world.container("train", **{"ds01.user": "alice"})
    world.owner(state="synced")
    world.engine.containers = None
    found = world.owner(container="train")
    assert found["container"]["owner"] == "alice" and not found["current"]
    assert "the engine does not answer" in str(found["warnings"])
    assert not world.info()["current"]
    refused = world.owner(state="synced")
    assert refused["failed"] and "the engine is being restarted" in refused["msg"]


def test_without_a_store_a_check_says_so_and_goes_on_and_a_run_fails(world: World) -> None:
    os.unlink(world.reads["store_path"])
    told = "there is no state store on this host yet"
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"container": "train"}, False),
        ({"container": "train", "state": "set", "owner": "alice"}, True),
        ({"container": "train", "state": "unset"}, False),
        ({"state": "synced"}, True),
    ]
    for params, changed in cases:
        foretold = world.owner(check=True, **params)
        assert foretold["changed"] is changed
        assert told in str(foretold["warnings"])
        refused = world.owner(**params)
        assert "there is no state store" in refused["msg"] and "Run site.yml" in refused["msg"]
    assert told in str(world.info(check=True)["warnings"])
    assert "there is no state store" in world.info()["msg"]
    assert not Path(world.reads["store_path"]).exists()


@pytest.mark.parametrize("check", [True, False])
def test_a_store_of_another_version_is_refused(world: World, check: bool) -> None:
    with store.open_store(world.reads["store_path"]).transaction() as connection:
        connection.execute("PRAGMA user_version=77")
    for refused in (world.owner(check=check, container="x"), world.info(check=check)):
        assert "of version 77, this program reads" in refused["msg"]
