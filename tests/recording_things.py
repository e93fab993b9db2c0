# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that a recording engine makes: containers, volumes, networks, execs and images.

What is asked for by name tells how it is answered: see :data:`MOODS`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from datetime import datetime, timezone
from urllib.parse import parse_qs

from recording_engine import Answer, Exchange

MOODS = {
    "held": "answers when the test opens the gate",
    "refused": "answers that it may not be",
    "hangup": "ends without a word, having made it",
    "cut": "ends in the middle of its answer",
    "chunked": "answers in chunks",
    "endless": "answers with more than anybody reads",
    "warned": "names what it made, and then warns with more than anybody reads",
    "scolded": "refuses with more than anybody reads",
    "early": "refuses before the body was read, and ends",
    "odd": "answers with an id that is none",
    "late": "answers after 0.85 seconds",
}
JSON = "Content-Type: application/json"


def id_of(*words: object) -> str:
    """An id for what these words name."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


class Things:
    """What there is."""

    def __init__(self) -> None:
        self.containers: dict[str, str] = {}
        self.volumes: dict[str, float] = {}
        self.made = 0
        self._lock = threading.Lock()

    def answers(self) -> dict[str, Answer]:
        """By segment of the path."""
        names = ("create", "volumes", "exec", "commit", "tag", "load", "build")
        return dict.fromkeys(names, self._answer)

    def _answer(self, x: Exchange) -> None:
        path, _mark, query = x.seen.head.target.decode().partition("?")
        noun = path.split("/")[2] if path.startswith("/v1.") else path.split("/")[1]
        asked = {key: found[0] for key, found in parse_qs(query, keep_blank_values=True).items()}
        name = asked.get("name") or asked.get("repo") or asked.get("fromImage") or ""
        if name.startswith("early"):
            x.close = True
            x.reply(b'{"message": "bad parameter"}', "400 Bad Request", JSON)
            raise ConnectionError
        body = x.body()
        with self._lock:
            self.made += 1
            number = self.made
        if noun == "containers" and path.endswith("/create"):
            self._made(x, name, {"Id": id_of("container", number), "Warnings": []})
        elif noun == "containers":
            self._made(x, name, {"Id": id_of("exec", path.split("/")[-2], number)})
        elif noun == "exec":
            told = {"ID": path.split("/")[-2], "ContainerID": id_of("box"), "Running": False}
            x.reply(json.dumps(told).encode(), "200 OK", JSON)
        elif noun == "volumes":
            self._volume(x, path, body, number)
        elif noun == "networks":
            self._made(x, name, {"Id": id_of("network", number), "Warning": ""})
        elif noun == "commit":
            self._made(x, name, {"Id": f"sha256:{id_of('image', number)}"})
        else:
            self._image(x, path, name)

    def _made(self, x: Exchange, name: str, told: dict[str, object]) -> None:
        mood = name.partition("-")[0]
        if mood == "refused":
            x.reply(b'{"message": "Conflict"}', "409 Conflict", JSON)
            return
        if mood == "scolded":
            x.reply(json.dumps({"message": "x" * 3_000_000}).encode(), "400 Bad Request", JSON)
            return
        with self._lock:
            self.containers[name] = str(told["Id"])
        if mood == "warned":
            told = {**told, "Warnings": ["x" * 3_000_000]}
        text = json.dumps(told).encode() + b"\n"
        if mood == "held":
            x.engine.gate.wait(20)
        elif mood == "late":
            time.sleep(0.85)
        elif mood == "hangup":
            raise ConnectionError
        elif mood == "cut":
            x.head("201 Created", "Content-Length: 1000", JSON)
            x.send(text)
            raise ConnectionError
        if mood == "odd":
            text = b'{"Id": "../../etc"}'
        if mood == "endless":
            text = b'{"Id": "' + b"a" * 3_000_000 + b'"}'
        if mood == "chunked":
            x.head("201 Created", "Transfer-Encoding: chunked", JSON)
            for at in range(0, len(text), 7):
                piece = text[at : at + 7]
                x.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            x.send(b"0\r\n\r\n")
        else:
            x.reply(text, "201 Created", JSON)

    def _volume(self, x: Exchange, path: str, body: bytes, number: int) -> None:
        if not path.endswith("/create"):
            known = path.rpartition("/")[2] in self.volumes
            text = b"{}" if known else b'{"message": "no such volume"}'
            x.reply(text, "200 OK" if known else "404 Not Found", JSON)
            return
        asked = go_name(body) or id_of("volume", number)
        if asked.startswith("held"):
            x.engine.gate.wait(20)
        with self._lock:
            self.volumes.setdefault(asked, time.time())
        moment = datetime.fromtimestamp(int(self.volumes[asked]), timezone.utc)
        told = {"Name": asked, "CreatedAt": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
        x.reply(json.dumps(told).encode(), "201 Created", JSON)

    def _image(self, x: Exchange, path: str, name: str) -> None:
        if path.endswith("/tag"):
            x.head("201 Created", "Content-Length: 0")
            return
        x.close = True
        x.head("200 OK", "Transfer-Encoding: chunked", JSON)
        for number in range(100 if name.startswith("slow") else 2):
            time.sleep(0.02)
            line = b'{"status": "%d"}\r\n' % number
            x.send(b"%x\r\n%s\r\n" % (len(line), line))
        x.send(b"0\r\n\r\n")


def go_name(body: bytes) -> str:
    """The name as Go reads it: keys in any case, null changes nothing, the last one counts."""
    name = ""

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal name
        for key, value in found:
            if key.lower() == "name" and isinstance(value, str):
                name = value
        return dict(found)

    json.loads(body or b"{}", object_pairs_hook=pairs)
    return name
