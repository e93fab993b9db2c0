# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that sends any bytes, has h11 judge the answers, and can be somebody else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import h11

PATIENCE = 15.0
"""Seconds for which a client waits for anything."""


class NoAnswerError(Exception):
    """The connection ended, or time passed, before an answer was complete."""


@dataclass
class Answer:
    """An answer; ``interim`` are the status codes that came before it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    interim: tuple[int, ...] = ()


class Client:
    """A connection to the door.

    :param sock: connected socket.
    """

    def __init__(self, sock: socket.socket, seconds: float = PATIENCE) -> None:
        self.sock = sock
        self.sock.settimeout(seconds)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of it; a door that has closed meanwhile is no fault."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def pieces(self, data: bytes, sizes: Iterable[int]) -> None:
        """Send it in pieces of these sizes, then what is left."""
        for size in sizes:
            if not data:
                return
            self.send(data[:size])
            data = data[size:]
        self.send(data)

    def half_close(self) -> None:
        """Say that nothing more comes."""
        self.sock.shutdown(socket.SHUT_WR)

    def fill(self) -> bool:
        """Wait for more bytes; tells whether there were any.

        :raises NoAnswerError: nothing came in time.
        """
        try:
            more = self.sock.recv(1 << 18)
        except TimeoutError as error:
            raise NoAnswerError("nothing came in time") from error
        except ConnectionError:
            more = b""
        self.buffer += more
        return bool(more)

    def head(self) -> tuple[int, bytes]:
        """Status and raw head of an answer, what follows left to be read."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise NoAnswerError(f"ended within a head: {self.buffer[:200]!r}")
        head, _mark, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return int(head[9:12]), head

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request of that method, as h11 reads it.

        :raises NoAnswerError: none came, or it was cut off.
        :raises h11.RemoteProtocolError: it is no proper answer.
        """
        judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        judge.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        judge.send(h11.EndOfMessage())
        found = Answer(0)
        while True:
            event = judge.next_event()
            if event is h11.NEED_DATA:
                data, self.buffer = self.buffer, b""
                if not data and not self.fill():
                    judge.receive_data(b"")
                    if judge.their_state is not h11.SEND_BODY:
                        raise NoAnswerError("the connection ended without an answer")
                    continue
                judge.receive_data(data or self._all())
            elif isinstance(event, h11.InformationalResponse):
                found.interim += (event.status_code,)
            elif isinstance(event, h11.Response):
                found.status = event.status_code
                found.headers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.buffer = judge.trailing_data[0] + self.buffer
                return found
            else:
                raise NoAnswerError("the connection ended without an answer")

    def rest(self) -> bytes:
        """Everything up to the connection's end."""
        while self.fill():
            pass
        return self._all()

    def ended(self) -> bool:
        """Whether the door ends the connection, with nothing more said."""
        return not self.fill() and not self.buffer

    def _all(self) -> bytes:
        data, self.buffer = self.buffer, b""
        return data


def connect(path: Path, seconds: float = PATIENCE) -> Client:
    """Connect to a socket as oneself."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return Client(sock, seconds)


_VISITOR = """
import os, socket, sys
uid, fd, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
line = socket.socket(fileno=fd)
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
while line.recv(1):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    socket.send_fds(line, [b"."], [sock.fileno()])
    sock.close()
"""


class Visitor:
    """Another user, whose process makes connections and gives them to the test.

    What the kernel tells the door of the peer is the visitor's. Needs root.

    :param uid: user (and group) number of the visitor.
    """

    def __init__(self, uid: int, path: Path) -> None:
        if os.geteuid() != 0:
            raise PermissionError("only root can visit as another user: run these tests as root")
        self._line, theirs = socket.socketpair()
        self._line.settimeout(PATIENCE)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _VISITOR, str(uid), str(theirs.fileno()), str(path)],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def connect(self, seconds: float = PATIENCE) -> Client:
        """A new connection of theirs."""
        self._line.send(b".")
        _data, fds, _flags, _address = socket.recv_fds(self._line, 1, 1)
        return Client(socket.socket(fileno=fds[0]), seconds)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._line.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def request(
    path: str = "/containers/x/json",
    method: str = "GET",
    body: bytes = b"",
    *lines: str,
) -> bytes:
    """A proper request."""
    length = [f"Content-Length: {len(body)}"] if body or method in ("POST", "PUT") else []
    head = [f"{method} {path} HTTP/1.1", "Host: docker", *length, *lines, "", ""]
    return "\r\n".join(head).encode() + body


def wait_for_file(path: Path, seconds: float) -> None:
    """Wait until a path is there.

    :raises TimeoutError: it is not.
    """
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not come to be in {seconds} s")
        time.sleep(0.01)
