# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pump process, and what systemd does for it: its socket, its descriptor store, its restarts."""

from __future__ import annotations

import array
import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ds01.pump.wire import BOTH, SEND_BUFFER, HandOver, encode

RUNTIME = str(Path(__file__).resolve().parents[1] / "files/runtime")

_LAUNCH = """
import fcntl, os, sys
wanted = [int(number) for number in sys.argv[1].split(",")]
high = [fcntl.fcntl(number, fcntl.F_DUPFD, 3 + 2 * len(wanted)) for number in wanted]
for place, number in enumerate(high, 3):
    os.dup2(number, place)
    os.close(number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "ds01.pump", *sys.argv[2:]])
"""


class StandIn:
    """Keeps descriptors by name as systemd does (sd_pid_notify_with_fds(3)), and starts pumps.

    :param folder: for the sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "pump.sock")
        self._notify = str(folder / "notify")
        self.store: dict[str, list[int]] = {}
        self._inodes: set[int] = set()
        self.said: list[dict[str, str]] = []
        self.stuck = threading.Event()  # systemd is busy
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._notify)
        self._socket.settimeout(0.05)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.process: subprocess.Popen[bytes] | None = None

    def _serve(self) -> None:
        while not self._ends.is_set():
            if self.stuck.is_set():
                time.sleep(0.01)
                continue
            try:
                data, extra, _flags, _unused = self._socket.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
            except TimeoutError:
                continue
            got = array.array("i")
            for _level, _kind, part in extra:
                got.frombytes(part)
            said = dict(line.split("=", 1) for line in data.decode().splitlines())
            name = said.get("FDNAME", "stored")
            if "FDSTORE" in said:
                assert said["FDPOLL"] == "0" and ":" not in name and len(name) <= 255
                for number in got:
                    if os.fstat(number).st_ino in self._inodes:
                        os.close(number)  # it has this one, and it keeps the name that it had
                    else:
                        self._inodes.add(os.fstat(number).st_ino)
                        self.store.setdefault(name, []).append(number)
            elif "FDSTOREREMOVE" in said:
                for number in self.store.pop(name, []):
                    self._inodes.discard(os.fstat(number).st_ino)
                    os.close(number)
            else:
                self.said.append(said)

    def start(self, *arguments: str, listens: bool = True) -> subprocess.Popen[bytes]:
        """A pump process, with all that is kept, and with the socket if its unit is there."""
        pairs = [("control", self._listener.fileno())] if listens else []
        pairs += [(name, number) for name, numbers in self.store.items() for number in numbers]
        names, numbers = zip(*pairs, strict=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": RUNTIME,
            "PYTHONDONTWRITEBYTECODE": "1",
            "NOTIFY_SOCKET": self._notify,
            "LISTEN_FDS": str(len(numbers)),
            "LISTEN_FDNAMES": ":".join(names),
        }
        before = len(self.said)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, ",".join(map(str, numbers)), *arguments],
            env=environment,
            pass_fds=numbers,
        )
        until(lambda: any("READY" in said for said in self.said[before:]))
        return self.process

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the pump that was started; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def settled(self) -> None:
        """Wait until nothing is on its way here."""
        until(lambda: not select.select([self._socket], [], [], 0)[0])
        time.sleep(0.02)

    def close(self) -> None:
        """End everything."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._ends.set()
        self._thread.join()
        for numbers in self.store.values():
            for number in numbers:
                os.close(number)
        self._socket.close()
        self._listener.close()


class Gateway:
    """A control connection as bare as can be."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.socket.connect(path)
        self.socket.settimeout(10)
        self._made: list[socket.socket] = []

    def next(self) -> dict[str, Any]:
        """The next message of the pump's."""
        message: dict[str, Any] = json.loads(self.socket.recv(1 << 18))
        return message

    def send(self, datagram: bytes, *numbers: int) -> None:
        """Any datagram, with any descriptors."""
        rights = array.array("i", numbers)
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if numbers else []
        self.socket.sendmsg([datagram], extra)

    def stream(
        self, mode: str = BOTH, up: bytes = b"", down: bytes = b"", uid: int = 1000, tag: str = "t1"
    ) -> tuple[socket.socket, socket.socket]:
        """Hand a new stream over; its far ends, the client's and the engine's."""
        client, client_far = socket.socketpair()
        engine, engine_far = socket.socketpair()
        order = HandOver(secrets.token_hex(8), tag, mode, uid, up, down)
        self.send(encode(order), client.fileno(), engine.fileno())
        client.close()
        engine.close()
        for far in (client_far, engine_far):
            far.settimeout(20)
            self._made.append(far)
        return client_far, engine_far

    def close(self) -> None:
        """End the connection and all that was made for it."""
        for end in [self.socket, *self._made]:
            end.close()


def until(said: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for something to become true.

    :raises AssertionError: it does not in that time.
    """
    limit = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < limit, "it did not become so in time"
        time.sleep(0.005)


def read_all(source: socket.socket) -> bytes:
    """Everything to the end."""
    parts = []
    while part := source.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def send_all(sink: socket.socket, data: bytes, times: int = 1, half: bool = True) -> None:
    """Send all of it, then close, or only what this side sends."""
    for _unused in range(times):
        sink.sendall(data)
    if half:
        sink.shutdown(socket.SHUT_WR)
    else:
        sink.close()


def in_background(work: Callable[[], Any]) -> threading.Thread:
    """A thread that does it; a broken connection ends it in silence."""

    def run() -> None:
        with contextlib.suppress(OSError):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def cpu_seconds(pid: int) -> float:
    """Processor time of a process (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors_of(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")
