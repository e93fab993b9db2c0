# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door as systemd keeps it: the sockets are held here, gateway and pump come and go."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ds01 import limits_source
from ds01.core.gateway_settings import GatewaySettings
from ds01.core.limits import to_json
from ds01.core.store import migrate
from native_engine import call, environment, wait_until

BACKLOG = 4096
PATIENCE_S = 60.0
# Puts a socket where sd_listen_fds(3) looks for it, as the service's manager does.
_HAND = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
)


@dataclass
class Measure:
    """What a service holds.

    :param rss: memory in KiB (VmRSS, proc_pid_status(5)).
    :param links: what the descriptors lead to, without numbers.
    """

    descriptors: int
    threads: int
    rss: int
    tasks: int = 0
    watched: int = 0
    timers: int = 0
    sockets: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)

    def exact(self) -> dict[str, int]:
        """What has to be the same wherever nobody asks for anything."""
        names = ("descriptors", "threads", "tasks", "watched", "sockets")
        return {name: getattr(self, name) for name in names}


@dataclass
class Restart:
    """An end and a new start of the gateway; monotonic seconds.

    :param ready: when the new one answered a connection that was made at ``began``.
    """

    signal: str
    began: float
    ready: float = 0.0

    def covers(self, start: float, end: float) -> bool:
        """Could a client that asked from ``start`` to ``end`` have been cut off by it?"""
        return start <= self.ready + 1.0 and end >= self.began


