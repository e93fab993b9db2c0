# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the role gpu_host, from arguments to what is on the host afterwards."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modules import plugin, run

shell = plugin("module_utils._gpu_host_shell")
rows = plugin("module_utils._core.book_rows")
store = plugin("module_utils._core.store")
leases = plugin("module_utils._core.leases")
mig_error = plugin("module_utils._host.nvml_mig").MigError

SIZES = {"2g.10gb": (2, [(0, 2), (2, 2), (4, 2)]), "3g.20gb": (3, [(0, 4), (4, 4)])}
PROFILES = {"whole": [], "thirds": ["2g.10gb"] * 3, "halves": ["3g.20gb"] * 2}


class Machine:
    """Two GPUs that can be split, as NVML shows them.

    :ivar fail: the words of the action that the driver refuses.
    """

    def __init__(self) -> None:
        self.state = "ready"
        self.instances: dict[str, dict[int, str]] = {"GPU-a": {}, "GPU-b": {}}
        self.processes: dict[str, list[dict[str, Any]]] = {"GPU-a": [], "GPU-b": []}
        self.log: list[str] = []
        self.fail = ""
        self.made = 0

    # as the adapter of the inventory
    def reading(self) -> dict[str, Any]:
        if self.state != "ready":
            return {"state": self.state, "reason": "Driver Not Loaded", "gpus": []}
        gpus = [self._shown(index, uuid) for index, uuid in enumerate(self.instances)]
        return {"state": "ready", "reason": "", "driver_version": "550.54.15", "gpus": gpus}

    def _shown(self, index: int, uuid: str) -> dict[str, Any]:
        parts = self.instances[uuid]
        return {
            "index": index,
            "uuid": uuid,
            "memory": 40 * 2**30,
            "lost": False,
            "mig_enabled": bool(parts),
            "processes": self.processes[uuid],
            "mig": [
                {
                    "index": place,
                    "uuid": f"MIG-{uuid[-1]}{number}",
                    "profile": profile,
                    "memory": 2**30,
                    "compute_slices": SIZES[profile][0],
                }
                for place, (number, profile) in enumerate(parts.items())
            ],
        }

    # as the adapter that splits
    def read(self) -> list[dict[str, Any]]:
        return [
            {
                "index": index,
                "uuid": uuid,
                "memory": 40 * 2**30,
                "capable": True,
                "mode": bool(parts),
                "pending": bool(parts),
                "profiles": [
                    {"name": name, "id": n, "slices": slices, "memory": 2**30, "placements": places}
                    for n, (name, (slices, places)) in enumerate(SIZES.items())
                ],
                "instances": [
                    {"id": number, "profile": name, "whole": True} for number, name in parts.items()
                ],
            }
            for index, (uuid, parts) in enumerate(self.instances.items())
        ]

    def _act(self, words: str) -> None:
        if words == self.fail:
            raise mig_error(f"{words}: the driver refuses", "GPU", "See dmesg")
        self.log.append(words)

    def set_mode(self, uuid: str, on: bool) -> None:
        self._act(f"{uuid} mode {on}")

    def destroy(self, uuid: str, instance: int) -> None:
        self._act(f"{uuid} destroy {instance}")
        del self.instances[uuid][instance]

    def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None:
        self._act(f"{uuid} create {profile} {placement}")
        self.made += 1
        self.instances[uuid][self.made] = profile


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    found = Machine()
    monkeypatch.setattr(plugin("module_utils._host.nvml"), "read", found.reading)
    for name in ("ds01_mig_layout", "ds01_gpu_cdi", "ds01_gpu_host_check"):
        monkeypatch.setattr(plugin(f"modules.{name}"), "into_runtime", lambda: None)
    monkeypatch.setattr(plugin("modules.ds01_mig_layout"), "Mig", lambda: found)
    paths = shell.Paths(
        str(tmp_path / "state.db"),
        str(tmp_path / "gpu.json"),
        str(tmp_path / "events.jsonl"),
        str(tmp_path / "leases"),
    )
    monkeypatch.setattr(shell, "PATHS", paths)
    return found


def layout(tmp_path: Path, check: bool = False, **wanted: str) -> dict[str, Any]:
    numbered = {key.removeprefix("gpu"): value for key, value in wanted.items()}
    given = {"profiles": PROFILES, "layout": numbered, "cdi_path": str(tmp_path / "nvidia.yaml")}
    return run("ds01_mig_layout", given, check)


def leased(slot: str) -> None:
    store.migrate(shell.PATHS.store)
    opened = store.open_store(shell.PATHS.store)
    with opened.transaction() as connection:
        lease = leases.Lease("L1", 1000, "alice", "bound", (slot,), 0.0, container="c" * 64)
        rows.put_lease(connection, replace(lease, container_name="train"))
    opened.close()


