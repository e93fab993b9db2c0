# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An administrator's word: recorded as such, once, taken back, and in check mode foretold."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from owner_world import World, shell, store


def test_a_word_outweighs_what_the_gateway_saw_and_can_be_taken_back(world: World) -> None:
    key = world.container("train")
    world.made(key, "alice")
    word: dict[str, Any] = {
        "state": "set",
        "container": "train",
        "owner": "bob",
        "reason": "his thesis",
    }
    before = world.state()
    foretold = world.owner(check=True, **word)
    assert foretold["changed"] and foretold["container"]["owner"] == "bob"
    assert world.state() == before
    done = world.owner(**word)
    assert done["changed"]
    row = done["container"]
    assert (row["owner"], row["owner_uid"], row["method"]) == ("bob", 1002, "admin")
    assert row["set_by"]["reason"] == "his thesis"
    assert len(row["contradictions"]) == 1 and "alice" in row["contradictions"][0]
    assert foretold["diff"] == done["diff"]
    assert "train: alice (gateway, certain)" in done["diff"]["before"]
    assert "train: bob (admin, certain), said by root: his thesis" in done["diff"]["after"]
    assert world.published()["containers"][key[:12]]["owner"] == "bob"
    for check in (True, False):
        assert not world.owner(check=check, **word)["changed"]
    back: dict[str, Any] = {"state": "unset", "container": "train"}
    assert world.owner(check=True, **back)["changed"]
    assert world.owner(**back)["container"]["method"] == "gateway"
    assert world.published()["containers"][key[:12]]["owner"] == "alice"
    for check in (True, False):
        assert not world.owner(check=check, **back)["changed"]
    types = [event["event_type"] for event in world.events()]
    assert types.count("owner.set") == types.count("owner.unset") == 1


def test_another_reason_is_another_word(world: World) -> None:
    world.container("train")
    word: dict[str, Any] = {"state": "set", "container": "train", "owner": "bob"}
    assert world.owner(**word, reason="his thesis")["changed"]
    assert world.owner(**word, reason="his course")["changed"]
    assert world.owner(container="train")["container"]["set_by"]["reason"] == "his course"


def test_who_said_so_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.container("train")
    word: dict[str, Any] = {"state": "set", "container": "train", "owner": "bob"}
    monkeypatch.setenv("SUDO_USER", "dana")
    assert world.owner(**word)["container"]["set_by"]["by"] == "dana"
    named = world.owner(**word, reason="asked for", by="dana at her laptop")["container"]
    assert named["set_by"]["by"] == "dana at her laptop"
    set_event = world.events("owner.set")[-1]
    assert set_event["user"] == "bob"
    assert set_event["details"]["by"] == "dana at her laptop"
    assert set_event["source"] == "ds01_container_owner"


def test_an_account_is_named_as_the_host_names_it(world: World) -> None:
    world.container("train")
    word: dict[str, Any] = {"state": "set", "container": "train"}
    for owner in ("alice-too", "1001", "alice"):
        assert world.owner(**word, owner=owner)["container"]["set_by"]["user"] == "alice"
    name = "h.baker@hertie-school.lan"
    assert world.owner(**word, owner=name)["container"]["owner_uid"] == 70001


def test_somebody_who_has_left_is_named_by_uid_when_that_is_meant(world: World) -> None:
    world.container("train")
    word: dict[str, Any] = {"state": "set", "container": "train", "owner": "4711"}
    refused = world.owner(**word)
    assert "this host knows no user '4711'" in refused["msg"]
    assert "allow_missing" in refused["msg"]
    row = world.owner(**word, allow_missing=True)["container"]
    assert (row["owner"], row["owner_uid"], row["confidence"]) == ("4711", 4711, "certain")
    assert not world.owner(**word, allow_missing=True)["changed"]


