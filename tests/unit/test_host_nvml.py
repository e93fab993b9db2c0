# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVML adapter on the fake NVML, and what the domain makes of its readings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ds01.core.gpus import GONE, LOST, OK, Inventory, Slot, inventory, settled
from fake_nvml.machine import GPU, LIBRARY, MIG2, MIG3, Client, Machine


@pytest.fixture
def client(machine: Machine) -> Iterator[Client]:
    """One process that looks again and again, as the daemon does."""
    made = Client(machine)
    yield made
    made.close()


def found(reading: dict[str, Any]) -> Inventory:
    assert reading["state"] == "ready", reading
    return inventory(reading)


def health(slots: tuple[Slot, ...]) -> dict[str, str]:
    return {slot.uuid: slot.health for slot in slots}


def test_a_reading_is_the_machine(client: Client) -> None:
    seen = found(client.read())
    assert seen.driver == "550.163.01"
    assert [(slot.index, slot.uuid) for slot in seen.slots] == [
        *(("0", GPU[0]), ("1", GPU[1])),
        *(("2:0", MIG2[0]), ("2:2", MIG2[1]), ("2:3", MIG2[2])),
        *((f"3:{place}", uuid) for place, uuid in enumerate(MIG3)),
    ]
    whole, split = seen.slots[0], seen.slots[3]
    assert (whole.parent, whole.profile, whole.memory, whole.sevenths) == (GPU[0], "", 40 << 30, 7)
    assert (split.parent, split.profile, split.memory) == (GPU[2], "2g.10gb", 9856 << 20)
    assert split.sevenths == 2
    assert seen.minors == tuple(enumerate(GPU))
    assert seen.mig == GPU[2:]


def test_processes_are_counted_once_on_their_slot(machine: Machine, client: Client) -> None:
    machine.add(
        f"process on={GPU[0]} pid=10 memory=1GiB",
        f"process on={GPU[0]} pid=10 memory=2GiB type=graphics",
        f"process on={GPU[0]} pid=11 type=mps",
        f"process on={MIG2[1]} pid=12 memory=3GiB",
        f"process on={GPU[2]} pid=13",
    )
    assert sorted((p.pid, p.slot, p.memory) for p in found(client.read()).processes) == [
        (10, GPU[0], 2 << 30),
        (11, GPU[0], 0),
        (12, MIG2[1], 3 << 30),
        (13, GPU[2], 0),
    ]


def test_a_compute_instance_that_is_a_part_counts_its_own_slices(
    machine: Machine, client: Client
) -> None:
    machine.drop("gpu=2")
    machine.add("instance gpu=2 id=1 profile=3g.20gb start=0")
    machine.add("device gpu=2 instance=1 compute=0 index=4 uuid=MIG-part slices=1")
    (slot,) = [slot for slot in found(client.read()).slots if slot.parent == GPU[2]]
    assert (slot.index, slot.profile, slot.sevenths) == ("2:4", "1c.3g.20gb", 1)


def test_a_lost_gpu_takes_no_other_with_it(machine: Machine, client: Client) -> None:
    known, _unused = settled((), found(client.read()))
    machine.set("gpu index=1", lost="yes")
    slots, changes = settled(known, found(client.read()))
    assert health(slots) == {slot.uuid: LOST if slot.uuid == GPU[1] else OK for slot in known}
    assert [(change.kind, change.subject) for change in changes] == [("gpu_lost", GPU[1])]
    machine.set("gpu index=1", lost="no")
    assert settled(slots, found(client.read()))[0] == known


@pytest.mark.parametrize("error", ["gpu_is_lost", "unknown", "timeout", "reset_required"])
@pytest.mark.parametrize(
    "call",
    ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses"],
)
def test_a_gpu_that_answers_with_an_error_is_lost_and_known_by_name(
    machine: Machine, client: Client, call: str, error: str
) -> None:
    machine.add(f"fault call={call} on={GPU[3]} error={error}")
    reading = client.read()
    assert [row["lost"] for row in reading["gpus"]] == [False, False, False, True]
    assert reading["gpus"][3]["reason"]
    assert found(reading).lost == (GPU[3],)


def test_a_driver_that_lacks_a_call_is_not_a_lost_gpu(machine: Machine, client: Client) -> None:
    machine.add(
        "fault call=nvmlDeviceGetMPSComputeRunningProcesses error=not_supported",
        f"fault call=nvmlDeviceGetMigMode on={GPU[0]} error=not_supported",
    )
    assert len(found(client.read()).slots) == 12


