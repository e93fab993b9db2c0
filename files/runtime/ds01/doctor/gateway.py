# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the door: whose it is, whether it serves, and whether there is another way to the engine."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ds01.core.engine_socket import (
    DOOR,
    DROP_IN,
    ENGINE,
    GATEWAY_SERVICE,
    GATEWAY_SOCKET,
    PUMP_SOCKET,
    OtherSocket,
    places,
)
from ds01.core.gateway_decision import MODE_LIMIT
from ds01.core.limits import Limits
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine

CHECK = "door"
AGAIN = "Run playbooks/site.yml --tags gateway"
BREAK_GLASS = (
    f"As root, DOCKER_HOST=unix://{ENGINE} reaches the engine meanwhile; "
    "playbooks/undo_gateway.yml gives the host its plain socket back"
)
UNITS = (GATEWAY_SOCKET, GATEWAY_SERVICE, PUMP_SOCKET, "docker.socket")
_ENFORCE = "enforce"


@dataclass(frozen=True)
class SocketFile:
    """A socket in the file system; names are of the owner and the group."""

    mode: int
    owner: str
    group: str


@dataclass(frozen=True)
class DoorFacts:
    """The door as found.

    :param drop_in: whether docker.socket has our drop-in.
    :param units: unit → ActiveState.
    :param files: path → the socket there, None where none is.
    :param gateway_listens: unix sockets that the gateway's process holds; engine_listens the engine's.
    :param engine_ports: TCP ports that the engine listens on, its metrics' port left out.
    :param others: sockets of containerd and the like.
    :param dead: containers that mount a socket that nobody serves any more.
    """

    drop_in: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, SocketFile | None] = field(default_factory=dict)
    gateway_listens: tuple[str, ...] = ()
    engine_listens: tuple[str, ...] = ()
    engine_ports: tuple[int, ...] = ()
    engine_answers: bool = False
    door_answers: bool = False
    others: tuple[OtherSocket, ...] = ()
    dead: tuple[str, ...] = ()

    @property
    def adopted(self) -> bool:
        """Whether a door is meant to be here."""
        return self.drop_in or self.units.get(GATEWAY_SOCKET) == "active"


@dataclass(frozen=True)
class GatewayFacts:
    """What the checks look at.

    :param look: the door; needs root.
    """

    look: Callable[[], DoorFacts]


def check_door(machine: Machine) -> Iterator[Finding]:
    """Whether the door serves, and is the only way to the engine."""
    if machine.gateway is None:
        return
    if os.geteuid() != 0:
        what = "the door was not looked at: only root may"
        yield Finding(Severity.NOTICE, CHECK, what, DOOR, "Run as root")
        return
    door = machine.gateway.look()
    if not door.adopted:
        what = "there is no gateway: whoever may use the engine's socket is root on this host"
        yield Finding(Severity.NOTICE, CHECK, what, DOOR, AGAIN)
        return
    yield from _serves(door)
    yield from _modes(door)
    yield from _ways_round(door)
    for name in door.dead:
        what = f"the container {name} mounts a socket of the engine that is dead since it moved"
        remedy = f"Restart it if it needs one (docker restart {name})"
        yield Finding(Severity.WARNING, CHECK, what, f"container {name}", remedy)


def check_observed(machine: Machine) -> Iterator[Finding]:
    """Who passes although the door would deny something.

    :raises Ds01Error: there are no limits, or they cannot be read.
    """
    if machine.gateway is None:
        return
    watched = observed(machine.applied[0])
    if watched:
        what = f"the door records what it would deny, and denies nothing, for {', '.join(watched)}"
        remedy = (
            "Read 'ds01 events --type gateway' and set gateway_mode: enforce where nothing is amiss"
        )
        yield Finding(Severity.NOTICE, CHECK, what, machine.paths.limits, remedy)


def observed(limits: Limits) -> list[str]:
    """Groups, and users with an override, that the door only observes."""
    default = limits.defaults.get(MODE_LIMIT)
    found = []
    for name, group in limits.groups.items():
        mode = group.settings.get(MODE_LIMIT, default)
        if mode is None or mode.value != _ENFORCE:
            found.append(f"group {name}")
    for user, override in limits.overrides.items():
        mode = override.settings.get(MODE_LIMIT)
        if mode is not None and mode.value != _ENFORCE:
            found.append(f"user {user}")
    return found


def _error(what: str, where: str, remedy: str) -> Finding:
    return Finding(Severity.ERROR, CHECK, what, where, remedy)


