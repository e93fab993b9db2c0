# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine goes behind the door and back; killed or failing anywhere, no container and no way is lost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ds01.core.engine_preflight import RunningContainer
from ds01.core.engine_socket import (
    BEHIND,
    DOOR,
    ENGINE,
    GATEWAY_SERVICE,
    GATEWAY_SOCKET,
    PLAIN,
    PUMP_SERVICE,
    PUMP_SOCKET,
    SERVED,
    Found,
    OtherSocket,
    check,
    drop_in_text,
    steps,
    warnings,
)
from ds01.core.engine_socket_apply import (
    ContainersLostError,
    DoorDeadError,
    Move,
    SocketMoveError,
)

ALICE = RunningContainer("a" * 64, "alice-train", 100)
BOB = RunningContainer("b" * 64, "bob-portainer", 200, sockets=("/var/run/docker.sock",))
LOOKS = frozenset({"answers", "listens", "running", "journal"})


class Killed(BaseException):
    """The run died here; nothing of it goes on."""


@dataclass
class FakeHost:
    """systemd and an engine under live-restore.

    :param path_owner: who was the last to bind ``/run/docker.sock``.
    :param known: the drop-in as systemd has read it.
    :param kill_at: the number of the step before which the run is killed.
    :param broken: steps that fail.
    """

    drop_in: str | None = None
    known: str | None = None
    engine_at: str = DOOR
    leftover: bool = False
    engine_up: bool = True
    path_owner: str = "engine"
    active: set[str] = field(default_factory=set)
    enabled: set[str] = field(default_factory=set)
    stale: set[str] = field(default_factory=set)
    containers: list[RunningContainer] = field(default_factory=lambda: [ALICE, BOB])
    streams: int = 0
    kill_at: int = -1
    broken: set[str] = field(default_factory=set)
    no_live_restore: bool = False
    log: list[str] = field(default_factory=list)

    def _step(self, name: str) -> bool:
        if len(self.log) == self.kill_at:
            self.kill_at = -1
            raise Killed
        self.log.append(name)
        return name not in self.broken

    def write(self, text: str | None) -> None:
        self._step("write")
        self.drop_in = text

    def reload(self) -> bool:
        ok = self._step("reload")
        self.known = self.drop_in
        self.stale.clear()
        return ok

    def begin_restart(self, door: Sequence[str] = ()) -> bool:
        if not self._step("restart engine"):
            return False
        self.engine_at = DOOR if self.known is None else ENGINE
        self.leftover = self.leftover or self.engine_at == ENGINE
        self.engine_up = "engine behind" not in self.broken or self.known is None
        if self.engine_at == DOOR:
            self.path_owner = "engine"
        if self.no_live_restore:
            self.containers.clear()
        for unit in door:
            self._open(unit)
        return True

    def sweep(self) -> None:
        self._step("sweep")
        assert self.engine_at != ENGINE
        self.leftover = False

    def _open(self, unit: str) -> None:
        self.active.add(unit)
        if unit == GATEWAY_SOCKET:
            self.path_owner = "door"

    def start(self, unit: str) -> bool:
        ok = self._step(f"start {unit}")
        if ok and unit not in self.active:
            self._open(unit)
        return ok

    def restart(self, unit: str) -> bool:
        return self._step(f"renew {unit}")

    def stop(self, unit: str) -> bool:
        ok = self._step(f"stop {unit}")
        self.active.discard(unit)
        return ok

    def enable(self, units: Sequence[str]) -> bool:
        ok = self._step("enable")
        self.enabled.update(units)
        return ok

    def disable(self, units: Sequence[str]) -> bool:
        ok = self._step("disable")
        self.enabled.difference_update(units)
        return ok

    def drain_pump(self) -> bool:
        ok = self._step("drain")
        self.active.discard(PUMP_SOCKET)
        if not self.streams:
            self.active.discard(PUMP_SERVICE)
        return ok

    def journal(self, unit: str) -> str:
        return f"the log of {unit}"

    def answers(self, path: str) -> bool:
        if not self.engine_up:
            return False
        if path == DOOR and self.path_owner == "door":
            return GATEWAY_SERVICE in self.active and "gateway" not in self.broken
        return path == self.engine_at

    def running(self, path: str) -> Sequence[RunningContainer]:
        assert self.answers(path)
        return list(self.containers)

    def listens(self) -> Sequence[str]:
        return ("/var/run/docker/metrics.sock", self.engine_at) if self.engine_up else ()

    def found(self) -> Found:
        return Found(
            drop_in=self.drop_in,
            engine_active=self.engine_up,
            engine_listens=tuple(self.listens()),
            engine_file=self.leftover,
            socket_listens=(f"{ENGINE if self.known else DOOR} (Stream)",),
            active=dict.fromkeys(self.active, True),
            enabled=frozenset(self.enabled),
            stale=frozenset(self.stale),
            live_restore=True,
            containers=tuple(self.containers),
        )


