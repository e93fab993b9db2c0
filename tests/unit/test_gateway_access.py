# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway writes down: bounded, never in anybody's way, and nothing silently lost."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ds01.core.callers import ENFORCE, Caller
from ds01.core.event_reading import iter_events
from ds01.core.events import MAX_LINE_BYTES
from ds01.door_refusals import DoorRefusals, read_refusals, write_refusals
from ds01.gateway import access, line_shares
from ds01.gateway.access import AccessLog, Entry
from ds01.gateway.counters import BUCKETS, Counters, bucket
from ds01.host.peer import Peer

ALICE = Caller(1001, "alice", "student", ENFORCE)
PEER = Peer(4711, 1001, 1001, frozenset({1001}), "/user.slice/user-1001.slice/session-3.scope")
ROOT_IN_CONTAINER = Peer(4712, 0, 0, frozenset({0}), "/docker/x")


def entry(**changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "caller": ALICE,
        "peer": PEER,
        "method": "GET",
        "route": "container_list",
        "kind": "read",
        "path": "/containers/json",
        "decision": "allow",
        "rule": "",
        "status": 200,
        "seconds": 0.0123,
        "sent": 100,
        "received": 7,
    }
    return Entry(**{**fields, **changes})


def denied(**changes: Any) -> Entry:
    fields = {"decision": "deny", "rule": "endpoint.unknown", "status": 403, "what": "no such"}
    return entry(**{**fields, "remedy": "Ask", **changes})