class House:
    """Gateway and pump before an engine.

    :param folder: for sockets, settings and logs; users may pass through it.
    :param engine: the engine's socket.
    :param group: the Unix group that may open the door.
    :param options: more arguments for the gateway.
    :param settings: the gateway's.
    """

    def __init__(
        self,
        folder: Path,
        engine: Path,
        group: int = 0,
        options: Sequence[str] = (),
        settings: GatewaySettings | None = None,
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.socket = folder / "door.sock"
        self.log = folder / "door.log"
        self.restarts: list[Restart] = []
        self._options = options
        self._settings = settings or GatewaySettings()
        self._listening = listen(self.socket, socket.SOCK_STREAM, group, 0o660)
        self._pump_socket = listen(folder / "pump.sock", socket.SOCK_SEQPACKET, 0, 0o600)
        self._pump: subprocess.Popen[bytes] | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._configure()

    def _configure(self) -> None:
        # Everybody is an ordinary user under rules that hold: nothing passes for being watched only.
        text = "default_group: everybody\ngroups: {everybody: {gateway_mode: enforce}}\n"
        (self.folder / "limits.yml").write_text(text)
        limits = to_json(limits_source.from_file(str(self.folder / "limits.yml")))
        (self.folder / "limits.json").write_text(json.dumps(limits))
        (self.folder / "gateway.json").write_text(json.dumps(self._settings.as_json()))
        migrate(str(self.folder / "state.db"))

    def start(self) -> None:
        """Start both; returns when the door answers."""
        self._pump = self._serve("ds01.pump", self._pump_socket)
        self._start_gateway()
        self.answer()

    def stop(self) -> None:
        """End both."""
        for process in (self._gateway, self._pump):
            if process is not None:
                process.terminate()
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._gateway = self._pump = None
        self._listening.close()
        self._pump_socket.close()

    def restart(self, number: signal.Signals) -> Restart:
        """End the gateway with a signal and start it anew, while connections wait in the socket."""
        assert self._gateway is not None
        found = Restart(number.name, time.monotonic())
        # Clients that fail in the middle are judged by it already.
        found.ready = found.began + PATIENCE_S
        self.restarts.append(found)
        self._gateway.send_signal(number)
        self._gateway.wait(PATIENCE_S)
        self._start_gateway()
        self.answer()
        found.ready = time.monotonic()
        return found

    def answer(self) -> None:
        """Wait until the door answers."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                status, text = call(self.socket, "GET", "/_ping", timeout=PATIENCE_S)
            except OSError as error:
                status, text = 0, str(error)
            if status == 200:
                return
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the door does not answer: {status} {text}; {self.tail()}")
            time.sleep(0.05)

    def check(self) -> None:
        """See that both live.

        :raises RuntimeError: one does not; its last words are in the message.
        """
        for name, process in (("gateway", self._gateway), ("pump", self._pump)):
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"the {name} ended with {process.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The end of what both wrote."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def gateway(self) -> Measure:
        """What the gateway holds."""
        assert self._gateway is not None
        return self._measure(self._gateway.pid, self.folder / "ds01.gateway.inside")

    def pump(self) -> Measure:
        """What the pump holds."""
        assert self._pump is not None
        return self._measure(self._pump.pid, self.folder / "ds01.pump.inside")

    @property
    def gateway_pid(self) -> int:
        """Process id of the gateway."""
        assert self._gateway is not None
        return self._gateway.pid

    def engine_connections(self) -> int:
        """Connections to the engine that somebody still holds.

        Docker 20.10 keeps its own end of some when the other one has been closed, behind the door
        as without one.
        """
        return _held(self.engine)

    def door_connections(self) -> int:
        """Connections to the door that somebody still holds."""
        return _held(self.socket)

    def _start_gateway(self) -> None:
        place = self.folder
        words = ["--engine", str(self.engine), "--pump", str(place / "pump.sock")]
        for name, file in (
            ("settings", "gateway.json"),
            ("limits", "limits.json"),
            ("events", "events.jsonl"),
            ("access", "access.jsonl"),
            ("counters", "counters.json"),
            ("store", "state.db"),
        ):
            words += [f"--{name}", str(place / file)]
        self._gateway = self._serve("ds01.gateway", self._listening, *words, *self._options)

    def _serve(self, module: str, held: socket.socket, *words: str) -> subprocess.Popen[bytes]:
        report = self.folder / f"{module}.inside"
        inner = ["-m", "soak.inside", str(report), module, *words]
        with self.log.open("ab") as sink:
            return subprocess.Popen(
                hand(held, *inner),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment(),
                pass_fds=[held.fileno()],
                start_new_session=True,
            )

    def _measure(self, pid: int, report: Path) -> Measure:
        report.unlink(missing_ok=True)
        # Once: another question would be answered while the descriptors are counted.
        asked = wait_until(lambda: _ask(f"{report}.ask"), PATIENCE_S)
        if not (asked and wait_until(report.exists, PATIENCE_S)):
            raise RuntimeError(f"process {pid} does not tell what it holds: {self.tail()}")
        inside: dict[str, Any] = json.loads(report.read_text())
        text = Path(f"/proc/{pid}/status").read_text()
        status = dict(line.split(":", 1) for line in text.splitlines())
        links = []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # a thread may just have closed it
                links.append(os.readlink(entry))
        kinds = Counter(re.sub(r"\[\d+\]|^/.*/", "", link) for link in links)
        inside["threads"] = int(status["Threads"])
        rss = int(status["VmRSS"].split()[0])
        return Measure(descriptors=len(links), rss=rss, links=dict(kinds), **inside)


def hand(held: socket.socket, *words: str) -> list[str]:
    """The command line that hands a listening socket to a Python program."""
    return [sys.executable, "-c", _HAND, str(held.fileno()), *words]


def _held(path: Path) -> int:
    """Connections to a unix socket whose other end is open (ss(8) names that 0 when it is not)."""
    command = ["ss", "--unix", "--no-header", "--query", "unix_stream", "state", "connected"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = [line.split() for line in listed.splitlines()]
    return sum(str(path) in line and line[-1] != "0" for line in fields)


def _ask(fifo: str) -> bool:
    """Open a FIFO whose reader waits for that; False where nobody reads."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def listen(path: Path, kind: socket.SocketKind, group: int, mode: int) -> socket.socket:
    """A socket that listens, as systemd holds it for a service."""
    found = socket.socket(socket.AF_UNIX, kind)
    found.bind(os.fspath(path))
    os.chown(path, 0, group)
    path.chmod(mode)
    found.listen(BACKLOG)
    return found
