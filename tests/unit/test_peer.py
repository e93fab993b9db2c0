# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at the other end of a socket, and being woken by files: with the kernel's own answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ds01.host import peer
from ds01.host.inotify import Watch
from ds01.host.peer import PeerError, container_id, foreign_ground, peer_of, read_cgroup

LOGIN = "/user.slice/user-1001.slice/session-3.scope"
ID = "0123456789abcdef" * 4


@pytest.fixture
def accepted(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection through a listening socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(tmp_path / "s"))
            server, _address = listener.accept()
            with server:
                yield server, client


def test_the_kernel_says_who_connected(accepted: tuple[socket.socket, socket.socket]) -> None:
    found = peer_of(accepted[0], lambda _pid: LOGIN)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert found.groups == {os.getegid(), *os.getgroups()}
    assert (found.cgroup, found.foreign, found.container) == (LOGIN, "", "")


def test_an_older_kernel_pins_the_process_by_its_number(
    accepted: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "SO_PEERPIDFD", 9999)
    assert peer_of(accepted[0], lambda _pid: LOGIN).pid == os.getpid()


def test_a_peer_that_has_ended_is_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        child = os.fork()
        if child == 0:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(tmp_path / "s"))
            os._exit(0)
        server, _address = listener.accept()
        os.waitpid(child, 0)
        with server, pytest.raises(PeerError, match="ended"):
            peer_of(server, lambda _pid: LOGIN)


def test_a_cgroup_that_cannot_be_read_is_refused(
    accepted: tuple[socket.socket, socket.socket],
) -> None:
    def denied(_pid: int) -> str:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PeerError, match="Permission denied"):
        peer_of(accepted[0], denied)


def test_a_cgroup_of_the_older_kind_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("12:pids:/user.slice\n1:name=systemd:/user.slice\n")
    with pytest.raises(PeerError, match="v2"):
        read_cgroup(7, str(tmp_path))
    (tmp_path / "7" / "cgroup").write_text(f"1:name=systemd:/x\n0::{LOGIN}\n")
    assert read_cgroup(7, str(tmp_path)) == LOGIN


@pytest.mark.parametrize(
    "cgroup",
    [
        LOGIN,
        "/init.scope",
        "/system.slice/ssh.service",
        "/system.slice/docker.service",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "/system.slice/run-u7.scope",
        "/user.slice/user-0.slice/session-c1.scope",
        "/user.slice/user-1001.slice/user@1001.service/app.slice/app-code-77.scope",
        "/user.slice/user-1001.slice/user@1001.service/init.scope",
    ],
)
def test_logins_and_services_are_the_hosts_own(cgroup: str) -> None:
    assert foreign_ground(cgroup) == ""


@pytest.mark.parametrize(
    "cgroup",
    [
        f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID}.scope",
        "/ds01.slice/ds01-student.slice/ds01-student-alice.slice",
        f"/system.slice/docker-{ID}.scope",
        f"/system.slice/docker-{ID}.scope/init.scope",
        f"/docker/{ID}",
        f"/system.slice/docker.service/{ID}",
        "/system.slice/docker.service/buildkit/abc",
        "/system.slice/docker.service/x",
        f"/system.slice/containerd.service/kubepods/pod1/{ID}",
        "/system.slice/ds01-unattributed.slice:docker:abcdef",
        "/ds01-student-bob.slice/buildkit/abcdef",
        f"/user.slice/user-1001.slice/user@1001.service/user.slice/docker-{ID}.scope",
        f"/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-{ID}.scope/container",
        "/machine.slice/machine-vm.scope",
        "/kubepods.slice/kubepods-besteffort.slice",
        "/lxc/web",
        "/",
        "",
        "/../../x",
        "/user.slice/../x",
        "/user.slice",
        "/somewhere/else.service",
        "user.slice/user-1001.slice",
    ],
)
def test_every_other_place_is_foreign_ground(cgroup: str) -> None:
    assert foreign_ground(cgroup)


def test_a_containers_cgroup_names_it() -> None:
    assert container_id(f"/ds01.slice/ds01-a.slice/docker-{ID}.scope") == ID
    assert container_id(f"/docker/{ID}/init") == ID
    assert container_id(f"/docker/{ID}0") == ""
    assert container_id(LOGIN) == ""


def test_a_changed_file_wakes_whoever_watches_its_directory(tmp_path: Path) -> None:
    watch = Watch([str(tmp_path)])
    try:
        assert watch.changed() == set()
        (tmp_path / "state.db-wal").write_text("x")
        assert watch.changed() == {str(tmp_path / "state.db-wal")}
        os.replace(tmp_path / "state.db-wal", tmp_path / "limits.json")
        assert str(tmp_path / "limits.json") in watch.changed()
        (tmp_path / "limits.json").unlink()
        assert watch.changed() == {str(tmp_path / "limits.json")}
        tmp_path.rmdir()
        assert str(tmp_path) in watch.changed()
    finally:
        watch.close()


def test_a_directory_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Watch([str(tmp_path / "nothing")])
