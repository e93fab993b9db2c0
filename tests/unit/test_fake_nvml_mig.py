# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitioning the fake's GPUs through NVML: capacity, what is in use, and the file afterwards."""

from __future__ import annotations

import subprocess
import sys

from fake_nvml.machine import GPU, MIG2, Machine

ONE, TWO, THREE, FOUR, SEVEN = 19, 14, 9, 5, 0
"""Ids of the A100's profiles with so many compute slices."""


CLEAR = """
def clear(index):
    for profile in (19, 14, 9, 5, 0):
        count, list_ = c_uint(7), (nvml.c_nvmlGpuInstance_t * 7)()
        nvml.nvmlDeviceGetGpuInstances(gpu(index), profile, list_, byref(count))
        for instance in list_[:count.value]:
            for compute in range(5):
                found, made = c_uint(7), (nvml.c_nvmlComputeInstance_t * 7)()
                if not error(nvml.nvmlGpuInstanceGetComputeInstances, instance, compute, made,
                             byref(found)):
                    for one in made[:found.value]:
                        nvml.nvmlComputeInstanceDestroy(one)
            nvml.nvmlGpuInstanceDestroy(instance)

def uuids(index):
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu(index))):
        try:
            found.append(nvml.nvmlDeviceGetUUID(mig(index, place)))
        except nvml.NVMLError_NotFound:
            pass
    return found

room = nvml.nvmlDeviceGetGpuInstanceRemainingCapacity
create = nvml.nvmlDeviceCreateGpuInstance
"""


def test_profiles_are_those_of_the_a100(machine: Machine) -> None:
    out = machine.python("""
out = []
for index in range(5):
    p = nvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu(2), index)
    out.append([p.name, p.id, p.sliceCount, p.instanceCount, p.memorySizeMB])
out.append(error(nvml.nvmlDeviceGetGpuInstanceProfileInfo, gpu(2), 5))
out.append(error(nvml.nvmlDeviceGetGpuInstanceProfileInfo, gpu(0), 0))
""")
    assert out == [
        ["MIG 1g.5gb", ONE, 1, 7, 4864],
        ["MIG 2g.10gb", TWO, 2, 3, 9856],
        ["MIG 3g.20gb", THREE, 3, 2, 19968],
        ["MIG 4g.20gb", FOUR, 4, 1, 19968],
        ["MIG 7g.40gb", SEVEN, 7, 1, 40192],
        "NotSupported",
        "NotSupported",
    ]


def test_an_empty_gpu_has_room_for_each_profile_as_often_as_the_guide_says(
    machine: Machine,
) -> None:
    out = machine.python(f"""{CLEAR}
clear(2)
out = [room(gpu(2), profile) for profile in ({ONE}, {TWO}, {THREE}, {FOUR}, {SEVEN})]
create(gpu(2), {FOUR})
out += [room(gpu(2), profile) for profile in ({ONE}, {TWO}, {THREE}, {FOUR}, {SEVEN})]
""")
    assert out == [7, 3, 2, 1, 1, 3, 1, 1, 0, 0]


def test_what_does_not_fit_is_refused_and_leaves_the_file_alone(machine: Machine) -> None:
    before = machine.path.read_text()
    out = machine.python(f"""{CLEAR}
out = [error(create, gpu(2), {THREE}), error(create, gpu(2), 99), error(create, gpu(0), {ONE})]
""")
    assert out == ["InsufficientResources", "InvalidArgument", "NotSupported"]
    assert machine.path.read_text() == before


def test_a_placement_is_kept_to(machine: Machine) -> None:
    out = machine.python(f"""{CLEAR}
clear(2)
place = lambda start, size: byref(nvml.c_nvmlGpuInstancePlacement_t(start, size))
make = nvml.nvmlDeviceCreateGpuInstanceWithPlacement
made = nvml.nvmlGpuInstanceGetInfo(make(gpu(2), {TWO}, place(4, 2)))
out = [made.placement.start, made.placement.size, made.profileId,
       error(make, gpu(2), {TWO}, place(4, 2)), error(make, gpu(2), {TWO}, place(1, 2)),
       error(make, gpu(2), {TWO}, place(0, 4))]
""")
    assert out == [4, 2, TWO, *["InsufficientResources"] * 2, "InvalidArgument"]


def test_every_repartition_gives_new_uuids(machine: Machine) -> None:
    out = machine.python(f"""{CLEAR}
out = [uuids(2)]
for _round in range(2):
    clear(2)
    for _device in range(3):
        nvml.nvmlGpuInstanceCreateComputeInstance(create(gpu(2), {TWO}), 1)
    out.append(uuids(2))
""")
    assert out[0] == list(MIG2)
    assert [len(uuids) for uuids in out] == [3, 3, 3]
    assert len({uuid for uuids in out for uuid in uuids}) == 9


