# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon and systemd, its threads, and a store that cannot be used."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ds01.core import store
from ds01.core.errors import Ds01Error
from ds01.core.events import Event
from ds01.core.gpus import DRIVER_RESTARTING
from ds01.core.sightings import START, Action
from ds01.daemon import main, systemd
from ds01.daemon.ear import Ear
from ds01.daemon.protocol import RequestError
from ds01.daemon.rounds import ContainerEvent, Rounds, Starts
from ds01.daemon.systemd import Notifier, notifier, passed_sockets, watchdog_seconds
from ds01.daemon.worker import Worker
from ds01.threads import Bounded, Hung

from .helper_daemon import FakeWorld, Helper
from .test_daemon import eventually


def test_the_socket_that_systemd_passes_is_taken_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", os.dup(listener.fileno()))
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a"}
        (passed,) = passed_sockets(environment)
        with passed:
            assert passed.getsockname() == str(tmp_path / "s")
            assert not passed.get_inheritable()
        assert environment == {}


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    assert passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
    assert passed_sockets({}) == []
    assert passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == []


def test_systemd_hears_how_it_goes(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        notifier(environment).tell(READY=1, STATUS="serving")
        assert listener.recv(4096) == b"READY=1\nSTATUS=serving"
        assert environment == {}


def test_nobody_listens_and_nothing_happens(tmp_path: Path) -> None:
    Notifier("").tell(READY=1)
    Notifier(str(tmp_path / "nobody")).tell(READY=1)


def test_the_watchdog_counts_only_for_the_process_it_is_meant_for() -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000"}) == 60.0
    assert watchdog_seconds({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({}) is None


def test_a_job_that_fails_fails_for_its_giver_alone() -> None:
    worker = Worker()
    worker.start()

    def fail() -> None:
        raise Ds01Error("no")

    with pytest.raises(Ds01Error, match="no"):
        worker.submit(fail).result(10)
    assert worker.submit(lambda: 7).result(10) == 7
    assert worker.stop(10)


def test_a_worker_with_too_much_to_do_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds01.daemon.worker.JOBS_MAX", 1)
    worker = Worker()
    worker.submit(lambda: None)
    with pytest.raises(RequestError, match="more to do"):
        worker.submit(lambda: None)


def test_a_job_that_does_not_end_is_seen() -> None:
    worker, go = Worker(), threading.Event()
    assert worker.stalled_for() == float("inf")
    worker.start()
    job = worker.submit(go.wait)
    before = worker.stalled_for()
    eventually(lambda: worker.stalled_for() > before)
    go.set()
    assert job.result(10)


def test_calls_that_hang_are_left_behind_and_never_too_many() -> None:
    bounded, go = Bounded("NVML", 1), threading.Event()
    with pytest.raises(Hung, match="no answer"):
        bounded.call(go.wait, 0.01)
    with pytest.raises(Hung, match="earlier calls"):
        bounded.call(lambda: 7, 10)
    go.set()

    def again() -> bool:
        try:
            return bounded.call(lambda: True, 10)
        except Hung:
            return False

    assert eventually(again)


def test_a_driver_that_hangs_hands_out_nothing(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    rounds = Rounds(helper.book(), helper.world, lambda _lease: None, nvml_seconds=0.01)
    helper.world.hang.clear()
    found = rounds.gpus()
    helper.world.hang.set()
    assert found.state == DRIVER_RESTARTING and "no answer" in found.reason


def test_an_engine_that_is_down_frees_nothing(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    with helper.running():
        lease = helper.ask("request", "alice")["granted"]
        helper.world.seen = None
        answer = helper.ask("reconcile", "root")
        assert answer["engine"] != "ok"
        assert helper.ask("status")["leases"][0]["id"] == lease["id"]
        error = helper.ask("release", "alice")["error"]
        assert error["code"] == "host" and "engine" in error["what"]
    helper.close()


def test_a_container_that_does_not_start_is_tried_less_and_less_often() -> None:
    now = [0.0]
    told: list[Event] = []
    world = FakeWorld()
    world.start_error = Ds01Error("no such image")
    starts = Starts(world, told.append, lambda: now[0])
    action = Action(START, "l1", "c" * 64, "train")
    pauses = []
    for _turn in range(10):
        starts.try_one(action)
        pauses.append(told[-1].details["next_try_seconds"])
        assert starts.not_now() == ["c" * 64]
        now[0] += pauses[-1]
        assert starts.not_now() == []
    assert pauses[:3] == [30.0, 60.0, 120.0] and pauses[-1] == 3600.0
    world.start_error = None
    starts.try_one(action)
    assert told[-1].event_type == "gpu.container_started"
    assert world.started == ["c" * 64] and starts.not_now() == []


def test_an_engine_that_is_away_is_listened_for_less_and_less_often() -> None:
    class Away(FakeWorld):
        def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
            raise Ds01Error("the engine does not answer")

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ear(Away(), lambda _event: True, sleep).listen()
    assert pauses == [1.0, 2.0, 5.0, 10.0, 30.0, 30.0, 30.0]


def test_the_ear_ends_when_nobody_wants_to_be_told() -> None:
    class Talking(FakeWorld):
        def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
            yield None
            yield {"Type": "container", "Action": "start", "Actor": {"ID": "c" * 64}}

    heard: list[ContainerEvent] = []

    def tell(event: ContainerEvent) -> bool:
        heard.append(event)
        return len(heard) < 2

    Ear(Talking(), tell).listen()
    assert [event.action for event in heard] == ["", "start"]


# --- the store ------------------------------------------------------------------------------------


def test_a_damaged_store_is_set_aside_and_made_anew_with_an_event(tmp_path: Path) -> None:
    path, log = tmp_path / "state.db", tmp_path / "events.jsonl"
    path.write_bytes(b"no database" * 1000)
    main.open_or_rebuild(str(path), str(log)).close()
    assert store.version_of(str(path)) == store.VERSION
    aside = [name for name in os.listdir(tmp_path) if ".corrupt-" in name]
    assert len(aside) == 1
    event = json.loads(log.read_text())
    assert event["event_type"] == "store.rebuilt"
    assert event["details"]["set_aside"] == [str(tmp_path / aside[0])]


def test_a_missing_store_is_made_anew_with_an_event(tmp_path: Path) -> None:
    path, log = tmp_path / "state.db", tmp_path / "events.jsonl"
    main.open_or_rebuild(str(path), str(log)).close()
    assert store.version_of(str(path)) == store.VERSION
    assert json.loads(log.read_text())["event_type"] == "store.rebuilt"


def test_a_store_that_disappears_ends_the_daemon_for_a_new_start(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    helper.expected_status = 1
    with helper.running() as daemon:
        os.unlink(helper.store_path)
        eventually(lambda: daemon.failure)
    helper.close()


def test_a_new_release_in_force_ends_the_daemon_for_a_new_start(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    link, new = tmp_path / "etc" / "current", tmp_path / "etc" / "new"
    link.symlink_to("1.0.0")
    with helper.running() as daemon:
        new.symlink_to("1.1.0")
        os.replace(new, link)
        eventually(daemon.ending.is_set)
    helper.close()


def test_a_store_of_another_version_is_refused_in_words_and_taken_up_when_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(store.StoreVersion) as caught:
        main.open_or_rebuild(path, str(tmp_path / "events.jsonl"))
    monkeypatch.setattr(main, "AGAIN_SECONDS", 0.05)
    helper = Helper(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(helper.path)
        listener.listen(8)
        status: list[int] = []

        def serve() -> None:
            refusing = main.refuse(
                listener, caught.value, Notifier(""), None, path, helper.who, signals=False
            )
            status.append(asyncio.run(refusing))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for verb in ("ping", "status", "request"):
            error = helper.ask(verb, "alice")["error"]
            assert error["code"] == "store" and "version 9" in error["what"]
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version={store.VERSION}")
        connection.close()
        thread.join(20)
        assert status == [0]
