# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to ask for a GPU is seen, whatever client was used."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.host.gpu_requests import requests

CUDA = ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all", "CUDA_VERSION=12.4"]


def cdi(*names: str) -> dict[str, Any]:
    return {"DeviceRequests": [{"Driver": "cdi", "Count": 0, "DeviceIDs": list(names)}]}


def gpus(count: int = 0, *ids: str, driver: str = "") -> dict[str, Any]:
    request = {"Driver": driver, "Count": count, "DeviceIDs": list(ids) or None}
    return {"DeviceRequests": [{**request, "Capabilities": [["gpu"]]}]}


@pytest.mark.parametrize(
    ("host", "leases", "opens"),
    [
        ({}, [], []),
        ({"DeviceRequests": None, "Devices": None, "DeviceCgroupRules": None}, [], []),
        # --device ds01.local/lease=…
        (cdi("ds01.local/lease=L1"), ["L1"], []),
        (cdi("ds01.local/lease=L2", "ds01.local/lease=L1"), ["L1", "L2"], []),
        # --gpus
        (gpus(-1), [], ["all"]),
        (gpus(2), [], ["count:2"]),
        (gpus(0), [], []),
        (gpus(0, "0", "GPU-1"), [], ["0", "GPU-1"]),
        (gpus(0, "MIG-23", driver="nvidia"), [], ["MIG-23"]),
        (gpus(-1, driver="amd"), [], []),
        # --device nvidia.com/gpu=…
        (cdi("nvidia.com/gpu=all"), [], ["all"]),
        (cdi("nvidia.com/gpu=0", "nvidia.com/gpu=0:1"), [], ["0", "0:1"]),
        (cdi("nvidia.com/gpu=gpu0", "nvidia.com/gpu=mig1:2"), [], ["0", "1:2"]),
        (cdi("nvidia.com/gpu=GPU-0", "nvidia.com/gpu=none"), [], ["GPU-0"]),
        (cdi("management.nvidia.com/gpu=all"), [], ["all"]),
        (cdi("vendor.com/net=eth0"), [], []),
        # Whatever the driver is called, newer engines take qualified names.
        (gpus(0, "ds01.local/lease=L1"), ["L1"], []),
        # --device /dev/…
        ({"Devices": [{"PathOnHost": "/dev/nvidia0"}]}, [], ["minor:0"]),
        ({"Devices": [{"PathOnHost": "/dev/../dev//nvidia12"}]}, [], ["minor:12"]),
        ({"Devices": [{"PathOnHost": "/dev/char/195:3"}]}, [], ["minor:3"]),
        ({"Devices": [{"PathOnHost": "/dev"}]}, [], ["all"]),
        ({"Devices": [{"PathOnHost": "/dev/nvidiactl"}]}, [], []),
        ({"Devices": [{"PathOnHost": "/dev/char/195:255"}]}, [], []),
        ({"Devices": [{"PathOnHost": "/dev/fuse"}, {}]}, [], []),
        ({"Devices": [{"PathOnHost": "ds01.local/lease=L1"}]}, ["L1"], []),
        ({"Devices": [{"PathOnHost": "nvidia.com/gpu=1"}]}, [], ["1"]),
        # --device-cgroup-rule
        ({"DeviceCgroupRules": ["c 195:* rwm"]}, [], ["all"]),
        ({"DeviceCgroupRules": ["c *:* rwm"]}, [], ["all"]),
        ({"DeviceCgroupRules": ["a *:* rwm"]}, [], ["all"]),
        ({"DeviceCgroupRules": ["c 195:2 rw"]}, [], ["minor:2"]),
        ({"DeviceCgroupRules": ["c 195:255 rw", "c 1:3 r", "b 195:0 r", "x"]}, [], []),
        ({"Privileged": True}, [], ["all"]),
        ({"Privileged": True, **cdi("ds01.local/lease=L1")}, ["L1"], ["all"]),
    ],
)
def test_what_a_container_asked_for_is_read(
    host: dict[str, Any], leases: list[str], opens: list[str]
) -> None:
    assert requests({"Id": "x", "HostConfig": host}) == (tuple(leases), tuple(opens))


@pytest.mark.parametrize(
    ("runtime", "env", "mounts", "opens"),
    [
        ("runc", CUDA, [], []),
        ("nvidia", CUDA, [], ["all"]),
        ("nvidia-cdi", CUDA, [], ["all"]),
        ("nvidia", ["NVIDIA_VISIBLE_DEVICES=0,GPU-1, MIG-23"], [], ["0", "GPU-1", "MIG-23"]),
        ("nvidia", ["NVIDIA_VISIBLE_DEVICES=none"], [], []),
        ("nvidia", ["NVIDIA_VISIBLE_DEVICES=void"], [], []),
        ("nvidia", ["NVIDIA_VISIBLE_DEVICES="], [], []),
        ("nvidia", ["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0"], [], ["0"]),
        ("nvidia", ["PATH=/bin"], [], []),
        ("nvidia", ["CUDA_VERSION=9.0"], [], ["all"]),
        ("nvidia", ["CUDA_VERSION=12", "NVIDIA_REQUIRE_CUDA=cuda>=12"], [], []),
        ("nvidia", [], ["/var/run/nvidia-container-devices/1"], ["1"]),
        ("nvidia", [], ["/var/run/nvidia-container-devices/cdi/nvidia.com/gpu/0"], ["0"]),
        ("runc", [], ["/var/run/nvidia-container-devices/1"], []),
    ],
)
def test_nvidias_runtime_counts_the_environment_and_the_mounts(
    runtime: str, env: list[str], mounts: list[str], opens: list[str]
) -> None:
    found = {
        "HostConfig": {"Runtime": runtime},
        "Config": {"Env": env},
        "Mounts": [{"Destination": target} for target in mounts],
    }
    assert requests(found) == ((), tuple(opens))


def test_the_vendors_kind_is_the_sites() -> None:
    found = {"HostConfig": cdi("lab.example/gpu=0")}
    assert requests(found) == ((), ())
    assert requests(found, ["lab.example/gpu"]) == ((), ("0",))
