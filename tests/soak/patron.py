# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One user of the door: lives of containers, one after the other, in every way clients have.

``python -m soak.patron UID GROUP SOCKET HOME SEED`` reads numbers of lives from its input, a line
each, and answers with a JSON line a life and ``{"done": N}`` after each order.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import select
import shlex
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import requests
from native_engine import IMAGE, UnixConnection, client_environment, docker_program

PATIENCE_S = 60.0
TRIES = 4
API = "1.41"
SLEEP = ["sleep", "600"]


class WrongError(Exception):
    """A client got something else than the engine gives."""


class Patron:
    """A user and his clients: the CLI, the SDK for Python, and plain HTTP.

    :param door: the socket.
    :param home: a folder of his own.
    """

    def __init__(self, name: str, door: str, home: str, seed: int) -> None:
        self.name = name
        self._door = door
        self._rng = random.Random(seed)
        self._count = 0
        self._docker = docker_program()
        self._environment = client_environment(door, home)
        self._sdk: Any = None
        self._line: UnixConnection | None = None
        # How often of a hundred lives.
        self.kinds: dict[Callable[[str], None], int] = {
            self.run: 18,
            self.run_with_input: 10,
            self.start_attached: 8,
            self.plain_http: 18,
            self.execute: 10,
            self.follow_logs: 8,
            self.copy: 8,
            self.wait_for_end: 5,
            self.watch_statistics: 3,
            self.leave_a_run: 4,
            self.leave_an_upload: 4,
            self.leave_a_download: 4,
        }

    # --- lives --------------------------------------------------------------------------------

    def run(self, name: str) -> None:
        """``docker run``, and one that cannot start."""
        word = f"{self._rng.getrandbits(64):x}"
        if self._rng.random() < 0.2:
            self._cli("run", "--rm", "--name", name, IMAGE, "/nothing", status=127)
            return
        self._expect(self._cli("run", "--rm", "--name", name, IMAGE, "echo", word), f"{word}\n")

    def run_with_input(self, name: str) -> None:
        """``docker run -i``: both ways, and the end of the input."""
        data = self._rng.randbytes(96 * 1024).hex()
        out = self._cli("run", "--rm", "-i", "--name", name, IMAGE, "cat", data=data)
        self._expect(out, data)

    def start_attached(self, name: str) -> None:
        """``docker create``, ``start --attach``, ``rm``."""
        self._cli("create", "--name", name, IMAGE, "sh", "-c", "echo out; echo err >&2; exit 5")
        self._expect(self._cli("start", "--attach", name, status=5), "out\n")
        self._cli("rm", name)

    def plain_http(self, name: str) -> None:
        """Create, start, wait, logs, remove on one connection that is kept."""
        self._create(name, ["echo", name])
        self._http("POST", f"/containers/{name}/start")
        self._expect(self._http("POST", f"/containers/{name}/wait")["StatusCode"], 0)
        text = self._http("GET", f"/containers/{name}/logs?stdout=1", raw=True)
        self._expect(text[8:].decode(), f"{name}\n")
        self._remove(name)

    def execute(self, name: str) -> None:
        """``docker exec`` in a container that runs."""
        self._create(name, SLEEP)
        self._http("POST", f"/containers/{name}/start")
        self._expect(self._cli("exec", name, "echo", name), f"{name}\n")
        self._cli("exec", name, "sh", "-c", "exit 3", status=3)
        box = self._client().containers.get(name)
        # Its end, not its output: the SDK drops what comes in one piece with the head.
        self._expect(box.exec_run(["sh", "-c", "exit 4"]).exit_code, 4)
        self._remove(name)

    def follow_logs(self, name: str) -> None:
        """``docker logs --follow`` to the end."""
        self._create(name, ["sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.05; done"])
        self._http("POST", f"/containers/{name}/start")
        wanted = "".join(f"line {number}\n" for number in range(1, 7))
        self._expect(self._cli("logs", "--follow", name), wanted)
        self._remove(name)

    def copy(self, name: str) -> None:
        """Files in and out with the SDK."""
        data = self._rng.randbytes(400_000)
        box = self._client().containers.create(IMAGE, "true", name=name, network_mode="none")
        if not box.put_archive("/tmp", _tar(data)):
            raise WrongError("the engine took no archive")
        chunks, _facts = box.get_archive("/tmp/file")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            (entry,) = tar.getmembers()
            stream = tar.extractfile(entry)
            self._expect(stream is not None and stream.read() == data, True)
        box.remove()

    def wait_for_end(self, name: str) -> None:
        """``docker wait``, while something else ends the container."""
        self._create(name, SLEEP)
        self._http("POST", f"/containers/{name}/start")
        waiting = self._start("wait", name)
        time.sleep(self._rng.uniform(0.0, 0.6))
        self._http("POST", f"/containers/{name}/kill")
        out, _err = _end_of(waiting)
        if out:  # empty where it began to wait after the end of the container's life
            self._expect(out, "137\n")
        self._remove(name)

    def watch_statistics(self, name: str) -> None:
        """The statistics' stream, left after its first message."""
        self._create(name, SLEEP)
        self._http("POST", f"/containers/{name}/start")
        line = self._connect()
        line.request("GET", f"/v{API}/containers/{name}/stats?stream=1", headers={"Host": "docker"})
        answer = line.getresponse()
        self._expect("memory_stats" in json.loads(answer.readline()), True)
        answer.close()
        line.close()
        self._remove(name)

    def leave_a_run(self, name: str) -> None:
        """A client that is killed while its container runs, or before."""
        client = self._start("run", "--rm", "--name", name, IMAGE, *SLEEP)
        time.sleep(self._rng.uniform(0.05, 0.8))
        client.kill()
        client.communicate()

    def leave_an_upload(self, name: str) -> None:
        """A client that goes in the middle of a body: with a length, in chunks, or of a head."""
        self._create(name, ["true"])
        kinds = [b"Content-Length: 1000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n8000\r\n"]
        head = f"PUT /v{API}/containers/{name}/archive?path=/tmp HTTP/1.1\r\nHost: docker\r\n"
        with self._raw() as line:
            line.sendall(head.encode() + self._rng.choice([*kinds, b"Half"]))
            line.sendall(bytes(10_000))
        self._remove(name)

    def leave_a_download(self, name: str) -> None:
        """A client that goes in the middle of an answer, all at once or by half."""
        self._create(name, ["true"])
        with self._raw() as line:
            line.sendall(
                f"GET /v{API}/containers/{name}/export HTTP/1.1\r\nHost: docker\r\n\r\n".encode()
            )
            if self._rng.random() < 0.5:
                line.shutdown(socket.SHUT_WR)
            line.recv(65536)
        self._remove(name)

    # --- his day ------------------------------------------------------------------------------

    def live(self) -> dict[str, Any]:
        """One life; tried again after a failure, each of which is told."""
        (kind,) = self._rng.choices(list(self.kinds), list(self.kinds.values()))
        failures: list[dict[str, Any]] = []
        start = time.monotonic()
        while True:
            self._count += 1
            name = f"{self.name}-{self._count}"
            began = time.monotonic()
            try:
                kind(name)
            except (
                *(OSError, WrongError, ValueError, KeyError, subprocess.SubprocessError),
                *(http.client.HTTPException, tarfile.TarError),
                *(docker.errors.DockerException, requests.RequestException),
            ) as error:
                self.hang_up()
                what = f"{type(error).__name__}: {error}"[:600]
                failures.append({"began": began, "ended": time.monotonic(), "what": what})
                if len(failures) < TRIES:
                    time.sleep(0.2)
                    continue
            seconds = time.monotonic() - start
            return {"kind": kind.__name__, "name": name, "seconds": seconds, "failures": failures}

    def hang_up(self) -> None:
        """Close the connections that are kept."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._sdk is not None:
            self._sdk.close()
            self._sdk = None

    def sweep(self) -> int:
        """Remove what failed or left lives have left; returns how many there were."""
        swept = 0
        for _round in range(20):
            found = self._http("GET", "/containers/json?all=1&filters=" + _filter(self.name))
            if not found:
                break
            for box in found:
                swept += 1
                self._http("DELETE", f"/containers/{box['Id']}?force=1", allowed=(204, 404, 409))
            time.sleep(0.3)
        self.hang_up()
        return swept

    # --- clients ------------------------------------------------------------------------------

    def _cli(self, *words: str, data: str = "", status: int = 0) -> str:
        return _end_of(self._start(*words), data, status)[0]

    def _start(self, *words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [self._docker, *words],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=self._environment,
        )

    def _client(self) -> Any:
        if self._sdk is None:
            self._sdk = docker.DockerClient(f"unix://{self._door}", version=API, timeout=60)
        return self._sdk

    def _create(self, name: str, command: list[str]) -> None:
        facts = {"Image": IMAGE, "Cmd": command, "HostConfig": {"NetworkMode": "none"}}
        self._http("POST", f"/containers/create?name={name}", facts)

    def _remove(self, name: str) -> None:
        self._http("DELETE", f"/containers/{name}?force=1")

    def _http(
        self,
        method: str,
        target: str,
        body: Any = None,
        raw: bool = False,
        allowed: tuple[int, ...] = (),
    ) -> Any:
        if self._line is not None and _is_closed(self._line):
            self._line.close()
            self._line = None
        if self._line is None:
            self._line = self._connect()
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        self._line.request(method, f"/v{API}{target}", text, headers)
        answer = self._line.getresponse()
        data = answer.read()
        if answer.status >= 400 and answer.status not in allowed:
            raise WrongError(f"{method} {target}: {answer.status} {data!r}")
        if raw:
            return data
        return json.loads(data) if data and answer.status < 400 else None

    def _connect(self) -> UnixConnection:
        return UnixConnection(self._door, PATIENCE_S)

    def _raw(self) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(PATIENCE_S)
        found.connect(self._door)
        return found

    def _expect(self, found: object, wanted: object) -> None:
        if found != wanted:
            raise WrongError(f"{str(found)[:200]!r} in place of {str(wanted)[:200]!r}")


def _is_closed(line: UnixConnection) -> bool:
    """Whether the server has closed an idle connection, as it may (RFC 9112, section 9.3)."""
    return line.sock is None or bool(select.select([line.sock], [], [], 0.0)[0])


def _end_of(client: subprocess.Popen[str], data: str = "", status: int = 0) -> tuple[str, str]:
    name = shlex.join(map(str, client.args)) if isinstance(client.args, list) else "docker"
    try:
        out, err = client.communicate(data, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        client.kill()
        out, err = client.communicate()
        raise WrongError(f"{name} hangs; so far: {out[-200:]!r} {err[-200:]!r}") from None
    if client.returncode != status:
        text = f"{out[-200:]!r} {err[-300:]!r}"
        raise WrongError(f"{name} ended with {client.returncode}, not {status}: {text}")
    return out, err


def _filter(name: str) -> str:
    return "%7B%22name%22%3A%5B%22%5E%2F" + name + "-%22%5D%7D"


def _tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def main(words: list[str]) -> None:
    """Become the user, and live as many lives as one is told to."""
    uid, group, door, home, seed = words
    Path(home).mkdir(exist_ok=True)
    os.chown(home, int(uid), int(uid))
    os.setgroups([int(group)])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    patron = Patron(f"u{uid}", door, home, int(seed))
    for line in sys.stdin:
        for _life in range(int(line)):
            print(json.dumps(patron.live()), flush=True)
        patron.hang_up()
        print(json.dumps({"done": int(line), "swept": patron.sweep()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
