# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor says of the door."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ds01 import limits_source
from ds01.core.engine_socket import DOOR, ENGINE, OtherSocket
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.gateway import (
    UNITS,
    DoorFacts,
    GatewayFacts,
    SocketFile,
    check_door,
    check_observed,
    observed,
)
from ds01.doctor.machine import Machine
from ds01.host import engine_socket as adapter

SOUND = DoorFacts(
    drop_in=True,
    units=dict.fromkeys(UNITS, "active"),
    files={DOOR: SocketFile(0o660, "root", "docker"), ENGINE: SocketFile(0o600, "root", "root")},
    gateway_listens=(DOOR,),
    engine_listens=("/var/run/docker/metrics.sock", ENGINE),
    engine_answers=True,
    door_answers=True,
)


@pytest.fixture
def look(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def found(**changed: Any) -> list[Finding]:
        machine.gateway = GatewayFacts(lambda: replace(SOUND, **changed))
        return list(check_door(machine))

    return found


def test_a_door_that_serves_is_no_finding(look: Callable[..., list[Finding]]) -> None:
    assert look() == []


def test_a_host_without_a_door_is_told_what_its_group_is_worth(
    look: Callable[..., list[Finding]],
) -> None:
    (finding,) = look(drop_in=False, units={})
    assert finding.severity is Severity.NOTICE
    assert "is root on this host" in finding.what


@pytest.mark.parametrize(
    ("changed", "where", "words"),
    [
        ({"units": {**SOUND.units, "ds01-gateway.service": "failed"}}, "ds01-gateway.service", "failed"),
        ({"gateway_listens": ()}, "ds01-gateway.service", "does not listen"),
        ({"engine_answers": False}, ENGINE, "does not answer"),
        ({"door_answers": False}, DOOR, "not through the door"),
        ({"engine_listens": (DOOR,)}, DOOR, "the engine itself"),
        ({"engine_ports": (2375,)}, "docker.service", "TCP port 2375"),
        ({"files": {**SOUND.files, ENGINE: SocketFile(0o660, "root", "docker")}}, ENGINE, "0660"),
        ({"files": {**SOUND.files, ENGINE: None}}, ENGINE, "not there"),
        ({"others": (OtherSocket("/run/c.sock", 0o666, 0),)}, "/run/c.sock", "every user"),
    ],
)  # fmt: skip
def test_each_fault_is_an_error_with_its_place_and_remedy(
    look: Callable[..., list[Finding]], changed: dict[str, Any], where: str, words: str
) -> None:
    (finding,) = look(**changed)
    assert (finding.severity, finding.where) == (Severity.ERROR, where)
    assert words in finding.what
    assert finding.remedy


def test_with_the_gateway_dead_the_way_in_for_root_is_said(
    look: Callable[..., list[Finding]],
) -> None:
    found = look(units={**SOUND.units, "ds01-gateway.service": "failed"}, door_answers=False)
    assert all("DOCKER_HOST=unix:///run/ds01/engine.sock" in finding.remedy for finding in found)


def test_a_container_with_a_dead_socket_is_named(look: Callable[..., list[Finding]]) -> None:
    (finding,) = look(dead=("portainer",))
    assert finding.severity is Severity.WARNING
    assert "portainer" in finding.what and "docker restart portainer" in finding.remedy


def test_only_root_looks(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.gateway = GatewayFacts(lambda: SOUND)
    (finding,) = check_door(machine)
    assert finding.severity is Severity.NOTICE


LIMITS = """\
default_group: student
defaults: {{gateway_mode: {default}}}
groups:
  student: {{members: [alice]}}
  researcher: {{members: [carol], gateway_mode: enforce}}
user_overrides:
  carol: {{gateway_mode: observe, reason: her tool is looked at}}
"""


@pytest.mark.parametrize(
    ("default", "watched"),
    [("observe", ["group student", "user carol"]), ("enforce", ["user carol"])],
)
def test_those_whom_the_door_only_observes_are_named(
    tmp_path: Path, default: str, watched: list[str]
) -> None:
    (tmp_path / "limits.yml").write_text(LIMITS.format(default=default))
    assert observed(limits_source.from_file(str(tmp_path / "limits.yml"))) == watched


def test_a_site_that_says_nothing_observes_all(machine: Machine) -> None:
    machine.gateway = GatewayFacts(lambda: SOUND)
    (finding,) = check_observed(machine)
    assert finding.severity is Severity.NOTICE
    assert "group student, group researcher" in finding.what


# --- the adapter ----------------------------------------------------------------------------------


def test_a_listening_socket_is_found_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.create_server(("127.0.0.1", 0)) as tcp:
        server.bind(path)
        assert path not in adapter.listens(os.getpid()), "bound, and not listening yet"
        server.listen()
        assert path in adapter.listens(os.getpid())
        assert tcp.getsockname()[1] in adapter.tcp_ports(os.getpid())
        assert adapter.other_sockets([path, str(tmp_path)]) == [
            (path, os.stat(path).st_mode & 0o7777, os.getgid())
        ]
    assert adapter.listens(0) == ()


def test_the_engines_metrics_are_no_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "daemon.json"
    told.write_text('{"metrics-addr": "127.0.0.1:9323"}')
    monkeypatch.setattr(adapter, "tcp_ports", lambda _pid: (2375, 9323))
    assert adapter.api_ports(1, str(told)) == (2375,)
    assert adapter.api_ports(1, str(tmp_path / "none")) == (2375, 9323)


@pytest.mark.parametrize(
    ("line", "dead"),
    [
        ("9 1 0:25 /docker.sock//deleted /s rw - tmpfs tmpfs rw", True),
        ("9 1 0:25 /docker.sock /s rw - tmpfs tmpfs rw", False),
        ("9 1 0:25 / / rw - overlay overlay rw", False),
    ],
)
def test_a_mounted_socket_that_was_replaced_is_dead(tmp_path: Path, line: str, dead: bool) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_text(f"{line}\n")
    assert adapter.has_dead_socket(7, str(tmp_path)) is dead
    assert adapter.has_dead_socket(8, str(tmp_path)) is False


def test_what_systemd_says_of_units_is_read() -> None:
    text = (
        "Id=a.socket\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=yes\n\n"
        "Id=b.service\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n"
    )
    states = adapter.Units(lambda _argv: (0, text, "")).states(["a.socket", "b.service"])
    a, b = states["a.socket"], states["b.service"]
    assert (a.active, a.enabled, a.stale) == (True, True, True)
    assert (b.active, b.enabled, b.stale) == (False, False, False)


def test_the_drop_in_is_written_and_removed_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "docker.socket.d/90-ds01-engine.conf"
    host = adapter.SocketHost(lambda _argv: (0, "", ""), str(path))
    assert host.read() is None
    host.write("[Socket]\n")
    assert host.read() == "[Socket]\n"
    host.write(None)
    host.write(None)
    assert not path.parent.exists()


def test_a_draining_pump_gets_its_socket_back_by_a_restart_of_both() -> None:
    asked: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str, str]:
        asked.append(argv[1:])
        return int(argv[1] == "start"), "", ""

    assert adapter.SocketHost(run, "/x").start("ds01-pump.socket")
    assert asked[-1] == ["restart", "ds01-pump.service", "ds01-pump.socket"]
    assert not adapter.SocketHost(run, "/x").start("docker.service")
