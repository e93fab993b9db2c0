# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapters of cgroups, systemd and accounts read what is there and leave nothing behind."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from ds01.host import accounts
from ds01.host.cgroupfs import CgroupFs
from ds01.host.systemd import Systemd, SystemdError


class Commands:
    """Answers to commands, and what was asked."""

    def __init__(self, code: int = 0, out: str = "", err: str = "") -> None:
        self.answer = (code, out, err)
        self.asked: list[list[str]] = []

    def __call__(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.asked.append(list(argv))
        code, out, err = self.answer
        return subprocess.CompletedProcess(list(argv), code, out, err)


LISTED = """\
ds01-student-h.baker\\x40hertie\\x2dschool.lan.slice loaded active active h.baker
ds01-student.slice loaded active active ds01-student.slice
ds01.slice         loaded active active ds01.slice
ds010.slice        loaded active active other
system.slice       loaded active active System Slice
user-1001.slice    loaded active active User Slice of UID 1001
user.slice         loaded active active User and Session Slice

"""


def test_only_slices_of_ds01_and_of_logins_are_listed() -> None:
    commands = Commands(out=LISTED)
    assert Systemd(commands).loaded_slices() == [
        r"ds01-student-h.baker\x40hertie\x2dschool.lan.slice",
        "ds01-student.slice",
        "ds01.slice",
        "user-1001.slice",
    ]
    assert commands.asked[0][:2] == ["systemctl", "list-units"]


def test_a_setting_is_live_without_a_reload_and_leaves_no_runtime_file(tmp_path: Path) -> None:
    unit = "ds01-student-alice.slice"
    folder = tmp_path / f"{unit}.d"
    folder.mkdir()
    for name in ("MemoryMax", "IOReadBandwidthMax", "CPUWeight"):
        (folder / f"50-{name}.conf").write_text("[Slice]\n")
    commands = Commands()
    systemd = Systemd(commands, str(tmp_path))
    systemd.set_properties(
        unit, ["MemoryMax=5", "IOReadBandwidthMax=", "IOReadBandwidthMax=/dev/vda 5"]
    )
    assert commands.asked == [
        ["systemctl", "set-property", "--runtime", unit, "MemoryMax=5", "IOReadBandwidthMax=",
         "IOReadBandwidthMax=/dev/vda 5"]
    ]  # fmt: skip
    assert os.listdir(folder) == ["50-CPUWeight.conf"]
    assert systemd.leftovers() == [unit]
    systemd.set_properties(unit, ["CPUWeight=5"])
    assert systemd.leftovers() == []


def test_systemds_own_words_are_passed_on() -> None:
    refused = Systemd(Commands(1, err="Failed to set unit properties: Invalid argument\n"))
    with pytest.raises(SystemdError, match=r"x\.slice: Failed to set unit properties: Invalid"):
        refused.set_properties("x.slice", ["MemoryMax=x"])
    with pytest.raises(SystemdError, match="Failed to set"):
        refused.loaded_slices()


def test_nothing_left_over_where_nobody_set_anything(tmp_path: Path) -> None:
    assert Systemd(Commands(), str(tmp_path / "absent")).leftovers() == []


def test_the_tree_of_slices_is_found_below_both_tops(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    alice = root / "ds01.slice/ds01-student.slice/ds01-student-alice.slice"
    (alice / "docker-1.scope/init.slice").mkdir(parents=True)
    (root / "user.slice/user-1001.slice/session-1.scope").mkdir(parents=True)
    (root / "system.slice/x.slice").mkdir(parents=True)
    (alice / "pids.max").write_text("64\n")
    cgroups = CgroupFs(str(root))
    assert cgroups.slices() == [
        "ds01-student-alice.slice",
        "ds01-student.slice",
        "ds01.slice",
        "user-1001.slice",
    ]
    path = "ds01.slice/ds01-student.slice/ds01-student-alice.slice"
    assert cgroups.read(path, ["pids.max", "memory.max"]) == {"pids.max": "64\n"}
    assert cgroups.exists(path)
    assert not cgroups.exists("ds01.slice/absent.slice")
    assert cgroups.read("absent", ["pids.max"]) == {}


def test_a_host_of_cgroup_v1_or_of_none_reads_as_such(tmp_path: Path) -> None:
    cgroups = CgroupFs(str(tmp_path))
    assert (cgroups.unified(), cgroups.controllers(), cgroups.slices()) == (False, frozenset(), [])
    assert (cgroups.has_io_cost(), cgroups.io_cost_devices()) == (False, frozenset())
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    (tmp_path / "io.cost.qos").write_text("254:0 enable=1 ctrl=auto\n8:0 enable=0 ctrl=auto\n")
    assert cgroups.unified()
    assert cgroups.controllers() == {"cpu", "io", "memory", "pids"}
    assert cgroups.io_cost_devices() == {"254:0"}


def test_the_size_of_the_host_is_in_cpus_bytes_and_process_ids(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "meminfo").write_text("MemTotal:    4028440 kB\nMemFree:  1 kB\n")
    (tmp_path / "sys/kernel/pid_max").write_text("4194304\n")
    cpus, memory, pids = CgroupFs(proc=str(tmp_path)).capacity()
    assert (cpus, memory, pids) == (os.cpu_count(), 4028440 * 1024, 4194304)


def test_an_account_is_found_by_name() -> None:
    root = accounts.find("root")
    assert root is not None
    assert (root.name, root.uid) == ("root", 0)
    assert pwd.getpwuid(0).pw_name == "root" and "root" in root.groups


@pytest.mark.parametrize("name", ["", "no such user", "a\0b", "x" * 10_000, "\udcff"])
def test_an_account_that_there_is_not_is_none(name: str) -> None:
    assert accounts.find(name) is None


def test_what_a_killed_run_left_below_run_is_removed_and_the_rest_stays(tmp_path: Path) -> None:
    for folder in ("ds01-student-alice.slice.d", "user-1001.slice.d", "docker-1.scope.d"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "50-MemoryMax.conf").write_text("[Slice]\nMemoryMax=1\n")
    other = tmp_path / "user-1001.slice.d/50-AllowedCPUs.conf"
    other.write_text("[Slice]\nAllowedCPUs=0\n")
    Systemd(Commands(), str(tmp_path)).forget_leftovers(name for name in ("MemoryMax", "TasksMax"))
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.conf"))
    assert left == ["docker-1.scope.d/50-MemoryMax.conf", "user-1001.slice.d/50-AllowedCPUs.conf"]
    assert not (tmp_path / "ds01-student-alice.slice.d").exists()
