# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor says of owners, and of an event log that is silent while the engine is not."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ds01.core.book_log import commit_event
from ds01.core.errors import Ds01Error
from ds01.core.events import Event, append
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_settings import OwnerSettings
from ds01.core.owners import CONTAINER, Made, Record
from ds01.core.store import migrate, open_store
from ds01.daemon.owner_views import short
from ds01.doctor import event_log
from ds01.doctor.event_log import check_event_log, check_silence
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine
from ds01.doctor.owners import OwnerFacts, check_owners

NOW = time.time()
DAY = 86400.0


class Host:
    """A host whose daemon and engine have run for a day, and have met."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.machine = machine
        self.log = machine.paths.events
        path = str(folder / "state.db")
        migrate(path)
        self.store = open_store(path)
        self.book = OwnerBook(self.store, self.log)
        self.published = folder / "container-owners.json"
        self.publish(NOW)
        self.daemon_up: float | None = DAY
        self.engine_up: float | None = DAY
        self.events: list[dict[str, Any]] = []
        self.fault = ""
        self.engine_down = False
        machine.owners = OwnerFacts(
            self._owners,
            lambda: self.store,
            self._remembered,
            lambda: self.daemon_up,
            lambda: self.engine_up,
            OwnerSettings,
            str(self.published),
            lambda: NOW,
        )

    def publish(self, at: float) -> None:
        stamp = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.published.write_text(json.dumps({"containers": {}, "updated_at": stamp}))

    def known_for(self, seconds: float) -> None:
        """Containers have been recorded for so long."""
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO things (kind, id, name, parent, state, created, known, updated, owner, "
                "origin, undecided) VALUES ('container', 'x', '', '', '', 0, ?, 0, '{}', '{}', 0)",
                (NOW - seconds,),
            )

    def engine(self, ago: float, action: str = "start") -> None:
        """The engine told something of a container."""
        nano = int((NOW - ago) * 1e9)
        actor = {"ID": "c" * 64, "Attributes": {"name": "train"}}
        event = {"Type": "container", "Action": action, "Actor": actor, "timeNano": nano}
        self.events.append(event)

    def logged(self, ago: float, event_type: str = "container.started") -> None:
        """Something is in the log."""
        moment = datetime.fromtimestamp(NOW - ago, timezone.utc)
        append(self.log, Event(event_type, "ds01d", timestamp=moment))

    def silence(self) -> list[Finding]:
        return list(check_silence(self.machine))

    def owners(self) -> list[Finding]:
        return list(check_owners(self.machine))

    def _owners(self) -> Mapping[str, Any]:
        things = [short(record) for record in self.book.records(CONTAINER)]
        return {"things": things, "fault": self.fault}

    def _remembered(self, since: float, until: float) -> Sequence[Mapping[str, Any]]:
        if self.engine_down:
            raise ConnectionError("refused")
        return [one for one in self.events if since <= one["timeNano"] / 1e9 <= until]


@pytest.fixture
def host(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(event_log, "LOOK_AGAIN_SECONDS", 0.05)
    return Host(tmp_path, machine)


# --- a silent log --------------------------------------------------------------------------------


def test_a_log_that_tells_what_the_engine_told_is_no_finding(host: Host) -> None:
    host.known_for(DAY)
    host.engine(300)
    host.engine(100, "die")
    host.logged(300)
    host.logged(100, "container.died")
    assert host.silence() == []


def test_a_log_that_is_silent_while_the_engine_is_not_is_an_error(host: Host) -> None:
    host.known_for(DAY)
    host.logged(900)
    host.logged(10, "limits.applied")
    for ago in (800, 700, 60):
        host.engine(ago)
    (finding,) = host.silence()
    assert finding.severity is Severity.ERROR and finding.where == host.log
    assert "3 event(s) of containers, the last 60 s ago, are not in the log" in finding.what
    assert finding.what.endswith("; ds01d has not heard of them")
    assert "restart ds01d" in finding.remedy


def test_a_log_that_lost_what_the_daemon_heard_says_so(host: Host) -> None:
    host.known_for(DAY)
    host.engine(60)
    host.book.apply([], [], int((NOW - 60) * 1e9))
    (finding,) = host.silence()
    assert "; ds01d has heard of them" in finding.what


def test_an_idle_host_is_no_finding(host: Host) -> None:
    assert host.silence() == []
    host.known_for(DAY)
    assert host.silence() == []
    host.logged(5000)
    assert host.silence() == []


def test_what_is_on_its_way_is_no_finding(host: Host) -> None:
    host.known_for(DAY)
    host.logged(900)
    host.engine(20)
    assert host.silence() == []


def test_what_was_before_anybody_looked_is_no_finding(host: Host) -> None:
    host.engine(400)
    host.daemon_up = 90.0
    assert host.silence() == []
    host.known_for(90)
    assert host.silence() == []
    host.daemon_up = None
    assert host.silence() == []


def test_a_daemon_that_catches_up_after_a_start_is_no_finding(host: Host) -> None:
    host.known_for(DAY)
    host.logged(900)
    host.engine(100)
    host.daemon_up = 5.0
    assert host.silence() == []
    host.engine(700)
    assert "1 event(s)" in host.silence()[0].what


def test_an_engine_that_is_down_or_has_forgotten_is_no_finding(host: Host) -> None:
    host.known_for(DAY)
    host.engine(60)
    host.engine_down = True
    assert host.silence() == []
    host.engine_down, host.events = False, []
    assert host.silence() == []


@pytest.mark.parametrize("suffix", [".1", ".2.gz"])
def test_right_after_a_rotation_the_part_before_counts(host: Host, suffix: str) -> None:
    host.known_for(DAY)
    host.engine(60)
    host.logged(60)
    text = Path(host.log).read_bytes()
    if suffix.endswith(".gz"):
        Path(host.log + ".2.gz").write_bytes(gzip.compress(text))
        Path(host.log + ".1").write_bytes(b"")
    else:
        Path(host.log + ".1").write_bytes(text)
    Path(host.log).write_bytes(b"")
    assert host.silence() == []
    os.unlink(host.log)
    assert host.silence() == []
    assert list(check_event_log(host.machine)) == []


def test_other_things_that_the_engine_tells_are_no_finding(host: Host) -> None:
    host.known_for(DAY)
    host.logged(900)
    for action in ("exec_create: sh", "exec_die", "top", "attach", "health_status: healthy"):
        host.engine(60, action)
    host.events.append({"Type": "network", "Action": "connect", "timeNano": int(NOW * 1e9)})
    host.events.append({"Type": "", "Action": "dropped", "timeNano": 0})
    assert host.silence() == []


def test_what_a_full_look_told_a_little_earlier_is_no_finding(host: Host) -> None:
    host.known_for(DAY)
    host.engine(60)
    host.logged(62)
    assert host.silence() == []


def test_events_that_stay_in_the_store_are_an_error(host: Host) -> None:
    assert host.silence() == []
    with host.store.transaction() as connection:
        for _number in range(3):
            commit_event(connection, Event("container.started", "ds01d"))
    (finding,) = host.silence()
    assert "3 event(s) are recorded and do not get into the event log" in finding.what
    assert finding.severity is Severity.ERROR and "lsattr" in finding.remedy


def test_events_that_are_being_logged_are_no_finding(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host.store.transaction() as connection:
        commit_event(connection, Event("container.started", "ds01d"))

    def others_go_on(_seconds: float) -> None:
        with host.store.transaction() as connection:
            connection.execute("DELETE FROM outbox")
            commit_event(connection, Event("container.died", "ds01d"))

    monkeypatch.setattr(time, "sleep", others_go_on)
    assert host.silence() == []


def test_a_log_that_has_been_missing_for_long_is_still_found(host: Host) -> None:
    os.unlink(host.log)
    (finding,) = check_event_log(host.machine)
    assert "No such file" in finding.what


# --- owners --------------------------------------------------------------------------------------


def test_owners_as_they_should_be_are_no_finding(host: Host) -> None:
    host.book.record(CONTAINER, "a" * 64, Made(1001, "alice", NOW), name="train")
    assert host.owners() == []


def test_a_missing_or_unreadable_view_is_an_error(host: Host) -> None:
    for text in ("{", "[]", '{"updated_at": 7}', '{"updated_at": "soon"}', "{}"):
        host.published.write_text(text)
        (finding,) = host.owners()
        assert finding.severity is Severity.ERROR and "cannot be read" in finding.what, text
    host.published.unlink()
    (finding,) = host.owners()
    assert "the file is missing" in finding.what and finding.where == str(host.published)


def test_a_stale_view_is_a_warning(host: Host) -> None:
    host.publish(NOW - 600)
    assert host.owners() == []
    host.publish(NOW - 1200)
    (finding,) = host.owners()
    assert finding.severity is Severity.WARNING
    assert "20 min old, and are to be compared with the engine every 5 min" in finding.what


@pytest.mark.parametrize(
    ("daemon_up", "engine_up"), [(None, DAY), (5.0, DAY), (DAY, None), (DAY, 5.0), (None, None)]
)
def test_nothing_is_late_while_daemon_or_engine_are_not_there_for_long(
    host: Host, daemon_up: float | None, engine_up: float | None
) -> None:
    host.daemon_up, host.engine_up, host.fault = daemon_up, engine_up, "no answer"
    host.publish(NOW - 5 * DAY)
    assert host.owners() == []
    host.published.unlink()
    assert host.owners() == []


def test_a_fault_of_the_tracker_is_a_warning(host: Host) -> None:
    host.fault = "image: the engine does not answer"
    (finding,) = host.owners()
    assert finding.severity is Severity.WARNING and host.fault in finding.what


def test_unknown_and_contradicted_owners_are_notices(host: Host) -> None:
    host.book.apply([Record(CONTAINER, (f"{n}" * 64)[:64], f"stray{n}") for n in range(7)])
    made = Made(1001, "alice", NOW)
    host.book.record(CONTAINER, "a" * 64, made, name="forged")
    (known,) = host.book.find("forged")
    owner = replace(known.owner, contradictions=("its label ds01.user names bob",))
    host.book.apply([replace(known, owner=owner, updated=NOW + 1)])
    unknown, against = host.owners()
    assert {unknown.severity, against.severity} == {Severity.NOTICE}
    assert "nobody is known for 7 containers (stray0, stray1, " in unknown.what
    assert "2 more)" in unknown.what and "ds01 owners list --unknown" in unknown.remedy
    assert "for 1 container (forged)" in against.what
    assert "ds01 owners show aaaaaaaaaaaa" in against.remedy


def test_a_daemon_that_is_down_is_told_by_its_own_check(host: Host) -> None:
    def down() -> Mapping[str, Any]:
        raise Ds01Error("the helper daemon ds01d does not answer", "/run/ds01/ds01d.sock")

    assert host.machine.owners is not None
    host.machine.owners = replace(host.machine.owners, owners=down)
    assert host.owners() == []


def test_without_root_owners_are_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    (finding,) = host.owners()
    assert finding.severity is Severity.NOTICE
    assert host.silence() == []
