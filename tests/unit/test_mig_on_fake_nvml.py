# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Splitting GPUs through nvidia-ml-py, on the fake driver."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_nvml.machine import GPU, MIG2, Machine, build

PROFILES = {
    "whole": [],
    "thirds": ["2g.10gb"] * 3,
    "sevenths": ["1g.5gb"] * 7,
    "halves": ["3g.20gb"] * 2,
    "mixed": ["1g.5gb", "3g.20gb", "1g.5gb", "1g.5gb", "1g.5gb"],
}
# What the module does, without Ansible around it: argv[1] is the layout.
SPLIT = f"""
import json, sys
from ds01.core import mig
from ds01.host.nvml import read
from ds01.host.nvml_mig import Mig, MigError

def layouts():
    return {{gpu.index: gpu.layout for gpu in mig.gpus_from(Mig().read())}}

def split(wanted):
    for _round in range(2):
        gpus = mig.gpus_from(Mig().read())
        resolved, problems = mig.resolve({PROFILES!r}, wanted, gpus)
        assert not problems, problems
        for step in mig.plan(gpus, resolved, {{}}).steps:
            mig.apply(mig.first_part(step), Mig())

out = {{"error": None}}
try:
    split(json.loads(sys.argv[1]))
except MigError as error:
    out["error"] = str(error)
out["layouts"] = layouts()
out["slots"] = [m["uuid"] for g in read()["gpus"] for m in g.get("mig") or ()]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(library: Path, tmp_path: Path) -> Machine:
    return Machine(tmp_path, library)


def split(machine: Machine, **wanted: str) -> dict[str, Any]:
    numbered = {key.removeprefix("gpu"): value for key, value in wanted.items()}
    found: dict[str, Any] = json.loads(
        machine.run(sys.executable, "-c", SPLIT, json.dumps(numbered)).stdout
    )
    return found


def test_the_layout_that_there_is_is_read(machine: Machine) -> None:
    before = machine.path.read_text()
    found = split(machine, gpu0="whole", gpu1="whole", gpu2="thirds", gpu3="sevenths")
    assert found["error"] is None
    assert found["layouts"] == {
        "0": [],
        "1": [],
        "2": ["2g.10gb"] * 3,
        "3": ["1g.5gb"] * 7,
    }
    assert machine.path.read_text() == before


@pytest.mark.parametrize("wanted", ["halves", "sevenths", "mixed", "whole"])
def test_a_split_gpu_is_split_in_another_way(machine: Machine, wanted: str) -> None:
    found = split(machine, gpu2=wanted)
    assert found["error"] is None
    assert sorted(found["layouts"]["2"]) == sorted(PROFILES[wanted])
    # The other split GPU keeps its devices; the new ones have new UUIDs.
    assert len(found["slots"]) == 7 + len(PROFILES[wanted])
    assert not set(found["slots"]) & set(MIG2)


@pytest.mark.parametrize("wanted", ["thirds", "mixed"])
def test_a_whole_gpu_is_split_and_made_whole_again(machine: Machine, wanted: str) -> None:
    assert sorted(split(machine, gpu0=wanted)["layouts"]["0"]) == sorted(PROFILES[wanted])
    found = split(machine, gpu0="whole")
    assert (found["error"], found["layouts"]["0"]) == (None, [])


def test_places_are_found_although_the_driver_tells_them_only_with_mig_on(machine: Machine) -> None:
    # No split sister of the same model could lend its table.
    split(machine, gpu2="whole", gpu3="whole")
    found = split(machine, gpu1="mixed")
    assert found["error"] is None
    assert sorted(found["layouts"]["1"]) == sorted(PROFILES["mixed"])


def test_a_mode_that_something_holds_up_is_named_with_what_to_do(machine: Machine) -> None:
    machine.add(f"process on={GPU[0]} pid={2**22 + 1}")
    found = split(machine, gpu0="thirds")
    assert f"{GPU[0]}: turning MIG on: something has it open. Stop what has" in found["error"]
    assert found["layouts"]["0"] == []
    machine.drop(f"process pid={2**22 + 1}")
    assert split(machine, gpu0="thirds")["layouts"]["0"] == ["2g.10gb"] * 3


def test_a_device_that_is_in_use_is_not_destroyed(machine: Machine) -> None:
    machine.add(f"process on={MIG2[0]} pid={2**22 + 1}")
    found = split(machine, gpu2="whole")
    assert "destroying GPU instance 3: something has it open" in found["error"]
    assert found["layouts"]["2"] == ["2g.10gb"] * 3


def test_a_lost_gpu_does_not_hide_the_others(machine: Machine) -> None:
    machine.set("gpu index=3", lost="yes")
    found = split(machine, gpu2="halves")
    assert found["layouts"]["2"] == ["3g.20gb"] * 2


def test_a_driver_that_is_away_is_an_error_in_words(machine: Machine) -> None:
    machine.library.unlink()
    code = (
        "from ds01.host.nvml_mig import Mig, MigError\n"
        "try:\n    Mig().read()\nexcept MigError as error:\n    print(error)\n"
    )
    said = machine.run(sys.executable, "-c", code).stdout
    assert said.startswith("NVML: the driver does not answer (")
