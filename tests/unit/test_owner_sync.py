# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of owners, in step with an engine: what is told, what is asked, and what others' words change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.owner_events import cursor_text, heard
from ds01.core.owner_intents import Intent, fingerprint
from ds01.core.owner_publish import Publisher
from ds01.core.owner_settings import OwnerSettings
from ds01.core.owner_sync import OwnerSync
from ds01.core.owner_things import only_maker, reference
from ds01.core.owners import CONTAINER, IMAGE, NETWORK, VOLUME, Made, Mount, PathFacts, SetBy
from ds01.core.store import StoreError
from owner_engine import FakeWorld, Place


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def place(tmp_path: Path, world: FakeWorld) -> Place:
    return Place(tmp_path, world)


def hear(place: Place, count: int | None = None) -> None:
    """All that the engine sent so far, or its first events."""
    place.sync.heard(place.world.sent[:count])


def intent(world: FakeWorld, kind: str = CONTAINER, **more: Any) -> Intent:
    more = {"uid": 1001, "user": "alice", "at": world.now(), "gateway": "g", **more}
    return Intent(more.pop("token", "t1"), kind, **more)


def user_of(place: Place, thing_id: str, kind: str = CONTAINER) -> str:
    found = place.book().get(kind, thing_id)
    assert found is not None
    return found.owner.user


def is_unfinished(place: Place) -> bool:
    return place.sync.unfinished


# --- events ---------------------------------------------------------------------------------------


def test_a_life_is_told_step_by_step_with_its_owner(world: FakeWorld, place: Place) -> None:
    one = world.create("train", {"ds01.user": "alice"})
    world.start(one)
    world.rename(one, "test")
    world.pause_box(one)
    world.unpause(one)
    world.die(one, 137)
    world.destroy(one)
    hear(place)
    assert place.told() == [
        ("container.created", "train", "alice"),
        ("container.started", "train", "alice"),
        ("container.renamed", "test", "alice"),
        ("container.paused", "test", "alice"),
        ("container.unpaused", "test", "alice"),
        ("container.died", "test", "alice"),
        ("container.destroyed", "test", "alice"),
    ]
    died = place.events("container.died")[0]
    assert died["details"]["exit_code"] == 137 and died["details"]["uid"] == 1001
    assert died["details"]["id"] == one[:12] and died["details"]["image"] == "lab/base"
    assert place.events("container.renamed")[0]["details"]["old_name"] == "train"
    gone = place.book().get(CONTAINER, one)
    assert gone is not None and gone.gone is not None and gone.owner.user == "alice"


def test_a_batch_is_one_commit_with_its_cursor(world: FakeWorld, place: Place) -> None:
    world.start(world.create())
    world.create()
    steps: list[str] = []
    place.anew(steps.append)
    hear(place)
    assert steps.count("committed") == 1
    assert place.book().cursor() == world.sent[-1]["timeNano"]
    assert cursor_text(1_800_000_000_000_000_007) == "1800000000.000000007"


def test_a_container_is_inspected_once_and_never_for_its_life(
    world: FakeWorld, place: Place
) -> None:
    one = world.create()
    hear(place)
    world.start(one)
    world.pause_box(one)
    world.unpause(one)
    world.die(one)
    hear(place)
    for _look in range(3):
        place.sync.sync()
    assert world.asked.count(f"inspect {one[:4]}") == 1


def test_an_inspection_that_hangs_holds_up_nothing(world: FakeWorld, place: Place) -> None:
    one = world.create("train", {"ds01.user": "alice"}, restart_policy="always")
    world.boxes[one].hangs = True
    two = world.create("web", {"ds01.user": "bob"})
    hear(place)
    assert (user_of(place, one), user_of(place, two)) == ("alice", "bob")
    assert is_unfinished(place)
    place.sync.finish()
    assert is_unfinished(place)
    # Who starts anew in between looks again: what the list tells is not taken for all.
    place.anew()
    place.sync.sync()
    assert is_unfinished(place)
    world.boxes[one].hangs = False
    place.sync.finish()
    assert not is_unfinished(place)
    found = place.book().get(CONTAINER, one)
    assert found is not None and found.facts is not None
    assert found.facts.restart_policy == "always" and found.origin.container_type == "service"
    assert [name for kind, name, _user in place.told() if kind == "container.created"] == [
        "train",
        "web",
    ]


def test_one_that_is_gone_before_it_is_looked_at_is_known_by_its_events(
    world: FakeWorld, place: Place
) -> None:
    one = world.create("short", {"ds01.user": "bob"})
    world.destroy(one)
    hear(place)
    assert place.told() == [
        ("container.created", "short", "bob"),
        ("container.destroyed", "short", "bob"),
    ]
    assert user_of(place, one) == "bob"


