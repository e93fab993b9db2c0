# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake NVML answers nvidia-ml-py as the reference says that a driver does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fake_nvml.machine import GPU, HOME, MIG2, Machine

START = """
import pynvml as nvml
try:
    nvml.nvmlInit()
except nvml.NVMLError as error:
    print(type(error).__name__)
"""


def test_it_tells_what_the_machines_file_says(machine: Machine) -> None:
    machine.set("gpu index=0", utilisation=37, energy_mj=5_000_000_000, power_mw=61_500)
    out = machine.python("""
g = gpu(0)
out = [nvml.nvmlSystemGetDriverVersion(), nvml.nvmlSystemGetCudaDriverVersion(),
       nvml.nvmlDeviceGetCount(), nvml.nvmlDeviceGetUUID(g), nvml.nvmlDeviceGetName(g),
       nvml.nvmlDeviceGetUtilizationRates(g).gpu, nvml.nvmlDeviceGetTotalEnergyConsumption(g),
       nvml.nvmlDeviceGetPowerUsage(g), nvml.nvmlDeviceGetTemperature(g, 0),
       nvml.nvmlDeviceGetPciInfo(g).busId, nvml.nvmlDeviceGetMemoryInfo(g).total,
       nvml.nvmlDeviceGetTotalEccErrors(g, 1, 1), nvml.nvmlDeviceGetCudaComputeCapability(g)]
""")
    assert out == [
        *("550.163.01", 12040, 4, GPU[0], "NVIDIA A100-PCIE-40GB"),
        *(37, 5_000_000_000, 61_500, 31, "00000000:07:00.0", 40960 << 20, 0, [8, 0]),
    ]


def test_a_query_for_processes_first_says_how_much_room_it_needs(machine: Machine) -> None:
    machine.add(*(f"process on={GPU[0]} pid={pid} memory=1GiB" for pid in (11, 12, 13)))
    out = machine.python("""
ask = nvml._nvmlGetFunctionPointer("nvmlDeviceGetComputeRunningProcesses_v3")
count, out = c_uint(0), []
out.append([ask(gpu(0), byref(count), None), count.value])
for room in (2, 3):
    count, rows = c_uint(room), (nvml.c_nvmlProcessInfo_v2_t * room)()
    out.append([ask(gpu(0), byref(count), rows), count.value])
out.append([row.pid for row in rows])
count = c_uint(0)
out.append([ask(gpu(1), byref(count), None), count.value])
""")
    insufficient, success = 7, 0
    assert out == [[insufficient, 3], [insufficient, 3], [success, 3], [11, 12, 13], [success, 0]]


def test_mig_indices_have_holes_and_instance_ids_do_not_start_at_0(machine: Machine) -> None:
    out = machine.python("""
g, out = gpu(2), {}
for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(g)):
    try:
        m = nvml.nvmlDeviceGetMigDeviceHandleByIndex(g, index)
    except nvml.NVMLError_NotFound:
        continue
    out[index] = [nvml.nvmlDeviceGetUUID(m), nvml.nvmlDeviceGetGpuInstanceId(m),
                  nvml.nvmlDeviceGetComputeInstanceId(m), nvml.nvmlDeviceGetName(m)]
""")
    name = "NVIDIA A100-PCIE-40GB MIG 2g.10gb"
    assert out == {
        "0": [MIG2[0], 3, 0, name],
        "2": [MIG2[1], 4, 0, name],
        "3": [MIG2[2], 5, 0, name],
    }


def test_utilisation_is_not_known_where_mig_is_on(machine: Machine) -> None:
    machine.set("gpu index=2", utilisation=50, encoder=1)
    out = machine.python("""
calls = (nvml.nvmlDeviceGetUtilizationRates, nvml.nvmlDeviceGetEncoderUtilization)
out = [[error(call, g) for call in calls] for g in (gpu(1), gpu(2), mig(2, 0))]
""")
    assert out == [["", ""], ["NotSupported"] * 2, ["NotSupported"] * 2]


def test_power_energy_and_temperature_belong_to_the_whole_gpu(machine: Machine) -> None:
    out = machine.python("""
out = [[error(nvml.nvmlDeviceGetPowerUsage, g), error(nvml.nvmlDeviceGetTemperature, g, 0),
        error(nvml.nvmlDeviceGetTotalEnergyConsumption, g)] for g in (gpu(2), mig(2, 0))]
""")
    assert out == [["", "", ""], ["NotSupported"] * 3]


def test_what_a_line_leaves_out_is_not_supported(machine: Machine) -> None:
    assert machine.python("out = error(nvml.nvmlDeviceGetFanSpeed, gpu(0))") == "NotSupported"


