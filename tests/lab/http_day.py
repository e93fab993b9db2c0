# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What plain HTTP clients do at a Docker socket, byte by byte; says what they were answered."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field

# The hop's own: a proxy may say them otherwise.
_OF_THE_HOP = ("date", "connection", "content-length", "transfer-encoding", "keep-alive")


@dataclass
class Conversation:
    """One connection to a Unix socket."""

    path: str
    buffer: bytes = b""
    plain: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    def __post_init__(self) -> None:
        self.plain.settimeout(60)
        self.plain.connect(self.path)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.plain.close()

    def send(self, head: str, body: bytes = b"") -> None:
        """Send a head, given with plain line ends, and a body."""
        self.plain.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    def answer(self, bodiless: bool = False) -> tuple[str, dict[str, str], bytes]:
        """Read one answer: its status line, its headers without those of the hop, its body."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *rest = head.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._line(), 16):
                body += self._take(size + 2)[:-2]
            self._take(2)
        elif "content-length" in headers and not bodiless:
            body = self._take(int(headers["content-length"]))
        return first, {k: v for k, v in headers.items() if k not in _OF_THE_HOP}, body

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while data := self.plain.recv(65536):
            self.buffer += data
        return self.buffer

    def _more(self) -> None:
        data = self.plain.recv(65536)
        assert data, f"the connection ended after {self.buffer!r}"
        self.buffer += data

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line


def day(path: str, name: str) -> dict[str, object]:
    """Talk to the socket ``path``; ``name`` begins every container's name.

    :return: by label what was answered; equal for two sockets that serve alike.
    """
    seen: dict[str, object] = {}
    with Conversation(path) as one:
        for _unused in range(3):
            one.send("GET /_ping HTTP/1.1\nHost: d")
            seen["keep-alive"] = one.answer()
        one.send("HEAD /_ping HTTP/1.1\nHost: d")
        seen["HEAD"] = one.answer(bodiless=True)
        one.send("GET /v1.41/containers/none/json HTTP/1.1\nHost: d")
        seen["404"] = one.answer()
        one.send("GET /v1.12/info HTTP/1.1\nHost: d")
        seen["too old"] = _words(one.answer())
        one.send("GET /v1.99/info HTTP/1.1\nHost: d")
        seen["too new"] = _words(one.answer())
    with Conversation(path) as one:
        one.send("GET /_ping HTTP/1.1\nHost: d\n\nGET /info HTTP/1.1\nHost: d\nConnection: close")
        seen["pipelined"] = one.answer()
        seen["pipelined, second"] = one.answer()[0]
        seen["closed"] = one.rest()
    with Conversation(path) as one:
        one.send("GET /_ping HTTP/1.0")
        status, headers, _unused_body = one.answer()
        seen["HTTP/1.0"] = (status.split()[1], headers, one.rest())
    _bodies(path, name, seen)
    return seen


def _words(answer: tuple[str, dict[str, str], bytes]) -> tuple[str, str]:
    """Status and message of a refusal, which the door may have said itself in the engine's words."""
    message: str = json.loads(answer[2])["message"]
    return answer[0], message


def _bodies(path: str, name: str, seen: dict[str, object]) -> None:
    """A body in chunks, one that waits to be asked for, and one that is no JSON."""
    text = json.dumps({"Image": "lab/base", "Cmd": ["true"]}).encode()
    post = f"POST /v1.41/containers/create?name={name}-http HTTP/1.1\nHost: d\n"
    post += "Content-Type: application/json\n"
    with Conversation(path) as one:
        chunks = (
            b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (text[:7], text[7:])) + b"0\r\n\r\n"
        )
        one.send(post + "Transfer-Encoding: chunked", chunks)
        seen["chunked"] = one.answer()[0]
        one.send(f"DELETE /containers/{name}-http HTTP/1.1\nHost: d")
        seen["no content"] = one.answer(bodiless=True)
        one.send(post + f"Expect: 100-continue\nContent-Length: {len(text)}")
        seen["continue"] = one.answer(bodiless=True)[0]
        one.plain.sendall(text)
        seen["continued"] = one.answer()[0]
        one.send(f"DELETE /containers/{name}-http?v=1 HTTP/1.1\nHost: d")
        one.answer(bodiless=True)
        one.send(post + "Content-Length: 5", b"{nope")
        seen["no JSON"] = one.answer()
