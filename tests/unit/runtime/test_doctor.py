# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor finds each deviation, names it, and says what to do; a healthy host has no finding."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.doctor import engine, event_log, release
from ds01.doctor import limits as limit_checks
from ds01.doctor.checks import CHECKS, run_checks
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine
from ds01.release_info import Release

from .conftest import MIB, FakeHost

LIMIT_CHECKS = (
    limit_checks.check_drop_ins,
    limit_checks.check_kernel,
    limit_checks.check_ended_overrides,
    limit_checks.check_foreign,
)


def _units(machine: Machine) -> Path:
    return Path(machine.paths.units)


def _one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    assert finding.remedy
    assert finding.where
    return finding


def test_a_host_as_it_was_made_has_no_finding(machine: Machine, host: FakeHost) -> None:
    host.student()
    for check in LIMIT_CHECKS:
        assert list(check(machine)) == []


def test_a_changed_drop_in_is_found(machine: Machine) -> None:
    path = _units(machine) / "ds01-student-.slice.d/60-ds01-group.conf"
    path.write_text(path.read_text().replace("268435456", "99999999999"))
    finding = _one(limit_checks.check_drop_ins(machine))
    assert (finding.severity, finding.where) == (Severity.ERROR, str(path))
    assert finding.what == "the drop-in was changed"
    assert "ds01 limits apply" in finding.remedy


def test_a_missing_drop_in_is_found(machine: Machine) -> None:
    path = _units(machine) / "ds01-researcher-.slice.d/60-ds01-group.conf"
    path.unlink()
    finding = _one(limit_checks.check_drop_ins(machine))
    assert (finding.what, finding.where) == ("the drop-in is missing", str(path))


def test_a_drop_in_of_nobody_in_the_limits_is_found(machine: Machine) -> None:
    folder = _units(machine) / "ds01-student-stranger.slice.d"
    folder.mkdir()
    source = _units(machine) / "ds01-student-bob.slice.d/70-ds01-user.conf"
    (folder / source.name).write_text(source.read_text())
    finding = _one(limit_checks.check_drop_ins(machine))
    assert finding.what == "the drop-in belongs to nothing in the limits"


def test_a_kernel_value_that_somebody_changed_is_found(machine: Machine, host: FakeHost) -> None:
    path = host.student()
    (path / "memory.max").write_text("max\n")
    finding = _one(limit_checks.check_kernel(machine))
    assert finding.where == "ds01-student-alice.slice"
    assert finding.what == "the kernel has memory_max unlimited, applied is 256 MiB"


@pytest.mark.parametrize(
    ("unit", "file"),
    [
        ("ds01-student-.slice.d", "90-local.conf"),
        ("ds01-student-alice.slice.d", "99-more.conf"),
        ("user-.slice.d", "zz.conf"),
        ("ds01.slice.d", "60-ds01-totals.conf"),
    ],
)
def test_a_foreign_drop_in_that_counts_after_ours_is_found(
    machine: Machine, unit: str, file: str
) -> None:
    path = _units(machine) / unit / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("[Slice]\nMemoryMax=infinity\n CPUQuota = 900%\n")
    finding = _one(limit_checks.check_foreign(machine))
    assert finding.where == str(path)
    assert "sets CPUQuota, MemoryMax" in finding.what


@pytest.mark.parametrize(
    ("unit", "file", "text"),
    [
        ("user-.slice.d", "10-defaults.conf", "[Slice]\nTasksMax=33%\n"),
        ("user-.slice.d", "90-other.conf", "[Slice]\nDevicePolicy=auto\n# MemoryMax=1\n"),
        ("ssh.service.d", "90-other.conf", "[Service]\nMemoryMax=1\n"),
        ("ds01-student-.slice.d", "90-note.txt", "MemoryMax=1\n"),
    ],
)
def test_a_foreign_drop_in_that_takes_nothing_from_us_is_left_alone(
    machine: Machine, unit: str, file: str, text: str
) -> None:
    path = _units(machine) / unit / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert list(limit_checks.check_foreign(machine)) == []


def test_a_drop_in_of_our_name_in_another_directory_hides_ours(machine: Machine) -> None:
    path = Path(machine.places.unit_dirs[-1]) / "ds01-student-.slice.d/60-ds01-group.conf"
    path.parent.mkdir(parents=True)
    path.write_text("[Slice]\n")
    assert "hides ours" in _one(limit_checks.check_foreign(machine)).what