def test_a_handle_of_a_device_that_is_no_more_is_invalid(machine: Machine) -> None:
    out = machine.python(f"""{CLEAR}
old = mig(2, 0)
clear(2)
out = [error(nvml.nvmlDeviceGetUUID, old), error(nvml.nvmlDeviceGetMemoryInfo, old)]
""")
    assert out == ["InvalidArgument"] * 2


def test_an_instance_without_a_compute_instance_is_no_device(machine: Machine) -> None:
    out = machine.python(f"""{CLEAR}
clear(2)
instance = create(gpu(2), {THREE})
out = [uuids(2), error(nvml.nvmlGpuInstanceCreateComputeInstance, instance, 3)]
nvml.nvmlGpuInstanceCreateComputeInstance(instance, 0)
nvml.nvmlGpuInstanceCreateComputeInstance(instance, 1)
out += [error(nvml.nvmlGpuInstanceCreateComputeInstance, instance, 0)]
out += [nvml.nvmlDeviceGetName(mig(2, place)) for place in (0, 1)]
out += [nvml.nvmlDeviceGetAttributes(mig(2, 1)).computeInstanceSliceCount]
""")
    assert out == [
        *([], "InvalidArgument", "InsufficientResources"),
        "NVIDIA A100-PCIE-40GB MIG 1c.3g.20gb",
        "NVIDIA A100-PCIE-40GB MIG 2c.3g.20gb",
        2,
    ]


def test_what_a_process_uses_is_not_destroyed(machine: Machine) -> None:
    machine.add(f"process on={MIG2[0]} pid=5")
    out = machine.python("""
instance = nvml.nvmlDeviceGetGpuInstanceById(gpu(2), 3)
compute = nvml.nvmlGpuInstanceGetComputeInstanceById(instance, 0)
out = [error(nvml.nvmlComputeInstanceDestroy, compute), error(nvml.nvmlGpuInstanceDestroy, instance)]
""")
    assert out == ["InUse", "InUse"]


def test_the_mode_of_an_idle_gpu_changes_at_once_and_of_a_busy_one_later(machine: Machine) -> None:
    machine.add(f"process on={GPU[1]} pid=5")
    out = machine.python("""
mode, modes = nvml.nvmlDeviceSetMigMode, nvml.nvmlDeviceGetMigMode
in_use = nvml.NVML_ERROR_IN_USE
out = [mode(gpu(0), 1) == 0, modes(gpu(0)), mode(gpu(1), 1) == in_use, modes(gpu(1)),
       mode(gpu(2), 0) == in_use, modes(gpu(2)), mode(gpu(0), 0) == 0, modes(gpu(0))]
""")
    assert out == [True, [1, 1], True, [0, 1], True, [1, 0], True, [0, 0]]


def test_a_change_keeps_what_else_is_in_the_file(machine: Machine) -> None:
    machine.write(machine.path.read_text().replace("mig=off", "mig=off # of no one", 1))
    before = machine.path.read_text().splitlines()
    machine.path.chmod(0o640)
    machine.python("nvml.nvmlDeviceSetMigMode(gpu(0), 1)\nout = 0")
    after = machine.path.read_text().splitlines()
    assert machine.path.stat().st_mode & 0o777 == 0o640
    changed = [line for line in after if line not in before]
    assert len(after) == len(before) and len(changed) == 1
    head, _hash, comment = changed[0].partition(" # ")
    assert " mig=on" in head and "mig=off" not in head and comment.startswith("of no one")


def test_many_at_once_never_get_the_same_place(machine: Machine) -> None:
    machine.python(f"{CLEAR}\nclear(3)\nout = 0")
    code = f"""
import pynvml as nvml
nvml.nvmlInit()
g, made = nvml.nvmlDeviceGetHandleByIndex(3), 0
for _attempt in range(4):
    try:
        instance = nvml.nvmlDeviceCreateGpuInstance(g, {ONE})
        nvml.nvmlGpuInstanceCreateComputeInstance(instance, 0)
        made += 1
    except nvml.NVMLError_InsufficientResources:
        pass
print(made)
"""
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(command, env=machine.environment(), stdout=subprocess.PIPE, text=True)
        for _client in range(4)
    ]
    assert sum(int(client.communicate()[0]) for client in running) == 7
    assert len(set(machine.python(f"{CLEAR}\nout = uuids(3)"))) == 7


def test_only_who_may_write_the_file_is_root(machine: Machine) -> None:
    machine.add(f"process on={MIG2[0]} pid=5")
    script = f"""{CLEAR}
out = [error(create, gpu(2), {ONE}), error(nvml.nvmlDeviceSetMigMode, gpu(0), 1),
       error(nvml.nvmlDeviceGetComputeRunningProcesses, gpu(2)),
       error(nvml.nvmlDeviceGetComputeRunningProcesses, mig(2, 0))]
"""
    assert machine.python(script, plain_user=True) == [*["NoPermission"] * 3, ""]
