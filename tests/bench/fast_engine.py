# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that costs next to nothing, so that what stands before it shows: ``fast_engine.py PATH``.

It answers as Docker's engine does on the wire: small answers with their length, large ones in
chunks (Go's http.Server writes 32 KiB at a time), attach with 101 and raw bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import sys
import threading

GIB = 1 << 30
STREAM_BYTES = 512 << 20
"""Bytes that a download and an attached stream bring."""
PIECE = 32 << 10
_BLOCK = 32
_HEAD = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nOstype: linux\r\nServer: Docker/26.1.5 (linux)\r\n"
)
_PING = _HEAD + b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nOK"
_CREATED = (
    b"HTTP/1.1 201 Created\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\n"
    b"Content-Length: 87\r\n\r\n"
    b'{"Id":"%064x","Warnings":[]}'
)
_numbers = itertools.count(1)
_DONE = _HEAD + b"Content-Length: 0\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


def box(number: int) -> dict[str, object]:
    """A container as ``docker ps`` shows it."""
    return {
        "Id": f"{number:064x}",
        "Names": [f"/user{number}-training"],
        "Image": "lab/base",
        "ImageID": "sha256:" + "ab" * 32,
        "Command": "python train.py --epochs 100 --batch 64",
        "Created": 1_790_000_000 + number,
        "Ports": [],
        "Labels": {"ds01.user": f"user{number}", "ds01.project": "thesis", "ds01.uid": f"{number}"},
        "State": "running",
        "Status": "Up 2 hours",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {
            "Networks": {"bridge": {"NetworkID": "cd" * 32, "Gateway": "172.17.0.1"}}
        },
        "Mounts": [],
    }


_LIST = json.dumps([box(number) for number in range(200)]).encode()
_ALL = _HEAD + b"Content-Type: application/json\r\n" + _CHUNKED
_ALL += b"%x\r\n%s\r\n0\r\n\r\n" % (len(_LIST), _LIST)
_CHUNKS = (b"%x\r\n" % PIECE + bytes(PIECE) + b"\r\n") * _BLOCK


class Engine:
    """One listening socket, and all that came of it."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        os.chmod(path, 0o666)
        self._listening.listen(4096)
        self._clients: dict[int, socket.socket] = {}
        self._poll = select.epoll()

    def serve(self) -> None:
        """For ever."""
        self._poll.register(self._listening.fileno(), select.EPOLLIN)
        while True:
            for number, _event in self._poll.poll():
                if number == self._listening.fileno():
                    client, _address = self._listening.accept()
                    self._clients[client.fileno()] = client
                    self._poll.register(client.fileno(), select.EPOLLIN)
                else:
                    self._answer(self._clients[number])

    def _answer(self, client: socket.socket) -> None:
        try:
            data = client.recv(65536)
            while data and b"\r\n\r\n" not in data:
                more = client.recv(65536)
                data = data + more if more else b""
        except OSError:
            data = b""
        path = data.split(b" ", 2)[1] if data else b""
        if not data:
            self._forget(client)
            client.close()
        elif b"/containers/create" in path:
            with contextlib.suppress(OSError):
                client.sendall(_CREATED % next(_numbers))
        elif path.endswith(b"/_ping") or b"/containers/json" in path:
            with contextlib.suppress(OSError):  # who asked has gone; that is read next
                client.sendall(_PING if path.endswith(b"/_ping") else _ALL)
        else:
            self._forget(client)
            threading.Thread(target=_stream, args=(client, data), daemon=True).start()

    def _forget(self, client: socket.socket) -> None:
        self._poll.unregister(client.fileno())
        del self._clients[client.fileno()]


def _stream(client: socket.socket, data: bytes) -> None:
    try:
        if data.startswith(b"PUT"):
            _take(client, data)
            client.sendall(_DONE)
        elif b"/attach" in data.split(b"\r\n", 1)[0]:
            client.sendall(_UPGRADED)
            _give(client, memoryview(bytes(PIECE * _BLOCK)), STREAM_BYTES // (PIECE * _BLOCK))
        else:
            client.sendall(_HEAD + _CHUNKED)
            _give(client, memoryview(_CHUNKS), STREAM_BYTES // (PIECE * _BLOCK))
            client.sendall(b"0\r\n\r\n")
    except OSError:
        pass
    client.close()


def _give(client: socket.socket, block: memoryview, times: int) -> None:
    for _time in range(times):
        client.sendall(block)


def _take(client: socket.socket, data: bytes) -> None:
    head, _end, rest = data.partition(b"\r\n\r\n")
    buffer = bytearray(1 << 20)
    low = head.lower()
    if b"content-length:" in low:
        left = int(low.split(b"content-length:")[1].split(b"\r\n")[0]) - len(rest)
        while left > 0:
            count = client.recv_into(buffer)
            if not count:
                raise OSError("the body ended early")
            left -= count
        return
    tail = rest[-5:]  # the data are zero bytes, so its end cannot be taken for anything else
    while tail != b"0\r\n\r\n":
        count = client.recv_into(buffer)
        if not count:
            raise OSError("the body ended early")
        tail = (tail + bytes(buffer[max(count - 5, 0) : count]))[-5:]


if __name__ == "__main__":
    Engine(sys.argv[1]).serve()
