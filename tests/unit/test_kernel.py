# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's files are read as what they limit, and compared with what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core.kernel import differing, kernel_value, over_use, stale_devices, wanted_value
from ds01.core.keys import KEYS
from ds01.core.limits import Setting
from ds01.core.slices import Device, assignments, properties

VDA, VDB = Device("/dev/vda", "254:0"), Device("/dev/vdb", "254:16")
UNSET = {
    "cpu.max": "max 100000\n",
    "cpu.weight": "100\n",
    "memory.max": "max\n",
    "memory.high": "max\n",
    "memory.swap.max": "max\n",
    "pids.max": "max\n",
    "io.max": "",
    "io.weight": "default 100\n",
}


def setting(key: str, value: Any) -> dict[str, Setting]:
    return {key: Setting(key, value, f"groups.g.{key}", "limits.yml:4")}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("cpu_quota", "max 100000\n", None),
        ("cpu_quota", "50000 100000\n", 50.0),
        ("cpu_quota", "33330 100000\n", 33.33),
        ("cpu_quota", "1000 20000\n", 5.0),
        ("cpu_weight", "100\n", None),
        ("cpu_weight", "200\n", 200),
        ("io_weight", "default 100\n254:0 300\n", None),
        ("io_weight", "default 50\n", 50),
        ("memory_max", "max\n", None),
        ("memory_max", "268435456\n", 268435456),
        ("memory_swap_max", "0\n", 0),
        ("tasks_max", "128\n", 128),
        ("io_write_bw_max", "", None),
        ("io_write_bw_max", "254:0 rbps=max wbps=8000000 riops=max wiops=max\n", 8000000),
        ("io_read_bw_max", "254:0 rbps=max wbps=8000000 riops=max wiops=max\n", None),
        ("io_read_iops_max", "8:0 rbps=1 wbps=2 riops=3 wiops=4\n254:0 riops=9\n", 9),
    ],
)
def test_a_file_reads_as_a_limit(key: str, text: str, value: Any) -> None:
    name = KEYS[key].cgroup.partition(":")[0]
    assert kernel_value(KEYS[key], {name: text}, VDA) == value


def test_a_controller_that_is_off_limits_nothing() -> None:
    assert all(kernel_value(key, {}, VDA) is None for key in KEYS.values() if key.cgroup)


@pytest.mark.parametrize(
    ("key", "value", "kernel"),
    [
        ("memory_max", 8192 + 5, 8192),
        ("memory_max", None, None),
        ("cpu_quota", 50, 50.0),
        ("cpu_weight", 100, None),
        ("io_weight", 101, 101),
        ("tasks_max", 5, 5),
    ],
)
def test_what_the_kernel_makes_of_a_value_is_foreseen(key: str, value: Any, kernel: Any) -> None:
    assert wanted_value(KEYS[key], value) == kernel


def test_only_what_differs_is_named() -> None:
    raw = {**UNSET, "pids.max": "64\n", "memory.max": "8192\n"}
    found = differing({**setting("tasks_max", 128), **setting("memory_max", 8193)}, raw, [VDA])
    assert [(key.name, has, wanted) for key, has, wanted in found] == [("tasks_max", 64, 128)]
    assert differing({}, UNSET, [VDA]) == []


def test_a_key_that_the_host_cannot_have_is_not_waited_for() -> None:
    assert differing(setting("io_weight", 50), UNSET, [VDA], frozenset({"io_weight"})) == []


def test_one_disk_of_two_without_the_limit_differs() -> None:
    raw = {**UNSET, "io.max": "254:0 rbps=5000 wbps=max riops=max wiops=max\n"}
    (found,) = differing(setting("io_read_bw_max", 5000), raw, [VDA, VDB])
    assert (found[0].name, found[1], found[2]) == ("io_read_bw_max", None, 5000)


def test_a_disk_that_no_longer_counts_differs_until_it_is_free() -> None:
    raw = {**UNSET, "io.max": "254:0 rbps=5000\n254:16 rbps=5000\n"}
    key = KEYS["io_read_bw_max"]
    assert stale_devices(key, raw, [VDA]) == ["254:16"]
    assert stale_devices(KEYS["tasks_max"], raw, [VDA]) == []
    (found,) = differing(setting("io_read_bw_max", 5000), raw, [VDA])
    assert found == (key, 5000, None)
    assert differing(setting("io_read_bw_max", 5000), raw, [VDA, VDB]) == []


def test_use_above_a_limit_is_said_with_the_origin() -> None:
    raw = {"memory.current": "6442450944\n", "pids.current": "400\n"}
    limits = {**setting("memory_max", 5 * 1024**3), **setting("tasks_max", 400)}
    assert over_use(limits, raw) == [
        "uses 6 GiB now, above the new memory_max 5 GiB from groups.g.memory_max (limits.yml:4)"
    ]
    assert over_use(setting("memory_max", None), raw) == []
    assert over_use(limits, {}) == []


@pytest.mark.parametrize(
    ("key", "value", "lines"),
    [
        ("cpu_quota", 50.0, ["CPUQuota=50%"]),
        ("cpu_quota", 1234567.25, ["CPUQuota=1234567.25%"]),
        ("cpu_quota", None, ["CPUQuota="]),
        ("cpu_weight", None, ["CPUWeight="]),
        ("memory_max", None, ["MemoryMax=infinity"]),
        ("memory_swap_max", 0, ["MemorySwapMax=0"]),
        ("tasks_max", 128, ["TasksMax=128"]),
        ("io_write_bw_max", None, ["IOWriteBandwidthMax="]),
        ("io_write_bw_max", 8000000, ["IOWriteBandwidthMax=", "IOWriteBandwidthMax=/dev/vda 8000000",
                                      "IOWriteBandwidthMax=/dev/vdb 8000000"]),
    ],
)  # fmt: skip
def test_a_limit_becomes_settings_of_systemd(key: str, value: Any, lines: list[str]) -> None:
    assert assignments(KEYS[key], value, [VDA, VDB]) == lines


def test_all_settings_of_nothing_are_resets() -> None:
    lines = properties({}, [VDA])
    assert len(lines) == len({line.partition("=")[0] for line in lines}) == 11
    assert all(line.partition("=")[2] in ("", "infinity") for line in lines)