def test_what_becomes_of_it_is_seen_in_the_kernels_books(world: FakeWorld, place: Place) -> None:
    one = world.create(uids=(1002,))
    hear(place)
    assert user_of(place, one) == ""
    world.start(one)
    hear(place)
    found = place.book().get(CONTAINER, one)
    assert found is not None and found.owner.user == "bob" and found.owner.method == "process"
    assert found.facts is not None and found.facts.cgroup.endswith(f"docker-{one}.scope")
    assert place.told("owner.") == [("owner.changed", "box1", "bob")]
    world.die(one)
    hear(place)
    assert user_of(place, one) == ""


def test_events_that_say_nothing_here_are_passed_over(place: Place) -> None:
    for raw in (
        {},
        {"Type": "container", "Action": "exec_start: sh", "Actor": {"ID": "x"}, "timeNano": 1},
        {"Type": "container", "Action": "start", "Actor": {"ID": ""}, "timeNano": 1},
        {"Type": "container", "Action": "start", "Actor": {"ID": "x"}, "timeNano": "1"},
        {"Type": "", "Action": "dropped"},
        {"Type": "container", "Action": "start", "Actor": None, "timeNano": 1},
    ):
        assert heard(raw) is None
        assert not place.sync.heard([raw])


def test_a_label_that_is_called_as_an_attribute_changes_nothing(
    world: FakeWorld, place: Place
) -> None:
    one = world.create("x1", {"ds01.user": "bob", "exitCode": "3", "signal": "9"})
    world.start(one)
    world.die(one, 5)
    hear(place)
    assert place.events("container.died")[0]["details"]["exit_code"] == 5
    assert "signal" not in place.events("container.started")[0]["details"]


# --- the gateway's and an administrator's word -----------------------------------------------------


def test_the_gateways_commit_is_waited_for_before_anybody_is_named(
    world: FakeWorld, place: Place
) -> None:
    place.book().reserve(intent(world, name="train"))
    one = world.create("train", {"ds01.user": "bob"})
    world.boxes[one].config = {}
    pauses: list[float] = []

    def bind() -> None:
        pauses.append(world.now())
        if len(pauses) == 3:
            place.book().bind("t1", one, "train")

    world.on_pause = bind
    # Its inspection does not come, so its name and time alone say that it may be the one.
    world.boxes[one].hangs = True
    hear(place)
    assert len(pauses) == 3
    assert place.told() == [("container.created", "train", "alice")]
    assert place.told("owner.") == [("owner.contradiction", "train", "alice")]


def test_nobody_waits_for_an_intent_that_is_another_containers(
    world: FakeWorld, place: Place
) -> None:
    body = {"Image": "lab/base", "Cmd": ["sleep", "1"]}
    place.book().reserve(intent(world, fingerprint=fingerprint("", body), name="other"))
    world.create("train")
    pauses: list[int] = []
    world.on_pause = lambda: pauses.append(1)
    hear(place)
    assert pauses == []


def test_a_late_commit_of_the_gateway_changes_the_owner_and_is_told(
    world: FakeWorld, place: Place
) -> None:
    place.book().reserve(intent(world, name="train"))
    one = world.create("train", {"ds01.user": "bob"})
    hear(place)
    world.step(60)
    place.sync.finish()
    assert user_of(place, one) == "bob"
    assert not place.sync.commits_seen()
    place.book().bind("t1", one, "train")
    assert place.sync.commits_seen()
    assert user_of(place, one) == "alice"
    changed = place.events("owner.changed")
    assert [(row["user"], row["details"]["was"]) for row in changed] == [("alice", "bob")]
    assert not place.sync.commits_seen()
    place.sync.sync()
    assert len(place.events("owner.changed")) == 1
    assert len(place.events("owner.contradiction")) == 1


def test_an_administrators_word_counts_at_once_and_is_taken_back(
    world: FakeWorld, place: Place
) -> None:
    one = world.create("train", {"ds01.user": "bob"}, volumes=("data",))
    hear(place)
    word = SetBy(1003, "carol", "dana", world.now())
    place.book().set_owner(CONTAINER, one, word)
    assert place.sync.commits_seen()
    assert (user_of(place, one), user_of(place, "data", VOLUME)) == ("carol", "carol")
    place.book().unset_owner(CONTAINER, one, "dana")
    assert place.sync.commits_seen()
    assert (user_of(place, one), user_of(place, "data", VOLUME)) == ("bob", "bob")


