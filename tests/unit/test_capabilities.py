# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host cannot enforce is found before anything is changed, by name and with the way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ds01.core.capabilities import HostFacts, host_problems, unsupported_keys
from ds01.core.errors import Ds01Error
from ds01.core.slices import Device
from fakes import FakeHost, read_limits

VDA = Device("/dev/vda", "254:0")
GOOD = HostFacts(
    systemd=True,
    unified=True,
    controllers=frozenset({"cpu", "memory", "pids", "io"}),
    io_cost=True,
    devices=(VDA,),
    schedulers=(("/dev/vda", "bfq"),),
)
LIMITS = read_limits(
    "default_group: g\ngroups:\n"
    "  g: {cpu_quota: 50%, memory_max: 1g, tasks_max: 64, io_weight: 50, io_read_bw_max: 5M}\n"
)
PLAIN = read_limits("default_group: g\ngroups:\n  g: {memory_max: 1g}\n")


def test_a_host_that_can_do_it_all_has_no_problem() -> None:
    assert host_problems(LIMITS, GOOD) == []
    assert unsupported_keys(GOOD) == frozenset()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            replace(GOOD, systemd=False),
            "error /run/systemd/system: systemd is not this host's init. ds01 needs a host that "
            "is booted by systemd",
        ),
        (
            replace(GOOD, unified=False),
            "error /sys/fs/cgroup: the host runs cgroup v1, whose limits systemd does not enforce "
            "per slice. Boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (
            replace(GOOD, controllers=GOOD.controllers - {"memory"}),
            "error /sys/fs/cgroup/cgroup.controllers: the kernel has no memory controller: "
            "memory_max cannot be enforced. Boot without cgroup_disable=memory, or take these "
            "keys out of the limits",
        ),
        (
            replace(GOOD, controllers=GOOD.controllers - {"io"}),
            "warning /sys/fs/cgroup/cgroup.controllers: the kernel has no io controller: "
            "io_read_bw_max, io_weight cannot be enforced. Boot without cgroup_disable=io, or "
            "take these keys out of the limits",
        ),
        (
            replace(GOOD, schedulers=(("/dev/vda", "none"),)),
            "warning /sys/block/vda/queue/scheduler: io_weight has no effect on /dev/vda: its IO "
            "scheduler is none, not bfq, and io.cost is off. Switch the disk to bfq by a udev "
            "rule, or take io_weight out of the limits",
        ),
        (
            replace(
                GOOD, devices=(), no_disk=("/home lies on nfs4 (server:/home), not on a disk",)
            ),
            "warning slices_io_paths: io_read_bw_max cannot be enforced there: /home lies on nfs4 "
            "(server:/home), not on a disk. Name the disks in slices_io_devices, or move the data "
            "to a disk",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_keys_that_need_it(
    facts: HostFacts, message: str
) -> None:
    (problem,) = host_problems(LIMITS, facts)
    assert f"{problem.level} {problem}" == message


@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, controllers=GOOD.controllers - {"io"}),
        replace(GOOD, controllers=GOOD.controllers - {"pids"}),
        replace(GOOD, schedulers=(("/dev/vda", "none"),)),
        replace(GOOD, devices=(), no_disk=("nowhere",)),
    ],
)
def test_what_no_limit_needs_is_not_missed(facts: HostFacts) -> None:
    assert host_problems(PLAIN, facts) == []


def test_io_cost_makes_io_weight_count_without_bfq() -> None:
    facts = replace(GOOD, schedulers=(("/dev/vda", "none"),), io_cost_devices=frozenset({"254:0"}))
    assert host_problems(LIMITS, facts) == []


def test_keys_without_a_file_in_the_kernel_are_known() -> None:
    assert unsupported_keys(replace(GOOD, io_cost=False)) == {"io_weight"}
    assert "io_read_bw_max" in unsupported_keys(replace(GOOD, devices=()))
    assert "memory_max" in unsupported_keys(replace(GOOD, controllers=frozenset({"cpu"})))


def test_a_host_without_the_memory_controller_is_not_touched(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpu pids io\n")
    with pytest.raises(Ds01Error, match="no memory controller: memory_max cannot be enforced"):
        host.apply("default_group: g\ngroups:\n  g: {memory_max: 1g}\n")
    assert host.files() == {}
