# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine listens: behind the gateway's door, or on its plain socket.

Pure: what was found of the host in, refusals and steps out. The engine listens where the drop-in of
docker.socket says, from its next start on; what counts is therefore not the file but the sockets that
its process holds (``/proc/net/unix``), so that a run that was killed between the two is finished by
the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .engine_config import MARKER
from .engine_flags import parse_flags
from .engine_preflight import RunningContainer, names
from .errors import Problem

DOOR = "/run/docker.sock"
ENGINE = "/run/ds01/engine.sock"
#: Named so that it counts after the drop-ins of others (systemd.unit(5): sorted by file name).
DROP_IN = "/etc/systemd/system/docker.socket.d/90-ds01-engine.conf"

BEHIND = "behind"
PLAIN = "plain"

GATEWAY_SOCKET = "ds01-gateway.socket"
GATEWAY_SERVICE = "ds01-gateway.service"
PUMP_SOCKET = "ds01-pump.socket"
PUMP_SERVICE = "ds01-pump.service"
ENGINE_SOCKET = "docker.socket"
ENGINE_SERVICE = "docker.service"

#: The step's names, in the order in which they are done.
WRITE, MOVE, RELOAD, RENEW = "write", "move", "reload", "renew"
OPEN, SERVE, ENABLE = "open", "serve", "enable"
SWEEP, CLOSE, DRAIN, DISABLE = "sweep", "close", "drain", "disable"

_UNIT_REMEDY = (
    "take it out of the unit or of daemon.json; the engine gets its socket from docker.socket "
    "(dockerd -H fd://), and whoever needs it over the network uses DOCKER_HOST=ssh://"
)


def drop_in_text(engine: str = ENGINE) -> str:
    """The drop-in of docker.socket (systemd.socket(5)): an empty value forgets the paths before it."""
    return (
        f"# {MARKER}\n"
        "# The engine's own socket is root's; users knock at the gateway's, /run/docker.sock.\n"
        "[Socket]\n"
        "ListenStream=\n"
        f"ListenStream={engine}\n"
        "SocketMode=0600\n"
        "SocketUser=root\n"
        "SocketGroup=root\n"
    )


@dataclass(frozen=True)
class OtherSocket:
    """A socket that hands out containers as the engine does, such as containerd's.

    :param mode: permission bits.
    :param gid: of the group that owns it; 0 is root's.
    """

    path: str
    mode: int
    gid: int


@dataclass(frozen=True)
class Found:
    """The host as it is.

    :param drop_in: text of our drop-in, None where there is none.
    :param socket_unit: whether docker.socket is there.
    :param unit_files: docker.service, docker.socket and their drop-ins: where a setting may come from.
    :param socket_listens: what docker.socket is told to listen on (``/run/docker.sock (Stream)``).
    :param argv: dockerd's arguments, variables replaced, without the program.
    :param hosts: of daemon.json; None where it says nothing.
    :param engine_file: whether something is at :data:`ENGINE`.
    :param engine_active: whether docker.service runs.
    :param engine_listens: unix sockets that its process listens on, API and others.
    :param active: unit → whether it is active, of the gateway's units and docker.socket.
    :param enabled: of the gateway's units, those that start at boot.
    :param stale: of the gateway's units, those whose file is newer than what systemd knows of it.
    :param live_restore: whether it is in effect; None where the engine does not answer.
    :param containers: those that run.
    :param door_group: whether the group of the door's socket is there.
    """

    drop_in: str | None = None
    socket_unit: bool = True
    unit_files: tuple[str, ...] = ()
    socket_listens: tuple[str, ...] = ()
    argv: tuple[str, ...] = ("-H", "fd://")
    hosts: tuple[str, ...] | None = None
    engine_active: bool = False
    engine_listens: tuple[str, ...] = ()
    engine_file: bool = False
    active: Mapping[str, bool] = field(default_factory=dict)
    enabled: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()
    live_restore: bool | None = None
    swarm: str = "inactive"
    containers: tuple[RunningContainer, ...] = ()
    others: tuple[OtherSocket, ...] = ()
    door_group: bool = True

    @property
    def is_behind(self) -> bool:
        """Whether the running engine listens on its own socket and no longer at the door."""
        return places(self.engine_listens) == {ENGINE}

    @property
    def was_behind(self) -> bool:
        """Whether it is so, or was until the engine stopped: then a failure leaves it so."""
        if self.engine_active:
            return self.is_behind
        return self.drop_in == drop_in_text()

    @property
    def is_plain(self) -> bool:
        """Whether the running engine listens at the place where Docker puts its socket."""
        return places(self.engine_listens) == {DOOR}


def places(listens: Sequence[str]) -> set[str]:
    """Those of the two places of the API among the sockets that the engine listens on."""
    return {path.removeprefix("/var") for path in listens} & {DOOR, ENGINE}


#: What has to run, in the order in which it is started; a socket before its service.
SERVED = (PUMP_SOCKET, GATEWAY_SOCKET, GATEWAY_SERVICE)


def steps(found: Found, wanted: str) -> tuple[str, ...]:
    """What a run does, in order; empty where all is as wanted.

    :param wanted: :data:`BEHIND` the door or :data:`PLAIN`.
    """
    return _to_behind(found) if wanted == BEHIND else _to_plain(found)


