# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases stand side by side; whatever interrupts a run, the one in force is whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ds01.core.release import (
    Found,
    ReleaseError,
    is_release_name,
    plan_install,
    plan_rollback,
    release_name,
)
from ds01.core.release_build import Payload, Tools
from ds01.core.release_files import faults, install, look, roll_back

STEPS = (
    "clean unpack venv packages stamp sync rename check history switch links prune".split()  # noqa: SIM905
)
R1, R2, R3, R4 = (f"0.{n}.0-{n:012x}" for n in (1, 2, 3, 4))


def _plan_install(found: Found, name: str, keep: int = 3) -> tuple[str | None, str | None]:
    plan = plan_install(found, name, {}, keep)
    return plan.build, plan.switch_to


def test_the_name_follows_version_payload_and_the_hosts_python() -> None:
    name = release_name("0.1.0", "a" * 64, (3, 13))
    assert is_release_name(name)
    assert name.startswith("0.1.0-")
    others = {
        release_name("0.1.1", "a" * 64, (3, 13)),
        release_name("0.1.0", "b" * 64, (3, 13)),
        release_name("0.1.0", "a" * 64, (3, 11)),
    }
    assert len({name, *others}) == 4


@pytest.mark.parametrize("version", ["", "1", "../../etc", "1.2.3/..", "1.2.3 x"])
def test_a_version_that_is_no_directory_name_is_refused(version: str) -> None:
    with pytest.raises(ReleaseError, match="is not a version"):
        release_name(version, "a" * 64, (3, 13))


def test_a_python_too_old_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"needs Python 3\.10 or newer, not 3\.9"):
        release_name("0.1.0", "a" * 64, (3, 9))


def test_hidden_names_are_never_releases() -> None:
    assert not any(
        map(is_release_name, (f".incoming-{R1}", "current", "history", "0.1.0", ".lock"))
    )


def test_a_new_host_gets_the_release_built_and_switched() -> None:
    plan = plan_install(Found(links={"/b": None}), R1, {"/b": "/t"}, 3)
    assert (plan.build, plan.switch_from, plan.switch_to) == (R1, None, R1)
    assert plan.history == (R1,)
    assert plan.links == {"/b": "/t"}
    assert plan.changed


def test_a_release_in_force_and_whole_is_left_alone() -> None:
    found = Found(current=R1, sound=(R1,), history=(R1,), links={"/b": "/t"})
    assert not plan_install(found, R1, {"/b": "/t"}, 3).changed


def test_a_release_that_is_there_but_not_in_force_is_only_switched_to() -> None:
    found = Found(current=R1, sound=(R1, R2), history=(R1, R2))
    assert _plan_install(found, R2) == (None, R2)


def test_a_damaged_release_is_built_again_and_checked_again() -> None:
    found = Found(current=R1, damaged=(R1,), history=(R1,))
    assert _plan_install(found, R1) == (R1, R1)


def test_the_last_three_are_kept() -> None:
    found = Found(current=R3, sound=(R1, R2, R3), history=(R1, R2, R3))
    plan = plan_install(found, R4, {}, 3)
    assert plan.history == (R2, R3, R4)
    assert plan.remove == (R1,)


def test_after_a_rollback_an_install_can_be_rolled_back_to_the_same_place() -> None:
    found = Found(current=R1, sound=(R1, R2, R3), history=(R1, R2, R3))
    plan = plan_install(found, R4, {}, 2)
    assert plan.history == (R1, R4)
    assert plan.remove == (R2, R3)


def test_an_install_of_what_was_rolled_back_to_changes_nothing() -> None:
    found = Found(current=R1, sound=(R1, R2), history=(R1, R2))
    assert not plan_install(found, R1, {}, 3).changed


def test_a_smaller_number_to_keep_never_takes_the_release_in_force() -> None:
    found = Found(current=R1, sound=(R1, R2, R3), history=(R1, R2, R3))
    plan = plan_install(found, R1, {}, 2)
    assert (plan.history, plan.remove) == ((R1, R3), (R2,))


def test_keeping_one_release_is_refused() -> None:
    with pytest.raises(ReleaseError, match="nothing to roll back to"):
        plan_install(Found(), R1, {}, 1)


def test_each_rollback_goes_one_further_back() -> None:
    found = Found(current=R3, sound=(R1, R2, R3), history=(R1, R2, R3))
    assert plan_rollback(found).switch_to == R2
    found = Found(current=R2, sound=(R1, R2, R3), history=(R1, R2, R3))
    assert plan_rollback(found).switch_to == R1
    found = Found(current=R1, sound=(R1, R2, R3), history=(R1, R2, R3))
    with pytest.raises(ReleaseError, match=f"no release before {R1}"):
        plan_rollback(found)


def test_a_rollback_passes_over_damaged_and_missing_releases() -> None:
    found = Found(current=R4, sound=(R1, R4), damaged=(R3,), history=(R1, R2, R3, R4))
    assert plan_rollback(found).switch_to == R1