def test_what_a_gateway_that_died_had_asked_for_is_found(world: FakeWorld, place: Place) -> None:
    body = {"Image": "lab/base", "Cmd": ["sleep", "7"], "HostConfig": {}}
    for token, kind, name in (
        ("t1", CONTAINER, "train"),
        ("t2", VOLUME, "data"),
        ("t3", NETWORK, "lan"),
    ):
        marks = fingerprint(name, body) if kind == CONTAINER else {}
        place.book().reserve(intent(world, kind, token=token, name=name, fingerprint=marks))
    one = world.create("train")
    world.boxes[one].config = {"Config": {"Image": "lab/base", "Cmd": ["sleep", "7"]}}
    world.volume("data")
    net = "e" * 64
    world.event("network", "create", net, name="lan")
    world.kept[NETWORK][net] = world.kept[VOLUME]["data"].__class__(
        NETWORK, net, "lan", world.now()
    )
    hear(place)
    assert not place.sync.lost()
    place.book().orphan("g2")
    assert place.sync.lost() == {"t1", "t2", "t3"}
    place.sync.sync()
    for thing_id, kind in ((one, CONTAINER), ("data", VOLUME), (net, NETWORK)):
        found = place.book().get(kind, thing_id)
        assert found is not None and found.owner.user == "alice", kind
        assert found.made is not None and found.made.mended
    assert not place.sync.lost()


def asked(world: FakeWorld, place: Place, name: str, **labels: str) -> None:
    """alice's container is about to be made through the door."""
    body = {"Image": "lab/base", "Cmd": ["sleep", "7"], "Labels": labels}
    place.book().reserve(intent(world, name=name, fingerprint=fingerprint(name, body)))


def test_one_that_is_gone_at_once_is_still_its_makers_and_its_label_is_told(
    world: FakeWorld, place: Place
) -> None:
    asked(world, place, "train", **{"ds01.user": "bob"})
    one = world.create("train", {"ds01.user": "bob"})
    place.book().bind("t1", one, "train")
    world.destroy(one)
    hear(place)
    assert user_of(place, one) == "alice"
    assert place.told() == [
        ("container.created", "train", "alice"),
        ("container.destroyed", "train", "alice"),
    ]
    assert place.told("owner.") == [("owner.contradiction", "train", "alice")]


def test_one_that_is_gone_is_found_for_a_gateway_that_died(world: FakeWorld, place: Place) -> None:
    asked(world, place, "train", job="7")
    one = world.create("train", {"job": "7", "of-the-image": "x"})
    world.destroy(one)
    other = world.create("train", {"job": "8"})
    world.destroy(other)
    place.book().orphan("g2")
    hear(place)
    place.sync.sync()
    assert (user_of(place, one), user_of(place, other)) == ("alice", "")


@pytest.mark.parametrize("gone", [False, True])
def test_one_that_has_another_name_since_is_found_too(
    world: FakeWorld, place: Place, gone: bool
) -> None:
    asked(world, place, "train")
    one = world.create("train")
    world.boxes[one].config = {"Config": {"Image": "lab/base", "Cmd": ["sleep", "7"]}}
    world.rename(one, "test")
    if gone:
        world.destroy(one)
    hear(place)
    place.book().orphan("g2")
    place.sync.sync()
    assert user_of(place, one) == "alice"


def test_what_was_asked_for_is_found_without_a_full_look(world: FakeWorld, place: Place) -> None:
    asked(world, place, "train")
    assert not place.sync.mend()
    one = world.create("train", {"ds01.user": "bob"})
    config = {"Config": {"Image": "lab/base", "Cmd": ["sleep", "7"]}}
    world.boxes[one].config = config
    place.book().orphan("g2")
    # Its event is still on its way.
    assert place.sync.mend() and user_of(place, one) == "alice"
    hear(place)
    assert place.told() == [("container.created", "train", "alice")]
    # Of two that are alike, of which one is not recorded yet, neither is claimed.
    asked(world, place, "web")
    two = world.create("web")
    hear(place)
    three = world.create("web")
    world.boxes[two].config = world.boxes[three].config = config
    place.book().orphan("g2")
    assert not place.sync.mend()
    assert user_of(place, two) == ""


def test_of_two_that_are_gone_and_alike_neither_is_claimed(world: FakeWorld, place: Place) -> None:
    asked(world, place, "train")
    ids = [world.create("train") for _number in range(2)]
    for one in ids:
        world.destroy(one)
    place.book().orphan("g2")
    hear(place)
    place.sync.sync()
    assert [user_of(place, one) for one in ids] == ["", ""]