def events() -> list[dict[str, Any]]:
    try:
        text = Path(shell.PATHS.events).read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


# --- ds01_mig_layout ----------------------------------------------------------------------------


def test_a_gpu_is_split_once(machine: Machine, tmp_path: Path) -> None:
    foretold = layout(tmp_path, check=True, gpu1="thirds")
    assert foretold["changed"] and machine.log == []
    done = layout(tmp_path, gpu1="thirds")
    assert {**done, "invocation": 0} == {**foretold, "invocation": 0}
    assert done["gpus"] == [
        {"index": 1, "uuid": "GPU-b", "before": [], "after": ["2g.10gb"] * 3},
    ]
    assert (done["diff"]["before"], done["diff"]["after"]) == (
        "GPU 1: whole\n",
        "GPU 1: 3 x 2g.10gb\n",
    )
    assert machine.log[0] == "GPU-b mode True"
    assert [event["event_type"] for event in events()] == ["gpu.partitioned"]
    for check in (True, False):
        again = layout(tmp_path, check, gpu1="thirds")
        assert (again["changed"], again["gpus"], again["actions"]) == (False, [], [])


def test_a_leased_gpu_is_refused_and_no_other_one_touched(machine: Machine, tmp_path: Path) -> None:
    layout(tmp_path, gpu1="thirds")
    machine.log.clear()
    leased("MIG-b2")
    for check in (True, False):
        result = layout(tmp_path, check, gpu0="halves", gpu1="whole")
        assert result["failed"] and not result["changed"]
        assert "GPU 1 (GPU-b)" in result["msg"]
        assert "alice leases it (bound, container train)" in result["msg"]
        assert result["refusals"][0]["where"] == "GPU 1 (GPU-b)"
    assert machine.log == []
    assert not layout(tmp_path, gpu1="thirds")["changed"]


def test_a_lease_on_another_gpu_is_no_hindrance(machine: Machine, tmp_path: Path) -> None:
    leased("GPU-a")
    assert layout(tmp_path, gpu1="thirds")["changed"]


def test_a_gpu_that_a_process_uses_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.processes["GPU-a"] = [{"pid": 2**22 + 1, "slot": "GPU-a", "memory": 1}]
    assert f"process {2**22 + 1} runs on it" in layout(tmp_path, gpu0="halves")["msg"]


def test_a_gpu_in_a_container_from_before_is_refused(machine: Machine, tmp_path: Path) -> None:
    store.migrate(shell.PATHS.store)
    opened = store.open_store(shell.PATHS.store)
    with opened.transaction() as connection:
        rows.put_block(connection, leases.Block("GPU-a", "foreign", "container old has it"))
        rows.put_block(connection, leases.Block("GPU-a", "drained", "to be split on Friday"))
    opened.close()
    message = layout(tmp_path, gpu0="halves")["msg"]
    assert "in use: container old has it. Drain" in message


def test_nobody_is_granted_a_slot_while_its_gpu_is_split(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.migrate(shell.PATHS.store)
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.0)
    seen: list[str] = []

    class Spy(Machine):
        def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None:
            other = store.Store(shell.PATHS.store)
            try:
                with other.locked():
                    seen.append("free")
            except store.StoreError:
                seen.append("locked")
            machine.create(uuid, profile, placement)

        read = staticmethod(machine.read)

    monkeypatch.setattr(plugin("modules.ds01_mig_layout"), "Mig", Spy)
    layout(tmp_path, gpu0="halves")
    assert seen == ["locked", "locked"]


def test_the_book_learns_of_the_new_slots_at_once(machine: Machine, tmp_path: Path) -> None:
    store.migrate(shell.PATHS.store)
    layout(tmp_path, gpu0="halves")
    opened = store.open_store(shell.PATHS.store)
    with opened.reading() as connection:
        assert [slot.index for slot in rows.slots(connection)] == ["0:0", "0:1", "1"]
    opened.close()


def test_a_failure_in_the_middle_says_so_and_is_finished_later(
    machine: Machine, tmp_path: Path
) -> None:
    machine.fail = "GPU-b create 2g.10gb (2, 2)"
    broken = layout(tmp_path, gpu0="halves", gpu1="thirds")
    assert broken["failed"] and broken["changed"]
    assert [gpu["index"] for gpu in broken["gpus"]] == [0]
    assert "the driver refuses. See dmesg" in broken["msg"]
    machine.fail = ""
    assert [gpu["index"] for gpu in layout(tmp_path, gpu0="halves", gpu1="thirds")["gpus"]] == [1]
    assert list(machine.instances["GPU-b"].values()) == ["2g.10gb"] * 3


