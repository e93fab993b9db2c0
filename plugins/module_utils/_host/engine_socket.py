# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens where, and the units around the engine's socket.

Source: systemctl(1), proc_net(5) (``/proc/net/unix``, ``/proc/net/tcp``), unix(7).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .engine import Engine, EngineError, unix_listeners
from .engine_host import HostError, Runner, read_text, replace_file

#: Sockets that hand out containers, and so root, as the engine's does.
OTHER_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/docker/containerd/containerd.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/crio/crio.sock",
    "/run/podman/podman.sock",
)
PING_SECONDS = 5.0
_TCP_LISTEN = "0A"
_JOURNAL_LINES = 15


# --- who listens ----------------------------------------------------------------------------------


def socket_inodes(pid: int, proc: str = "/proc") -> set[str]:
    """Inodes of the sockets that a process has open; none if it is gone or not ours to look at."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{proc}/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"{proc}/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def listens(pid: int, proc: str = "/proc") -> tuple[str, ...]:
    """The paths that a process listens on."""
    mine = socket_inodes(pid, proc) if pid else set()
    return tuple(path for path, inode in unix_listeners(proc) if inode in mine) if mine else ()


def tcp_ports(pid: int, proc: str = "/proc") -> tuple[int, ...]:
    """The TCP ports that a process of the host's network listens on."""
    mine = socket_inodes(pid, proc)
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(proc, "net", name).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == _TCP_LISTEN and words[9] in mine:
                    found.add(int(words[1].rpartition(":")[2], 16))
    return tuple(sorted(found))


def api_ports(pid: int, daemon_json: str = "/etc/docker/daemon.json") -> tuple[int, ...]:
    """The TCP ports of the engine but that of its metrics (``metrics-addr``): the API's, or swarm's."""
    metrics = ""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        told = json.loads(Path(daemon_json).read_text(encoding="utf-8")).get("metrics-addr")
        metrics = str(told).rpartition(":")[2]
    return tuple(port for port in tcp_ports(pid) if str(port) != metrics) if pid else ()


def has_dead_socket(pid: int, proc: str = "/proc") -> bool:
    """Whether a process has a file mounted that was removed where it came from.

    That is how a bind mount of a socket looks from the moment on that another socket was bound in
    its place: the fourth field of its line in mountinfo ends in ``//deleted`` (proc_pid_mountinfo(5)).
    """
    with contextlib.suppress(OSError):
        text = Path(proc, str(pid), "mountinfo").read_text(encoding="utf-8", errors="replace")
        roots = [
            words[3] for words in (line.split() for line in text.splitlines()) if len(words) > 4
        ]
        return any(root.endswith(".sock//deleted") for root in roots)
    return False


def other_sockets(paths: Sequence[str] = OTHER_SOCKETS) -> list[tuple[str, int, int]]:
    """Path, permission bits and group id of those that are there."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if stat.S_ISSOCK(status.st_mode):
                found.append((path, stat.S_IMODE(status.st_mode), status.st_gid))
    return found


def answers(path: str, timeout: float = PING_SECONDS) -> bool:
    """Whether an engine answers on a socket.

    :param timeout: seconds for connecting and for each read.
    """
    try:
        return Engine(path, timeout).ping()
    except EngineError:
        return False


# --- units ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnitState:
    """One unit.

    :param state: its ActiveState.
    :param enabled: whether it starts at boot.
    :param stale: whether its file is newer than what systemd has read of it.
    """

    state: str = "inactive"
    enabled: bool = False
    stale: bool = False

    @property
    def active(self) -> bool:
        """Whether it runs, or is about to."""
        return self.state in ("active", "activating", "reloading")


class Units:
    """systemd's units through systemctl.

    :param run: see :data:`.engine_host.Runner`.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run

    def ok(self, *words: str) -> bool:
        """Whether one call of systemctl succeeded."""
        return self._run(["systemctl", *words])[0] == 0

    def show(self, unit: str, *names: str) -> dict[str, list[str]]:
        """Properties of a unit; one that comes several times has several values."""
        _code, out, _err = self._run(["systemctl", "show", unit, f"--property={','.join(names)}"])
        found: dict[str, list[str]] = {name: [] for name in names}
        for line in out.splitlines():
            name, equals, value = line.partition("=")
            if equals and value and name in found:
                found[name].append(value)
        return found

    def states(self, units: Sequence[str]) -> dict[str, UnitState]:
        """What systemd says of units; one that it does not know is neither of all."""
        names = "Id,ActiveState,UnitFileState,NeedDaemonReload"
        command = ["systemctl", "show", f"--property={names}", *units]
        _code, out, _err = self._run(command)
        found = {}
        for block in out.split("\n\n"):
            told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found[told.get("Id", "")] = UnitState(
                state=told.get("ActiveState", "unknown"),
                enabled=told.get("UnitFileState") == "enabled",
                stale=told.get("NeedDaemonReload") == "yes",
            )
        return found

    def main_pid(self, unit: str) -> int:
        """A service's process; 0 where it does not run."""
        return int((self.show(unit, "MainPID")["MainPID"] or ["0"])[0])

    def journal(self, unit: str) -> str:
        """The last lines of a unit's log."""
        command = ["journalctl", "-u", unit, "-n", str(_JOURNAL_LINES), "-o", "cat", "--no-pager"]
        return self._run(command)[1].strip() or "(no log lines)"