def test_processes_of_mig_devices_are_seen_on_the_device_and_by_root_on_the_gpu(
    machine: Machine,
) -> None:
    machine.add(f"process on={MIG2[1]} pid=77 memory=2GiB", f"process on={GPU[2]} pid=78")
    out = machine.python("""
rows = lambda g: [[p.pid, p.gpuInstanceId] for p in nvml.nvmlDeviceGetComputeRunningProcesses(g)]
out = [rows(mig(2, 2)), rows(mig(2, 0)), rows(gpu(2)), nvml.nvmlDeviceGetMemoryInfo(mig(2, 2)).used]
""")
    assert out == [[[77, 4]], [], [[77, 4], [78, 0xFFFFFFFF]], 2 << 30]


def test_a_process_is_of_the_kind_that_its_line_says(machine: Machine) -> None:
    kinds = ("compute", "graphics", "mps")
    machine.add(*(f"process on={GPU[0]} pid={i} type={kind}" for i, kind in enumerate(kinds, 1)))
    out = machine.python("""
out = [[p.pid for p in ask(gpu(0))] for ask in (nvml.nvmlDeviceGetComputeRunningProcesses,
    nvml.nvmlDeviceGetGraphicsRunningProcesses, nvml.nvmlDeviceGetMPSComputeRunningProcesses)]
""")
    assert out == [[1], [2], [3]]


def test_a_process_that_is_to_be_followed_ends_with_the_kernels(machine: Machine) -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        line = f"process on={GPU[0]} pid={child.pid} follow=yes"
        machine.add(line, f"process on={GPU[0]} pid={os.getpid()} follow=yes")
        ask = "out = len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu(0)))"
        assert machine.python(ask) == 2
        child.kill()
    assert machine.python(ask) == 1


def test_a_change_of_the_file_is_seen_by_who_is_connected(machine: Machine) -> None:
    out = machine.python(f"""
import os, pathlib
path = pathlib.Path({str(machine.path)!r})
text, g = path.read_text(), gpu(0)
out = [nvml.nvmlDeviceGetTemperature(g, 0)]
for degrees in (88, 31):
    path.with_suffix(".t").write_text(text.replace("temperature=31", f"temperature={{degrees}}", 1))
    os.replace(path.with_suffix(".t"), path)
    out.append(nvml.nvmlDeviceGetTemperature(g, 0))
path.unlink()
out.append(error(nvml.nvmlDeviceGetTemperature, g, 0))
""")
    assert out == [31, 88, 31, "DriverNotLoaded"]


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("driver_not_loaded", "DriverNotLoaded"),
        ("lib_rm_version_mismatch", "LibRmVersionMismatch"),
        ("NVML_ERROR_UNKNOWN", "Unknown"),
    ],
)
def test_a_driver_that_is_not_ready_answers_every_call_with_its_state(
    machine: Machine, state: str, name: str
) -> None:
    machine.set("driver", state=state)
    assert machine.run(sys.executable, "-c", START).stdout.strip() == f"NVMLError_{name}"


def test_a_lost_gpu_is_lost_for_every_call_and_the_others_are_not(machine: Machine) -> None:
    machine.set("gpu index=2", lost="yes")
    out = machine.python(f"""
out = [nvml.nvmlDeviceGetCount(), error(gpu, 2), error(gpu, 3),
       error(nvml.nvmlDeviceGetHandleByUUID, {MIG2[0]!r})]
""")
    assert out == [4, "GpuIsLost", "", "GpuIsLost"]


def test_a_fault_is_for_one_call_on_one_device(machine: Machine) -> None:
    machine.add(f"fault call=nvmlDeviceGetMemoryInfo on={GPU[1]} error=gpu_is_lost")
    out = machine.python("""
out = [error(nvml.nvmlDeviceGetMemoryInfo, gpu(0)), error(nvml.nvmlDeviceGetMemoryInfo, gpu(1)),
       error(nvml.nvmlDeviceGetMemoryInfo, gpu(1), nvml.nvmlMemory_v2),
       error(nvml.nvmlDeviceGetPowerUsage, gpu(1))]
""")
    assert out == ["", "GpuIsLost", "GpuIsLost", ""]


def test_without_a_connection_nothing_is_told(machine: Machine) -> None:
    out = machine.python("""
nvml.nvmlInit(); nvml.nvmlShutdown()
out = [error(nvml.nvmlDeviceGetCount)]
nvml.nvmlShutdown()
out += [error(nvml.nvmlDeviceGetCount), error(nvml.nvmlShutdown)]
""")
    assert out == ["", "Uninitialized", "Uninitialized"]