def test_without_a_release_there_is_nothing_to_roll_back() -> None:
    with pytest.raises(ReleaseError, match="no release is in force"):
        plan_rollback(Found())


# --- on disk ------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Stands for kill -9: no handler of the code under test sees it."""


class FakeHost:
    """Runs the commands of a build: the virtual environment is a link, pip does nothing."""

    def __init__(self, stop_at: str = "", broken: bool = False) -> None:
        self.stop_at = stop_at
        self.broken = broken
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(list(command))
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin/python3").symlink_to("/bin/sh")
        if "doctor" in command:
            return (1, "yaml cannot be imported") if self.broken else (0, "")
        if "os.path.dirname" in command[-1]:
            return 0, str(Path(os.__file__).parent)
        if "platform.machine" in command[-1]:
            return 0, "3.13.5 x86_64"
        if "install" in command:
            site = Path(command[0]).parents[1] / "lib/python3.13/site-packages"
            site.mkdir(parents=True)
            (site / "yaml.py").write_text("pinned")
        return 0, ""

    def step(self, name: str) -> None:
        if name == self.stop_at:
            raise PowerCut(name)

    @property
    def tools(self) -> Tools:
        return Tools(run=self.run, python="/usr/bin/python3", on_step=self.step)


def _payload(text: str, extra: Mapping[str, str] | None = None) -> Payload:
    members = {"lib/ds01/__main__.py": text, "requirements.txt": "", **(extra or {})}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    data = buffer.getvalue()
    return Payload("0.1.0", gzip.compress(data), hashlib.sha256(data).hexdigest())


def _install(root: Path, text: str, host: FakeHost | None = None, keep: int = 3) -> str:
    payload = _payload(text)
    name = release_name(payload.version, payload.sha256, (3, 13))
    links = {str(root.parent / "bin/ds01"): str(root / "current/bin/ds01")}
    install(str(root), name, links, keep, payload, (host or FakeHost()).tools)
    return name


def _in_force(root: Path) -> str:
    return (root / "current/lib/ds01/__main__.py").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "opt" / "ds01"


def test_an_installed_release_is_complete_linked_and_unlocked(root: Path) -> None:
    name = _install(root, "one")
    assert os.readlink(root / "current") == name
    assert _in_force(root) == "one"
    assert faults(str(root / name)) == []
    command = root / "current/bin/ds01"
    assert command.read_text().startswith(f"#!{root}/{name}/venv/bin/python3 -IB\n")
    assert os.access(command, os.X_OK)
    assert (root.parent / "bin/ds01").resolve() == command.resolve()
    _install(root, "one")  # would wait for a lock that was left behind


def test_the_docker_wrapper_knows_its_release(root: Path) -> None:
    payload = _payload("one", {"wrapper/docker": "#!/bin/sh\nrelease='@RELEASE@'\n"})
    name = release_name(payload.version, payload.sha256, (3, 13))
    install(str(root), name, {}, 3, payload, FakeHost().tools)
    wrapper = root / "current/bin/docker"
    assert wrapper.read_text() == f"#!/bin/sh\nrelease='{root}/{name}'\n"
    assert os.access(wrapper, os.X_OK)
    wrapper.write_text("changed")
    assert faults(str(root / name)) == ["bin/docker was changed"]


def test_a_second_run_makes_nothing(root: Path) -> None:
    name = _install(root, "one")
    before = os.stat(root / name).st_ino
    host = FakeHost()
    _install(root, "one", host)
    assert host.commands == []
    assert os.stat(root / name).st_ino == before


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_old_release_works_and_the_next_run_finishes(
    root: Path, step: str
) -> None:
    old = _install(root, "one")
    with pytest.raises(PowerCut):
        _install(root, "two", FakeHost(stop_at=step))
    assert _in_force(root) == ("two" if step in ("links", "prune") else "one")
    current = os.readlink(root / "current")
    assert faults(str(root / current)) == []
    new = _install(root, "two")
    assert _in_force(root) == "two"
    found = look(str(root), {})
    assert found.sound == tuple(sorted((old, new)))
    assert found.history == (old, new)
    assert not found.damaged
    assert not found.leftovers


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_the_first_install_the_next_run_finishes(
    root: Path, step: str
) -> None:
    with pytest.raises(PowerCut):
        _install(root, "one", FakeHost(stop_at=step))
    name = _install(root, "one")
    found = look(str(root), {})
    assert (found.current, found.sound, found.leftovers) == (name, (name,), ())


def test_a_release_that_fails_its_check_is_not_put_in_force(root: Path) -> None:
    _install(root, "one")
    with pytest.raises(ReleaseError, match=r"fails its own check.*yaml cannot be imported"):
        _install(root, "two", FakeHost(broken=True))
    assert _in_force(root) == "one"
    _install(root, "two")
    assert _in_force(root) == "two"


