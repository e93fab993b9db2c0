# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large streams through gateway and pump: every byte identical, memory flat.

Usage: ``PYTHONPATH=files/runtime:tests python -m soak.gateway_streams --bytes 8G``

Each way of framing carries so many bytes each way; memory (VmRSS) of both processes is sampled all
the while, against what they had after a small round of the same.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway_client import wait_for_file
from gateway_world import GatewayWorld, Program
from soak.stream_pattern import Sum, expected, reader, send_chunked, send_plain

WARM = 32 << 20
GROWTH = 16 << 20
"""Bytes by which memory may rise over what the small round left."""
TCP = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


class StreamError(Exception):
    """A stream did not arrive as it was sent."""


@dataclass
class Line:
    """How one way of framing went."""

    name: str
    size: int
    seconds: float

    @property
    def text(self) -> str:
        """For people."""
        rate = self.size / self.seconds / 1e6
        return f"{self.name:34} {self.size / 1e9:8.3f} GB {self.seconds:7.1f} s {rate:7.0f} MB/s"


@dataclass
class Memory:
    """The most that processes held, against what they held at first."""

    programs: Sequence[Program]
    first: list[int] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> threading.Thread:
        """Begin to sample, 20 times a second."""
        self.first = [program.resident() for program in self.programs]
        self.most = list(self.first)
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        return thread

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            now = [program.resident() for program in self.programs]
            self.most = [max(pair) for pair in zip(self.most, now, strict=True)]

    def end(self) -> list[str]:
        """End; a line a process."""
        self._ended.set()
        return [
            f"{program.name:34} {first / 1e6:8.1f} MB at first, {most / 1e6:.1f} MB at most"
            for program, first, most in zip(self.programs, self.first, self.most, strict=True)
        ]

    @property
    def growth(self) -> int:
        """The largest rise of one of them, in bytes."""
        return max(most - first for first, most in zip(self.first, self.most, strict=True))


class Streams:
    """One client's streams to a door."""

    def __init__(self, door: Path, seconds: float = 60.0) -> None:
        self.door = door
        self.seconds = seconds

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(self.seconds)
        sock.connect(str(self.door))
        return sock

    def _head(self, sock: socket.socket, first: str, lines: str) -> None:
        sock.sendall(f"{first} HTTP/1.1\r\nHost: docker\r\n{lines}\r\n".encode())

    def up(self, size: int, chunked: bool) -> None:
        """A request with a large body."""
        with self._connect() as sock, reader(sock) as stream:
            if chunked:
                self._head(sock, "POST /v1.45/build?t=sink", "Transfer-Encoding: chunked\r\n")
                send_chunked(sock, size)
            else:
                path = "PUT /v1.45/containers/sink/archive?path=/"
                self._head(sock, path, f"Content-Length: {size}\r\n")
                send_plain(sock, size)
            headers = _answer(stream, b"200")
            if length := headers.get(b"content-length"):
                told = json.loads(stream.read(int(length)))
            else:
                told = json.loads(stream.read())
        _compare(told, size)

    def down(self, size: int, target: str) -> None:
        """A large answer."""
        got = Sum()
        with self._connect() as sock, reader(sock) as stream:
            self._head(sock, f"GET /v1.45/containers/{target}", "")
            headers = _answer(stream, b"200")
            if b"transfer-encoding" in headers:
                got.chunked(stream)
            elif b"content-length" in headers:
                got.counted(stream, int(headers[b"content-length"]))
            else:
                got.rest(stream)
        _compare([got.size, got.crc], size)

    def both(self, size: int) -> None:
        """A hijacked stream, both ways at the same time."""
        got = Sum()
        with self._connect() as sock, reader(sock) as stream:
            path = f"POST /v1.45/containers/both/attach?stream=1&bytes={size}"
            self._head(sock, path, f"Content-Length: 0\r\n{TCP}")
            _answer(stream, b"101")
            up = threading.Thread(target=_send_and_end, args=(sock, size))
            up.start()
            got.counted(stream, size)
            up.join()
            told = json.loads(stream.read())
        _compare([got.size, got.crc], size)
        _compare(told, size)

    def ways(self) -> dict[str, Callable[[int], None]]:
        """All ways of framing, by name."""
        return {
            "request, with its length": lambda size: self.up(size, False),
            "request, chunked": lambda size: self.up(size, True),
            "answer, with its length": lambda size: self.down(size, f"length/json?bytes={size}"),
            "answer, chunked": lambda size: self.down(size, f"chunks/json?bytes={size}"),
            "answer, until the end": lambda size: self.down(size, f"close/json?bytes={size}"),
            "stream, until the end (pump)": lambda size: self.down(
                size, f"close/export?bytes={size}"
            ),
            "hijacked, both ways (pump)": self.both,
        }


def _answer(stream: io.BufferedReader, status: bytes) -> dict[bytes, bytes]:
    """The head of an answer."""
    first = stream.readline()
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _colon, value = line.partition(b":")
        headers[name.lower()] = value.strip().lower()
    if status not in first:
        raise StreamError(f"answered with {first!r}")
    return headers


def _send_and_end(sock: socket.socket, size: int) -> None:
    send_plain(sock, size)
    sock.shutdown(socket.SHUT_WR)


def _compare(told: Sequence[int], size: int) -> None:
    if list(told) != [size, expected(size)]:
        raise StreamError(f"{size} bytes were sent, {told[0]} came, or they are not the same")


def engine(path: Path) -> subprocess.Popen[bytes]:
    """An engine for streams, listening."""
    process = subprocess.Popen(
        [sys.executable, "-m", "soak.stream_engine", str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    wait_for_file(path, 10)
    return process


def run(size: int, direct: bool = False) -> tuple[list[Line], Memory]:
    """All ways of framing, ``size`` bytes each way.

    :param direct: to the engine itself, for comparison of the times.
    :raises StreamError: bytes were lost or changed, or memory rose.
    """
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="ds01-streams-") as top:
        path = Path(top) / "engine.sock"
        process = engine(path)
        try:
            with GatewayWorld(engine=path, strict=False) as world:
                ways = Streams(path if direct else world.door).ways()
                for way in ways.values():
                    way(WARM)
                memory = Memory([world.gateway, world.pump])
                thread = memory.watch()
                for name, way in ways.items():
                    begun = time.monotonic()
                    way(size)
                    twice = 2 if "both" in name else 1
                    lines.append(Line(name, size * twice, time.monotonic() - begun))
                memory.end()
                thread.join()
        finally:
            process.kill()
            process.wait()
    if memory.growth > GROWTH:
        raise StreamError(f"memory rose by {memory.growth} bytes")
    return lines, memory


def _size(text: str) -> int:
    units = {"M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--bytes", type=_size, default=8 << 30, help="each way, such as 8G or 256M")
    parser.add_argument("--direct", action="store_true", help="without the door, for comparison")
    options = parser.parse_args()
    for size in (WARM, options.bytes):
        expected(size)
    try:
        lines, memory = run(options.bytes, options.direct)
    except StreamError as error:
        print(f"gateway_streams: {error}", file=sys.stderr)
        return 1
    print("\n".join([*(line.text for line in lines), *memory.end()]))
    total = sum(line.size for line in lines)
    print(
        f"{total / 1e9:.1f} GB in {sum(line.seconds for line in lines):.0f} s, all bytes identical"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