def test_a_label_counts_for_nothing_while_a_record_is_to_be_expected(
    world: FakeWorld, place: Place
) -> None:
    asked(world, place, "train")
    one = world.create("train", {"ds01.user": "bob"})
    world.boxes[one].config = {
        "Config": {"Image": "lab/base", "Cmd": ["sleep", "7"], "Labels": {"ds01.user": "bob"}}
    }
    hear(place)
    assert user_of(place, one) == "" and is_unfinished(place)
    assert place.told() == [("container.created", "train", "alice")]
    place.sync.finish()
    assert user_of(place, one) == ""
    place.book().orphan("g2")
    place.sync.sync()
    assert user_of(place, one) == "alice"
    place.sync.finish()
    assert not is_unfinished(place)


def test_a_label_counts_when_no_record_comes(world: FakeWorld, place: Place) -> None:
    asked(world, place, "train")
    one = world.create("train", {"ds01.user": "bob"})
    world.boxes[one].hangs = True
    hear(place)
    assert user_of(place, one) == ""
    place.book().abandon("t1")
    place.sync.finish()
    assert user_of(place, one) == "bob"
    world.step(20)
    two = world.create("train", {"ds01.user": "bob"})
    hear(place)
    assert user_of(place, two) == "bob"


# --- images, volumes and networks ------------------------------------------------------------------


def test_a_volume_that_is_made_with_a_container_goes_with_it(
    world: FakeWorld, place: Place
) -> None:
    world.create("train", {"ds01.user": "alice"}, volumes=("a" * 64,))
    hear(place)
    assert user_of(place, "a" * 64, VOLUME) == "alice"
    assert place.told("volume.") == [("volume.created", "a" * 64, "alice")]
    assert place.told("owner.") == []


def test_a_volume_that_was_there_before_is_not_taken_over(world: FakeWorld, place: Place) -> None:
    world.volume("data")
    world.step(60)
    world.create("train", {"ds01.user": "bob"}, volumes=("data",))
    hear(place)
    assert user_of(place, "data", VOLUME) == ""
    world.remove(VOLUME, "data")
    hear(place)
    found = place.book().get(VOLUME, "data")
    assert found is not None and found.gone is not None


def test_an_image_is_whose_request_names_it(world: FakeWorld, place: Place) -> None:
    for token, uid, user in (("t1", 1001, "alice"), ("t2", 1002, "bob")):
        name = f"{user}/img:1"
        place.book().reserve(
            intent(world, IMAGE, token=token, uid=uid, user=user, name=name, route="commit")
        )
    one = world.image("bob/img:1")
    hear(place)
    assert user_of(place, one, IMAGE) == "bob"
    assert place.told("image.") == [("image.tagged", "bob/img:1", "bob")]


def test_a_build_is_whose_it_alone_can_be(world: FakeWorld, place: Place) -> None:
    place.book().reserve(intent(world, IMAGE, route="build"))
    one = world.image("x:1", "load")
    hear(place)
    assert user_of(place, one, IMAGE) == "alice"
    place.book().reserve(intent(world, IMAGE, token="t2", uid=1002, user="bob", route="load"))
    two = world.image("y:1", "load")
    hear(place)
    assert user_of(place, two, IMAGE) == ""
    place.book().ended("t1", world.now())
    place.book().ended("t2", world.now())
    world.step(60)
    three = world.image("z:1", "load")
    hear(place)
    assert user_of(place, three, IMAGE) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("docker.io/library/ubuntu:latest", "ubuntu"),
        ("ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
        ("alice/img", "docker.io/alice/img:latest"),
    ],
)
def test_a_reference_has_many_spellings(one: str, other: str) -> None:
    assert reference(one) == reference(other)


def test_who_did_not_ask_for_this_image_has_not_made_it(world: FakeWorld) -> None:
    mine = intent(world, IMAGE, name="alice/img:1")
    assert only_maker([mine], {"alice/img:1"}, world.now()) == mine
    assert only_maker([mine], {"bob/img:1"}, world.now()) is None
    assert only_maker([mine], {"alice/img:1"}, world.now() - 10) is None


# --- full looks -------------------------------------------------------------------------------------