def test_rollback_returns_to_the_release_before_and_install_goes_forward_again(root: Path) -> None:
    _install(root, "one")
    _install(root, "two")
    roll_back(str(root), FakeHost().tools)
    assert _in_force(root) == "one"
    _install(root, "two")
    assert _in_force(root) == "two"


def test_rollback_to_a_release_that_fails_its_check_changes_nothing(root: Path) -> None:
    _install(root, "one")
    _install(root, "two")
    with pytest.raises(ReleaseError, match="fails its own check"):
        roll_back(str(root), FakeHost(broken=True).tools)
    assert _in_force(root) == "two"


def test_only_the_last_releases_are_kept_on_disk(root: Path) -> None:
    names = [_install(root, text, keep=2) for text in ("one", "two", "three")]
    assert sorted(entry.name for entry in root.iterdir() if is_release_name(entry.name)) == sorted(
        names[1:]
    )


def test_a_changed_file_is_found_and_mended(root: Path) -> None:
    name = _install(root, "one")
    (root / name / "lib/ds01/__main__.py").write_text("evil")
    assert faults(str(root / name)) == ["lib/ds01/__main__.py was changed"]
    assert look(str(root), {}).damaged == (name,)
    _install(root, "one")
    assert _in_force(root) == "one"
    assert look(str(root), {}).leftovers == ()


def test_a_lost_interpreter_is_found(root: Path) -> None:
    name = _install(root, "one")
    (root / name / "venv/bin/python3").unlink()
    assert faults(str(root / name)) == ["venv/bin/python3 leads to no interpreter"]


def test_a_file_of_somebody_else_in_place_of_the_command_is_kept(root: Path) -> None:
    command = root.parent / "bin/ds01"
    command.parent.mkdir(parents=True)
    command.write_text("mine")
    with pytest.raises(ReleaseError, match="a file that is not ours"):
        _install(root, "one")
    assert command.read_text() == "mine"


def test_a_payload_changed_on_its_way_is_refused(root: Path) -> None:
    good = _payload("one")
    forged = Payload(good.version, _payload("two").archive, good.sha256)
    with pytest.raises(ReleaseError, match="not what its digest says"):
        install(str(root), R1, {}, 3, forged, FakeHost().tools)
    assert not (root / "current").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "lib/../../evil"])
def test_a_payload_with_paths_that_lead_out_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match="no plain file"):
        install(str(root), R1, {}, 3, _payload("one", {name: "x"}), FakeHost().tools)
    assert not list(root.parent.rglob("evil"))


def test_wheels_that_came_along_are_used_without_an_index(root: Path) -> None:
    plain = _payload("one")
    host = FakeHost()
    payload = Payload(
        plain.version, plain.archive, plain.sha256, {"x-1-py3-none-any.whl": b"wheel"}
    )
    install(str(root), R1, {}, 3, payload, host.tools)
    (pip,) = [command for command in host.commands if "install" in command]
    assert "--no-index" in pip
    assert "--require-hashes" in pip
    assert not (root / R1 / "wheels").exists()


def test_packages_that_cannot_be_installed_leave_the_old_release(root: Path) -> None:
    class Offline(FakeHost):
        def run(self, command: Sequence[str]) -> tuple[int, str]:
            return (1, "no route to host") if "install" in command else super().run(command)

    _install(root, "one")
    with pytest.raises(ReleaseError) as caught:
        other = _payload("two", {"requirements.txt": "other==1"})
        install(str(root), R2, {}, 3, other, Offline().tools)
    assert "no route to host" in caught.value.what
    assert "runtime_wheelhouse" in caught.value.remedy
    assert _in_force(root) == "one"


def test_an_upgrade_with_the_same_pins_takes_its_packages_from_the_release_before(
    root: Path,
) -> None:
    _install(root, "one")
    host = FakeHost()
    name = _install(root, "two", host)
    assert not [command for command in host.commands if "install" in command]
    packages = root / name / "venv/lib/python3.13/site-packages"
    assert (packages / "yaml.py").read_text() == "pinned"
    assert faults(str(root / name)) == []


def test_changed_packages_are_found_and_never_lent(root: Path) -> None:
    name = _install(root, "one")
    (root / name / "venv/lib/python3.13/site-packages/yaml.py").write_text("evil")
    assert faults(str(root / name)) == ["venv/lib/python3.13/site-packages/yaml.py was changed"]
    host = FakeHost()
    _install(root, "two", host)
    assert len([command for command in host.commands if "install" in command]) == 1


def test_other_pins_are_installed_afresh(root: Path) -> None:
    _install(root, "one")
    other = _payload("two", {"requirements.txt": "other==1"})
    host = FakeHost()
    install(str(root), R2, {}, 3, other, host.tools)
    assert len([command for command in host.commands if "install" in command]) == 1