def _serves(door: DoorFacts) -> Iterator[Finding]:
    for unit in UNITS:
        state = door.units.get(unit, "unknown")
        if state not in ("active", "reloading"):
            remedy = f"Run systemctl start {unit}; if it stays so, {AGAIN}. {BREAK_GLASS}"
            yield _error(f"the unit is {state}", unit, remedy)
    held = {path.removeprefix("/var") for path in door.gateway_listens}
    if door.units.get(GATEWAY_SERVICE) == "active" and DOOR not in held:
        yield _error(f"the gateway does not listen on {DOOR}", GATEWAY_SERVICE, AGAIN)
    if not door.drop_in:
        yield _error("the engine's socket is not told to be root's own", DROP_IN, AGAIN)
    if not door.engine_answers:
        remedy = "Read journalctl -u docker.service"
        yield _error("the engine does not answer on its own socket", ENGINE, remedy)
    elif not door.door_answers:
        remedy = f"Read journalctl -u {GATEWAY_SERVICE}. {BREAK_GLASS}"
        yield _error("the engine answers, but not through the door", DOOR, remedy)


def _modes(door: DoorFacts) -> Iterator[Finding]:
    engine, front = door.files.get(ENGINE), door.files.get(DOOR)
    if engine is None:
        yield _error("the engine's socket is not there", ENGINE, AGAIN)
    elif engine.mode & 0o077 or engine.owner != "root":
        what = f"others than root may use it: {engine.mode:04o} {engine.owner}:{engine.group}"
        yield _error(what, ENGINE, f"Run chmod 600 and chown root on it. {AGAIN}")
    if front is None:
        yield _error("the door's socket is not there", DOOR, f"{AGAIN}. {BREAK_GLASS}")
    elif front.mode & 0o777 != 0o660 or front.owner != "root":
        what = (
            f"the door's socket is {front.mode:04o} {front.owner}:{front.group}, not 0660 of root"
        )
        remedy = f"Run systemctl restart {GATEWAY_SOCKET}"
        yield Finding(Severity.WARNING, CHECK, what, DOOR, remedy)


def _ways_round(door: DoorFacts) -> Iterator[Finding]:
    if DOOR in places(door.engine_listens):
        yield _error("the engine itself listens at the door", DOOR, AGAIN)
    for port in door.engine_ports:
        what = f"the engine listens on TCP port {port}, a way round the door"
        yield _error(what, "docker.service", "Take -H tcp://… out of its unit or daemon.json")
    for other in door.others:
        if other.mode & 0o002:
            what = f"every user can write to it (mode {other.mode:04o}), a way round the door"
            yield _error(what, other.path, "Run chmod o= on it")
        elif other.gid != 0 and other.mode & 0o020:
            what = f"group {other.gid} can write to it, a way round the door"
            yield Finding(Severity.WARNING, CHECK, what, other.path, "Run chgrp root on it")


# --- this host ------------------------------------------------------------------------------------


def this_host() -> GatewayFacts:
    """Those of the host that this runs on."""
    return GatewayFacts(_look)


def _look() -> DoorFacts:
    from ds01.host import engine_socket as adapter
    from ds01.host.systemd import run_command

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        done = run_command(argv)
        return done.returncode, done.stdout, done.stderr

    units = adapter.Units(run)
    engine, gateway = units.main_pid("docker.service"), units.main_pid(GATEWAY_SERVICE)
    found = units.states(UNITS)
    return DoorFacts(
        drop_in=os.path.exists(DROP_IN),
        units={name: unit.state for name, unit in found.items()},
        files={path: _socket_file(path) for path in (DOOR, ENGINE)},
        gateway_listens=adapter.listens(gateway),
        engine_listens=adapter.listens(engine),
        engine_ports=adapter.api_ports(engine),
        engine_answers=adapter.answers(ENGINE),
        door_answers=adapter.answers(DOOR),
        others=tuple(OtherSocket(*each) for each in adapter.other_sockets()),
        dead=tuple(_dead()),
    )


def _socket_file(path: str) -> SocketFile | None:
    import grp
    import pwd

    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISSOCK(status.st_mode):
        return None

    def name(look: Callable[[int], str], number: int) -> str:
        try:
            return look(number)
        except KeyError:
            return str(number)

    owner = name(lambda uid: pwd.getpwuid(uid).pw_name, status.st_uid)
    group = name(lambda gid: grp.getgrgid(gid).gr_name, status.st_gid)
    return SocketFile(stat.S_IMODE(status.st_mode), owner, group)


def _dead() -> Iterator[str]:
    """Names of the containers with a mount whose socket was removed (proc_pid_mountinfo(5))."""
    from ds01.host.engine import Engine, EngineError
    from ds01.host.engine_socket import has_dead_socket

    try:
        containers = Engine().running()
    except EngineError:
        return  # that the engine does not answer is told already
    for container in containers:
        if container.sockets and has_dead_socket(container.pid):
            yield container.name
