# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured at a socket that speaks the engine's API."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fast_engine import PIECE, STREAM_BYTES

REQUEST = (
    b"GET /v1.45/%s HTTP/1.1\r\nHost: api.moby.localhost\r\n"
    b"User-Agent: Docker-Client/26.1.5 (linux)\r\n\r\n"
)
PING = REQUEST % b"_ping"
LIST = REQUEST % b"containers/json?all=1"
_BLOCK = 32
_UPLOAD = b"PUT /v1.45/containers/box/archive?path=%2Ftmp HTTP/1.1\r\nHost: docker\r\n"


def quantile(times: Sequence[float], part: float) -> float:
    """A quantile of what was measured."""
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A connection."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60.0)
        line.connect(str(path))
        yield line


def _answer(line: socket.socket) -> None:
    """Read one whole answer."""
    data = line.recv(65536)
    if b"chunked" in data[:600]:
        while not data.endswith(b"0\r\n\r\n"):
            more = line.recv(1 << 20)
            if not more:
                break
            data = data[-5:] + more
    if not data:
        raise OSError("the connection was closed in place of an answer")


def kept(path: Path, times: int, raw: bytes = PING) -> list[float]:
    """Seconds of each request on one connection."""
    found = []
    with connected(path) as line:
        for _time in range(times):
            start = time.perf_counter()
            line.sendall(raw)
            _answer(line)
            found.append(time.perf_counter() - start)
    return found


def created(path: Path, times: int) -> list[float]:
    """Seconds of each container's creation, as ``docker create`` asks for it, on one connection."""
    body = (
        b'{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,'
        b'"Tty":false,"Env":["EPOCHS=100"],"Cmd":["python","train.py"],"Image":"lab/base",'
        b'"Labels":{"com.docker.compose.project":"thesis"},"HostConfig":{"Binds":["/home/u:/w"],'
        b'"NetworkMode":"default","RestartPolicy":{"Name":"no"},"CgroupParent":""}}'
    )
    head = b"POST /v1.45/containers/create HTTP/1.1\r\nHost: docker\r\nContent-Length: %d\r\n\r\n"
    return kept(path, times, head % len(body) + body)


def anew(path: Path, times: int, raw: bytes = PING) -> list[float]:
    """Seconds of each request on a connection of its own."""
    found = []
    for _time in range(times):
        start = time.perf_counter()
        with connected(path) as line:
            line.sendall(raw)
            _answer(line)
        found.append(time.perf_counter() - start)
    return found


def upload(path: Path, chunked: bool) -> float:
    """Bytes a second of a body that goes in."""
    if chunked:
        head = _UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n"
        block = (b"%x\r\n" % PIECE + bytes(PIECE) + b"\r\n") * _BLOCK
    else:
        head = _UPLOAD + b"Content-Length: %d\r\n\r\n" % STREAM_BYTES
        block = bytes(PIECE * _BLOCK)
    view = memoryview(block)
    with connected(path) as line:
        start = time.perf_counter()
        line.sendall(head)
        for _time in range(STREAM_BYTES // (PIECE * _BLOCK)):
            line.sendall(view)
        if chunked:
            line.sendall(b"0\r\n\r\n")
        _answer(line)
        return STREAM_BYTES / (time.perf_counter() - start)


def download(path: Path) -> float:
    """Bytes a second of a chunked answer."""
    return _receive(path, REQUEST % b"containers/box/export")


def attached(path: Path) -> float:
    """Bytes a second of a connection that was upgraded."""
    raw = b"POST /v1.45/containers/box/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n"
    raw += b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    return _receive(path, raw)


def _receive(path: Path, raw: bytes) -> float:
    buffer, total = bytearray(1 << 20), 0
    with connected(path) as line:
        start = time.perf_counter()
        line.sendall(raw)
        while total < STREAM_BYTES:
            count = line.recv_into(buffer)
            if not count:
                raise OSError(f"the stream ended after {total:,} bytes")
            total += count
        return STREAM_BYTES / (time.perf_counter() - start)


def crowd(path: Path, uids: Sequence[int], seconds: float, pause: float = 0.0) -> list[float]:
    """Seconds of each request of many users, each asking again ``pause`` seconds after an answer."""
    found: list[float] = []
    poll = select.epoll()
    lines = {line.fileno(): line for line in (_connect_as(path, uid) for uid in uids)}
    sent: dict[int, float] = {}
    due = {number: time.perf_counter() + pause * n / len(lines) for n, number in enumerate(lines)}
    for number in lines:
        poll.register(number, select.EPOLLIN)
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for number in [number for number, when in due.items() if when <= now]:
            del due[number]
            sent[number] = time.perf_counter()
            lines[number].sendall(PING)
        wait = max(min(due.values()) - time.perf_counter(), 0.0) if due else end - now
        for number, _event in poll.poll(min(wait, 0.1)):
            if not lines[number].recv(65536):
                raise OSError("a user's connection was closed")
            found.append(time.perf_counter() - sent.pop(number))
            due[number] = time.perf_counter() + pause
    for line in lines.values():
        line.close()
    poll.close()
    return found


def _connect_as(path: Path, uid: int) -> socket.socket:
    """A connection of another user: the kernel notes who asks for it (SO_PEERCRED, unix(7))."""
    line = socket.socket(socket.AF_UNIX)
    os.seteuid(uid)
    try:
        line.connect(str(path))
    finally:
        os.seteuid(0)
    return line


@contextmanager
def hog(path: Path, connections: int, busy: bool) -> Iterator[None]:
    """A user who holds a thousand connections; busy ones ask all the time, others have half a head.

    In the place of one that is closed he makes another at once.
    """
    words = [sys.executable, __file__, str(path), str(connections), "busy" if busy else "idle"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _be_hog(path: str, connections: int, busy: bool) -> None:
    os.setresuid(3001, 3001, 3001)
    poll = select.epoll()
    lines: dict[int, socket.socket] = {}

    def knock() -> None:
        line = socket.socket(socket.AF_UNIX)
        line.connect(path)
        line.setblocking(False)
        lines[line.fileno()] = line
        poll.register(line.fileno(), select.EPOLLIN)
        _send(line, PING if busy else PING[:40])

    for _number in range(connections):
        knock()
    print("ready", flush=True)
    while True:
        for number, _event in poll.poll(1.0):
            line = lines[number]
            try:
                data = line.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data and busy:
                _send(line, PING)
            elif not data:
                poll.unregister(number)
                lines.pop(number).close()
                knock()


def _send(line: socket.socket, data: bytes) -> None:
    try:
        line.send(data)
    except OSError:
        return


if __name__ == "__main__":
    _be_hog(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "busy")