def test_what_no_event_told_is_told_by_the_look_that_finds_it(
    world: FakeWorld, place: Place
) -> None:
    old = world.create("old", {"ds01.user": "bob"})
    world.start(old)
    hear(place)
    world.die(old, 1)
    world.destroy(old)
    one = world.create("train", {"ds01.user": "alice"})
    world.start(one)
    two = world.create("web", {"ds01.user": "alice"})
    world.start(two)
    world.die(two, 3)
    world.volume("data")
    count = len(place.events())
    place.sync.sync()
    told = place.events()[count:]
    assert all(row["details"]["seen_by"] == "sync" for row in told)
    assert sorted((row["event_type"], row["details"]["name"]) for row in told) == [
        ("container.created", "train"),
        ("container.created", "web"),
        ("container.destroyed", "old"),
        ("container.died", "old"),
        ("container.died", "web"),
        ("container.started", "train"),
        ("container.started", "web"),
        ("volume.created", "data"),
    ]
    codes = {row["details"]["name"]: row["details"].get("exit_code") for row in told}
    assert codes["web"] == 3
    # The events come after all: nothing is told again.
    hear(place)
    created = [row["details"]["name"] for row in place.events("container.created")]
    assert sorted(created) == ["old", "train", "web"]


def test_what_is_about_to_be_told_is_not_taken_for_missed(world: FakeWorld, place: Place) -> None:
    one = world.create("train")
    world.volume("data")

    def settle() -> None:
        hear(place)

    place.sync.sync(settle)
    assert all("seen_by" not in row["details"] for row in place.events())
    world.boxes[one].facts = replace(world.boxes[one].facts, name="renamed")
    place.sync.sync(settle)
    renamed = place.events("container.renamed")
    assert [row["details"]["old_name"] for row in renamed] == ["train"]


def test_an_engine_that_is_away_changes_nothing(world: FakeWorld, place: Place) -> None:
    one = world.create("train", {"ds01.user": "alice"})
    hear(place)
    world.down = True
    with pytest.raises(Ds01Error, match="does not answer"):
        place.sync.sync()
    assert user_of(place, one) == "alice"


def test_a_path_out_of_reach_takes_nobodys_container(world: FakeWorld, place: Place) -> None:
    world.file("/home/alice/proj", 1001)
    one = world.create("train", mounts=[Mount("/home/alice/proj")])
    hear(place)
    assert user_of(place, one) == "alice"
    world.files["/home/alice/proj"] = PathFacts("/home/alice/proj", reachable=False)
    place.sync.sync()
    assert user_of(place, one) == "alice" and is_unfinished(place)
    world.file("/home/alice/proj", 1002)
    place.sync.finish()
    assert user_of(place, one) == "bob" and not is_unfinished(place)


def test_a_silent_directory_takes_nobodys_container(world: FakeWorld, place: Place) -> None:
    one = world.create("train", {"ds01.user": "alice"})
    hear(place)
    world.accounts.silent = True
    place.sync.sync()
    found = place.book().get(CONTAINER, one)
    assert found is not None and found.owner.uid == 1001


def test_a_store_that_cannot_be_written_loses_no_event(world: FakeWorld, place: Place) -> None:
    world.create("train")

    def full(name: str) -> None:
        if name == "decided":
            raise StoreError("the disk is full", "state.db")

    place.anew(full)
    with pytest.raises(StoreError):
        hear(place)
    place.sync.book.fault = lambda _name: None
    hear(place)
    assert place.told() == [("container.created", "train", None)]


def test_the_views_follow(world: FakeWorld, place: Place, tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path / "views"))
    settings = OwnerSettings(admin_group="docker-admins", service_users=("ds01-dashboard",))
    sync = OwnerSync(place.book(), world, publisher, settings)
    one = world.create("train", {"ds01.user": "alice"})
    sync.heard(world.sent)
    assert sync.publish()
    view = json.loads((tmp_path / "views/opa/container-owners.json").read_text())
    assert view["containers"][one[:12]]["owner"] == "alice"
    assert view["admins"] == ["dana"] and view["service_users"] == ["ds01-dashboard"]
    world.destroy(one)
    sync.heard(world.sent)
    assert sync.publish()
    view = json.loads((tmp_path / "views/opa/container-owners.json").read_text())
    assert view["containers"] == {}


def test_what_another_process_recorded_as_gone_does_not_come_back(
    world: FakeWorld, place: Place
) -> None:
    one = world.create("train")
    world.start(one)
    hear(place)
    other = OwnerSync(place.book(), world)
    world.die(one)
    world.destroy(one)
    world.step(1)
    other.sync()
    # What happened before that is told to this one late.
    hear(place, -1)
    found = place.book().get(CONTAINER, one)
    assert found is not None and found.gone is not None
    hear(place)
    assert one not in place.sync.containers


def test_made_is_never_lost_to_a_look(world: FakeWorld, place: Place) -> None:
    one = world.create("train", {"ds01.user": "bob"})
    place.book().record(CONTAINER, one, Made(1001, "alice", world.now()), name="train")
    place.sync.sync(deep=True)
    hear(place)
    assert user_of(place, one) == "alice"
