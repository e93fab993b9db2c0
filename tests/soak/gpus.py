# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs and users for tests of the book: readings as the NVML adapter gives them, a vendor's CDI spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ds01.core.gpus import Inventory, inventory
from ds01.core.leases import Allowance

GIB = 1024**3
THREE = ("2g.10gb",) * 3
SEVEN = ("1g.5gb",) * 7


def gpu(index: int, profiles: Iterable[str] | None = None, *, salt: str = "") -> dict[str, Any]:
    """One GPU of a reading.

    :param profiles: of its MIG devices; None: not in MIG mode.
    :param salt: makes the MIG devices others than before, as a new partition does.
    """
    row: dict[str, Any] = {
        "index": index,
        "uuid": f"GPU-{index:08d}",
        "name": "NVIDIA A100-PCIE-40GB",
        "memory": 40 * GIB,
        "minor": index,
        "lost": False,
        "mig_enabled": profiles is not None,
        "mig": [],
        "processes": [],
    }
    for number, profile in enumerate(profiles or ()):
        slices, _dot, memory = profile.partition("g.")
        row["mig"].append(
            {
                "index": number,
                "uuid": f"MIG-{index:04d}-{number:04d}{salt}",
                "profile": profile,
                "memory": int(memory.removesuffix("gb")) * GIB,
                "compute_slices": int(slices),
            }
        )
    return row


def reading(gpus: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the NVML adapter returns for these GPUs."""
    return {"state": "ready", "reason": "", "driver_version": "580.95.05", "gpus": list(gpus)}


def lab_gpus() -> Inventory:
    """The lab's four GPUs: two whole ones, three 2g.10gb, seven 1g.5gb: twelve slots."""
    return inventory(reading([gpu(0), gpu(1), gpu(2, THREE), gpu(3, SEVEN)]))


def many_gpus(slots: int = 64) -> Inventory:
    """A large host: half of its slots whole GPUs, half MIG devices by sevens and the rest."""
    whole = slots // 2
    rows = [gpu(index) for index in range(whole)]
    left = slots - whole
    while left > 0:
        rows.append(gpu(len(rows), ("1g.5gb",) * min(7, left)))
        left -= 7
    return inventory(reading(rows))


def user(number: int, **limits: Any) -> Allowance:
    """A user of the tests: uid 10000 + number."""
    base: dict[str, Any] = {
        "uid": 10_000 + number,
        "user": f"user{number}",
        "group": "student",
        "max_gpus_per_container": 2,
        "max_mig_instances": 3,
        "max_gpu_equivalents": 2.0,
        "allow_full_gpu": True,
        "priority": 10,
        "hold": 900.0,
        "wait": 1800.0,
    }
    return Allowance(**{**base, **limits})


def vendor_spec(found: Inventory, nodes: str, kind: str = "nvidia.com/gpu") -> dict[str, Any]:
    """A vendor's CDI spec: a device for each slot by its UUID, with one node of its own."""
    return {
        "cdiVersion": "0.5.0",
        "kind": kind,
        "devices": [
            {
                "name": slot.uuid,
                "containerEdits": {"deviceNodes": [{"path": f"{nodes}{slot.uuid}"}]},
            }
            for slot in found.slots
        ],
    }
