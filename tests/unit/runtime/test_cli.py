# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ds01: what it says, in text and JSON, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ds01 import cli, limits_source
from ds01.cli import doctor, limits
from ds01.cli.events import parse_since
from ds01.cli.output import EXIT_MEANINGS, Output
from ds01.core.events import Event, append, utc_now
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine

from .conftest import LIMITS, NOW, FakeHost

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def ds01(
    machine: Machine,
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Runs a command line on the made-up host: exit code, standard output, standard error."""
    applied = limits_source.applied
    monkeypatch.setattr(limits, "Host", lambda: host)
    monkeypatch.setattr(limits_source, "applied", lambda: applied(machine.paths.limits))
    monkeypatch.setattr(limits_source, "now", lambda: NOW)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def _file(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = LIMITS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "new.yml"
    path.write_text(text)
    return str(path)


# --- limits show ---------------------------------------------------------------------------------


def test_show_says_value_kernel_and_place(ds01: Any, host: FakeHost, tmp_path: Path) -> None:
    host.student()
    status, out, _err = ds01("limits", "show", "alice")
    assert status == 0
    lines = out.split("Login shells")[0].splitlines()
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    place = f"groups.student.memory_max ({tmp_path}/limits.yml:9)"
    assert rows["memory_max"] == f"memory_max 256 MiB 256 MiB {place}"
    assert rows["io_write_bw_max"].startswith("io_write_bw_max 8 MB/s 8 MB/s groups.student")
    assert rows["memory_swap_max"] == "memory_swap_max 0 B 0 B built-in default"
    assert "not enforced yet (gateway admission)" in rows["max_containers_per_user"]
    assert "ds01-student-alice.slice: uses memory 4 KiB, tasks 3" in out
    assert "user-1001.slice" in out


def test_show_says_where_the_kernel_differs(ds01: Any, host: FakeHost) -> None:
    (host.student() / "memory.max").write_text("max\n")
    _status, out, _err = ds01("limits", "show", "alice")
    assert "! unlimited" in out
    assert "see ds01 doctor" in out
    _status, out, _err = ds01("limits", "show", "alice", "--json")
    rows = {row["key"]: row for row in json.loads(out)["containers"]["rows"]}
    assert (rows["memory_max"]["agrees"], rows["cpu_quota"]["agrees"]) == (False, True)
    assert rows["memory_max"]["limit"] == 256 * 1024**2


def test_show_says_when_the_slice_is_not_active(ds01: Any) -> None:
    _status, out, _err = ds01("limits", "show", "carol")
    assert "ds01-researcher-carol.slice: not active" in out
    assert "slice not active" in out


def test_show_names_an_override_with_reason_and_end(ds01: Any) -> None:
    _status, out, _err = ds01("limits", "show", "bob")
    assert "group student, by default_group" in out
    assert "override is in force until 2026-12-31: many small processes" in out
    assert "user_overrides.bob.tasks_max" in out


def test_show_follows_unix_groups(ds01: Any) -> None:
    _status, out, _err = ds01("limits", "show", "newcomer")
    assert "group researcher, by Unix group staff" in out


def test_show_says_that_an_account_is_unknown(ds01: Any) -> None:
    status, out, _err = ds01("limits", "show", "nobody-here")
    assert status == 0
    assert "no account nobody-here" in out


def test_show_without_a_user_lists_groups_and_overrides_for_root(
    ds01: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    _status, out, _err = ds01("limits", "show")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "student (default) 100% 256 MiB 128 unlimited unlimited alice" in lines
    assert "bob tasks_max 256 2026-12-31 many small processes" in lines
    _status, out, _err = ds01("limits", "show", "--json")
    assert json.loads(out)["groups"]["researcher"]["total"]["memory_max"]["value"] == 2 * 1024**3


def test_show_without_a_user_is_about_oneself_without_root(
    ds01: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    status, out, _err = ds01("limits", "show")
    assert status == 0
    assert out.startswith("nobody  group student")


def test_before_anything_was_applied_show_says_so(ds01: Any, machine: Machine) -> None:
    Path(machine.paths.limits).unlink()
    status, out, err = ds01("limits", "show", "alice")
    assert (status, out) == (4, "")
    assert "no limits were applied to this host yet. Run playbooks/site.yml" in err
    status, out, _err = ds01("--json", "limits", "show", "alice")
    assert status == 4
    assert json.loads(out)["error"]["where"] == machine.paths.limits


# --- limits check and diff -----------------------------------------------------------------------


def test_check_accepts_a_good_file_and_names_what_nobody_enforces_yet(
    ds01: Any, tmp_path: Path
) -> None:
    status, out, _err = ds01("limits", "check", _file(tmp_path))
    assert status == 0
    assert "is accepted: 2 groups, 1 overrides" in out
    assert "not enforced yet: max_containers_per_user (gateway admission)" in out


def test_check_lists_every_fault_with_its_place(ds01: Any, tmp_path: Path) -> None:
    path = _file(
        tmp_path, ("memory_max: 256m", "memroy_max: 256m"), ("tasks_max: 256", "tasks_max: x")
    )
    status, out, _err = ds01("limits", "check", path)
    assert status == 3
    assert f"{path}:9: unknown key 'memroy_max'" in out
    assert "Did you mean 'memory_max'?" in out
    assert "'x' is not a whole number" in out
    status, out, _err = ds01("limits", "check", path, "--json")
    document = json.loads(out)
    assert (status, document["accepted"], len(document["problems"])) == (3, False, 2)


def test_check_of_a_file_that_is_not_there_is_refused(ds01: Any) -> None:
    status, out, _err = ds01("limits", "check", "/nowhere.yml")
    assert status == 3
    assert "/nowhere.yml" in out


def test_check_with_the_host_finds_what_it_cannot_hold(ds01: Any, tmp_path: Path) -> None:
    path = _file(tmp_path, ("memory_max: 768m", "memory_max: 64g"))
    assert ds01("limits", "check", path)[0] == 0
    _status, out, _err = ds01("limits", "check", path, "--host")
    assert "memory_max" in out
    assert "64 GiB" in out


def test_diff_says_who_changes_from_what_to_what_and_where(ds01: Any, tmp_path: Path) -> None:
    old, new = (
        str(tmp_path / "limits.yml"),
        _file(tmp_path, ("memory_max: 256m", "memory_max: 300m")),
    )
    status, out, _err = ds01("limits", "diff", old, new)
    assert status == 1
    assert "group student, each user (1 by name)" in out
    assert f"memory_max: 256 MiB -> 300 MiB  groups.student.memory_max ({new}:9)" in out
    assert "user alice" not in out


def test_diff_of_the_same_limits_is_empty(ds01: Any, tmp_path: Path) -> None:
    status, out, _err = ds01("limits", "diff", str(tmp_path / "limits.yml"), _file(tmp_path))
    assert status == 0
    assert "No limit changes." in out


def test_diff_reads_a_hosts_record(ds01: Any, machine: Machine, tmp_path: Path) -> None:
    new = _file(tmp_path, ("tasks_max: 256", "tasks_max: 512"))
    status, out, _err = ds01("limits", "diff", machine.paths.limits, new, "--json")
    assert status == 1
    (change,) = json.loads(out)["changes"]
    assert (change["who"], change["key"], change["before"], change["after"]) == (
        "user bob",
        "tasks_max",
        "256",
        "512",
    )


def test_diff_names_users_who_move_and_groups_that_come_and_go(ds01: Any, tmp_path: Path) -> None:
    new = _file(
        tmp_path,
        ("members: [alice]", "members: []"),
        ("members: [carol]", "members: [carol, alice]"),
        ("user_overrides:", "  guest:\n    tasks_max: 64\nuser_overrides:"),
    )
    _status, out, _err = ds01("limits", "diff", str(tmp_path / "limits.yml"), new)
    assert "user alice\n  group: student -> researcher" in out
    assert "  memory_max: 256 MiB -> 768 MiB" in out
    assert "group guest\n  group: absent -> present" in out


def test_diff_says_who_would_be_over(ds01: Any, host: FakeHost, tmp_path: Path) -> None:
    (host.student() / "memory.current").write_text(f"{200 * 1024**2}\n")
    new = _file(tmp_path, ("memory_max: 256m", "memory_max: 100m"))
    _status, out, _err = ds01("limits", "diff", str(tmp_path / "limits.yml"), new)
    assert (
        "over  ds01-student-alice.slice uses 200 MiB now, above the new memory_max 100 MiB" in out
    )


def test_diff_away_from_the_host_says_that_use_is_unknown(ds01: Any, tmp_path: Path) -> None:
    _status, out, _err = ds01("limits", "diff", str(tmp_path / "limits.yml"), _file(tmp_path))
    assert "Present use is not known here" in out


# --- doctor, events ------------------------------------------------------------------------------


def _finding(severity: Severity) -> Finding:
    return Finding(severity, "kernel", "what", "where", "remedy")


@pytest.mark.parametrize(
    ("severities", "status"),
    [
        ((), 0),
        ((Severity.NOTICE,), 0),
        ((Severity.NOTICE, Severity.WARNING), 1),
        ((Severity.ERROR,), 1),
    ],
)
def test_doctor_ends_with_one_when_something_is_to_be_mended(
    ds01: Any, monkeypatch: pytest.MonkeyPatch, severities: tuple[Severity, ...], status: int
) -> None:
    found = [_finding(severity) for severity in severities]
    monkeypatch.setattr("ds01.doctor.checks.run_checks", lambda: (found, ["kernel"]))
    assert ds01("doctor")[0] == status
    assert ds01("doctor", "--json")[0] == status


def test_doctor_shows_the_worst_first() -> None:
    stream = io.StringIO()
    found = [_finding(severity) for severity in (Severity.NOTICE, Severity.ERROR, Severity.WARNING)]
    doctor.show(found, ["kernel"], Output(stream=stream))
    words = [line.split()[0] for line in stream.getvalue().splitlines() if line[0] != " "]
    assert words == ["error", "warning", "notice", "2"]


def test_doctor_self_of_this_checkout_is_sound(ds01: Any) -> None:
    assert ds01("doctor", "--self")[0] == 0


def test_events_are_shown_filtered_and_as_json_lines(ds01: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "e.jsonl")
    append(log, Event("gpu.denied", "test", "alice", {"reason": "no\nlease", "slots": [1, 2]}))
    append(log, Event("limits.changed", "test", "bob"))
    status, out, _err = ds01("events", "--log", log, "--user", "alice")
    assert status == 0
    assert "gpu.denied  alice  reason=no\\nlease slots=[1, 2]  (test)" in out
    assert out.count("\n") == 1
    _status, out, _err = ds01("events", "--log", log, "--json")
    assert [json.loads(line)["event_type"] for line in out.splitlines()] == [
        "gpu.denied",
        "limits.changed",
    ]


def test_damaged_lines_of_the_log_are_counted(ds01: Any, tmp_path: Path) -> None:
    log = tmp_path / "e.jsonl"
    log.write_text("{\nnonsense\n")
    assert "2 damaged line(s)" in ds01("events", "--log", str(log))[2]


def test_since_is_a_date_a_time_or_a_duration() -> None:
    assert parse_since("2026-11-21") == datetime.fromisoformat("2026-11-21T00:00:00+00:00")
    assert abs(utc_now() - timedelta(hours=2) - parse_since("2h")) < timedelta(seconds=5)


def test_a_moment_that_is_none_is_refused(ds01: Any) -> None:
    status, _out, err = ds01("events", "--since", "yesterdayish")
    assert status == 3
    assert "--since: 'yesterdayish' is no moment" in err


# --- the command as a whole ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("limits",),
        ("limits", "show", "a", "b"),
        ("nonsense",),
        ("limits", "check"),
        ("--nonsense",),
    ],
)
def test_a_wrong_command_line_ends_with_two(ds01: Any, arguments: tuple[str, ...]) -> None:
    status, out, err = ds01(*arguments)
    assert (status, out) == (2, "")
    assert "usage: ds01" in err


def test_help_lists_every_exit_code(ds01: Any) -> None:
    status, out, _err = ds01("--help")
    assert status == 0
    for code, meaning in EXIT_MEANINGS.items():
        assert f"{code.value}  {meaning}" in out


def test_the_manual_page_names_every_exit_code_and_command() -> None:
    text = (REPOSITORY / "files/runtime/man/ds01.1").read_text()
    for code in EXIT_MEANINGS:
        assert f".B {code.value}\n" in text
    commands = [f"limits {verb}" for verb in ("show", "check", "diff", "apply")]
    commands += [f"gpu {verb}" for verb in ("status", "request", "release", "queue")]
    commands += [f"gpu {verb}" for verb in ("drain", "undrain", "reconcile")]
    commands += [f"owners {verb}" for verb in ("list", "show", "set", "unset", "sync")]
    for words in (*commands, "why", "doctor", "events"):
        assert f".B ds01 {words}" in text.replace("\\-", "-")


def test_no_exception_of_any_kind_shows_a_traceback(
    ds01: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_arguments: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(limits_source, "from_file", explode)
    status, out, err = ds01("limits", "check", "x")
    assert (status, out) == (70, "")
    assert err.startswith("ds01: ds01 itself has a fault: ZeroDivisionError: boom")
    assert "Traceback" not in err


def test_no_permission_is_a_fault_of_the_host(ds01: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr(limits_source, "from_file", refuse)
    assert ds01("limits", "check", "x")[0] == 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_and_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        Output(stream=stream).line(("error", "red"))
        assert ("\x1b[31m" in stream.getvalue()) is coloured
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    Output(stream=stream).line(("error", "red"))
    assert stream.getvalue() == "error\n"


def test_a_name_cannot_drive_the_terminal() -> None:
    stream = Terminal()
    Output(stream=stream).line("evil\x1b]0;title\x07\r\n", ("x\x1b[2J", "red"))
    assert "\x1b]" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_a_reader_who_leaves_early_gets_no_complaint(tmp_path: Path) -> None:
    log = str(tmp_path / "e.jsonl")
    for number in range(2000):
        append(log, Event("test.many", "test", details={"n": number, "text": "x" * 200}))
    command = f"{sys.executable} -m ds01 events --log {log} | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "files/runtime")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 141
    assert "test.many" in done.stdout


def test_the_version_names_the_collections_version(ds01: Any) -> None:
    assert ds01("--version")[1].startswith("ds01 0.")
    assert set(json.loads(ds01("--version", "--json")[1])) == {"version", "release"}
