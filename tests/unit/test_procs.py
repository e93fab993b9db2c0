# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a process is, what it runs and in which container, from a proc file system."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from ds01.host import procs
from ds01.host.procs import Processes

ID = "a" * 64
INNER = "b" * 64
SCOPE = f"/ds01.slice/ds01-student.slice/docker-{ID}.scope"


def make(
    proc: Path,
    pid: int = 4711,
    command: bytes = b"python\0train.py\0",
    cgroup: str = SCOPE,
    uid: int = 1001,
    comm: str = "python",
) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (proc / "stat").write_text("cpu 1 2 3\nbtime 1800000000\n")
    (folder / "cmdline").write_bytes(command)
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cgroup").write_text(f"1:name=systemd:/x\n0::{cgroup}\n")
    (folder / "status").write_text(f"Name:\t{comm}\nUid:\t{uid}\t0\t0\t0\n")
    numbers = " ".join(["0"] * 18)
    (folder / "stat").write_text(f"{pid} ({comm}) S {numbers} 250 0\n")


def test_a_process_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = procs.pwd.struct_passwd(("alice", "x", 1001, 1001, "", "/", "/bin/sh"))
    monkeypatch.setattr(procs.pwd, "getpwuid", lambda uid: entry)
    monkeypatch.setattr(procs.os, "sysconf", lambda name: 100)
    make(tmp_path)
    found = Processes(str(tmp_path)).look(4711)
    assert found == procs.Process(
        4711, 1001, "alice", "python train.py", SCOPE, ID, 1_800_000_002.5
    )


def test_a_process_of_this_machine_is_described() -> None:
    found = Processes().look(os.getpid())
    assert found is not None
    assert found.uid == os.getuid()
    assert "python" in found.command or "pytest" in found.command
    assert 0 <= time.time() - found.started < 86_400 * 365


def test_a_process_that_has_ended_is_none(tmp_path: Path) -> None:
    make(tmp_path)
    assert Processes(str(tmp_path)).look(1) is None
    assert procs.started(1, str(tmp_path)) is None
    assert procs.gpu_nodes(1, str(tmp_path)) == ()


def test_a_process_whose_command_line_cannot_be_read_is_seen_all_the_same(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "4711" / "cmdline").unlink()
    os.mkfifo(tmp_path / "4711" / "cmdline")  # nobody ever writes: a read that hangs
    found = Processes(str(tmp_path)).look(4711)
    assert found is not None
    assert found.command == "[python]"
    with open(tmp_path / "4711" / "cmdline", "wb"):
        pass  # lets the thread that was left behind go


@pytest.mark.parametrize("scope", ["app.slice/", ""])
def test_a_scope_that_a_user_made_is_no_container(scope: str) -> None:
    users = f"/user.slice/user-1002.slice/user@1002.service/{scope}docker-{'a' * 64}.scope"
    assert procs.container_of(users) == ""


@pytest.mark.parametrize("name", ["cgroup", "status", "stat"])
def test_a_process_that_ends_while_it_is_looked_at_is_none(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    (tmp_path / "4711" / name).unlink()
    assert Processes(str(tmp_path)).look(4711) is None


@pytest.mark.parametrize("name", ["status", "stat"])
def test_a_file_without_its_numbers_is_a_process_that_ended(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    (tmp_path / "4711" / name).write_text("")
    assert Processes(str(tmp_path)).look(4711) is None


def test_a_number_given_anew_meanwhile_is_not_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    path = tmp_path / "4711" / "stat"

    def successor(*_unused: Any) -> str:
        path.write_text(path.read_text().replace(" 250 ", " 251 "))
        return "python"

    monkeypatch.setattr(procs, "_command", successor)
    assert Processes(str(tmp_path)).look(4711) is None


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (SCOPE, ID),
        (f"/system.slice/docker-{ID}.scope/init.scope", ID),
        # Docker in a container: the one that the host's engine knows.
        (f"{SCOPE}/docker/{INNER}", ID),
        (f"/docker/{ID}", ID),
        (f"/user.slice/docker-{ID[:12]}.scope", ""),
        (f"/lxc/{ID}", ""),
        ("/user.slice/user-1001.slice/session-1.scope", ""),
        ("/", ""),
    ],
)
def test_the_container_is_read_from_the_cgroup(cgroup: str, container: str) -> None:
    assert procs.container_of(cgroup) == container


def test_without_a_unified_cgroup_there_is_no_container() -> None:
    assert procs.cgroup_path("4:memory:/docker/x\n") == ""


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (b"a\0b c\0", "a b c"),
        (b"\x1b[2J\n\0x\0", "\\x1b[2J\\n x"),
        ("tüv\u202e\0".encode(), "tüv\\u202e"),
        (b"\xff\0", "\\xff"),
        (b"x" * 300, "x" * 199 + "…"),
        (b"\n" * 9000, "\\n" * 99 + "\\…"),
        (b"", "[python]"),
    ],
)
def test_a_command_is_fit_to_be_shown(tmp_path: Path, command: bytes, shown: str) -> None:
    make(tmp_path, command=command)
    found = Processes(str(tmp_path)).look(4711)
    assert found is not None
    assert found.command == shown
    assert len(found.command) <= procs.COMMAND_MAX


def test_a_name_with_brackets_does_not_shift_the_numbers(tmp_path: Path) -> None:
    make(tmp_path, comm="a) R 7 (b")
    assert procs.started(4711, str(tmp_path)) == 1_800_000_000 + 250 / os.sysconf("SC_CLK_TCK")


def test_a_user_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getpwuid(uid: int) -> Any:
        asked.append(uid)
        if uid == 2:
            raise OSError("the directory does not answer")
        if uid == 3:
            return procs.pwd.struct_passwd(("h.baker@hertie-school.lan", "", 3, 3, "", "", ""))
        raise KeyError(uid)

    monkeypatch.setattr(procs.pwd, "getpwuid", getpwuid)
    names = Processes()
    assert [names.user(uid) for uid in (1, 2, 3, 3)] == [
        "1",
        "2",
        "h.baker@hertie-school.lan",
        "h.baker@hertie-school.lan",
    ]
    assert asked == [1, 2, 3]


class _Node:
    """A directory entry that is a character device: making one needs root."""

    def __init__(self, name: str, mode: int, major: int, minor: int) -> None:
        self.name = name
        self._stat = os.stat_result([mode, *[0] * 9], {"st_rdev": os.makedev(major, minor)})

    def stat(self, follow_symlinks: bool) -> os.stat_result:
        assert not follow_symlinks
        return self._stat


class _Folder(list[_Node]):
    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_unused: object) -> None:
        pass


def test_the_gpu_nodes_of_a_container_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    char = stat.S_IFCHR | 0o666
    nodes = _Folder(
        [
            _Node("nvidia2", char, 195, 2),
            _Node("any-name", char, 195, 0),
            _Node("nvidiactl", char, 195, 255),
            _Node("nvidia-modeset", char, 195, 254),
            _Node("null", char, 1, 3),
            _Node("nvidia1", stat.S_IFREG | 0o666, 195, 1),
        ]
    )
    looked = []

    def scandir(path: Path) -> _Folder:
        looked.append(str(path))
        return nodes

    monkeypatch.setattr(procs.os, "scandir", scandir)
    assert procs.gpu_nodes(4711, "/proc") == (0, 2)
    assert looked == ["/proc/4711/root/dev"]