def test_who_may_not_see_all_processes_sees_the_slots(machine: Machine) -> None:
    machine.add(f"process on={MIG2[1]} pid=12")
    reading = machine.python(
        "nvml.nvmlShutdown()\nfrom ds01.host.nvml import read\nout = read()", plain_user=True
    )
    seen = found(reading)
    assert (len(seen.slots), [p.slot for p in seen.processes]) == (12, [MIG2[1]])


def test_a_repartitioned_gpus_old_slots_are_gone(machine: Machine, client: Client) -> None:
    known, _unused = settled((), found(client.read()))
    machine.python("""
for number in (3, 4, 5):
    instance = nvml.nvmlDeviceGetGpuInstanceById(gpu(2), number)
    compute = nvml.nvmlGpuInstanceGetComputeInstanceById(instance, 0)
    nvml.nvmlComputeInstanceDestroy(compute)
    nvml.nvmlGpuInstanceDestroy(instance)
out = 0
""")
    empty, changes = settled(known, found(client.read()))
    assert {uuid for uuid, state in health(empty).items() if state == GONE} == set(MIG2)
    assert ("repartitioned", GPU[2]) in [(change.kind, change.subject) for change in changes]
    machine.python("nvml.nvmlDeviceSetMigMode(gpu(2), 0)\nout = 0")
    whole, changes = settled(empty, found(client.read()))
    assert [(change.kind, change.subject) for change in changes] == [("slot_new", GPU[2])]
    assert health(whole)[GPU[2]] == OK and health(whole)[MIG2[0]] == GONE


def test_a_whole_gpu_that_is_split_is_gone_as_a_slot_at_once(
    machine: Machine, client: Client
) -> None:
    known, _unused = settled((), found(client.read()))
    machine.python("nvml.nvmlDeviceSetMigMode(gpu(0), 1)\nout = 0")
    slots, _changes = settled(known, found(client.read()))
    assert health(slots)[GPU[0]] == GONE


def test_a_driver_that_restarts_is_a_state_and_changes_no_slot(
    machine: Machine, client: Client
) -> None:
    known, _unused = settled((), found(client.read()))
    machine.set("driver", state="driver_not_loaded")
    reading = client.read()
    assert (reading["state"], reading["reason"]) == ("driver_restarting", "Driver Not Loaded")
    assert settled(known, inventory(reading)) == (known, [])
    machine.set("driver", state="ready")
    assert settled(known, found(client.read())) == (known, [])


@pytest.mark.parametrize("call", ["nvmlDeviceGetCount", "nvmlSystemGetDriverVersion"])
def test_a_driver_that_goes_during_a_look_is_restarting(
    machine: Machine, client: Client, call: str
) -> None:
    machine.add(f"fault call={call} error=driver_not_loaded")
    assert client.read()["state"] == "driver_restarting"
    machine.drop(f"fault call={call}")
    assert client.read()["state"] == "ready"


def test_a_driver_that_goes_between_two_gpus_is_no_lost_gpu(
    machine: Machine, client: Client
) -> None:
    machine.add(f"fault call=nvmlDeviceGetUUID on={GPU[3]} error=lib_rm_version_mismatch")
    reading = client.read()
    assert (reading["state"], reading["gpus"]) == ("driver_restarting", [])


def test_an_absent_driver_is_a_state_also_for_who_was_connected(
    machine: Machine, client: Client, nvml_library: Path
) -> None:
    assert client.read()["state"] == "ready"
    machine.library.unlink()
    machine.set("driver", state="driver_not_loaded")
    reading = client.read()
    assert (reading["state"], reading["gpus"]) == ("driver_absent", [])
    machine.install(nvml_library)
    machine.set("driver", state="ready")
    assert len(found(client.read()).slots) == 12


def test_a_replaced_library_is_loaded_by_who_had_loaded_the_old_one(
    machine: Machine, nvml_library: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old" / LIBRARY
    old.parent.mkdir()
    source = "int nvmlInitWithFlags(unsigned flags) { (void)flags; return 18; }"
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-x", "c", "-", "-o", str(old)]
    subprocess.run(command, input=source, text=True, check=True)
    machine.install(old)
    client = Client(machine)
    reading = client.read()
    assert reading["state"] == "driver_restarting"
    assert reading["reason"] == "RM has detected an NVML/RM version mismatch."
    machine.install(nvml_library)
    assert client.read()["state"] == "ready"
    client.close()


def test_the_driver_is_let_go_after_each_look(machine: Machine) -> None:
    out = machine.python("""
nvml.nvmlShutdown()
from ds01.host.nvml import read
read()
out = error(nvml.nvmlDeviceGetCount)
""")
    assert out == "Uninitialized"
