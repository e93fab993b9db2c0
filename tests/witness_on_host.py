# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An independent witness of an engine and of what is published of it. Only what every Python has is used.

``python3 witness_on_host.py ENGINE-SOCKET OWNERS.json`` listens to the engine's events and reads the
published file over and over, until its input ends. Then it asks the engine for all its containers and
writes one JSON document:

- ``events``: what the engine said of containers, each once;
- ``gaps``: times (wall clock) from the end of one stream to the answer of the next;
- ``containers``: id, name, state, image and labels of all that are there at the end;
- ``reads``, ``faults``: how often the file was read and what was wrong with it;
- ``seen``: by short id, when it said something new of it: time, owner, method;
- ``stall``: seconds by which a sleep between two reads was too long, at worst.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from typing import Any

RETRY_S = 0.1
READ_EVERY_S = 0.05
KEYS = {
    "owner": (str, type(None)),
    "owner_uid": (int, type(None)),
    "name": (str,),
    "ds01_managed": (bool,),
    "interface": (str,),
    "created_at": (str,),
    "detection_method": (str,),
}
TOP = {"containers", "admins", "service_users", "updated_at"}
_ID = re.compile(r"[0-9a-f]{12}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")


class EngineWitness:
    """The engine's events from now on; a stream that ends is begun again where it ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.events: list[dict[str, Any]] = []
        self.gaps: list[tuple[float, float]] = []
        self._known: set[tuple[str, str, int]] = set()
        self._last = 0
        self._since = time.time()
        self._wanted = True
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more; what was said before is heard."""
        self._wanted = False
        self._thread.join(10.0)

    def _listen(self) -> None:
        ended = 0.0
        while self._wanted:
            with contextlib.suppress(OSError, ValueError):
                self._stream(ended)
            if self.listening.is_set():
                ended = ended or time.time()
                self.listening.clear()
            time.sleep(RETRY_S)

    def _stream(self, ended: float) -> None:
        since = self._last / 1e9 - 0.001 if self._last else self._since
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1.0)
            line.connect(self._path)
            # HTTP/1.0: the engine sends lines, in no chunks.
            line.sendall(f"GET /events?since={since:.9f} HTTP/1.0\r\nHost: d\r\n\r\n".encode())
            stream = _Lines(line)
            while stream.read(lambda: self._wanted):
                if not self.listening.is_set() and stream.head_seen:
                    self.listening.set()
                    if ended:
                        self.gaps.append((ended, time.time()))
                        ended = 0.0
                for text in stream.lines():
                    self._heard(json.loads(text))

    def _heard(self, event: dict[str, Any]) -> None:
        if event.get("Type") != "container":
            return
        key = (event["Actor"]["ID"], event["Action"], event["timeNano"])
        self._last = max(self._last, event["timeNano"])
        if key not in self._known:
            self._known.add(key)
            self.events.append(event)


class _Lines:
    """Lines of an answer behind its head."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._text = b""
        self.head_seen = False

    def read(self, wanted: Any) -> bool:
        """Read some more; False at the end, or when nothing more is wanted and nothing came."""
        try:
            data = self._line.recv(65536)
        except TimeoutError:
            return bool(wanted())
        self._text += data
        if not self.head_seen:
            head, found, rest = self._text.partition(b"\r\n\r\n")
            if found:
                if b" 200 " not in head[:16]:
                    raise ValueError(head.decode(errors="replace"))
                self.head_seen, self._text = True, rest
        return bool(data)

    def lines(self) -> list[bytes]:
        """The whole ones."""
        if not self.head_seen:
            return []
        *found, self._text = self._text.split(b"\n")
        return [one for one in found if one.strip()]


class Reader:
    """Reads the published owners over and over, and checks their form each time they changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.reads = 0
        self.stall = 0.0
        self.faults: list[str] = []
        self.seen: dict[str, list[tuple[float, Any, Any]]] = {}
        self._mark: Any = None
        self._wanted = True
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._wanted = False
        self._thread.join(10.0)

    def _read_on(self) -> None:
        while self._wanted:
            self.read()
            began = time.monotonic()
            time.sleep(READ_EVERY_S)
            self.stall = max(self.stall, time.monotonic() - began - READ_EVERY_S)

    def read(self) -> None:
        """Read it once."""
        self.reads += 1
        try:
            with open(self._path, encoding="utf-8") as stream:
                facts = os.fstat(stream.fileno())
                mark = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
                if mark == self._mark:
                    return
                self._mark = mark
                found = json.load(stream)
        except (OSError, ValueError) as error:
            self._wrong(f"cannot be read: {error}")
            return
        for fault in form(found):
            self._wrong(fault)
        now = time.time()
        for name, entry in found.get("containers", {}).items():
            told = self.seen.setdefault(name, [])
            if not told or told[-1][1:] != (entry.get("owner"), entry.get("detection_method")):
                told.append((now, entry.get("owner"), entry.get("detection_method")))

    def _wrong(self, what: str) -> None:
        if len(self.faults) < 50:
            self.faults.append(what)


def form(found: Any) -> list[str]:
    """What is wrong with the form of published owners."""
    if not isinstance(found, dict) or set(found) != TOP:
        return [f"the document has {sorted(found) if isinstance(found, dict) else type(found)}"]
    faults = []
    for name, entry in found["containers"].items():
        if not _ID.match(name) or set(entry) != set(KEYS):
            faults.append(f"{name}: {list(entry)}")
            continue
        for key, kinds in KEYS.items():
            # A bool is an int to Python, and none to whoever reads this.
            if type(entry[key]) not in kinds:
                faults.append(f"{name}: {key} is {entry[key]!r}")
        if not _TIME.match(str(entry["created_at"])):
            faults.append(f"{name}: created_at is {entry['created_at']!r}")
    for key in ("admins", "service_users"):
        names = found[key]
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            faults.append(f"{key} is {found[key]!r}")
    if not _TIME.match(str(found["updated_at"])):
        faults.append(f"updated_at is {found['updated_at']!r}")
    return faults


def containers(path: str) -> list[dict[str, Any]]:
    """All that the engine knows: id, name, state, image, labels."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60.0)
        line.connect(path)
        line.sendall(b"GET /containers/json?all=1 HTTP/1.0\r\nHost: d\r\n\r\n")
        data = b""
        while part := line.recv(65536):
            data += part
    found = json.loads(data.partition(b"\r\n\r\n")[2])
    return [
        {
            "id": box["Id"],
            "name": box["Names"][0].lstrip("/"),
            "state": box["State"],
            "image": box["Image"],
            "labels": box["Labels"],
        }
        for box in found
    ]


def main(words: list[str]) -> None:
    """Watch until the input ends."""
    engine, owners = words
    witness, reader = EngineWitness(engine), Reader(owners)
    witness.listening.wait(30.0)
    print("listening", flush=True)
    sys.stdin.read()
    witness.close()
    reader.close()
    told = {
        "events": witness.events,
        "gaps": witness.gaps,
        "containers": containers(engine),
        "reads": reader.reads,
        "faults": reader.faults,
        "seen": reader.seen,
        "stall": reader.stall,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