class SocketHost:
    """What :mod:`._core.engine_socket_apply` does to a host.

    :param drop_in: path of our drop-in of docker.socket.
    :param moved: where the engine listens behind the door.
    :param service: the engine's unit; ``socket`` its socket unit.
    :param pump: the pump's socket unit and service.
    """

    def __init__(
        self,
        run: Runner,
        drop_in: str,
        moved: str = "/run/ds01/engine.sock",
        service: str = "docker.service",
        socket: str = "docker.socket",
        pump: tuple[str, str] = ("ds01-pump.socket", "ds01-pump.service"),
    ) -> None:
        self.units = Units(run)
        self.drop_in = drop_in
        self.moved = moved
        self.service = service
        self.socket = socket
        self.pump = pump

    def write(self, text: str | None) -> None:
        """Replace the drop-in in one step; None removes it, and its directory where that is empty.

        :raises HostError: it cannot be written.
        """
        folder = os.path.dirname(self.drop_in)
        try:
            if text is not None:
                replace_file(self.drop_in, text, 0o644)
                return
            Path(self.drop_in).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        except OSError as error:
            raise HostError(f"cannot be written ({error.strerror})", self.drop_in) from error

    def read(self) -> str | None:
        """The drop-in's text; None where there is none."""
        return read_text(self.drop_in)

    def sweep(self) -> None:
        """systemd leaves the file of a unix socket that it closes."""
        with contextlib.suppress(OSError):
            os.unlink(self.moved)

    def reload(self) -> bool:
        return self.units.ok("daemon-reload")

    def begin_restart(self, door: Sequence[str] = ()) -> bool:
        """Queue the restart of the engine's socket, and of a door that takes its path at once.

        docker.service requires docker.socket, so both restart in one transaction; the engine takes
        seconds to end, and the door's service, which is ordered after docker.socket, waits for it.
        """
        self.units.ok("reset-failed", self.service, self.socket)
        return self.units.ok("--no-block", "restart", self.socket, *door)

    def start(self, unit: str) -> bool:
        self.units.ok("reset-failed", unit)
        if self.units.ok("start", unit):
            return True
        # A pump that drains has lost its socket; only a restart of both gives it one again, and
        # systemd keeps its streams meanwhile.
        socket, service = self.pump
        return unit == socket and self.units.ok("restart", service, socket)

    def stop(self, unit: str) -> bool:
        """Stop; a unit that systemd does not know of is stopped."""
        return self.units.ok("stop", unit) or not self.units.ok("is-active", "--quiet", unit)

    def restart(self, unit: str) -> bool:
        self.units.ok("reset-failed", unit)
        return self.units.ok("restart", unit)

    def enable(self, units: Sequence[str]) -> bool:
        return self.units.ok("enable", "--quiet", *units)

    def disable(self, units: Sequence[str]) -> bool:
        return self.units.ok("disable", "--quiet", *units)

    def drain_pump(self) -> bool:
        socket, service = self.pump
        closed = self.units.ok("stop", socket)
        if self.units.ok("is-active", "--quiet", service):
            self.units.ok("kill", "--kill-whom=main", f"--signal={signal.SIGUSR1.name}", service)
        return closed

    def journal(self, unit: str) -> str:
        return self.units.journal(unit)

    def answers(self, path: str) -> bool:
        return answers(path)

    def listens(self) -> tuple[str, ...]:
        return listens(self.units.main_pid(self.service))