def run(host: FakeHost, wanted: str) -> tuple[str, ...]:
    ticks = iter(range(100_000))
    return Move(host, lambda: float(next(ticks)), lambda _seconds: None).run(host.found(), wanted)


def behind() -> FakeHost:
    host = FakeHost()
    run(host, BEHIND)
    host.log.clear()
    return host


def is_behind(host: FakeHost) -> bool:
    return (
        host.answers(DOOR)
        and host.path_owner == "door"
        and host.engine_at == ENGINE
        and host.enabled == set(SERVED)
        and host.drop_in == host.known == drop_in_text()
    )


def is_plain(host: FakeHost) -> bool:
    return (
        host.answers(DOOR)
        and host.path_owner == "engine"
        and host.engine_at == DOOR
        and host.drop_in is None
        and host.known is None
        and not host.leftover
        and not host.active & {GATEWAY_SOCKET, GATEWAY_SERVICE}
    )


# --- the way there and back -----------------------------------------------------------------------


def test_the_engine_goes_behind_the_door_with_its_containers() -> None:
    host = FakeHost()
    assert run(host, BEHIND) == ("write", "move", "serve", "enable")
    assert is_behind(host)
    assert host.containers == [ALICE, BOB]


def test_a_second_run_touches_nothing() -> None:
    host = behind()
    assert run(host, BEHIND) == ()
    run(host, PLAIN)
    host.log.clear()
    assert run(host, PLAIN) == ()
    assert host.log == []


def test_undo_gives_the_plain_socket_back_and_lets_open_streams_go_on() -> None:
    host = behind()
    host.active.add(PUMP_SERVICE)
    host.streams = 2
    assert run(host, PLAIN) == ("write", "move", "sweep", "close", "drain", "disable")
    assert is_plain(host)
    assert not host.enabled
    assert PUMP_SERVICE in host.active
    assert not host.active & set(SERVED)
    assert host.containers == [ALICE, BOB]


def test_the_door_is_closed_only_after_the_engine_has_its_path_again() -> None:
    host = behind()
    run(host, PLAIN)
    assert host.log.index("restart engine") < host.log.index(f"stop {GATEWAY_SOCKET}")


def test_undo_works_with_the_gateway_dead() -> None:
    host = behind()
    host.active -= {GATEWAY_SERVICE}
    host.broken.add("gateway")
    run(host, PLAIN)
    assert is_plain(host)


def test_a_dead_gateway_is_started_without_touching_the_engine() -> None:
    host = behind()
    host.active -= {GATEWAY_SERVICE}
    assert run(host, BEHIND) == ("serve",)
    assert "restart engine" not in host.log


def test_a_unit_with_a_new_text_is_restarted_and_the_engine_is_not() -> None:
    host = behind()
    host.active.add(PUMP_SERVICE)
    host.stale = {PUMP_SERVICE, GATEWAY_SERVICE}
    assert run(host, BEHIND) == ("reload", "renew", "serve")
    renewed = [name for name in host.log if name.startswith("renew")]
    assert renewed == [f"renew {PUMP_SERVICE}", f"renew {GATEWAY_SERVICE}"]
    assert "restart engine" not in host.log


# --- killed and failing ---------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(12))
def test_killed_at_any_step_the_next_run_finishes_the_move(at: int) -> None:
    host = FakeHost(kill_at=at)
    try:
        run(host, BEHIND)
    except Killed:
        run(host, BEHIND)
    assert is_behind(host)
    assert host.containers == [ALICE, BOB]


@pytest.mark.parametrize("at", range(12))
def test_killed_at_any_step_the_next_undo_finishes(at: int) -> None:
    host = behind()
    host.kill_at = at
    try:
        run(host, PLAIN)
    except Killed:
        run(host, PLAIN)
    assert is_plain(host)
    assert not host.enabled
    assert host.containers == [ALICE, BOB]


