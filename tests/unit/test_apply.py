# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An apply meets what it finds on a host: foreign files, sleeping slices, other runs, damage."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from broken_runs import NEW, OLD, in_child, kill, old_host
from ds01.core.apply import locked, read_applied
from ds01.core.dropins import present_files
from ds01.core.errors import Ds01Error
from fakes import FakeHost


def test_what_a_killed_run_had_staged_is_swept_even_when_nothing_else_is_to_do(
    tmp_path: Path,
) -> None:
    host = old_host(tmp_path)
    before = host.files()
    left = Path(host.paths.units, "ds01-gone-.slice.d", ".60-ds01-group.conf.new")
    left.parent.mkdir()
    left.write_text("[Slice]\nMemoryMa")
    assert not host.apply(OLD).changed
    assert host.files() == before
    assert not left.parent.exists()


def test_a_slice_that_sleeps_gets_its_new_values_and_its_old_ones_back(tmp_path: Path) -> None:
    host = old_host(tmp_path)
    host.systemd.stop("ds01-student-zoe.slice", unload=False)

    def memory() -> str:
        return host.systemd.contexts["ds01-student-zoe.slice"].plain["MemoryMax"]

    def fault(name: str) -> None:
        if name == "recorded":
            raise OSError(errno.EIO, "I/O error")

    assert memory() == str(8 * 1024**3)
    with pytest.raises(Ds01Error):
        host.apply(NEW, fault=fault)
    assert memory() == str(8 * 1024**3)
    host.apply(NEW)
    assert memory() == str(6 * 1024**3)
    assert not host.look(NEW).changed


def test_a_sleeping_slice_is_told_by_the_run_after_a_killed_one(tmp_path: Path) -> None:
    host = old_host(tmp_path)
    host.systemd.stop("ds01-student-zoe.slice", unload=False)

    def fault(name: str) -> None:
        if name == "switched":
            kill(name)

    assert in_child(lambda: host.apply(NEW, fault=fault) and 0) == -signal.SIGKILL
    host.apply(NEW)
    assert host.systemd.contexts["ds01-student-zoe.slice"].plain["MemoryMax"] == str(6 * 1024**3)


@pytest.mark.parametrize("kind", ["text", "null", "dangling", "directory", "fifo"])
def test_a_foreign_file_with_our_name_stops_the_run_before_any_change(
    kind: str, tmp_path: Path
) -> None:
    host = old_host(tmp_path)
    place = Path(host.paths.units, "ds01-student-.slice.d", "60-ds01-group.conf")
    place.unlink()
    if kind == "text":
        place.write_text("[Slice]\nMemoryMax=1G\n")
    elif kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/null" if kind == "null" else "/nowhere/at/all")
    for run in (host.look, host.apply):
        with pytest.raises(Ds01Error) as caught:
            run(NEW)
        assert str(caught.value) == (
            f"{place}: a file with ds01's name was not written by ds01. "
            "Rename it (it may sort before 60-) or remove it, then run again"
        )
    assert os.path.lexists(place)


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_a_drop_in_directory_that_is_none_stops_the_run_and_is_not_followed(
    kind: str, tmp_path: Path
) -> None:
    host = FakeHost(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = Path(host.paths.units, "ds01-student-.slice.d")
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to(elsewhere if kind == "link" else "/nowhere/at/all")
    for run in (host.look, host.apply):
        with pytest.raises(Ds01Error) as caught:
            run(OLD)
        assert str(caught.value) == (
            f"{place}: the place of a drop-in is not a directory of its own. "
            "Move it away, then run again"
        )
    assert list(elsewhere.iterdir()) == []


def test_other_peoples_drop_ins_stay_beside_ours(tmp_path: Path) -> None:
    host = old_host(tmp_path)
    mine = Path(host.paths.units, "ds01-guest-.slice.d", "90-site.conf")
    mine.write_text("[Slice]\nCPUWeight=10\n")
    host.apply(NEW)
    assert mine.read_text() == "[Slice]\nCPUWeight=10\n"
    assert not mine.with_name("60-ds01-group.conf").exists()


def test_files_that_were_changed_by_hand_are_written_again(tmp_path: Path) -> None:
    host = old_host(tmp_path)
    before = host.files()
    place = Path(host.paths.units, "ds01-student-.slice.d", "60-ds01-group.conf")
    place.write_bytes(place.read_bytes().replace(b"MemoryMax=8589934592", b"MemoryMax=\xff\xfe"))
    outcome = host.apply(OLD)
    assert list(outcome.plan.write) == ["ds01-student-.slice.d/60-ds01-group.conf"]
    assert host.files() == before


def test_files_are_readable_by_everybody_and_writable_by_root_alone(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        host = old_host(tmp_path)
    finally:
        os.umask(former)
    for path in [*Path(host.paths.units).rglob("*.conf"), Path(host.paths.limits)]:
        assert path.stat().st_mode & 0o777 == 0o644


def test_two_runs_at_once_wait_for_each_other(tmp_path: Path) -> None:
    lock = str(tmp_path / "run/limits.lock")
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(lock):
            os.write(go, b"x")
            signal.pause()
    os.read(ready, 1)
    waiting = os.fork()
    if waiting == 0:
        with locked(lock):
            os._exit(0)
    assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == 0


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with (
        pytest.raises(Ds01Error, match=r"cannot lock: .*\. Run it as root"),
        locked(str(tmp_path / "run/limits.lock")),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 9}', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_told_and_written_anew_by_the_next_run(
    text: str, tmp_path: Path
) -> None:
    host = old_host(tmp_path)
    good = Path(host.paths.limits).read_text()
    Path(host.paths.limits).write_text(text, encoding="latin-1")
    with pytest.raises(Ds01Error) as caught:
        read_applied(host.paths.limits)
    assert caught.value.where == host.paths.limits
    outcome = host.apply(OLD)
    assert any("the record is written anew" in warning for warning in outcome.warnings)
    assert Path(host.paths.limits).read_text() == good


def test_a_host_without_a_unit_directory_has_no_drop_ins(tmp_path: Path) -> None:
    assert present_files(str(tmp_path / "absent")) == {}
    assert read_applied(str(tmp_path / "absent")) is None
