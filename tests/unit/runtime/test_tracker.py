# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that keeps records of owners, and the ear that feeds it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.owner_publish import Publisher
from ds01.core.owner_settings import OwnerSettings
from ds01.core.owners import CONTAINER, SetBy
from ds01.core.store import StoreCorrupt, StoreError
from ds01.daemon import main, tracker
from ds01.daemon.ear import Ear, Recorder
from ds01.daemon.rounds import ContainerEvent
from ds01.daemon.tracker import Tracker
from owner_engine import FakeWorld, Place

from .helper_daemon import FakeWorld as FakeHost
from .helper_daemon import Helper
from .test_daemon import eventually


class Kept:
    """A tracker with its world; ended by the fixture."""

    def __init__(self, folder: Path) -> None:
        self.world = FakeWorld()
        self.place = Place(folder, self.world)
        self.folder = folder
        self.place.sync.publisher = Publisher(str(folder), 0.05)
        self.said: list[str] = []
        self.failed: list[StoreCorrupt] = []
        self.tracker = self.made()

    def made(self, **more: Any) -> Tracker:
        self.tracker = Tracker(self.place.sync, log=self.said.append, **more)
        return self.tracker

    def begin(self) -> None:
        self.tracker.begin(self.failed.append)

    def hear(self) -> None:
        """All events that were not sent yet."""
        for event in self.world.sent:
            self.tracker.hear(event)
        self.world.sent.clear()

    def owners(self) -> dict[str, Any]:
        """By name, as published."""
        path = self.folder / "opa/container-owners.json"
        rows = json.loads(path.read_text())["containers"].values() if path.exists() else []
        return {row["name"]: row["owner"] for row in rows}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    found = Kept(tmp_path)
    yield found
    found.tracker.stop(10)
    found.place.close()


def test_what_happens_is_published_a_moment_later(kept: Kept) -> None:
    kept.begin()
    one = kept.world.create("train", {"ds01.user": "alice"})
    kept.hear()
    eventually(lambda: kept.owners() == {"train": "alice"})
    kept.place.book().set_owner(CONTAINER, one, SetBy(1002, "bob", "dana", time.time()))
    kept.tracker.commits()
    eventually(lambda: kept.owners() == {"train": "bob"})
    kept.world.destroy(one)
    kept.hear()
    eventually(lambda: kept.owners() == {})
    assert kept.tracker.fault == "" and kept.said == []


def test_what_was_there_before_is_found_at_the_start_and_on_demand(kept: Kept) -> None:
    kept.world.create("old", {"ds01.user": "bob"})
    kept.begin()
    eventually(lambda: kept.owners() == {"old": "bob"})
    kept.world.create("new")
    kept.world.sent.clear()
    assert kept.tracker.sync_now() == {"containers": 2, "unknown": 1, "faults": {}}
    assert kept.owners() == {"old": "bob", "new": None}


def test_an_inspection_that_comes_late_is_taken_in(kept: Kept) -> None:
    kept.begin()
    one = kept.world.create("train", {"ds01.user": "alice"}, restart_policy="always")
    kept.world.boxes[one].hangs = True
    kept.hear()
    eventually(lambda: kept.owners() == {"train": "alice"})
    kept.world.boxes[one].hangs = False
    eventually(lambda: "service" in (kept.folder / "containers.json").read_text())


def test_nothing_is_asked_of_the_engine_while_nothing_happens(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        kept.world.start(kept.world.create(f"box{number}"))
    kept.begin()
    eventually(lambda: len(kept.owners()) == 20)
    kept.tracker.sync_now()
    count, turns = len(kept.world.asked), list[str]()
    monkeypatch.setattr(kept.tracker, "_turn", lambda: turns.append("turn"))
    time.sleep(0.5)
    assert len(kept.world.asked) == count and turns == []


def test_an_engine_that_is_away_is_told_once_and_asked_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "RETRY_SECONDS", (0.01,))
    kept.world.down = True
    kept.world.create("train", {"ds01.user": "alice"})
    kept.world.sent.clear()
    kept.begin()
    eventually(lambda: len(kept.world.asked) > 3)
    assert "does not answer" in kept.tracker.fault and len(kept.said) == 1
    with pytest.raises(Ds01Error, match="does not answer"):
        kept.tracker.sync_now()
    kept.world.down = False
    eventually(lambda: kept.owners() == {"train": "alice"})
    eventually(lambda: kept.tracker.fault == "")


