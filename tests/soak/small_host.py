# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in namespaces: an engine, the door and the daemon where a real host has them.

``/etc``, ``/run``, ``/home``, ``/var/lib`` and ``/var/log`` are its own, so that the services run as
they are, with the paths that they have on a server. It needs root, and :func:`enter` first.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from ds01 import client
from ds01.core import store
from ds01.core.errors import Ds01Error
from native_engine import NativeEngine, environment, wait_until
from soak.house import House, hand, listen

USERS = {"alice": 1001, "bob": 1002, "carol": 1003, "dana": 1004}
GROUP = 990
"""Of the users who may open the door."""
STATE = Path("/var/lib/ds01")
STORE = STATE / "state.db"
LOGS = Path("/var/log/ds01")
RUN = Path("/run/ds01")
PATIENCE_S = 60.0
_OWN = ("/run", "/home", "/var/lib", "/var/log")
_NAMESPACES = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "slave", "--pid", "--mount-proc"),
    *("--fork", "--kill-child"),
]


def inside(module: str, *words: str) -> list[str]:
    """The command line that runs a module in namespaces of its own: it and all it starts end together."""
    return [*_NAMESPACES, sys.executable, "-m", module, *words]


def enter() -> None:
    """Give this process's namespace the directories and accounts of a host."""
    copy = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    etc = copy / f"ds01-etc-{os.getpid()}-{time.monotonic_ns()}"
    etc.mkdir()
    _mount("-t", "tmpfs", "tmpfs", str(etc))
    subprocess.run(["cp", "-a", "/etc/.", str(etc)], check=True)
    with (etc / "passwd").open("a") as passwd, (etc / "group").open("a") as group:
        group.write(f"docker-door:x:{GROUP}:{','.join(USERS)}\n")
        for name, uid in USERS.items():
            passwd.write(f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n")
            group.write(f"{name}:x:{uid}:\n")
    _mount("--bind", str(etc), "/etc")
    for place in _OWN:
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    for folder in (STATE, LOGS, RUN, Path("/etc/ds01"), Path("/run/cdi")):
        folder.mkdir(parents=True, exist_ok=True)
    for name, uid in USERS.items():
        home = Path("/home") / name
        home.mkdir()
        os.chown(home, uid, uid)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


class SmallHost:
    """The services; a context manager. Each can be killed, and is started anew."""

    def __init__(self) -> None:
        self.engine = NativeEngine(lasting=True)
        self.engine_socket = RUN / "engine.sock"
        self.house = House(
            RUN,
            self.engine.socket,
            GROUP,
            # The machine that tests run on need not have cgroup v2.
            ["--any-cgroup", "--events", str(LOGS / "events.jsonl"), "--store", str(STORE)],
        )
        self._listening = listen(RUN / "ds01d.sock", socket.SOCK_STREAM, 0, 0o666)
        self._daemon: subprocess.Popen[bytes] | None = None
        self.log = LOGS / "ds01d.log"

    def __enter__(self) -> SmallHost:
        store.migrate(str(STORE))
        self.engine.start()
        # Where the services look for the engine; the socket itself is a new one after each start.
        self.engine_socket.symlink_to(self.engine.socket)
        self.house.start()
        self._start_daemon()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(PATIENCE_S)
        self.house.stop()
        self.engine.stop()
        self._listening.close()

    def kill(self, unit: str) -> None:
        """End ``engine``, ``gateway`` or ``daemon`` by SIGKILL; returns when the next one serves."""
        if unit == "engine":
            self.engine.kill()
        elif unit == "gateway":
            self.house.restart(signal.SIGKILL)
        else:
            assert self._daemon is not None
            self._daemon.kill()
            self._daemon.wait(PATIENCE_S)
            self._start_daemon()

    def tail(self) -> str:
        """The end of what the services wrote."""
        daemon = self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""
        return f"ds01d:\n{daemon}\ndoor:\n{self.house.tail()}"

    def _start_daemon(self) -> None:
        with self.log.open("ab") as sink:
            self._daemon = subprocess.Popen(
                hand(self._listening, "-m", "ds01", "daemon"),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment(),
                pass_fds=[self._listening.fileno()],
                start_new_session=True,
            )
        if not wait_until(self._answers, PATIENCE_S):
            raise RuntimeError(f"ds01d does not answer: {self.tail()}")

    def _answers(self) -> bool:
        assert self._daemon is not None
        if self._daemon.poll() is not None:
            raise RuntimeError(f"ds01d ended with {self._daemon.returncode}: {self.tail()}")
        try:
            client.ask("ping", str(RUN / "ds01d.sock"))
        except client.DaemonError:
            # It knows nobody where there is no cgroup v2; it serves.
            return True
        except Ds01Error:
            return False
        return True