class Log:
    """An access log in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counters = Counters(str(folder / "counters.json"))
        self.log = self.make()

    def make(self, path: str = "") -> AccessLog:
        where = path or str(self.folder / "access.jsonl")
        names = ("events.jsonl", "refusals.json")
        events, refusals = (str(self.folder / name) for name in names)
        return AccessLog(where, events, self.counters, refusals)

    def run(self, *entries: Entry) -> None:
        """Record and end."""
        self.log.start()
        for one in entries:
            self.log.record(one)
        self.log.stop()

    def lines(self, name: str = "access.jsonl") -> list[dict[str, Any]]:
        return list(iter_events(str(self.folder / name)))

    def values(self, name: str) -> dict[str, float]:
        record = json.loads((self.folder / "counters.json").read_text())
        return {
            " ".join(row["labels"].values()): row["value"]
            for row in record["counters"]
            if row["name"] == name
        }


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(access, "BATCH_SECONDS", 0.01)
    made = Log(tmp_path)
    yield made
    made.log.stop()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def test_each_request_is_a_line_with_who_what_and_how_it_went(log: Log) -> None:
    inside = Caller(1001, "alice", "student", ENFORCE, container="c" * 64)
    log.run(entry(), entry(caller=inside, note="cut"), entry(caller=None, peer=ROOT_IN_CONTAINER))
    first, second, third = log.lines()
    assert (first["event_type"], first["source"]) == ("gateway.access", "ds01-gateway")
    assert first["user"] == "alice"
    assert first["details"] == {
        "uid": 1001,
        "method": "GET",
        "route": "container_list",
        "class": "read",
        "path": "/containers/json",
        "decision": "allow",
        "status": 200,
        "ms": 12.3,
        "sent": 100,
        "received": 7,
    }
    assert second["details"]["container"] == "c" * 12 and second["details"]["note"] == "cut"
    assert "user" not in third and third["details"]["cgroup"] == "/docker/x"


def test_whatever_is_asked_a_line_stays_a_line(log: Log) -> None:
    odd = "/x" * 5000 + '"\n\x00\udcff'
    log.run(entry(path=odd, method="G" * 9000, note=odd, rule="r"), denied(what=odd, path=odd))
    raw = (log.folder / "access.jsonl").read_bytes().splitlines(keepends=True)
    assert len(raw) == 2 and all(len(line) < MAX_LINE_BYTES for line in raw)
    assert len(log.lines()) == 2 and len(log.lines("events.jsonl")) == 1


def test_a_full_queue_drops_and_says_how_many(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "QUEUE_MAX", 10)
    for _n in range(25):
        log.log.record(entry())
    assert log.log.waiting == 10
    log.run()
    lines = log.lines()
    assert [line["event_type"] for line in lines] == ["gateway.access"] * 10 + [access.DROPPED]
    assert lines[-1]["details"] == {"dropped": 15, "lost": 0}
    assert log.values("access_dropped") == {"": 15}


def test_a_full_disk_stops_nothing_and_is_said_when_there_is_room(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = os.write, threading.Event()
    full.set()

    def no_space(descriptor: int, data: bytes) -> int:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("ds01.core.events.os.write", no_space)
    log.log.start()
    for _n in range(5):
        log.log.record(denied())
    until(lambda: log.log.waiting == 0)
    until(lambda: log.log._counted == 5)
    full.clear()
    log.log.record(entry())
    log.log.stop()
    lines = log.lines()
    assert sorted(line["event_type"] for line in lines) == ["gateway.access", access.DROPPED]
    told = next(line for line in lines if line["event_type"] == access.DROPPED)
    assert told["details"] == {"dropped": 0, "lost": 5}
    assert log.values("access_dropped") == {"": 5}
    assert log.values("refusals") == {"endpoint.unknown deny": 5}


def test_a_loop_of_refusals_leaves_two_events(log: Log) -> None:
    log.run(*[denied() for _n in range(500)], denied(rule="other"), entry(decision="would_deny"))
    events = log.lines("events.jsonl")
    of_rule = [e for e in events if e["details"].get("rule") == "endpoint.unknown"]
    assert [e["event_type"] for e in of_rule] == ["gateway.denied"] * 2
    assert [e["details"].get("repeated") for e in of_rule] == [None, 499]
    assert of_rule[0]["details"]["what"] == "no such" and of_rule[0]["user"] == "alice"
    assert [e["event_type"] for e in events if e not in of_rule] == [
        "gateway.denied",
        "gateway.would_deny",
    ]
    assert len(log.lines()) == 502


def test_a_flood_of_one_user_fills_no_disk_and_hides_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_shares, "READS_EACH_MINUTE", 20)
    bob = Caller(1002, "bob", "student", ENFORCE)
    flood = [entry(route="ping") for _n in range(100)]
    log.run(*flood, entry(kind="change", route="container_create"), entry(caller=bob))
    lines = log.lines()
    assert [line["details"]["route"] for line in lines[:-1]] == ["ping"] * 20 + [
        "container_create",
        "container_list",
    ]
    assert lines[-1]["event_type"] == access.LEFT_OUT and lines[-1]["user"] == "alice"
    assert lines[-1]["details"] == {"uid": 1001, "class": "read", "left_out": 80}
    assert log.values("access_left_out") == {"": 80}
    assert log.values("requests")["ping read allow 2xx"] == 100


def test_a_users_share_of_lines_comes_back_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_shares, "OTHERS_EACH_MINUTE", 2)
    shares = line_shares.LineShares()
    assert [shares.take(1001, "alice", False, 0.0) for _n in range(4)] == [True, True, False, False]
    assert list(shares.ended(59.0)) == []
    assert list(shares.ended(60.0)) == [((1001, "alice", False), 2)]
    assert shares.take(1001, "alice", False, 61.0)
    assert list(shares.ended(121.0)) == []


def test_refusals_that_go_on_are_told_each_minute(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REPEAT_SECONDS", 0.05)
    log.log.start()
    for _n in range(3):
        log.log.record(denied())
    until(lambda: len(log.lines("events.jsonl")) == 2)
    until(lambda: not log.log._repeats)
    log.log.record(denied())
    until(lambda: len(log.lines("events.jsonl")) == 3)
    assert [e["details"].get("repeated") for e in log.lines("events.jsonl")] == [None, 2, None]


def test_users_without_number_fill_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_REPEATS_MAX", 20)
    monkeypatch.setattr(access, "KEPT", 10)
    callers = [Caller(uid, f"u{uid}", "student", ENFORCE) for uid in range(2000, 2100)]
    log.run(*[denied(caller=one) for one in callers])
    assert len(log.lines("events.jsonl")) == 20
    assert log.values("events_left_out") == {"": 80}
    assert sorted(read_refusals(str(log.folder / "refusals.json"))) == list(range(2090, 2100))


def test_the_last_refusal_of_a_user_can_be_read_by_root_alone(log: Log) -> None:
    log.run(denied(what="first"), denied(what="last"), denied(caller=None))
    path = log.folder / "refusals.json"
    assert path.stat().st_mode & 0o777 == 0o600
    found = read_refusals(str(path))
    assert list(found) == [1001]
    assert {**found[1001], "timestamp": ""} == {
        "what": "last",
        "where": "endpoint.unknown",
        "remedy": "Ask",
        "timestamp": "",
    }
    # A gateway that starts anew keeps them.
    after = log.make()
    after.start()
    after.record(denied(caller=Caller(1002, "bob", "student", ENFORCE), what="", remedy=""))
    after.stop()
    found = read_refusals(str(path))
    assert found[1001]["what"] == "last"
    assert found[1002]["what"] == "GET /containers/json was refused"


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1, "refusals": {"x": 1}}'])
def test_a_damaged_file_of_refusals_tells_of_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "refusals.json"
    assert DoorRefusals(str(path)).of(1001) is None
    path.write_text(text)
    assert DoorRefusals(str(path)).of(1001) is None


def test_refusals_are_read_when_they_change(tmp_path: Path) -> None:
    path = str(tmp_path / "refusals.json")
    row = {"what": "a", "where": "b", "remedy": "c", "timestamp": "d"}
    write_refusals({1001: row}, path)
    door = DoorRefusals(path)
    assert door.of(1001) == row and door.of(1002) is None
    write_refusals({1002: row}, path)
    assert door.of(1001) is None and door.of(1002) == row


def test_counters_add_up_by_class_decision_and_status(log: Log) -> None:
    entries = [entry(), entry(seconds=30.0), entry(status=404), denied(route="", kind="")]
    log.run(*entries)
    assert log.values("requests") == {
        "container_list read allow 2xx": 2,
        "container_list read allow 4xx": 1,
        "none none deny 4xx": 1,
    }
    assert log.values("durations") == {"read 0.02": 2, "read 60": 1, "none 0.02": 1}
    assert log.values("seconds")["read"] == pytest.approx(30.0246)
    assert log.values("bytes_sent") == {"read": 300, "none": 100}
    assert log.values("bytes_received") == {"read": 21, "none": 7}


def test_counters_are_published_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    connections = {"connections": 1.0}
    counters = Counters(str(path), lambda: connections, lambda: {"limits_in_force": True})
    counters.count("accepted")
    counters.publish()
    record = json.loads(path.read_text())
    assert record["schema"] == 1 and record["started"] <= record["published"]
    assert record["counters"] == [{"name": "accepted", "labels": {}, "value": 1}]
    assert record["gauges"] == {"connections": 1.0}
    assert record["status"] == {"limits_in_force": True}
    inode = path.stat().st_ino
    counters.publish()
    assert path.stat().st_ino == inode
    connections["connections"] = 2.0
    counters.publish()
    assert json.loads(path.read_text())["gauges"] == {"connections": 2.0}


def test_a_counters_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counters = Counters(str(tmp_path / "none" / "counters.json"))
    counters.count("accepted")
    counters.publish()
    counters.publish()
    assert capsys.readouterr().err.count("counters.json") == 1
    (tmp_path / "none").mkdir()
    counters.publish()
    assert (tmp_path / "none" / "counters.json").exists()


def test_counters_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds01.gateway.counters._SERIES_MAX", 3)
    counters = Counters("")
    for n in range(10):
        counters.count("x", label=str(n))
        counters.count("x", label="0")
    assert len(counters._values) == 3 and counters._values["x", (("label", "0"),)] == 11


def test_numbers_from_many_threads_add_up() -> None:
    counters = Counters("")

    def count() -> None:
        for _n in range(2000):
            counters.count("x")

    threads = [threading.Thread(target=count) for _t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters._values["x", ()] == 8000


def test_a_duration_is_in_the_class_of_its_bound() -> None:
    assert [bucket(seconds) for seconds in (0, 0.001, 0.0011, 60, 61)] == [
        "0.001",
        "0.001",
        "0.005",
        "60",
        "+Inf",
    ]
    assert list(BUCKETS) == sorted(BUCKETS)


def test_an_odd_entry_takes_no_other_with_it(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.run(entry(), entry(seconds="no number"), entry())
    assert [line["event_type"] for line in log.lines()] == ["gateway.access"] * 2 + [access.DROPPED]
    assert "TypeError" in capsys.readouterr().err
