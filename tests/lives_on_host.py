# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lives of containers, each of which says whose it is, for a host whose services are killed meanwhile.

``python3 lives_on_host.py SOCKET NAME KINDS COUNT SEED`` makes COUNT containers, one after the other;
KINDS is ``user`` (through the door) or ``root`` (at the engine). Only what every Python has is used.

Every container carries two labels: ``expect.owner`` (empty for nobody) and ``expect.method``. The
engine's events carry labels as well, so that whoever heard them needs no other list. A step that fails
is taken again until it succeeds, as a patient client does. The output is a JSON line a life.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

IMAGE = "lab/base"
PATIENCE_S = 90.0
PAUSE_S = 0.2
SLEEP = ["sleep", "600"]
# For lives that name somebody else than the one who leads them.
OTHERS = {"alice": "bob", "bob": "carol", "carol": "alice", "dana": "alice"}


class Refused(Exception):
    """The engine, or the door, says no.

    :param status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"{status}: {message}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Called by the base class."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(path: str, method: str, target: str, body: Any = None) -> Any:
    """One request; what was answered.

    :raises Refused: a status of 400 or more.
    :raises OSError: nobody answers, as with :class:`http.client.HTTPException`.
    """
    connection = _Connection(path)
    try:
        text = None if body is None else json.dumps(body)
        head = {"Content-Type": "application/json", "Connection": "close"}
        connection.request(method, target, text, head)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    found = json.loads(data) if data and "json" in (answer.headers["Content-Type"] or "") else None
    if answer.status >= 400:
        raise Refused(answer.status, str(found))
    return found


class Life:
    """One container, by a patient client.

    :param label: of this life; its container can be found by it when an answer was lost.
    """

    def __init__(self, path: str, label: str) -> None:
        self._path = path
        self.label = label
        self.id = ""
        self.tries: list[str] = []

    def make(self, name: str, command: list[str], labels: dict[str, str], **host: Any) -> None:
        """Create it; one that an earlier try has made is found."""
        body = {
            "Image": IMAGE,
            "Cmd": command,
            "Labels": {"life": self.label, **labels},
            "HostConfig": {"NetworkMode": "none", **host},
        }
        target = f"/containers/create{'?name=' + name if name else ''}"
        self.id = self._patiently(lambda: self._created(target, body))

    def _created(self, target: str, body: dict[str, Any]) -> str:
        if self.tries:
            chosen = quote(json.dumps({"label": [f"life={self.label}"]}))
            found = call(self._path, "GET", f"/containers/json?all=1&filters={chosen}")
            if found:
                return str(found[0]["Id"])
        return str(call(self._path, "POST", target, body)["Id"])

    def step(self, word: str) -> None:
        """``start``, ``kill``, ``wait``, ``pause``, …; one that is so already is right."""
        self._patiently(lambda: self._stepped("POST", f"/containers/{self.id}/{word}"))

    def remove(self) -> None:
        """Remove it, whatever it does."""
        self._patiently(lambda: self._stepped("DELETE", f"/containers/{self.id}?force=1"))

    def _stepped(self, method: str, target: str) -> None:
        try:
            call(self._path, method, target)
        except Refused as error:
            # Not there, not running, being removed: an earlier try, or a restart, has seen to it. An
            # engine that was killed in a start does not know what it began, and never starts it.
            stuck = error.status == 500 and re.search("already (exists|in use)", str(error))
            if error.status not in (304, 404, 409) and not stuck:
                raise

    def _patiently(self, work: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return work()
            except (OSError, ValueError, http.client.HTTPException, Refused) as error:
                lasting = isinstance(error, Refused) and error.status < 500 and error.status != 409
                if lasting or time.monotonic() > end:
                    raise
                self.tries.append(f"{type(error).__name__}: {error}"[:200])
                time.sleep(PAUSE_S)


class Lives:
    """Lives of one user, or of root at the engine.

    :param path: the socket.
    """

    def __init__(self, path: str, user: str, kinds: str, seed: int) -> None:
        self._path = path
        self.user = user
        self._rng = random.Random(seed)
        # How often of a hundred.
        self.kinds: dict[Callable[[Life, str], bool], int] = {
            "user": {
                self.whole: 40,
                self.by_itself: 15,
                self.renamed: 10,
                self.unnamed: 10,
                self.forged: 5,
                self.killed: 5,
                self.kept: 10,
                self.idle: 5,
            },
            "root": {self.labelled: 40, self.aime: 30, self.nobodys: 30},
        }[kinds]

    # --- of users, through the door: each returns whether its container is gone at the end ----

    def whole(self, life: Life, name: str) -> bool:
        """Created, started, waited for, removed."""
        life.make(name, ["true"], self._mine())
        life.step("start")
        life.step("wait")
        life.remove()
        return True

    def by_itself(self, life: Life, name: str) -> bool:
        """As ``docker run --rm``: the engine removes it."""
        life.make(name, ["true"], self._mine(), AutoRemove=True)
        life.step("start")
        # One that an engine's end kept from starting stays until somebody removes it.
        life.step("wait")
        life.remove()
        return True

    def renamed(self, life: Life, name: str) -> bool:
        """Another name on the way."""
        life.make(name, ["true"], self._mine())
        life.step(f"rename?name={name}-b")
        life.step("start")
        life.remove()
        return True

    def unnamed(self, life: Life, _name: str) -> bool:
        """With the name that the engine gives."""
        life.make("", ["true"], self._mine())
        life.step("start")
        life.remove()
        return True

    def forged(self, life: Life, name: str) -> bool:
        """A label that says it is somebody else's."""
        life.make(name, ["true"], {**self._mine(), "ds01.user": OTHERS[self.user]})
        life.remove()
        return True

    def killed(self, life: Life, name: str) -> bool:
        """Ended by force, and started again."""
        life.make(name, SLEEP, self._mine())
        life.step("start")
        life.step("kill")
        life.step("start")
        life.remove()
        return True

    def kept(self, life: Life, name: str) -> bool:
        """Stays, ended."""
        life.make(name, ["true"], self._mine())
        life.step("start")
        life.step("wait")
        return False

    def idle(self, life: Life, name: str) -> bool:
        """Stays, never started."""
        life.make(name, ["true"], self._mine())
        return False

    def _mine(self) -> dict[str, str]:
        return {"expect.owner": self.user, "expect.method": "gateway"}

    # --- of root, at the engine ---------------------------------------------------------------

    def labelled(self, life: Life, name: str) -> bool:
        """With a label of ours that names somebody."""
        expected = {"expect.owner": "bob", "expect.method": "ds01_label"}
        life.make(name, ["true"], {**expected, "ds01.user": "bob"})
        life.step("start")
        if self._rng.random() < 0.3:
            return False
        life.remove()
        return True

    def aime(self, life: Life, name: str) -> bool:
        """As the tools of before made them."""
        expected = {"expect.owner": "carol", "expect.method": "aime_label"}
        life.make(name, ["true"], {**expected, "aime.mlc.USER": "carol"})
        life.remove()
        return True

    def nobodys(self, life: Life, name: str) -> bool:
        """Nothing says whose it is."""
        life.make(name, ["true"], {"expect.owner": "", "expect.method": "unknown"})
        life.step("start")
        if self._rng.random() < 0.5:
            return False
        life.remove()
        return True

    # ------------------------------------------------------------------------------------------

    def live(self, number: int) -> dict[str, Any]:
        """One life; what came of it."""
        (kind,) = self._rng.choices(list(self.kinds), list(self.kinds.values()))
        name = f"{self.user}-{number}"
        life = Life(self._path, name)
        began = time.time()
        fault = ""
        gone = False
        try:
            gone = kind(life, name)
        except (OSError, ValueError, http.client.HTTPException, Refused) as error:
            fault = f"{type(error).__name__}: {error}"
        return {
            "life": name,
            "kind": kind.__name__,
            "id": life.id,
            "gone": gone,
            "seconds": time.time() - began,
            "tries": life.tries,
            "fault": fault,
        }


def main(words: list[str]) -> None:
    """Lead the lives that are asked for."""
    path, user, kinds, count, seed = words
    lives = Lives(path, user, kinds, int(seed))
    for number in range(int(count)):
        print(json.dumps(lives.live(number)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
