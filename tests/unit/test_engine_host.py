# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's API over a real socket, and the host's files and commands."""

from __future__ import annotations

import json
import os
import re
import socket
import socketserver
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from ds01.host import engine, engine_host
from ds01.host.engine import Engine, EngineError
from ds01.host.engine_host import DockerService, EngineFiles, HostError, Packages

ID = "d" * 64
INSPECT: dict[str, Any] = {
    "Id": ID,
    "Name": "/alice-train",
    "State": {"Pid": 4711, "Paused": False},
    "HostConfig": {
        "CgroupParent": "ds01-student-alice.slice",
        "Runtime": "nvidia",
        "Devices": [{"PathOnHost": "/dev/fuse"}],
        "DeviceRequests": [{"Driver": "", "Count": -1}],
    },
    "Mounts": [
        {"Type": "bind", "Source": "/var/run/docker.sock"},
        {"Type": "bind", "Source": "/home/alice"},
        {"Type": "volume", "Source": "/var/lib/docker/volumes/x"},
    ],
}
ANSWERS: dict[str, tuple[int, bytes]] = {
    "/info": (200, b'{"LiveRestoreEnabled": true, "CgroupDriver": "systemd"}'),
    "/version": (200, b'{"Version": "26.1.5+dfsg1"}'),
    "/containers/json": (200, json.dumps([{"Id": ID}, {"Id": "gone"}]).encode()),
    f"/containers/{ID}/json": (200, json.dumps(INSPECT).encode()),
    "/containers/gone/json": (404, b'{"message": "No such container: gone"}'),
    "/networks/bridge": (404, b'{"message": "network bridge not found"}'),
    "/broken": (200, b"<html>"),
    "/fails": (500, b'{"message": "out of order"}'),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        """A test run shows no access log."""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Engine]:
    path = str(tmp_path / "engine.sock")
    with socketserver.UnixStreamServer(path, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Engine(path, timeout=5)
        server.shutdown()
        thread.join()


def test_the_engine_answers(client: Engine) -> None:
    assert client.version() == "26.1.5+dfsg1"
    assert client.live_restore() is True
    assert client.bridge_binding() is None


def test_a_container_that_ends_while_it_is_looked_at_is_left_out(client: Engine) -> None:
    (container,) = client.running()
    assert (container.name, container.pid) == ("alice-train", 4711)
    assert container.cgroup_parent == "ds01-student-alice.slice"
    assert container.gpu_request
    assert container.devices == ("/dev/fuse",)
    assert container.sockets == ("/var/run/docker.sock",)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("/fails", "GET /fails: the engine says 500: out of order"),
        ("/broken", "GET /broken: the answer is no JSON"),
    ],
)
def test_a_bad_answer_is_one_clear_error(client: Engine, route: str, message: str) -> None:
    with pytest.raises(EngineError, match=re.escape(message)):
        client.get(route)


def test_an_engine_that_is_down_is_named_with_its_socket(tmp_path: Path) -> None:
    down = Engine(str(tmp_path / "no.sock"))
    assert down.live_restore() is None
    with pytest.raises(EngineError, match=r"no\.sock GET /info: the engine does not answer"):
        down.info()


def test_an_engine_that_hangs_is_given_up(tmp_path: Path) -> None:
    path = str(tmp_path / "hangs.sock")
    with (
        socketserver.UnixStreamServer(path, _Handler),
        pytest.raises(EngineError, match="timed out"),
    ):
        Engine(path, timeout=0.05).info()


@pytest.mark.parametrize(
    ("source", "gives"),
    [
        ("/run/docker.sock", True),
        ("/var/run/docker.sock", True),
        ("/var/run", True),
        ("/run/", True),
        ("/", True),
        ("/run/containerd", True),
        ("/run/ds01/../docker.sock", True),
        ("/run/docker.sock.d", False),
        ("/home/alice/docker.sock", False),
        ("/run/user/1001", False),
    ],
)
def test_a_mount_that_hands_over_a_socket_is_seen(source: str, gives: bool) -> None:
    assert engine.gives_socket(source) is gives


def test_the_gateways_engine_socket_is_preferred(tmp_path: Path) -> None:
    behind, door = str(tmp_path / "engine.sock"), str(tmp_path / "docker.sock")
    assert engine.find_socket([behind, door]) == door
    with socketserver.UnixStreamServer(behind, _Handler):
        assert engine.find_socket([behind, door]) == behind


def test_containers_of_a_stopped_engine_are_found_by_their_shims() -> None:
    shim = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", ID, "-address", "x"]
    other = ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "x"]
    assert engine.orphans([shim, other, ["sh"], [""]]) == [ID]


class Commands:
    """Answers commands by their first words and remembers them."""

    def __init__(self, answers: dict[str, tuple[int, str, str]]) -> None:
        self.answers = answers
        self.seen: list[list[str]] = []

    def __call__(self, words: list[str]) -> tuple[int, str, str]:
        self.seen.append(words)
        line = " ".join(words)
        for start, answer in self.answers.items():
            if line.startswith(start):
                return answer
        return 1, "", "unknown command"


EXEC = (
    "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS ; ignore_errors=no ; "
    "start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
)


def test_the_units_command_line_and_environment_files_are_read() -> None:
    words = engine_host.exec_start_words(EXEC)
    assert words == ["/usr/sbin/dockerd", "-H", "fd://", "$DOCKER_OPTS"]
    assert engine_host.exec_start_words("") == []
    shown = "/etc/default/docker (ignore_errors=yes)"
    assert engine_host.environment_files(shown) == ["/etc/default/docker"]


def test_a_start_gives_a_unit_that_failed_too_often_another_try() -> None:
    run = Commands({"systemctl": (0, "", "")})
    assert DockerService(run).restart()
    assert [words[1] for words in run.seen] == ["reset-failed", "restart"]