def test_a_damaged_store_stops_the_run(machine: Machine, tmp_path: Path) -> None:
    Path(shell.PATHS.store).write_bytes(b"no database at all, by far" * 100)
    result = layout(tmp_path, gpu0="halves")
    assert "damaged" in result["msg"] and machine.log == []


def test_without_the_runtime_nothing_is_split(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "can_look", lambda: False)
    assert "Run the role runtime first" in layout(tmp_path, gpu0="halves")["msg"]


# --- ds01_gpu_cdi -------------------------------------------------------------------------------


@pytest.fixture
def generator(tmp_path: Path, machine: Machine) -> Path:
    """A program that writes what ``wanted.yaml`` says."""
    program = tmp_path / "generate"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        f"[ ! -e {tmp_path}/broken ] || {{ echo no library >&2; exit 3; }}\n"
        f'cp {tmp_path}/wanted.yaml "${{2#--output=}}"\n'
    )
    program.chmod(0o755)
    describe(tmp_path, "GPU-a", "GPU-b")
    return program


def describe(tmp_path: Path, *names: str) -> None:
    spec = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}}
            for name in names
        ],
    }
    (tmp_path / "wanted.yaml").write_text(json.dumps(spec))


def cdi(tmp_path: Path, check: bool = False, **given: Any) -> dict[str, Any]:
    given = {"command": [str(tmp_path / "generate"), "cdi"], **given}
    return run("ds01_gpu_cdi", {"path": str(tmp_path / "cdi/nvidia.yaml"), **given}, check)


def calls(tmp_path: Path) -> int:
    file = tmp_path / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.usefixtures("generator")
def test_the_spec_is_made_where_there_is_none(tmp_path: Path) -> None:
    foretold = cdi(tmp_path, check=True)
    assert foretold["changed"] and foretold["reasons"] == ["there is none"]
    assert calls(tmp_path) == 0 and not (tmp_path / "cdi").exists()
    assert cdi(tmp_path)["changed"]
    spec = tmp_path / "cdi/nvidia.yaml"
    assert spec.read_text() == (tmp_path / "wanted.yaml").read_text()
    assert stat.S_IMODE(spec.stat().st_mode) == 0o644
    assert [path.name for path in spec.parent.iterdir()] == ["nvidia.yaml"]
    for check in (True, False):
        assert not cdi(tmp_path, check)["changed"]
    assert calls(tmp_path) == 1


@pytest.mark.usefixtures("generator")
def test_a_new_partition_makes_the_spec_anew(machine: Machine, tmp_path: Path) -> None:
    cdi(tmp_path)
    machine.instances["GPU-b"] = {1: "2g.10gb"}
    describe(tmp_path, "GPU-a", "MIG-b1")
    assert cdi(tmp_path)["reasons"] == ["slot 1:0 (MIG-b1) is not in it"]
    assert not cdi(tmp_path)["changed"]


@pytest.mark.usefixtures("generator")
def test_a_forced_run_that_brings_the_same_is_no_change(tmp_path: Path) -> None:
    cdi(tmp_path)
    again = cdi(tmp_path, force=True)
    assert (again["changed"], again["reasons"]) == (False, ["the MIG layout changed"])
    assert calls(tmp_path) == 2


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("before", [None, "kind: damaged\n"])
def test_the_old_spec_stays_when_the_command_fails(tmp_path: Path, before: str | None) -> None:
    spec = tmp_path / "cdi/nvidia.yaml"
    if before:
        spec.parent.mkdir()
        spec.write_text(before)
    (tmp_path / "broken").touch()
    result = cdi(tmp_path)
    assert "exit code 3: no library" in result["msg"]
    assert f"{spec} is as it was" in result["msg"]
    assert [path.name for path in spec.parent.iterdir()] == (["nvidia.yaml"] if before else [])
    assert not before or spec.read_text() == before


@pytest.mark.usefixtures("generator")
def test_the_old_spec_stays_when_the_new_one_does_not_do(tmp_path: Path) -> None:
    cdi(tmp_path)
    before = (tmp_path / "cdi/nvidia.yaml").read_text()
    describe(tmp_path, "0", "1")
    result = cdi(tmp_path, force=True)
    assert "it wrote a spec that does not do: slot 0 (GPU-a) is not in it" in result["msg"]
    assert "--device-name-strategy" in result["msg"]
    assert (tmp_path / "cdi/nvidia.yaml").read_text() == before


