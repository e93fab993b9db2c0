# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a CDI spec of the vendor describes the GPUs that there are."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core.vendor_spec import faults

KIND = "nvidia.com/gpu"
SLOTS = {"GPU-a": "0", "MIG-x": "1:0", "MIG-y": "1:2"}
HOST = {"/dev/nvidia0", "/dev/nvidia1", "/usr/lib/libcuda.so.550.54.15", "/usr/bin/nvidia-cdi-hook"}


def device(name: str, node: str) -> dict[str, Any]:
    return {"name": name, "containerEdits": {"deviceNodes": [{"path": node}]}}


def spec(*names: str, **others: Any) -> dict[str, Any]:
    return {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": [device(name, "/dev/nvidia0") for name in names],
        "containerEdits": {
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}],
            "mounts": [
                {
                    "hostPath": "/usr/lib/libcuda.so.550.54.15",
                    "containerPath": "/usr/lib/libcuda.so.550.54.15",
                }
            ],
        },
        **others,
    }


ALL = ("0", "1:0", "1:2", "GPU-a", "MIG-x", "MIG-y", "all")


def found(content: Any) -> list[str]:
    return faults(content, KIND, SLOTS, HOST.__contains__)


def test_a_spec_with_every_slot_does() -> None:
    assert found(spec(*ALL)) == []


def test_a_split_gpu_may_be_listed_beside_its_devices() -> None:
    assert found(spec(*ALL, "GPU-b")) == []


def test_a_missing_slot_is_named() -> None:
    assert found(spec("GPU-a", "MIG-x")) == ["slot 1:2 (MIG-y) is not in it"]


def test_a_spec_by_index_alone_does_not_do() -> None:
    # After a new partition the same index is another device.
    assert len(found(spec("0", "1:0", "1:2", "all"))) == 3


def test_a_device_of_a_former_partition_is_named() -> None:
    assert found(spec(*ALL, "MIG-old")) == ["MIG-old is in it, and no slot"]


def test_devices_of_a_lost_gpu_may_stay() -> None:
    assert faults(spec(*ALL, "MIG-lost"), KIND, SLOTS, HOST.__contains__, complete=False) == []


def test_libraries_that_an_upgrade_renamed_are_found() -> None:
    old = spec(*ALL)
    old["containerEdits"]["mounts"][0]["hostPath"] = "/usr/lib/libcuda.so.535.1"
    assert found(old) == ["/usr/lib/libcuda.so.535.1 is not on the host"]


def test_nodes_that_are_gone_are_found_by_their_host_path() -> None:
    moved = spec(*ALL)
    node = {"path": "/dev/nvidia0", "hostPath": "/dev/nvidia7"}
    moved["devices"][0]["containerEdits"] = {"deviceNodes": [node]}
    assert found(moved) == ["/dev/nvidia7 is not on the host"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "it is no mapping"),
        ([], "it is no mapping"),
        ({"kind": KIND}, "it has no cdiVersion"),
        (spec(*ALL, kind="amd.com/gpu"), "its kind is 'amd.com/gpu', not nvidia.com/gpu"),
        (spec(devices=None), "it has no list of devices with names and edits"),
        (spec(devices=[{"name": "0"}]), "it has no list of devices with names and edits"),
        (spec(devices=["0"]), "it has no list of devices with names and edits"),
        (
            spec(devices=[{"name": "0", "containerEdits": {"deviceNodes": [None]}}]),
            "its edits are malformed",
        ),
        (spec(*ALL, containerEdits=[]), "its edits are malformed"),
    ],
)
def test_what_is_no_spec_does_not_do(content: Any, words: str) -> None:
    assert found(content) == [words]