def test_an_override_that_ended_and_is_in_force_is_found(machine: Machine) -> None:
    later = dataclasses.replace(machine, now=datetime(2027, 1, 1, 1, tzinfo=timezone.utc))
    findings = list(limit_checks.check_ended_overrides(later))
    assert {Path(finding.where).name for finding in findings} == {
        "70-ds01-user.conf",
        "70-ds01-login.conf",
    }
    assert all("bob ended on 2026-12-31" in finding.what for finding in findings)
    assert list(limit_checks.check_drop_ins(later)) == []


def test_a_timer_that_does_not_run_and_a_failed_run_are_found(machine: Machine) -> None:
    states = {"ds01-limits.timer": "inactive", "ds01-limits.service": "failed"}
    broken = dataclasses.replace(machine, unit_state=lambda unit: states.get(unit, "active"))
    where = [finding.where for finding in limit_checks.check_ended_overrides(broken)]
    assert where == ["ds01-limits.timer", "ds01-limits.service"]


def test_what_the_host_cannot_enforce_is_found_by_name(machine: Machine, host: FakeHost) -> None:
    (Path(host.cgroups.root) / "cgroup.controllers").write_text("cpu memory pids\n")
    found = [f for f in limit_checks.check_capabilities(machine) if f.severity is Severity.WARNING]
    assert "no io controller: io_write_bw_max cannot be enforced" in _one(found).what


def test_a_host_of_cgroup_v1_is_found(machine: Machine, host: FakeHost) -> None:
    (Path(host.cgroups.root) / "cgroup.controllers").unlink()
    found = [f for f in limit_checks.check_capabilities(machine) if f.severity is Severity.ERROR]
    assert "cgroup v1" in _one(found).what


def test_limits_that_nothing_enforces_yet_are_a_notice(machine: Machine) -> None:
    finding = _one(limit_checks.check_capabilities(machine))
    assert finding.severity is Severity.NOTICE
    assert "max_containers_per_user (gateway admission)" in finding.what


# --- engine --------------------------------------------------------------------------------------


@pytest.fixture
def daemon_json(machine: Machine, tmp_path: Path) -> Path:
    """The engine's file as the role merged it, with a key of the site in it."""
    applied = {"live-restore": True, "cgroup-parent": "ds01-unattributed.slice"}
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({**applied, "debug": True}))
    record = {"schema_version": 1, "daemon_json": str(path), "applied": applied}
    Path(machine.places.engine_record).write_text(json.dumps(record))
    return path


def test_an_engine_as_it_was_configured_has_no_finding(machine: Machine, daemon_json: Path) -> None:
    assert json.loads(daemon_json.read_text())["debug"] is True
    assert list(engine.check_daemon_json(machine)) == []
    assert list(engine.check_engine(machine)) == []


def test_a_changed_and_a_lost_key_of_daemon_json_are_found(
    machine: Machine, daemon_json: Path
) -> None:
    daemon_json.write_text('{"cgroup-parent": "system.slice"}')
    whats = [finding.what for finding in engine.check_daemon_json(machine)]
    assert whats == [
        "live-restore is no longer set, applied was True",
        "cgroup-parent is 'system.slice', applied was 'ds01-unattributed.slice'",
    ]


def test_a_daemon_json_that_is_no_json_is_found_by_its_place(
    machine: Machine, daemon_json: Path
) -> None:
    daemon_json.write_text("{,")
    findings, _names = run_checks(machine, [("daemon.json", engine.check_daemon_json)])
    assert _one(findings).where.startswith(str(daemon_json))


@pytest.mark.parametrize(
    ("key", "value", "loss"),
    [
        ("CgroupDriver", "cgroupfs", "slices do not hold"),
        ("CgroupVersion", "1", "does not enforce"),
        ("LiveRestoreEnabled", False, "containers end"),
    ],
)
def test_what_the_running_engine_lost_is_found(
    machine: Machine, daemon_json: Path, key: str, value: object, loss: str
) -> None:
    assert daemon_json.exists()
    info = {**machine.engine_info(), key: value}
    other = dataclasses.replace(machine, engine_info=lambda: info)
    assert loss in _one(engine.check_engine(other)).what


def test_an_engine_that_does_not_answer_is_found(machine: Machine, daemon_json: Path) -> None:
    def refuse() -> dict[str, object]:
        raise ConnectionError("refused")

    assert daemon_json.exists()
    silent = dataclasses.replace(machine, engine_info=refuse)
    assert "cannot be asked: refused" in _one(engine.check_engine(silent)).what