def test_a_host_without_systemd_has_no_unit() -> None:
    assert DockerService(Commands({})).show() == {}
    assert DockerService(Commands({})).journal() == "(no log lines)"


def test_missing_packages_and_what_apt_would_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_host.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    policy = (
        "docker.io:\n  Installed: (none)\n  Candidate: 26.1.5+dfsg1-9\n  Version table:\n"
        "docker-x:\n  Installed: (none)\n  Candidate: (none)\n"
    )
    run = Commands(
        {
            "dpkg-query -W": (1, "installed docker-cli\nconfig-files docker.io\n", "no packages"),
            "dpkg-query -S": (0, "docker.io: /usr/sbin/dockerd\n", ""),
            "apt-cache policy": (0, policy, ""),
        }
    )
    packages = Packages(run)
    assert packages.missing(["docker.io", "docker-cli", "docker-x"]) == ["docker.io", "docker-x"]
    assert packages.owner("/usr/sbin/dockerd") == "docker.io"
    found = packages.candidates(["docker.io", "docker-x", "nowhere"])
    assert found == {"docker.io": "26.1.5+dfsg1-9", "docker-x": None, "nowhere": None}


def test_a_host_without_apt_has_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_host.shutil, "which", lambda name, path=None: None)
    packages = Packages(Commands({}))
    assert packages.missing(["docker.io"]) == ["docker.io"]
    assert packages.owner("/usr/sbin/dockerd") is None
    assert packages.candidates(["docker.io"]) == {"docker.io": None}


def test_the_version_of_a_stopped_engine_is_known() -> None:
    run = Commands({"/usr/sbin/dockerd": (0, "Docker version 26.1.5+dfsg1, build a72d7cd\n", "")})
    assert engine_host.dockerd_version(run, "/usr/sbin/dockerd") == "26.1.5+dfsg1"
    with pytest.raises(HostError, match="does not tell its version"):
        engine_host.dockerd_version(Commands({}), "/usr/sbin/dockerd")


def files(tmp_path: Path, run: Commands) -> EngineFiles:
    return EngineFiles(
        run,
        str(tmp_path / "docker" / "daemon.json"),
        str(tmp_path / "ds01" / "engine.json"),
        "/usr/sbin/dockerd",
        ["-H", "fd://"],
    )


def test_a_file_is_judged_with_the_units_flags_before_it_replaces_the_old_one(
    tmp_path: Path,
) -> None:
    run = Commands({"/usr/sbin/dockerd": (0, "configuration OK", "")})
    both = files(tmp_path, run)
    assert both.write_config("{}\n") is None
    os.chmod(both.config, 0o600)
    backup = both.write_config('{"debug": true}\n')
    assert Path(both.config).read_text() == '{"debug": true}\n'
    assert stat.S_IMODE(os.stat(both.config).st_mode) == 0o600
    assert backup is not None
    assert Path(backup).read_text() == "{}\n"
    assert run.seen[0][:4] == ["/usr/sbin/dockerd", "-H", "fd://", "--validate"]
    assert not list(Path(both.config).parent.glob(".daemon.json.*"))


def test_what_dockerd_refuses_never_becomes_the_file(tmp_path: Path) -> None:
    both = files(tmp_path, Commands({"/usr/sbin/dockerd": (1, "", "invalid: no such key\n")}))
    os.makedirs(os.path.dirname(both.config))
    Path(both.config).write_text("old")
    with pytest.raises(HostError, match="dockerd refuses the new content: invalid: no such key"):
        both.write_config("new")
    with pytest.raises(HostError, match="nothing was changed"):
        both.judge("new")
    assert os.listdir(os.path.dirname(both.config)) == ["daemon.json"]
    assert Path(both.config).read_text() == "old"


def test_only_a_few_backups_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = files(tmp_path, Commands({"/usr/sbin/dockerd": (0, "", "")}))
    both.write_config("0")
    for number in range(1, 9):
        stamp = f"2026112{number}T000000Z"
        monkeypatch.setattr(engine_host.time, "strftime", lambda _f, _t, stamp=stamp: stamp)
        both.write_config(str(number))
    kept = sorted(path.name for path in Path(both.config).parent.glob("*.bak"))
    assert len(kept) == 5
    assert kept[-1] == "daemon.json.20261128T000000Z.bak"


def test_files_go_back_to_what_they_were_or_away(tmp_path: Path) -> None:
    both = files(tmp_path, Commands({"/usr/sbin/dockerd": (0, "", "")}))
    both.write_config("{}")
    both.write_record("{}")
    both.restore("old", None)
    assert Path(both.config).read_text() == "old"
    assert not os.path.exists(both.record)
    both.restore(None, None)
    assert not os.path.exists(both.config)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HostError, match="cannot be read"):
        engine_host.read_text(str(path))


def test_processes_are_listed_with_their_arguments(tmp_path: Path) -> None:
    for pid, line in (("1", b"/sbin/init\0splash\0"), ("2", b"")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(line)
    (tmp_path / "3").mkdir()
    (tmp_path / "self").mkdir()
    found = sorted(engine_host.process_arguments(str(tmp_path)))
    assert found == [[""], ["/sbin/init", "splash"]]


def test_a_socket_that_nobody_listens_on_any_more_is_passed_over(tmp_path: Path) -> None:
    behind, door = str(tmp_path / "engine.sock"), str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as old, socket.socket(socket.AF_UNIX) as new:
        old.bind(behind)
        assert engine.find_socket([behind, door]) == behind
        new.bind(door)
        new.listen()
        assert engine.find_socket([behind, door]) == door
        old.listen()
        assert engine.find_socket([behind, door]) == behind