def test_a_container_that_is_gone_can_still_be_given_its_owner(world: World) -> None:
    key = world.container("train")
    world.owner(state="synced")
    world.remove(key)
    done = world.owner(state="set", container="train", owner="alice")
    assert done["changed"] and done["container"]["owner"] == "alice"
    assert done["container"]["state"] == "gone"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "container"),
        ({"state": "set", "container": "train"}, "owner"),
        ({"state": "set", "container": "train", "owner": "nobody-knows"}, "knows no user"),
        ({"state": "set", "container": "train", "owner": ""}, "knows no user ''"),
        ({"state": "set", "container": "train", "owner": "alice\x00"}, "knows no user"),
        (
            {"state": "set", "container": "train", "owner": "eve", "allow_missing": True},
            "this host knows no user 'eve'",
        ),
        (
            {"state": "set", "container": "train", "owner": str(2**32), "allow_missing": True},
            "this host knows no user",
        ),
        ({"state": "set", "container": "none", "owner": "alice"}, "there is no container 'none'"),
        ({"state": "set", "container": "", "owner": "alice"}, "there is no container ''"),
        (
            {"state": "set", "container": "train", "owner": "alice", "reason": "a\nb"},
            "reason has up to 200 printable characters",
        ),
        (
            {"state": "set", "container": "train", "owner": "alice", "by": "x" * 201},
            "by has up to 200 printable characters",
        ),
        ({"container": "train", "owner": "alice"}, "owner says nothing with state=found"),
        ({"state": "unset", "container": "train", "reason": "x"}, "reason says nothing with"),
        ({"state": "synced", "container": "train"}, "container says nothing with state=synced"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_bad_input_is_refused_with_its_reason(
    world: World, params: dict[str, Any], words: str, check: bool
) -> None:
    world.container("train")
    before = world.book().records(gone=True)
    refused = world.owner(check=check, **params)
    assert refused["failed"]
    assert words in refused["msg"]
    assert not [one for one in world.book().records(gone=True) if one.set_by]
    if check:
        assert world.book().records(gone=True) == before


def test_all_is_compared_once_and_then_agrees(world: World) -> None:
    first = world.container("one", "a1", **{"ds01.user": "alice"})
    world.container("two", "b2")
    before = world.state()
    foretold = world.owner(check=True, state="synced")
    assert foretold["changed"] and world.state() == before
    done = world.owner(state="synced")
    assert done["changed"] and done["changes"] == foretold["changes"]
    assert done["changes"][0].startswith("a1a1a1a1a1a1 one: alice (ds01_label, weak)")
    assert done["changes"][1].startswith("b2b2b2b2b2b2 two: unknown")
    published = world.published()["containers"]
    assert published["a1a1a1a1a1a1"] == {
        "owner": "alice",
        "owner_uid": 1001,
        "name": "one",
        "ds01_managed": False,
        "interface": "unknown",
        "created_at": "2026-11-22T12:00:00Z",
        "detection_method": "ds01_label",
    }
    assert published["b2b2b2b2b2b2"]["owner"] is None
    for check in (True, False):
        again = world.owner(check=check, state="synced")
        assert not again["changed"] and again["changes"] == []
    world.remove(first)
    assert (
        "a1a1a1a1a1a1 one: alice (ds01_label, weak), gone"
        in world.owner(state="synced")["changes"][0]
    )
    assert list(world.published()["containers"]) == ["b2b2b2b2b2b2"]


def test_what_the_daemon_is_just_hearing_of_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.container("one", **{"ds01.user": "alice"})
    daemon = shell.OwnerSync(world.book("ds01d"), shell.lookout(world.reads["engine_socket"]))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        daemon.sync()
        slept.append(seconds)

    monkeypatch.setattr(shell, "DAEMON_SECONDS", 60.0)
    monkeypatch.setattr(shell, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    assert world.owner(state="set", container="one", owner="bob")["changed"]
    assert len(slept) == 1
    assert {event["source"] for event in world.events("container.")} == {"ds01d"}


@pytest.mark.parametrize("damage", ["", "{", None])
def test_a_damaged_or_missing_published_file_is_mended(world: World, damage: str | None) -> None:
    world.container("one", **{"ds01.user": "alice"})
    world.owner(state="synced")
    path = world.top / "published/opa/container-owners.json"
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    assert world.owner(check=True, state="synced")["changed"]
    assert world.owner(state="synced")["changed"]
    assert world.published()["containers"]
    assert not world.owner(state="synced")["changed"]


def test_a_store_that_was_lost_gets_its_certain_owners_back_before_anything_is_published(
    world: World,
) -> None:
    seen, said = world.container("one", "a1"), world.container("two", "b2")
    world.made(seen, "alice", "one")
    world.owner(state="set", container="two", owner="bob")
    world.owner(state="synced")
    for path in world.top.glob("state.*"):
        path.unlink()
    store.migrate(world.reads["store_path"])
    before = world.state()
    assert world.info(name="one")["things"][0]["owner"] == "alice"
    assert world.state() == before
    world.owner(state="synced")
    published = world.published()["containers"]
    assert (published[seen[:12]]["owner"], published[said[:12]]["owner"]) == ("alice", "bob")
    row = world.owner(container="one")["container"]
    assert row["confidence"] == "certain" and row["made"]["restored"]


def test_a_published_file_that_others_could_have_written_restores_nothing(world: World) -> None:
    key = world.container("one")
    world.made(key, "alice", "one")
    world.owner(state="synced")
    for path in world.top.glob("state.*"):
        path.unlink()
    store.migrate(world.reads["store_path"])
    (world.top / "published/containers.json").chmod(0o666)
    found = world.owner(state="synced")
    assert "others than root can write it" in str(found["warnings"])
    assert world.owner(container="one")["container"]["method"] == "unknown"