# --- event log and release -----------------------------------------------------------------------


def test_an_event_log_as_it_should_be_has_no_finding(machine: Machine) -> None:
    assert list(event_log.check_event_log(machine)) == []


def test_a_missing_event_log_is_found(machine: Machine) -> None:
    Path(machine.paths.events).unlink()
    assert "No such file" in _one(event_log.check_event_log(machine)).what


def test_an_event_log_open_to_everybody_is_found(machine: Machine) -> None:
    Path(machine.paths.events).chmod(0o644)
    assert "every user can read" in _one(event_log.check_event_log(machine)).what


def test_a_log_that_nobody_rotates_is_found(machine: Machine) -> None:
    def states(unit: str) -> str:
        return "inactive" if unit == "logrotate.timer" else "active"

    stopped = dataclasses.replace(machine, unit_state=states)
    assert _one(event_log.check_event_log(stopped)).where == "logrotate.timer"
    Path(machine.places.logrotate).unlink()
    assert "not configured" in _one(event_log.check_event_log(machine)).what


def test_a_log_that_grew_without_rotation_is_found(machine: Machine) -> None:
    with open(machine.paths.events, "r+b") as stream:
        stream.truncate(event_log.LARGE_BYTES + 1)
    assert "1024 MiB large" in _one(event_log.check_event_log(machine)).what


def test_a_host_without_release_is_found(tmp_path: Path) -> None:
    findings = list(release.check_release_links(str(tmp_path / "opt"), str(tmp_path / "ds01")))
    assert [f.what for f in findings] == [
        "no release is in force",
        "the command on everybody's path is not the runtime in force",
    ]


def test_a_link_to_nowhere_and_leftovers_are_found(tmp_path: Path) -> None:
    root, command = tmp_path / "opt", tmp_path / "ds01"
    root.mkdir()
    (root / "current").symlink_to("0.1.0-000000000001")
    (root / ".incoming-0.1.0-000000000002").mkdir()
    command.symlink_to(root / "current/bin/ds01")
    whats = [f.what for f in release.check_release_links(str(root), str(command))]
    assert whats == [
        "the link leads to 0.1.0-000000000001, which is no release here",
        "an installation was interrupted and left .incoming-0.1.0-000000000002",
    ]


def test_a_release_with_a_changed_file_fails_its_own_check(tmp_path: Path) -> None:
    stamp = {"files": {"lib/ds01/__main__.py": "0" * 64}}
    (tmp_path / "release.json").write_text(json.dumps(stamp))
    findings = list(release.check_self(Release("0.1.0", "0.1.0-000000000001", tmp_path)))
    assert [f.what for f in findings] == [
        "lib/ds01/__main__.py is missing",
        "venv/bin/python3 leads to no interpreter",
    ]


# --- the run -------------------------------------------------------------------------------------


def test_every_check_runs_though_nothing_was_ever_applied(machine: Machine) -> None:
    Path(machine.paths.limits).unlink()
    findings, names = run_checks(machine)
    assert names == [name for name, _check in CHECKS]
    missing = [f for f in findings if f.where == machine.paths.limits]
    assert "no limits were applied" in _one(missing).what
    assert any(f.check == "release" for f in findings)


def test_a_damaged_record_is_one_finding_not_one_a_check(machine: Machine) -> None:
    Path(machine.paths.limits).write_text("{")
    findings, _names = run_checks(machine)
    assert len([f for f in findings if f.where == machine.paths.limits]) == 1


def _raise(error: Exception) -> Callable[[Machine], Iterable[Finding]]:
    def check(_machine: Machine) -> Iterable[Finding]:
        raise error

    return check


def test_a_check_that_breaks_does_not_hide_the_others(machine: Machine) -> None:
    checks = [
        ("one", _raise(RuntimeError("broken"))),
        ("two", _raise(Ds01Error("lost", "/here", "Look"))),
        ("three", _raise(OSError("gone"))),
    ]
    findings, _names = run_checks(machine, checks)
    assert [(f.check, f.severity) for f in findings] == [
        ("one", Severity.ERROR),
        ("two", Severity.ERROR),
        ("three", Severity.ERROR),
    ]
    assert "RuntimeError: broken" in findings[0].what


def test_the_kernels_page_size_is_no_difference(machine: Machine, host: FakeHost) -> None:
    path = host.student()
    (path / "memory.max").write_text(f"{256 * MIB}\n")
    assert list(limit_checks.check_kernel(machine)) == []