@pytest.mark.parametrize("at", range(12))
def test_a_move_that_was_killed_can_be_undone(at: int) -> None:
    host = FakeHost(kill_at=at)
    with suppress(Killed):
        run(host, BEHIND)
    host.kill_at = -1
    run(host, PLAIN)
    assert is_plain(host)


@pytest.mark.parametrize(
    "broken",
    ["reload", "restart engine", "engine behind", f"start {GATEWAY_SOCKET}", "gateway",
     f"start {PUMP_SOCKET}", f"start {GATEWAY_SERVICE}"],
)  # fmt: skip
def test_a_move_that_fails_is_taken_back_and_says_why(broken: str) -> None:
    host = FakeHost(broken={broken})
    with pytest.raises(SocketMoveError) as error:
        run(host, BEHIND)
    assert is_plain(host)
    assert host.containers == [ALICE, BOB]
    assert "plain socket again" in str(error.value)


def test_a_gateway_that_does_not_serve_is_told_with_its_log() -> None:
    with pytest.raises(SocketMoveError, match=f"the log of {GATEWAY_SERVICE}"):
        run(FakeHost(broken={"gateway"}), BEHIND)


def test_a_door_that_was_there_before_is_not_given_up_when_its_gateway_fails() -> None:
    host = behind()
    host.active -= {GATEWAY_SERVICE}
    host.broken.add("gateway")
    with pytest.raises(DoorDeadError, match="DOCKER_HOST=unix:///run/ds01/engine"):
        run(host, BEHIND)
    assert host.engine_at == ENGINE
    assert "restart engine" not in host.log


def test_containers_that_a_restart_cost_are_named() -> None:
    with pytest.raises(ContainersLostError, match="alice-train"):
        run(FakeHost(no_live_restore=True), BEHIND)


# --- refusals -------------------------------------------------------------------------------------


def refusals(found: Found, wanted: str = BEHIND) -> str:
    return "\n".join(map(str, check(found, wanted)))


FOUND = FakeHost().found()


def test_an_ordinary_host_is_not_refused() -> None:
    assert refusals(FOUND) == ""
    assert refusals(behind().found()) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"argv": ("-H", "fd://", "-H", "tcp://0.0.0.0:2375")}, "tcp://0.0.0.0:2375, a way round"),
        ({"argv": ("--host=unix:///srv/docker.sock",)}, "unix:///srv/docker.sock, a way round"),
        ({"argv": ()}, "does not take its socket from docker.socket"),
        ({"argv": (), "hosts": ("fd://", "tcp://10.0.0.1:2376")}, "daemon.json: hosts"),
        ({"socket_unit": False}, "not started by docker.socket"),
        ({"socket_listens": (f"{DOOR} (Stream)", "[::]:2375 (Stream)")}, "[::]:2375 (Stream) too"),
        ({"live_restore": False}, "would kill the running containers: alice-train"),
        ({"swarm": "active"}, "swarm mode is active"),
        ({"others": (OtherSocket("/run/containerd/containerd.sock", 0o666, 0),)}, "every user"),
        ({"door_group": False}, "groupadd"),
    ],
)  # fmt: skip
def test_what_would_leave_a_way_round_or_cost_a_container_is_refused(
    changed: dict[str, Any], words: str
) -> None:
    problems = check(replace(FOUND, **changed), BEHIND)
    assert words in "\n".join(map(str, problems))
    assert all(problem.where and problem.remedy for problem in problems)


def test_undo_is_not_refused_for_a_way_round_the_door() -> None:
    found = replace(behind().found(), argv=("-H", "tcp://0.0.0.0:2375"))
    assert refusals(found, PLAIN) == ""
    assert "live-restore" in refusals(replace(found, live_restore=False), PLAIN)


def test_containers_with_the_old_socket_are_named_while_it_moves_and_no_more_after_that() -> None:
    (told,) = warnings(FOUND, BEHIND)
    assert "bob-portainer" in told and "alice-train" not in told
    assert warnings(behind().found(), BEHIND) == []


def test_a_group_that_may_use_containerd_is_told() -> None:
    found = replace(FOUND, containers=(), others=(OtherSocket("/run/x.sock", 0o660, 42),))
    assert "group 42" in warnings(found, BEHIND)[0]
    assert steps(found, BEHIND)[0] == "write"
