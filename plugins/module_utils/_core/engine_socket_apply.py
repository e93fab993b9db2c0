# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move the engine behind the door, or back, without losing a container.

systemd binds a socket's path anew when it starts the unit, whoever had the path before. So the door
takes ``/run/docker.sock`` while the engine is still on its way down, and callers wait in the door's
backlog; on the way back docker.socket takes it from the door. The path is never without a listener
for longer than systemd needs between unlink(2) and bind(2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from . import engine_socket as domain
from .engine_preflight import RunningContainer, names
from .engine_socket import BEHIND, DOOR, ENGINE, GATEWAY_SERVICE, GATEWAY_SOCKET, Found
from .errors import Ds01Error

START_SECONDS = 120.0
SERVE_SECONDS = 60.0
_POLL_SECONDS = 0.25
_BREAK_GLASS = f"as root, DOCKER_HOST=unix://{ENGINE} reaches the engine meanwhile"


class Host(Protocol):
    """systemd, the drop-in, and the engine. Each verb says whether it succeeded."""

    def write(self, text: str | None) -> None:
        """Replace the drop-in in one step, or remove it; systemd does not know of it yet."""

    def reload(self) -> bool:
        """Let systemd read the units anew."""

    def sweep(self) -> None:
        """Remove what the engine left at its own socket's path: clients would knock there first."""

    def begin_restart(self, door: Sequence[str] = ()) -> bool:
        """Queue a restart of docker.socket, and so of the engine, and of a socket that takes its
        path at once; does not wait."""

    def start(self, unit: str) -> bool: ...

    def stop(self, unit: str) -> bool: ...

    def restart(self, unit: str) -> bool: ...

    def enable(self, units: Sequence[str]) -> bool: ...

    def disable(self, units: Sequence[str]) -> bool: ...

    def drain_pump(self) -> bool:
        """Close the pump's socket; it ends when the last stream that it carries has."""

    def journal(self, unit: str) -> str:
        """The last lines of a unit's log."""

    def answers(self, path: str) -> bool:
        """Whether an engine answers ``GET /_ping`` on a socket."""

    def running(self, path: str) -> Sequence[RunningContainer]:
        """The running containers, asked on that socket."""

    def listens(self) -> Sequence[str]:
        """Unix sockets that the engine's process listens on now."""


class SocketMoveError(Ds01Error):
    """The engine's socket could not be moved; it is where it was."""


class DoorDeadError(Ds01Error):
    """The engine is behind the door, but the door does not serve."""


class ContainersLostError(Ds01Error):
    """The socket was moved, but containers ended while the engine restarted."""


@dataclass
class Move:
    """One run.

    :param clock: seconds, monotonic; with ``sleep`` it is replaced in unit tests.
    """

    host: Host
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, found: Found, wanted: str) -> tuple[str, ...]:
        """Do what :func:`.engine_socket.steps` says, and tell it.

        :raises SocketMoveError: it failed, and the host is as it was.
        :raises DoorDeadError: the engine was behind the door before, and the door does not serve.
        :raises ContainersLostError: containers did not live through the engine's restart.
        """
        todo = domain.steps(found, wanted)
        if not todo:
            return todo
        if wanted == BEHIND:
            lost = self._behind(found, todo)
        else:
            lost = self._plain(found, todo)
        if lost:
            raise ContainersLostError(
                f"containers ended while the engine restarted: {names(lost)}",
                domain.ENGINE_SERVICE,
                "start them again if they should run; the log ends with:\n"
                + self.host.journal(domain.ENGINE_SERVICE),
            )
        return todo

    # --- behind the door --------------------------------------------------------------------------

    def _behind(self, found: Found, todo: Sequence[str]) -> list[RunningContainer]:
        lost: list[RunningContainer] = []
        try:
            if domain.WRITE in todo:
                self.host.write(domain.drop_in_text())
            if domain.MOVE in todo:
                lost = self._move(found, ENGINE)
            elif domain.RELOAD in todo:
                self._need(self.host.reload(), "systemd does not reload its units")
            for unit in domain.renewed(found):
                self._need(self.host.restart(unit), f"{unit} does not restart")
            if domain.OPEN in todo:
                self._need(self.host.start(GATEWAY_SOCKET), "the door's socket does not open")
            if domain.SERVE in todo:
                self._serve()
        except Exception as error:
            if not found.was_behind:
                self._put_back(error)
            raise
        if domain.ENABLE in todo:
            self._need(self.host.enable(domain.SERVED), "the door's units cannot be enabled")
        return lost

    def _serve(self) -> None:
        started = all(self.host.start(unit) for unit in domain.SERVED)
        if started and self._wait(lambda: self.host.answers(DOOR), SERVE_SECONDS):
            return
        raise DoorDeadError(
            "the engine answers on its own socket, but not through the door; its log ends with:\n"
            + self.host.journal(GATEWAY_SERVICE),
            GATEWAY_SERVICE,
            f"{_BREAK_GLASS}; playbooks/undo_gateway.yml gives the host its plain socket back",
        )

    # --- the plain socket -------------------------------------------------------------------------

    def _plain(self, found: Found, todo: Sequence[str]) -> list[RunningContainer]:
        lost: list[RunningContainer] = []
        if domain.WRITE in todo:
            self.host.write(None)
        if domain.MOVE in todo:
            lost = self._move(found, DOOR)
        if domain.SWEEP in todo:
            self.host.sweep()
        if domain.CLOSE in todo:
            # Only now: until docker.socket had the path, callers could wait at the door.
            self._need(
                self.host.stop(GATEWAY_SOCKET) and self.host.stop(GATEWAY_SERVICE),
                "the door's units do not stop",
            )
        if domain.DRAIN in todo:
            self._need(self.host.drain_pump(), "the pump's socket does not close")
        if domain.DISABLE in todo:
            mine = [unit for unit in domain.SERVED if unit in found.enabled]
            self._need(self.host.disable(mine), "the door's units cannot be disabled")
        return lost

    # --- the engine -------------------------------------------------------------------------------

    def _move(self, found: Found, path: str) -> list[RunningContainer]:
        """Restart docker.socket and the engine with the drop-in as it is now.

        From the reload on systemd has forgotten the socket that it passed to the engine (it keeps
        only those that the unit still names), so nothing comes between it and the restart.
        """
        before = found.containers
        self._need(self.host.reload(), "systemd does not reload its units")
        door = (GATEWAY_SOCKET,) if path == ENGINE else ()
        self._need(self.host.begin_restart(door), "docker.socket cannot be restarted")
        if door:
            self._need(self.host.start(GATEWAY_SOCKET), "the door's socket does not open")
        up = self.host.start(domain.ENGINE_SERVICE) and self._wait(
            lambda: self._listens_only(path) and self.host.answers(path), START_SECONDS
        )
        if not up:
            raise SocketMoveError(
                f"the engine does not answer on {path}; its log ends with:\n"
                + self.host.journal(domain.ENGINE_SERVICE),
                domain.ENGINE_SERVICE,
                "see systemctl status docker.socket docker.service",
            )
        after = {container.id: container.pid for container in self.host.running(path)}
        return [container for container in before if after.get(container.id) != container.pid]

    def _listens_only(self, path: str) -> bool:
        return domain.places(self.host.listens()) == {path}

    def _put_back(self, error: Exception) -> None:
        """The engine on its plain socket, and the door shut; what failed is told, not hidden."""
        host = self.host
        host.write(None)
        host.reload()
        host.begin_restart()
        up = host.start(domain.ENGINE_SERVICE) and self._wait(
            lambda: self._listens_only(DOOR) and host.answers(DOOR), START_SECONDS
        )
        if up:
            host.sweep()
        host.stop(GATEWAY_SOCKET)
        host.stop(GATEWAY_SERVICE)
        what = error.what if isinstance(error, Ds01Error) else str(error)
        where = error.where if isinstance(error, Ds01Error) else DOOR
        if up:
            told = "The engine is on its plain socket again, and containers run on"
        else:
            told = "The engine could not be put back on its plain socket either: see its log"
        raise SocketMoveError(what, where, told) from error

    def _need(self, done: bool, what: str) -> None:
        if not done:
            raise SocketMoveError(what, "systemd", "see journalctl -b -p warning")

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = self.clock() + seconds
        while not condition():
            if self.clock() >= end:
                return False
            self.sleep(_POLL_SECONDS)
        return True
