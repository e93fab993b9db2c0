# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that others wrote for the real NVML run on the fake one, and see its machine.

nvitop (1.7.2) stops at the first hole among a GPU's MIG indices, so GPU 2 of the machine, which
has one, shows its first device only.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_nvml.machine import GPU, MIG2, MIG3, Machine

TOOLS = Path(sys.executable).parent
MIB = 1 << 20


@pytest.fixture
def busy(machine: Machine) -> Machine:
    """Two processes, which must be real ones: both tools look them up in /proc."""
    machine.set("gpu index=0", utilisation=93, power_mw=201_000, temperature=64)
    machine.add(
        f"process on={GPU[0]} pid={os.getpid()} memory=8000MiB",
        f"process on={MIG3[2]} pid={os.getppid()} memory=1000MiB",
    )
    return machine


def gpustat(machine: Machine) -> list[dict[str, Any]]:
    done = machine.run(str(TOOLS / "gpustat"), "--json", "--no-color")
    gpus: list[dict[str, Any]] = json.loads(done.stdout)["gpus"]
    return gpus


def test_gpustat_sees_the_gpus_of_the_machine(busy: Machine) -> None:
    gpus = gpustat(busy)
    assert [gpu["uuid"] for gpu in gpus] == list(GPU)
    first = gpus[0]
    assert first["name"] == "NVIDIA A100-PCIE-40GB"
    assert (first["utilization.gpu"], first["temperature.gpu"]) == (93, 64)
    assert (first["power.draw"], first["enforced.power.limit"]) == (201, 250)
    assert (first["memory.total"], first["memory.used"]) == (40960, 8000)
    assert first["fan.speed"] is None
    assert [gpu["utilization.gpu"] for gpu in gpus] == [93, 0, None, None]


def test_gpustat_sees_the_processes_of_a_gpu_and_of_all_its_mig_devices(busy: Machine) -> None:
    seen = [
        [(row["pid"], row["gpu_memory_usage"]) for row in gpu["processes"]] for gpu in gpustat(busy)
    ]
    assert seen == [[(os.getpid(), 8000)], [], [], [(os.getppid(), 1000)]]


def test_gpustat_goes_on_past_a_lost_gpu(busy: Machine) -> None:
    busy.set("gpu index=1", lost="yes")
    gpus = gpustat(busy)
    assert "GPU is lost" in gpus[1]["name"]
    assert [gpu["uuid"] for gpu in gpus[:1] + gpus[2:]] == [GPU[0], *GPU[2:]]


def nvitop(machine: Machine, code: str) -> Any:
    script = f"import json\nfrom nvitop import Device, NA\n{code}\nprint(json.dumps(out))"
    return json.loads(machine.run(sys.executable, "-c", script).stdout)


def test_nvitop_sees_gpus_and_mig_devices(busy: Machine) -> None:
    out = nvitop(
        busy,
        """
out = [Device.driver_version(), Device.cuda_driver_version(), []]
for device in Device.all():
    migs = [[m.uuid(), m.mig_index, m.gpu_instance_id(), m.memory_total(), m.memory_used(),
             m.gpu_utilization() is NA, m.power_usage() is NA] for m in device.mig_devices()]
    used = device.gpu_utilization()
    out[2].append([device.uuid(), device.mig_mode(), None if used is NA else used,
                   device.power_usage(), migs])
""",
    )
    assert out[:2] == ["550.163.01", "12.4"]
    ids = (7, 8, 9, 10, 11, 12, 13)
    assert out[2] == [
        [GPU[0], "Disabled", 93, 201_000, []],
        [GPU[1], "Disabled", 0, 38_410, []],
        [GPU[2], "Enabled", None, 41_020, [[MIG2[0], 0, 3, 9856 * MIB, 0, True, True]]],
        [
            *(GPU[3], "Enabled", None, 43_870),
            [
                [uuid, place, ids[place], 4864 * MIB, (place == 2) * 1000 * MIB, True, True]
                for place, uuid in enumerate(MIG3)
            ],
        ],
    ]


def test_nvitop_sees_every_mig_device_where_the_indices_have_no_hole(machine: Machine) -> None:
    for place, uuid in enumerate(MIG2):
        machine.set(f"device gpu=2 uuid={uuid}", index=place)
    out = nvitop(machine, "out = [m.uuid() for m in Device(2).mig_devices()]")
    assert out == list(MIG2)


def test_nvitop_sees_processes_on_their_device(busy: Machine) -> None:
    out = nvitop(
        busy,
        """
leaves = [leaf for device in Device.all() for leaf in device.to_leaf_devices()]
out = {leaf.uuid(): [[p.pid, p.gpu_memory()] for p in leaf.processes().values()] for leaf in leaves}
""",
    )
    assert {uuid: rows for uuid, rows in out.items() if rows} == {
        GPU[0]: [[os.getpid(), 8000 * MIB]],
        MIG3[2]: [[os.getppid(), 1000 * MIB]],
    }


def test_nvitop_draws_the_machine(busy: Machine) -> None:
    shown = busy.run(str(TOOLS / "nvitop"), "--once", "--no-unicode").stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "Driver Version: 550.163.01" in plain
    for drawn in ("64C", "93%", "8000MiB / 40.00GiB", "1000MiB /  4864MiB"):
        assert drawn in plain
    for place in range(7):
        assert re.search(rf"3:{place} +1g.5gb @ GI/CI: ?{7 + place}/0", plain)


@pytest.mark.parametrize("state", ["driver_not_loaded", "lib_rm_version_mismatch"])
def test_nvitop_tells_a_driver_that_is_not_ready(machine: Machine, state: str) -> None:
    machine.set("driver", state=state)
    out = nvitop(
        machine,
        """
from nvitop import libnvml
try:
    out = Device.count()
except libnvml.NVMLError as error:
    out = type(error).__name__
""",
    )
    names = {
        "driver_not_loaded": "NVMLError_DriverNotLoaded",
        "lib_rm_version_mismatch": "NVMLError_LibRmVersionMismatch",
    }
    assert out == names[state]
