# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that fails leaves the old limits in force; one that is killed leaves whole files.

Each run is broken at every single step that it takes in the file system and in systemd.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_runs import (
    ACCOUNTS,
    NEW,
    OLD,
    REFUSED,
    RUNNING,
    UNHURT,
    in_child,
    kill,
    new_state,
    old_host,
    state,
)
from ds01.core.errors import Ds01Error
from fakes import FakeHost

# What a run does to files, as Python's audit hooks call it.
STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory: a run flushes its file system, and these tests make hundreds."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def new_limits_broken_at(number: int, host: FakeHost, act: Callable[[str], None]) -> int:
    """Apply the new limits in a child, and act at the n-th step that touches units or records.

    :returns: 0 when there were fewer steps, UNHURT when the run got over it.
    """
    places = (host.paths.units, os.path.dirname(host.paths.limits))
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in STEPS or not str(args[0]).startswith(places):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & os.O_WRONLY):
            return
        seen += 1
        if seen == number:
            # What is about to be removed is not being written.
            kill(event) if act is cut_and_kill and event == "os.remove" else act(str(args[0]))

    def run() -> int:
        sys.addaudithook(hook)
        host.apply(NEW)
        return UNHURT if seen >= number else 0

    return in_child(run)


def cut_and_kill(path: str) -> None:
    """What was being written, or had just been written, got half way to the disk."""
    if os.path.isfile(path):
        os.truncate(path, os.path.getsize(path) // 2)
    kill(path)


def no_space(path: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def assert_whole(host: FakeHost, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Whatever systemd could load now is a whole old or a whole new text."""
    for path, text in host.files().items():
        if path.endswith(".conf") and not Path(path).name.startswith("."):
            assert text in (old["files"].get(path), new["files"].get(path)), path
    record = Path(host.paths.limits).read_text(encoding="utf-8")
    assert record in (old["record"], new["record"])
    assert json.loads(record)["schema"] == 1


@pytest.mark.parametrize("act", [kill, cut_and_kill])
def test_a_killed_run_leaves_whole_files_and_the_next_run_completes(
    act: Callable[[str], None], tmp_path: Path
) -> None:
    new = new_state(tmp_path / "aim")
    for number in range(1, 200):
        host = old_host(tmp_path / str(number))
        old = state(host)
        code = new_limits_broken_at(number, host, act)
        assert code in (0, -signal.SIGKILL)
        assert_whole(host, old, new)
        host.apply(NEW)
        assert state(host) == new
        assert not host.look(NEW).changed
        if code == 0:
            break
    assert 20 < number < 199


@pytest.mark.parametrize("step", ["staged", "switched", "live", "recorded"])
def test_a_run_killed_between_its_parts_is_completed_by_the_next(step: str, tmp_path: Path) -> None:
    new = new_state(tmp_path / "aim")
    host = old_host(tmp_path)
    old = state(host)

    def fault(name: str) -> None:
        if name == step:
            kill(name)

    assert in_child(lambda: host.apply(NEW, fault=fault) and 0) == -signal.SIGKILL
    assert_whole(host, old, new)
    host.apply(NEW)
    assert state(host) == new


def test_a_full_disk_at_any_step_leaves_the_old_limits_in_force(tmp_path: Path) -> None:
    new, refused = new_state(tmp_path / "aim"), 0
    for number in range(1, 200):
        host = old_host(tmp_path / str(number))
        old = state(host)
        code = new_limits_broken_at(number, host, no_space)
        assert code in (0, UNHURT, REFUSED)
        if code == 0:
            break
        if code == REFUSED:
            assert state(host) == old, number
            refused += 1
        else:
            assert state(host)["files"] == new["files"], number
    assert refused > 20


@pytest.mark.parametrize("step", ["staged", "switched", "live", "recorded"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), RuntimeError("bug")])
def test_a_run_that_fails_between_its_parts_is_taken_back(
    step: str, error: Exception, tmp_path: Path
) -> None:
    host = old_host(tmp_path)
    old = state(host)

    def fault(name: str) -> None:
        if name == step:
            raise error

    with pytest.raises(Ds01Error) as caught:
        host.apply(NEW, fault=fault)
    assert str(caught.value) == (
        f"{host.paths.units}: the limits could not be applied: {error}. "
        "The old limits are in force again; mend the cause and run site.yml again"
    )
    assert state(host) == old
    host.systemd.reboot()
    assert state(host) == old


def test_an_interrupt_is_taken_back_too_and_goes_on(tmp_path: Path) -> None:
    host = old_host(tmp_path)
    old = state(host)

    def fault(name: str) -> None:
        if name == "live":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.apply(NEW, fault=fault)
    assert state(host) == old


@pytest.mark.parametrize("unit", ["ds01.slice", "ds01-student-bob.slice", "user-1001.slice"])
def test_when_systemd_refuses_one_slice_files_and_all_live_values_go_back(
    unit: str, tmp_path: Path
) -> None:
    host = old_host(tmp_path)
    old = state(host)
    refusals = [0]
    real = host.systemd.set_properties

    def set_properties(name: str, assignments: list[str]) -> None:
        if name == unit and not refusals[0]:
            refusals[0] = 1
            raise RuntimeError(f"{name}: Connection timed out")
        real(name, assignments)

    host.systemd.set_properties = set_properties  # type: ignore[method-assign, assignment]
    with pytest.raises(Ds01Error, match="Connection timed out"):
        host.apply(NEW)
    assert state(host) == old


def test_what_cannot_be_taken_back_is_named_and_the_rest_still_goes_back(tmp_path: Path) -> None:
    host = old_host(tmp_path)
    old = state(host)
    real = host.systemd.set_properties
    calls: list[str] = []

    def set_properties(name: str, assignments: list[str]) -> None:
        calls.append(name)
        if name == "user-1001.slice" or (name.endswith("-bob.slice") and calls.count(name) > 1):
            raise RuntimeError(f"{name}: no")
        real(name, assignments)

    host.systemd.set_properties = set_properties  # type: ignore[method-assign, assignment]
    with pytest.raises(Ds01Error) as caught:
        host.apply(NEW)
    message = str(caught.value)
    assert "the limits could not be applied: user-1001.slice: no; and not taken back" in message
    assert "ds01-student-bob.slice" in message
    assert "The old limits are in force again" not in message
    after = state(host)
    assert after["files"] == old["files"]
    assert after["kernel"]["ds01.slice"] == old["kernel"]["ds01.slice"]
    assert after["kernel"]["ds01-student-alice.slice"] == old["kernel"]["ds01-student-alice.slice"]


def test_a_first_run_that_fails_leaves_a_host_without_limits_and_without_files(
    tmp_path: Path,
) -> None:
    host = FakeHost(tmp_path, ACCOUNTS)
    host.systemd.start(*RUNNING)
    before = {unit: host.systemd.kernel(unit) for unit in RUNNING}

    def fault(name: str) -> None:
        if name == "recorded":
            raise OSError(errno.EIO, "I/O error")

    with pytest.raises(Ds01Error):
        host.apply(OLD, fault=fault)
    assert {unit: host.systemd.kernel(unit) for unit in RUNNING} == before
    assert list(Path(host.paths.units).iterdir()) == []
    assert not Path(host.paths.limits).exists()