def _to_behind(found: Found) -> tuple[str, ...]:
    todo = []
    if found.drop_in != drop_in_text():
        todo.append(WRITE)
    if todo or not found.is_behind:
        todo.append(MOVE)
    elif found.stale:
        todo.append(RELOAD)
    if renewed(found):
        todo.append(RENEW)
    if MOVE not in todo and not found.active.get(GATEWAY_SOCKET):
        todo.append(OPEN)
    if todo or not all(found.active.get(unit) for unit in SERVED):
        todo.append(SERVE)
    if not found.enabled.issuperset(SERVED):
        todo.append(ENABLE)
    return tuple(todo)


def renewed(found: Found) -> tuple[str, ...]:
    """The units to restart because their text changed; the pump keeps its streams through it."""
    return tuple(
        unit
        for unit in (PUMP_SERVICE, GATEWAY_SOCKET, GATEWAY_SERVICE)
        if unit in found.stale and found.active.get(unit)
    )


def _to_plain(found: Found) -> tuple[str, ...]:
    todo = []
    if found.drop_in is not None:
        todo.append(WRITE)
    if todo or (found.engine_active and not found.is_plain):
        todo.append(MOVE)
    if found.engine_file or MOVE in todo:
        todo.append(SWEEP)
    if found.active.get(GATEWAY_SOCKET) or found.active.get(GATEWAY_SERVICE):
        todo.append(CLOSE)
    if found.active.get(PUMP_SOCKET):
        todo.append(DRAIN)
    if found.enabled & set(SERVED):
        todo.append(DISABLE)
    return tuple(todo)


# --- refusals -------------------------------------------------------------------------------------


def _error(what: str, where: str, remedy: str) -> Problem:
    return Problem("error", what, where, remedy)


def check(found: Found, wanted: str) -> list[Problem]:
    """Every reason not to touch the engine's socket; empty where there is none."""
    problems = _check_containers(found, wanted)
    if wanted == PLAIN:
        return problems
    if not found.socket_unit:
        return [
            _error(
                "the engine is not started by docker.socket, so its socket cannot be moved",
                "docker.socket",
                "use the engine of a Debian or Docker package, whose units are docker.socket and "
                "docker.service",
            )
        ]
    if not found.door_group:
        problems.append(
            _error(
                "there is no group docker, whose members may knock at the door",
                "/etc/group",
                "run groupadd --system docker, or set gateway_group to the group that there is",
            )
        )
    return [*problems, *_check_hosts(found), *_check_listens(found), *_check_others(found)]


def _check_containers(found: Found, wanted: str) -> list[Problem]:
    if not found.containers or MOVE not in steps(found, wanted):
        return []
    if found.swarm not in ("", "inactive"):
        return [
            _error(
                f"swarm mode is {found.swarm}, and the engine cannot keep containers through a restart in it",
                "docker info: Swarm",
                "leave the swarm (docker swarm leave)",
            )
        ]
    if found.engine_active and found.live_restore is not True:
        return [
            _error(
                "live-restore is not in effect, so moving the socket would kill the running "
                f"containers: {names(found.containers)}",
                "/etc/docker/daemon.json",
                "run playbooks/site.yml --tags docker_engine first, which puts it into effect",
            )
        ]
    return []


def _check_hosts(found: Found) -> list[Problem]:
    """Only sockets that docker.socket passes on can be moved by a drop-in of docker.socket."""
    where = ", ".join(found.unit_files) or ENGINE_SERVICE
    told = [(flag.value, where) for flag in parse_flags(found.argv) if flag.key == "hosts"]
    told += [(host, "daemon.json: hosts") for host in found.hosts or ()]
    problems = [
        _error(f"the engine is told to listen on {host}, a way round the door", place, _UNIT_REMEDY)
        for host, place in told
        if not host.startswith("fd://")
    ]
    if not any(host.startswith("fd://") for host, _unused in told):
        problems.append(
            _error(
                "the engine does not take its socket from docker.socket",
                where,
                "give dockerd the flag -H fd:// in its unit, as Docker's own packages do",
            )
        )
    return problems


def _check_listens(found: Found) -> list[Problem]:
    known = (DOOR, f"/var{DOOR}", ENGINE)
    return [
        _error(
            f"docker.socket listens on {listen} too, a way round the door",
            ", ".join(found.unit_files) or ENGINE_SOCKET,
            "take that ListenStream= out of the unit's drop-ins",
        )
        for listen in found.socket_listens
        if listen.partition(" ")[0] not in known
    ]


def _check_others(found: Found) -> list[Problem]:
    return [
        _error(
            f"every user can write to it (mode {other.mode:04o}): it gives root as the engine's socket does",
            other.path,
            "chmod o= on it, and mend what made it so",
        )
        for other in found.others
        if other.mode & 0o002
    ]


def warnings(found: Found, wanted: str) -> list[str]:
    """What the admin should know although the run goes on."""
    told = []
    if wanted == BEHIND:
        told += [
            f"{other.path}: members of group {other.gid} can write to it (mode {other.mode:04o}): "
            "it gives them root as the engine's socket would. chgrp root it if that is not meant"
            for other in found.others
            if other.gid != 0 and other.mode & 0o020 and not other.mode & 0o002
        ]
    if MOVE in steps(found, wanted) and (dead := with_socket(found.containers)):
        told.append(
            f"these containers mount the engine's socket or a directory above it: {names(dead)}. "
            "The socket that they have is dead from the move on, until they are restarted"
        )
    return told


def with_socket(containers: Sequence[RunningContainer]) -> list[RunningContainer]:
    """Containers to which the engine's socket was given, which the move leaves them dead."""
    return [container for container in containers if container.sockets]