def test_events_wait_for_a_store_that_cannot_be_written(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "RETRY_SECONDS", (0.01,))
    kept.begin()
    kept.tracker.sync_now()

    def full(name: str) -> None:
        if name == "decided":
            raise StoreError("the disk is full", "state.db")

    kept.place.sync.book.fault = full
    kept.world.create("train", {"ds01.user": "alice"})
    kept.hear()
    eventually(lambda: "disk is full" in kept.tracker.fault)
    assert kept.owners() == {}
    kept.place.sync.book.fault = lambda _name: None
    eventually(lambda: kept.owners() == {"train": "alice"})
    assert [name for _type, name, _user in kept.place.told()] == ["train"]


def test_a_fault_of_ours_loses_its_batch_and_nothing_else(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.begin()
    kept.tracker.sync_now()
    heard = kept.place.sync.heard

    def fails(raw: Any) -> bool:
        monkeypatch.setattr(kept.place.sync, "heard", heard)
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(kept.place.sync, "heard", fails)
    kept.world.create("train", {"ds01.user": "alice"})
    kept.hear()
    # A full look finds what the events had told.
    eventually(lambda: kept.owners() == {"train": "alice"})
    assert "a fault of ours" in capsys.readouterr().err


def test_a_damaged_store_ends_the_thread_and_is_told(kept: Kept) -> None:
    def damaged(name: str) -> None:
        raise StoreCorrupt("it is damaged", "state.db")

    kept.place.sync.book.fault = damaged
    kept.world.create("train")
    kept.hear()
    kept.begin()
    eventually(lambda: kept.failed)
    eventually(lambda: not kept.tracker._thread.is_alive())
    with pytest.raises(Ds01Error, match="is ending"):
        kept.tracker.sync_now()


def test_views_that_cannot_be_written_are_tried_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(tracker, "PUBLISH_AGAIN_SECONDS", 0.05)
    (kept.folder / "opa").write_text("in the way")
    kept.begin()
    kept.world.create("train", {"ds01.user": "alice"})
    kept.hear()
    eventually(lambda: "cannot be published" in kept.tracker.fault)
    (kept.folder / "opa").unlink()
    eventually(lambda: kept.owners() == {"train": "alice"})
    eventually(lambda: kept.tracker.fault == "")


def test_settings_are_read_with_each_look_and_bad_ones_change_nothing(kept: Kept) -> None:
    settings = [OwnerSettings(service_users=("ds01-dashboard",))]

    def read() -> OwnerSettings:
        if not settings:
            raise Ds01Error("this is no owner settings file", "/etc/ds01/owners.json")
        return settings[0]

    kept.made(settings=read)
    kept.begin()
    path = kept.folder / "opa/container-owners.json"
    kept.tracker.sync_now()
    assert json.loads(path.read_text())["service_users"] == ["ds01-dashboard"]
    settings.clear()
    kept.tracker.sync_now()
    assert json.loads(path.read_text())["service_users"] == ["ds01-dashboard"]
    assert "this is no owner settings file" in kept.said[0]


def test_the_past_is_forgotten_after_its_time(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "FORGET_SECONDS", 0.0)
    one = kept.world.create("train")
    kept.world.destroy(one)
    kept.made(settings=lambda: OwnerSettings(history_seconds=3600.0))
    monkeypatch.setattr(tracker.time, "time", lambda: kept.world.clock + 3599)
    kept.place.sync.heard([kept.world.event("container", "destroy", one, name="train")])
    kept.begin()
    kept.tracker.sync_now()
    assert kept.place.book().get(CONTAINER, one) is not None
    monkeypatch.setattr(tracker.time, "time", lambda: kept.world.clock + 3601)
    kept.tracker.sync_now()
    assert kept.place.book().get(CONTAINER, one) is None


def test_events_are_wanted_from_where_the_book_left_off(kept: Kept) -> None:
    assert kept.tracker.since() is None
    kept.world.create("train")
    nano = kept.world.sent[-1]["timeNano"]
    kept.place.sync.heard(kept.world.sent)
    now = time.time_ns()
    # The wall clock was set back: from the future nothing would ever come.
    assert nano > now and kept.tracker.since() is None
    kept.tracker.hear({"Actor": {}, "timeNano": now})
    assert kept.tracker.since() == f"{(now - 10**9) // 10**9}.{(now - 10**9) % 10**9:09d}"


def test_what_the_engine_remembers_spares_a_look_at_each_container(kept: Kept) -> None:
    now = time.time_ns()
    kept.tracker.hear({"Actor": {}, "timeNano": now})
    kept.tracker.since()
    kept.tracker.listening()
    assert kept.tracker._deep
    kept.tracker.hear({"Actor": {}, "timeNano": now})
    assert not kept.tracker._deep


def test_an_event_that_was_too_long_makes_it_look(kept: Kept) -> None:
    kept.begin()
    kept.tracker.sync_now()
    kept.world.create("train", {"ds01.user": "alice"})
    kept.world.sent.clear()
    kept.tracker.hear({"Type": "", "Action": "dropped"})
    eventually(lambda: kept.owners() == {"train": "alice"})


def test_more_events_than_it_holds_make_it_look(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "QUEUE_MOST", 3)
    for number in range(5):
        kept.world.create(f"box{number}")
    kept.hear()
    assert len(kept.tracker._events) == 3
    kept.begin()
    eventually(lambda: len(kept.owners()) == 5)


def test_a_volume_waits_a_moment_for_its_container(kept: Kept) -> None:
    kept.begin()
    kept.tracker.sync_now()
    kept.world.create("train", {"ds01.user": "alice"}, volumes=("data",))
    volume, container = kept.world.sent
    kept.tracker.hear(volume)
    kept.tracker.hear(container)
    eventually(lambda: kept.place.told("volume."))
    assert kept.place.told("volume.") == [("volume.created", "data", "alice")]


# --- the ear ----------------------------------------------------------------------------------------


class Listener(Recorder):
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.from_then: str | None = None

    def since(self) -> str | None:
        return self.from_then

    def listening(self) -> None:
        self.heard.append("listening")

    def hear(self, event: Mapping[str, Any]) -> None:
        self.heard.append((event.get("Type"), event["Action"]))


def says(action: str, kind: str = "container", nano: int | None = None) -> dict[str, Any]:
    actor = {"ID": "c" * 64}
    at = time.time_ns() + 10**9 if nano is None else nano
    return {"Type": kind, "Action": action, "Actor": actor, "timeNano": at}


class Talking(FakeHost):
    def __init__(self, told: Sequence[dict[str, Any] | None]) -> None:
        super().__init__()
        self.told = told
        self.asked: list[str | None] = []

    def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
        self.asked.append(since)
        yield None
        yield from self.told


def listened(told: Sequence[dict[str, Any] | None], most: int) -> tuple[list[str], Listener]:
    """Actions that the leases heard, and what the recorder did."""
    actions: list[str] = []
    listener = Listener()
    listener.from_then = "17.000000001"
    host = Talking(told)

    def tell(event: ContainerEvent) -> bool:
        actions.append(event.action)
        return len(actions) < most

    Ear(host, tell, recorder=listener).listen()
    assert host.asked == ["17.000000001"]
    return actions, listener


def test_one_connection_serves_leases_and_records() -> None:
    told = [says("create"), None, says("create", "volume"), says("oom"), says("die")]
    actions, listener = listened(told, 3)
    assert actions == ["", "create", "die"]
    assert listener.heard == [
        "listening",
        ("container", "create"),
        ("volume", "create"),
        ("container", "oom"),
        ("container", "die"),
    ]


def test_what_happened_before_is_news_to_the_records_alone() -> None:
    told = [says("die", nano=5), says("start", nano=6), says("die")]
    actions, listener = listened(told, 2)
    assert actions == ["", "die"]
    assert listener.heard[1:] == [("container", a) for a in ("die", "start", "die")]


def test_a_clock_that_was_set_back_makes_leases_deaf_for_seconds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ds01.daemon.ear.REPLAY_SECONDS", -1.0)
    assert listened([says("die", nano=5)], 2)[0] == ["", "die"]


# --- in the daemon ----------------------------------------------------------------------------------


def running(tmp_path: Path, world: FakeWorld) -> tuple[Helper, Tracker]:
    helper = Helper(tmp_path)
    (tmp_path / "cdi").mkdir()
    found = main.make_tracker(
        helper.book().store, world, str(tmp_path / "state"), helper.events_path, OwnerSettings
    )
    helper.tracker = found
    return helper, found


def test_the_daemon_publishes_owners_and_follows_commits(tmp_path: Path) -> None:
    world = FakeWorld()
    one = world.create("train", {"ds01.user": "alice"})
    helper, found = running(tmp_path, world)
    path = tmp_path / "state/opa/container-owners.json"

    def owner() -> Any:
        rows = json.loads(path.read_text())["containers"] if path.exists() else {}
        return rows.get(one[:12], {}).get("owner")

    with helper.running():
        eventually(lambda: owner() == "alice")
        assert helper.ask("owners_sync", "dana")["sync"]["containers"] == 1
        answer = helper.ask("owner_set", "dana", ref="train", user="bob", reason="his")
        assert "error" not in answer, answer
        eventually(lambda: owner() == "bob")
    assert not found._thread.is_alive()
    helper.close()


def test_a_tracker_that_fails_stops_no_lease(tmp_path: Path) -> None:
    world = FakeWorld()
    world.down = True
    helper, found = running(tmp_path, world)
    with helper.running():
        eventually(lambda: found.fault)
        assert helper.ask("request", "alice")["granted"]["state"] == "reserved"
    helper.close()
