# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which running containers would lose their GPU at a daemon-reload, and who is given nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ds01.host import gpuguard
from ds01.host.gpuguard import AtRisk, GpuGuard, Node

ID = "c" * 64
SCOPE = f"docker-{ID}.scope"
DEV = os.stat("/dev").st_dev
HOST_DEV = f"{os.major(DEV)}:{os.minor(DEV)}"
CGROUP = f"0::/ds01.slice/ds01-student.slice/{SCOPE}\n"


def mount(root: str, target: str, dev: str = HOST_DEV, kind: str = "devtmpfs") -> str:
    return f"900 800 {dev} {root} {target} rw,nosuid,noexec master:2 - {kind} udev rw,size=4k\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (mount("/nvidia0", "/dev/nvidia0"), ["/nvidia0"]),
        (mount("/nvidiactl", "/dev/nvidiactl"), ["/nvidiactl"]),
        (mount("/nvidia-uvm-tools", "/dev/nvidia-uvm-tools"), ["/nvidia-uvm-tools"]),
        (mount("/nvidia-caps/nvidia-cap3", "/x"), ["/nvidia-caps/nvidia-cap3"]),
        # A container may mount what it has anywhere; only what is mounted counts.
        (mount("/nvidia0", "/somewhere/else"), ["/nvidia0"]),
        (mount("/sda", "/dev/nvidia0"), []),
        (mount("/", "/dev"), []),
        (mount("/nvidia0", "/dev/nvidia0", dev="0:99"), []),
        (mount("/nvidia0", "/dev/nvidia0", kind="tmpfs"), []),
        (mount("/nvidia0\\040/..", "/dev/nvidia0"), []),
        ("garbage\n", []),
        ("900 800 - devtmpfs udev rw\n", []),
    ],
)
def test_only_mounts_of_the_hosts_own_gpu_nodes_count(line: str, found: list[str]) -> None:
    assert gpuguard.devtmpfs_nodes(line, HOST_DEV) == found


def test_a_scope_is_found_below_any_slice_and_above_nested_cgroups() -> None:
    assert gpuguard.scope_of(CGROUP) == SCOPE
    assert gpuguard.scope_of(f"0::/x.slice/{SCOPE}/init.scope\n") == SCOPE
    assert gpuguard.scope_of(f"0::/docker/{ID}\n") is None


@pytest.mark.parametrize(
    ("shown", "is_open", "devices"),
    [
        ("DevicePolicy=auto\n", True, set()),
        ("DevicePolicy=auto\nDeviceAllow=/dev/char/1:3 rwm\n", False, {"/dev/char/1:3"}),
        (
            "DeviceAllow=char-pts rwm\nDeviceAllow=/dev/char/195:0 rw\nDevicePolicy=strict\n",
            False,
            {"char-pts", "/dev/char/195:0"},
        ),
        ("DevicePolicy=strict\nDeviceAllow=/dev/char/195:0 m\n", False, set()),
    ],
)
def test_what_systemd_knows_is_read(shown: str, is_open: bool, devices: set[str]) -> None:
    assert gpuguard.parse_filter(shown) == gpuguard.Filter(is_open, frozenset(devices))


class Systemd:
    """Keeps what it is told, as systemctl does."""

    def __init__(self, policy: str = "strict", accepts: bool = True) -> None:
        self.policy = policy
        self.accepts = accepts
        self.allow: list[str] = ["/dev/char/1:3 rwm"] if policy == "strict" else []
        self.told: list[list[str]] = []

    def run(self, words: list[str]) -> tuple[int, str, str]:
        if words[1] == "set-property":
            self.told.append(words)
            if self.accepts:
                self.allow += [word.removeprefix("DeviceAllow=") for word in words[4:]]
            return (0, "", "") if self.accepts else (1, "", "refused")
        lines = [f"DevicePolicy={self.policy}", *(f"DeviceAllow={entry}" for entry in self.allow)]
        return 0, "\n".join(lines) + "\n", ""


