# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the limits tells what it will do, does it, records it, and says nothing twice."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ds01.core.apply import read_applied
from ds01.core.errors import Ds01Error
from ds01.core.gather import IoSettings, gather
from ds01.host.accounts import HostAccount
from fakes import NOW, FakeHost, read_limits

SITE = """\
default_group: student
login: {memory_max: 4g}
groups:
  student: {memory_max: 8g, tasks_max: 512}
  researcher: {members: [carol], memory_max: 64g}
user_overrides:
  alice: {tasks_max: 1024, reason: thesis, expires: 2026-12-31}
"""
LOWER = SITE.replace("memory_max: 8g", "memory_max: 6g")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    fake = FakeHost(tmp_path, {"alice": HostAccount("alice", 1001, ())})
    fake.systemd.start("ds01-student-bob.slice")
    return fake


def told(host: FakeHost) -> list[dict[str, Any]]:
    """The events so far."""
    path = Path(host.paths.events)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def everything(top: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory, with the time of its last change."""
    files = [p for p in top.rglob("*") if stat.S_ISREG(p.lstat().st_mode)]
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_a_look_at_a_host_that_was_never_provisioned_changes_nothing(
    host: FakeHost, tmp_path: Path
) -> None:
    before = everything(tmp_path)
    outcome = host.look(SITE)
    assert outcome.changed
    assert everything(tmp_path) == before
    assert host.systemd.calls == []
    header, rows = "limits in force", outcome.diff()
    assert (rows[0]["before_header"], rows[0]["before"]) == (header, "")
    assert "group student, each user: memory_max = 8 GiB\n" in rows[0]["after"]
    assert "user alice: tasks_max = 1024\n" in rows[0]["after"]
    assert {row["before_header"] for row in rows[1:]} == {*outcome.plan.write, "kernel, live"}


def test_a_look_tells_exactly_what_the_run_then_does(host: FakeHost) -> None:
    foretold = host.look(SITE)
    done = host.apply(SITE)
    assert (done.plan, done.diff(), done.total_files) == (
        foretold.plan,
        foretold.diff(),
        foretold.total_files,
    )
    assert done.total_files == len(host.files())


def test_a_second_run_changes_nothing_at_all(host: FakeHost, tmp_path: Path) -> None:
    host.apply(SITE)
    before, calls = everything(tmp_path), len(host.systemd.calls)
    again = host.apply(SITE)
    assert (again.changed, again.diff(), again.warnings) == (False, [], ())
    assert everything(tmp_path) == before
    assert len(host.systemd.calls) == calls


def test_a_changed_limit_is_shown_in_words_in_its_file_and_in_the_kernel(host: FakeHost) -> None:
    host.apply(SITE)
    rows = {row["before_header"]: (row["before"], row["after"]) for row in host.look(LOWER).diff()}
    before, after = rows["limits in force"]
    changed = sorted({*before.splitlines()} ^ {*after.splitlines()})
    assert changed == [
        "group student, each user: memory_max = 6 GiB",
        "group student, each user: memory_max = 8 GiB",
    ]
    assert rows["kernel, live"] == (
        "ds01-student-bob.slice: memory_max: 8 GiB\n",
        "ds01-student-bob.slice: memory_max: 6 GiB\n",
    )
    assert "MemoryMax=8589934592\n" in rows["ds01-student-.slice.d/60-ds01-group.conf"][0]
    assert "MemoryMax=6442450944\n" in rows["ds01-student-.slice.d/60-ds01-group.conf"][1]


def test_limits_that_differ_by_one_byte_look_different(host: FakeHost) -> None:
    host.apply(SITE)
    row = host.look(SITE.replace("memory_max: 8g", "memory_max: 8589938688")).diff()[0]
    assert row["before_header"] == "limits in force"
    assert "memory_max = 8 GiB (8589938688 B)\n" in row["after"]


def test_what_changed_is_an_event_for_each_whom_it_concerns(host: FakeHost) -> None:
    host.apply(SITE)
    first = len(told(host))
    host.apply(LOWER.replace("alice: {tasks_max: 1024", "alice: {tasks_max: 2048"))
    events = told(host)[first:]
    assert [(e["event_type"], e.get("user"), e["source"]) for e in events] == [
        ("limits.changed", None, "test"),
        ("limits.changed", "alice", "test"),
        ("limits.applied", None, "test"),
    ]
    assert events[0]["details"] == {
        "who": "group student, each user",
        "before": ["memory_max = 8 GiB"],
        "after": ["memory_max = 6 GiB"],
    }
    assert events[1]["details"]["after"] == ["tasks_max = 2048"]
    assert events[2]["details"]["live"] == ["ds01-student-bob.slice"]
    host.apply(LOWER.replace("alice: {tasks_max: 1024", "alice: {tasks_max: 2048"))
    assert len(told(host)) == first + 3


def test_an_event_log_that_cannot_be_written_does_not_hold_the_limits_up(host: FakeHost) -> None:
    os.mkdir(host.paths.events)
    outcome = host.apply(SITE)
    assert host.systemd.kernel("ds01-student-bob.slice")["pids.max"] == "512"
    (warning,) = outcome.warnings
    assert warning.startswith("the change is in force, but not in the event log: ")


def test_a_value_that_the_kernel_does_not_take_is_told_after_the_run(host: FakeHost) -> None:
    host.systemd.set_properties = lambda unit, assignments: None  # type: ignore[method-assign]
    outcome = host.apply(SITE)
    assert (
        "ds01-student-bob.slice: the kernel has memory_max unlimited, asked for 8 GiB"
        in outcome.warnings
    )


def test_a_systemd_that_does_not_answer_is_told_in_words(host: FakeHost) -> None:
    def loaded_slices() -> list[str]:
        raise TimeoutError("systemctl timed out after 60 seconds")

    host.systemd.loaded_slices = loaded_slices  # type: ignore[method-assign]
    for run in (host.look, host.apply):
        with pytest.raises(Ds01Error) as caught:
            run(SITE)
        assert caught.value.what == (
            "the host's slices cannot be read: systemctl timed out after 60 seconds"
        )
        assert caught.value.remedy.startswith("Nothing was changed")
    assert host.files() == {}


def test_a_host_that_cannot_hold_the_limits_is_not_touched(host: FakeHost, tmp_path: Path) -> None:
    before = everything(tmp_path)
    with pytest.raises(Ds01Error) as caught:
        host.apply(SITE.replace("memory_max: 64g", "memory_max: 1t"))
    assert str(caught.value) == (
        "limits.yml:5: groups.researcher.memory_max: 1 TiB is above the host: the host has "
        "512 GiB of memory. Lower it, or write null for no limit"
    )
    assert everything(tmp_path) == before


def test_the_record_says_what_holds_and_with_which_disks(host: FakeHost) -> None:
    host.apply(SITE, devices=["/dev/vda"])
    record = read_applied(host.paths.limits)
    assert record is not None
    assert record == (read_limits(SITE), {"devices": ["/dev/vda"], "paths": []})
    assert IoSettings.from_json(record[1]) == IoSettings(("/dev/vda",))


def test_the_recorded_limits_plan_to_nothing_more(host: FakeHost) -> None:
    host.apply(SITE)
    record = read_applied(host.paths.limits)
    assert record is not None
    found = gather(record[0], IoSettings.from_json(record[1]), host, NOW)
    assert found.site.files() == host.files()


def test_a_moved_line_is_recorded_without_touching_the_kernel(host: FakeHost) -> None:
    host.apply(SITE)
    calls = len(host.systemd.calls)
    outcome = host.apply("# a new first line\n" + SITE)
    assert outcome.changed
    assert [row["before_header"] for row in outcome.diff()] == [
        "ds01-student-alice.slice.d/70-ds01-user.conf"
    ]
    assert len(host.systemd.calls) == calls


def test_the_order_of_groups_keys_and_overrides_does_not_matter(tmp_path: Path) -> None:
    other = """\
user_overrides:
  alice: {expires: 2026-12-31, reason: thesis, tasks_max: 1024}
groups:
  researcher: {memory_max: 64g, members: [carol]}
  student: {tasks_max: 512, memory_max: 8g}
login: {memory_max: 4g}
default_group: student
"""
    hosts = [FakeHost(tmp_path / name) for name in ("one", "two")]
    for host, text in zip(hosts, (SITE, other), strict=True):
        host.apply(text)

    def told_apart(host: FakeHost) -> dict[str, list[str]]:
        return {path: text.splitlines()[2:] for path, text in host.files().items()}

    assert told_apart(hosts[0]) == told_apart(hosts[1])


def test_an_override_that_has_ended_is_a_warning_of_the_host(host: FakeHost) -> None:
    later = NOW + timedelta(days=100)
    assert host.gather(read_limits(SITE), NOW).warnings == []
    assert host.gather(read_limits(SITE), later).warnings == [
        "limits.yml:7: the override of alice ended on 2026-12-31 and is ignored. "
        "Remove it, or set a later date"
    ]


def test_a_run_with_nothing_to_do_still_clears_what_a_killed_one_left(host: FakeHost) -> None:
    host.apply(SITE)
    host.systemd.forgotten = ()
    assert not host.apply(SITE).changed
    assert {"MemoryMax", "TasksMax", "IOReadBandwidthMax"} <= set(host.systemd.forgotten)
