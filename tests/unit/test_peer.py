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
from ds01.host.peer import PeerError, peer_of, read_cgroup

LOGIN = "/user.slice/user-1001.slice/session-3.scope"


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
    assert found.cgroup == LOGIN


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
    # No other controller's path may pass for it.
    (tmp_path / "7" / "cgroup").write_text(f"1:name=0::/x:0::/y\n0::{LOGIN}/0::/z\n")
    assert read_cgroup(7, str(tmp_path)) == f"{LOGIN}/0::/z"


def test_a_long_path_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    long = "/" + "/".join(["x" * 200] * 100)
    (tmp_path / "7" / "cgroup").write_text(f"0::{long}\n")
    assert read_cgroup(7, str(tmp_path)) == long
    (tmp_path / "7" / "cgroup").write_bytes(b"0::/\xff.slice\n")
    assert read_cgroup(7, str(tmp_path)) == "/\udcff.slice"
    (tmp_path / "7" / "cgroup").write_bytes(b"")
    with pytest.raises(PeerError, match="v2"):
        read_cgroup(7, str(tmp_path))


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
