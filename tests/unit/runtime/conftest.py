# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in a temporary directory: real adapters over made-up files, systemd and accounts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ds01 import limits_source
from ds01.core.enforce import Paths, enforce
from ds01.core.gather import IoSettings, gather
from ds01.core.limits import Limits
from ds01.core.names import slice_path
from ds01.core.slices import Account
from ds01.doctor.machine import Machine, Places
from ds01.host.blockdev import Disk
from ds01.host.cgroupfs import CgroupFs
from ds01.host.systemd import Systemd

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
MIB = 1024**2

LIMITS = """\
default_group: student
defaults:
  tasks_max: 128
  max_containers_per_user: 3
groups:
  student:
    members: [alice]
    cpu_quota: 100%
    memory_max: 256m
    io_write_bw_max: 8M
  researcher:
    members: [carol]
    unix_groups: [staff]
    memory_max: 768m
    total:
      memory_max: 2g
user_overrides:
  bob:
    tasks_max: 256
    reason: many small processes
    expires: 2026-12-31
"""

# What a slice's cgroup says when nothing limits it.
UNLIMITED = {
    "cpu.max": "max 100000",
    "cpu.weight": "100",
    "memory.max": "max",
    "memory.high": "max",
    "memory.swap.max": "max",
    "memory.current": "4096",
    "pids.max": "max",
    "pids.current": "3",
    "io.max": "",
    "io.weight": "default 100",
}
STUDENT = {
    "cpu.max": "100000 100000",
    "memory.max": str(256 * MIB),
    "memory.swap.max": "0",
    "pids.max": "128",
    "io.max": "254:0 rbps=max wbps=8000000 riops=max wiops=max",
}


class FakeHost:
    """Stands for the host; ``slice`` makes a cgroup, ``commands`` are what systemctl was asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        cgroup, proc = root / "cgroup", root / "proc"
        (proc / "sys/kernel").mkdir(parents=True)
        (proc / "sys/kernel/pid_max").write_text("4194304\n")
        (proc / "meminfo").write_text("MemTotal: 8388608 kB\n")
        cgroup.mkdir()
        (cgroup / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (cgroup / "io.cost.qos").write_text("")
        self.commands: list[list[str]] = []
        self.cgroups = CgroupFs(str(cgroup), str(proc))
        self.systemd = FakeSystemd(self._run, str(root / "control"))
        self.accounts = {
            "alice": Account("alice", 1001, ("alice",)),
            "bob": Account("bob", 1002, ("bob",)),
            "carol": Account("carol", 1003, ("carol",)),
            "newcomer": Account("newcomer", 1006, ("staff",)),
        }

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        return subprocess.CompletedProcess(command, 0, "", "")

    def slice(self, unit: str, **files: str) -> Path:
        """The cgroup of a slice, with the files that differ from an unlimited one."""
        path = Path(self.cgroups.root) / slice_path(unit)
        path.mkdir(parents=True, exist_ok=True)
        changes = {name.replace("_", ".", 1): text for name, text in files.items()}
        for name, text in {**UNLIMITED, **changes}.items():
            (path / name).write_text(f"{text}\n")
        return path

    def student(self, unit: str = "ds01-student-alice.slice") -> Path:
        """A student's slice that the kernel holds to the limits above."""
        path = self.slice(unit)
        for name, text in STUDENT.items():
            (path / name).write_text(f"{text}\n")
        # The levels above it have cgroups of their own, without limits.
        return path

    def find_account(self, name: str) -> Account | None:
        return self.accounts.get(name)

    def io_paths(self) -> tuple[str, ...]:
        return ("/var/lib/docker", "/home")

    def disk(self, node_or_path: str, is_node: bool) -> tuple[Disk | None, str]:
        return Disk("/dev/vda", "254:0", "bfq"), ""


class FakeSystemd(Systemd):
    """systemctl that always runs; no slice is loaded but those with a cgroup."""

    def running(self) -> bool:
        return True


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "host")


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    path = tmp_path / "limits.yml"
    path.write_text(LIMITS)
    return limits_source.from_file(str(path))


@pytest.fixture
def machine(host: FakeHost, limits: Limits, tmp_path: Path) -> Machine:
    """A host on which the limits were just applied and the runtime configured."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    paths = Paths(
        units=str(units),
        limits=str(tmp_path / "etc/ds01/limits.json"),
        lock=str(tmp_path / "run/limits.lock"),
        events=str(tmp_path / "log/events.jsonl"),
    )
    io = IoSettings()
    enforce(gather(limits, io, host, NOW), io, host, "test", paths)
    logrotate = tmp_path / "logrotate"
    logrotate.write_text("")
    places = Places(
        release_root=str(tmp_path / "opt"),
        command=str(tmp_path / "bin/ds01"),
        engine_record=str(tmp_path / "etc/ds01/engine.json"),
        logrotate=str(logrotate),
        unit_dirs=(str(tmp_path / "usr"), str(units), str(tmp_path / "control")),
    )
    return Machine(
        host=host,
        engine_info=lambda: {
            "CgroupDriver": "systemd",
            "CgroupVersion": "2",
            "LiveRestoreEnabled": True,
        },
        unit_state=lambda _unit: "active",
        now=NOW,
        paths=paths,
        places=places,
        engine_errors=(ConnectionError,),
    )