Probe = Callable[[str, str], "bool | None"]


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Systemd, Probe], GpuGuard]:
    """A guard over a made-up /proc with one container, 77, that has nvidia0 mounted."""
    process = tmp_path / "77"
    process.mkdir()
    (process / "mountinfo").write_text(mount("/nvidia0", "/dev/nvidia0"))
    (process / "cgroup").write_text(CGROUP)
    node = Node("/nvidia0", 195, 0)
    monkeypatch.setattr(GpuGuard, "_stat", lambda _self, roots: [node for _unused in roots])
    return lambda systemd, probe: GpuGuard(systemd.run, probe, proc=str(tmp_path))


RUNNING = [(ID, "training", 77)]


def test_an_injected_gpu_is_protected_by_its_number_and_read_back(
    guard: Callable[[Systemd, Probe], GpuGuard],
) -> None:
    systemd = Systemd()
    asked: list[tuple[str, str]] = []

    def probe(directory: str, path: str) -> bool | None:
        asked.append((directory, path))
        return True

    guardian = guard(systemd, probe)
    (risk,) = guardian.find(RUNNING)
    assert risk == AtRisk(ID, "training", 77, SCOPE, (Node("/nvidia0", 195, 0),))
    assert str(risk) == "training (cccccccccccc: /dev/nvidia0)"
    assert asked == [(f"/sys/fs/cgroup/ds01.slice/ds01-student.slice/{SCOPE}", "/dev/nvidia0")]
    assert guardian.protect(risk) == []
    assert systemd.told == [
        ["systemctl", "set-property", "--runtime", SCOPE, "DeviceAllow=/dev/char/195:0 rw"]
    ]
    assert guardian.find(RUNNING) == []


def test_a_mounted_node_that_the_container_may_not_use_is_not_given_to_it(
    guard: Callable[[Systemd, Probe], GpuGuard],
) -> None:
    assert guard(Systemd(), lambda _directory, _path: False).find(RUNNING) == []


def test_a_container_that_nobody_can_ask_about_is_marked(
    guard: Callable[[Systemd, Probe], GpuGuard],
) -> None:
    (risk,) = guard(Systemd(), lambda _directory, _path: None).find(RUNNING)
    assert risk.unknown


def test_a_privileged_container_is_left_alone(
    guard: Callable[[Systemd, Probe], GpuGuard],
) -> None:
    assert guard(Systemd(policy="auto"), lambda _directory, _path: True).find(RUNNING) == []


def test_a_refusal_of_systemd_is_noticed(guard: Callable[[Systemd, Probe], GpuGuard]) -> None:
    guardian = guard(Systemd(accepts=False), lambda _directory, _path: True)
    (risk,) = guardian.find(RUNNING)
    assert guardian.protect(risk) == [Node("/nvidia0", 195, 0)]


def test_a_container_that_ended_is_no_fault(
    guard: Callable[[Systemd, Probe], GpuGuard], tmp_path: Path
) -> None:
    guardian = guard(Systemd(), lambda _directory, _path: True)
    (risk,) = guardian.find(RUNNING)
    (tmp_path / "77" / "cgroup").unlink()
    assert guardian.protect(risk) == []
    assert guardian.find(RUNNING) == []


def test_the_kernel_is_asked_from_inside_a_cgroup_and_no_child_stays(tmp_path: Path) -> None:
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    probe = gpuguard.KernelProbe()
    assert probe.allows(str(tmp_path), "/dev/null") is True
    assert probe.allows(str(tmp_path), "/dev/no-such-node") is False
    child = int((tmp_path / "cgroup.procs").read_text())
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)


def test_a_frozen_or_vanished_cgroup_gives_no_answer(tmp_path: Path) -> None:
    probe = gpuguard.KernelProbe()
    assert probe.allows(str(tmp_path), "/dev/null") is None
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert probe.allows(str(tmp_path), "/dev/null") is None
    assert not (tmp_path / "cgroup.procs").exists()


def test_scopes_are_found_without_the_engine(tmp_path: Path) -> None:
    inner = tmp_path / "ds01.slice" / SCOPE / "inner"
    inner.mkdir(parents=True)
    (inner / "cgroup.procs").write_text("300\n200\n")
    empty = tmp_path / f"docker-{'e' * 64}.scope"
    empty.mkdir()
    (empty / "cgroup.procs").write_text("")
    assert gpuguard.scopes(str(tmp_path)) == [(ID, 200)]