@pytest.mark.usefixtures("generator")
def test_a_spec_that_is_no_yaml_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi/nvidia.yaml").write_text("{ [ nothing")
    result = cdi(tmp_path)
    assert result["changed"] and result["reasons"][0].startswith("it cannot be read: ")


@pytest.mark.usefixtures("generator")
def test_no_spec_is_made_while_the_driver_is_away(machine: Machine, tmp_path: Path) -> None:
    machine.state = "driver_restarting"
    assert "NVML: the driver does not answer (Driver Not Loaded)" in cdi(tmp_path)["msg"]
    assert calls(tmp_path) == 0


def test_a_program_that_is_not_there_is_named(machine: Machine, tmp_path: Path) -> None:
    result = cdi(tmp_path)
    assert "generate cdi: it cannot be run: No such file or directory" in result["msg"]
    assert "gpu_host_cdi_command" in result["msg"]
    assert "is empty: name a program" in cdi(tmp_path, command=[])["msg"]


# --- ds01_gpu_settings --------------------------------------------------------------------------


def test_the_settings_are_laid_once(tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "ds01/gpu.json"), "admin_group": "ds01-admins"}
    foretold = run("ds01_gpu_settings", given, check=True)
    assert foretold["changed"] and list(tmp_path.iterdir()) == []
    assert run("ds01_gpu_settings", given)["diff"] == foretold["diff"]
    path = tmp_path / "ds01/gpu.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    read = plugin("module_utils._core.gpu_settings").read_settings(str(path))
    assert (read.placement, read.admin_group) == ("spread", "ds01-admins")
    assert not run("ds01_gpu_settings", given)["changed"]


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "gpu.json"), "reservation_seconds": 0}
    result = run("ds01_gpu_settings", given)
    assert "reservation_seconds is no number of seconds from 1 on" in result["msg"]


# --- ds01_gpu_host_check ------------------------------------------------------------------------


@pytest.fixture
def engine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_host = plugin("module_utils._core.gpu_host")
    view = gpu_host.EngineView("runc", ("runc",), ("/etc/cdi", "/run/cdi"))
    monkeypatch.setattr(shell, "engine_view", lambda run, socket: view)
    monkeypatch.setattr(shell, "toolkit", lambda run: {})


OWN = {"cdi_command": ["/usr/local/sbin/site-cdi"]}


@pytest.mark.usefixtures("engine")
def test_a_sound_host_is_ready() -> None:
    result = run("ds01_gpu_host_check", OWN)
    assert (result["ready"], result["changed"]) == (True, False)
    assert result["slots"] == ["0", "1"]


@pytest.mark.usefixtures("engine")
def test_an_unsound_host_is_refused_with_every_reason() -> None:
    result = run("ds01_gpu_host_check", {"minimum_driver": "999", "admin_group": "nobody-here"})
    assert [row["where"] for row in result["refusals"]] == [
        "NVML",
        "package nvidia-container-toolkit",
        "gpu_host_admin_group",
    ]


@pytest.mark.usefixtures("engine")
def test_a_host_without_gpus_is_told_apart(machine: Machine) -> None:
    machine.state = "driver_absent"
    assert "gpu_host_required: false" in run("ds01_gpu_host_check", OWN)["msg"]
    result = run("ds01_gpu_host_check", {**OWN, "required": False})
    assert (result["ready"], result["reason"]) == (False, "Driver Not Loaded")


@pytest.mark.usefixtures("engine")
def test_a_host_without_the_runtime_can_only_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "can_look", lambda: False)
    checked = run("ds01_gpu_host_check", OWN, check=True)
    assert (checked["ready"], checked["state"]) == (False, "unknown")
    assert "before the role runtime has run" in str(checked["warnings"])
    assert "Run the role runtime first" in run("ds01_gpu_host_check", OWN)["msg"]


# --- what the shell reads -----------------------------------------------------------------------


def test_containers_of_the_nvidia_runtime_are_found_without_the_engine(tmp_path: Path) -> None:
    for name, runtime in (("old", "nvidia"), ("new", "runc")):
        folder = tmp_path / "containers" / name
        folder.mkdir(parents=True)
        (folder / "hostconfig.json").write_text(json.dumps({"Runtime": runtime}))
        (folder / "config.v2.json").write_text(json.dumps({"Name": f"/{name}-train"}))
    (tmp_path / "containers" / "half").mkdir()
    (tmp_path / "containers" / "half" / "hostconfig.json").write_text("{")
    assert shell.nvidia_containers(str(tmp_path)) == ("old-train",)


def test_only_installed_packages_of_the_toolkit_count() -> None:
    out = (
        "installed nvidia-container-toolkit 1.17.8-1\n"
        "config-files nvidia-container-toolkit-base 1.10.0-1\n"
    )
    assert shell.toolkit(lambda command: (0, out, "")) == {"nvidia-container-toolkit": "1.17.8-1"}


def test_a_process_is_named_with_its_command_and_user(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "comm").write_text("python3\n")
    words = shell.process_words(77, str(tmp_path))
    assert words.startswith("process 77 (python3, ") and words.endswith(") runs on it")