def test_no_handle_and_no_pointer_of_a_client_takes_the_library_down(machine: Machine) -> None:
    listed = machine.run("nm", "-D", "--defined-only", str(machine.library)).stdout.split()
    kinds = ("nvmlDevice", "nvmlGpuInstance", "nvmlComputeInstance")
    first = ("nvmlDeviceGetHandleBy", "nvmlDeviceGetCount")
    names = [n for n in listed if n.startswith(kinds) and not n.startswith(first)]
    assert len(names) > 70
    out = machine.python(f"""
library, out = CDLL("libnvidia-ml.so.1"), set()
for name in {names!r}:
    for handle in (None, c_void_p(16), gpu(0), gpu(2), mig(2, 0)):
        out.add(getattr(library, name)(handle, None, None, None, None))
out = sorted(out)
""")
    invalid_argument, not_supported, not_found = 2, 3, 6
    assert out == [invalid_argument, not_supported, not_found]


GOOD = "driver version=1\n"
ONE = f"{GOOD}gpu index=0 uuid=GPU-0 name=A bus=0:1:0.0 memory=40960MiB mig=on\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "there is no line that starts with driver"),
        ("driver\n", "line 1: version: missing"),
        (f"{GOOD}{GOOD}", "line 2: driver: too many lines of this kind"),
        (f"{GOOD}card index=0\n", "line 2: card: no such kind of line"),
        (f"{GOOD}gpu index\n", "line 2: index: not key=value"),
        (f"{GOOD}gpu colour=red\n", "line 2: colour: no such key"),
        (f"{GOOD}gpu index=0 index=0\n", "line 2: index: given twice"),
        (f"{GOOD}gpu index=-1\n", "line 2: index: not a value"),
        (f"{GOOD}gpu memory=4parsecs\n", "line 2: memory: not a value"),
        (f"{GOOD}gpu memory=18446744073709551615GiB\n", "line 2: memory: not a value"),
        (f"{GOOD}gpu name={'x' * 200}\n", "line 2: name: not a value"),
        (ONE.replace("index=0", "index=1"), "line 2: index: GPUs are numbered from 0"),
        (f"{ONE}{ONE.splitlines()[1]}\n", "line 3: index: GPUs are numbered from 0"),
        (f"{ONE}instance gpu=1 id=7 profile=1g.5gb start=0\n", "line 3: no such GPU"),
        (f"{ONE}instance gpu=0 id=7 profile=1g.9gb start=0\n", "line 3: no such GPU"),
        (f"{ONE}instance gpu=0 id=0 profile=7g.40gb start=1\n", "line 3: no such GPU"),
        (f"{ONE}device gpu=0 instance=7 index=0 uuid=MIG-1\n", "line 3: no such GPU instance"),
        (f"{ONE}process on=GPU-1 pid=1\n", "line 3: on: no GPU or MIG device"),
        (f"{GOOD}fault call=nvmlInit error=tired\n", "line 2: error: not a value"),
    ],
)
def test_a_file_that_makes_no_machine_is_an_unknown_error_with_its_place(
    machine: Machine, text: str, where: str
) -> None:
    machine.write(text)
    done = machine.run(sys.executable, "-c", START)
    assert done.stdout.strip() == "NVMLError_Unknown"
    assert f"{machine.path}: {where}" in done.stderr


def test_no_file_whatever_is_in_it_takes_the_library_down(machine: Machine, tmp_path: Path) -> None:
    draw = random.Random(3)
    good = (HOME / "four-a100.conf").read_bytes()
    for number in range(400):
        text = bytearray(good)
        for _unused in range(draw.randint(1, 8)):
            at = draw.randrange(len(text))
            text[at : at + draw.choice([0, 1, 1, 40])] = draw.choice(
                [b"", b" ", b"=", b"\n", b'"', b"\0", b"9", b"\xff", b"on=", b"#"]
            )
        (tmp_path / f"{number}.conf").write_bytes(bytes(text))
    out = machine.python(f"""
import os
out = set()
for number in range(400):
    os.replace(f"{tmp_path}/{{number}}.conf", {str(machine.path)!r})
    for index in range(4):
        out.add(error(lambda: nvml.nvmlDeviceGetMemoryInfo(gpu(index)).total))
        out.add(error(lambda: nvml.nvmlDeviceGetUUID(mig(index, 0))))
out = sorted(out)
""")
    assert "Unknown" in out and "" in out
    assert set(out) <= {"", "Unknown", "NotFound", "NotSupported", "InvalidArgument"}
