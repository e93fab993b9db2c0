# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host seen by clients of its Docker socket: alice at the door, root at the bare engine."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labhost import ssh
from labhost.guest import Lab

LAB_TESTS = Path(__file__).resolve().parent
DOOR = "/run/docker.sock"
ENGINE = "/run/ds01/engine.sock"
ACCESS_LOG = "/var/log/ds01/access.jsonl"
EVENT_LOG = "/var/log/ds01/events.jsonl"
IMAGE = "lab/base"
IMAGE_TAR = "/var/tmp/ds01-lab-base.tar"
STUDENT = "ds01-student-alice.slice"
# Both are four letters long, so that they leave the columns of a table where they are.
DOOR_NAME, BARE_NAME = "door", "bare"

_CHANGING = (
    # What differs from run to run, whoever serves it: names, identifiers, times, addresses, sizes.
    (re.compile(rf"\b({DOOR_NAME}|{BARE_NAME})\b"), "NAME"),
    (re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b|\b[0-9a-z]{25}\b"), "ID"),
    (
        re.compile(
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4})?( UTC|Z|[+-]\d\d:\d\d)?"
        ),
        "TIME",
    ),
    (
        re.compile(r"(About|Less than) (an?|\d+) \w+( ago)?|\b\d+ (second|minute|hour)s?( ago)?"),
        "AGO",
    ),
    (re.compile(r"\b172\.\d+\.\d+\.\d+\b"), "IP"),
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"(\"Pid\": )\d+"), r"\1PID"),
    (re.compile(r"[ \t]+"), " "),
)


def alike(text: str) -> str:
    """What stays of an output when names, identifiers, times and addresses are taken out."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until it is so; fails with ``what`` was awaited."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.3)


class DoorLab:
    """A lab host whose door is open."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    # -- the host ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """The image, and a tar of it that everybody may read."""
        have = f"docker image inspect {IMAGE} >/dev/null 2>&1"
        make = f"docker import /usr/share/ds01-lab/lab-base.tar {IMAGE} >/dev/null"
        self.bare(f"{have} || {make}; docker save {IMAGE} > {IMAGE_TAR}; chmod 644 {IMAGE_TAR}")

    def bare(self, command: str, check: bool = True, timeout: float = 180.0) -> str:
        """Run a command line as root with the bare engine as its Docker; returns its output."""
        return self.lab.run(
            f"export DOCKER_HOST=unix://{ENGINE}; {command}", check=check, timeout=timeout
        ).stdout

    def sweep(self) -> None:
        """Remove what a day has left, whoever left it."""
        names = f"^({DOOR_NAME}|{BARE_NAME})[-_/]"
        lists = (
            ("ps -a --format '{{.Names}}'", "rm -fv"),
            ("network ls --format '{{.Name}}'", "network rm"),
            ("volume ls -q", "volume rm"),
            ("images --format '{{.Repository}}:{{.Tag}}'", "rmi -f"),
        )
        removals = (
            f"docker {found} | grep -E '{names}' | xargs -r docker {gone}" for found, gone in lists
        )
        self.bare("; ".join(removals), check=False)

    def pid(self, unit: str) -> int:
        """The main process of a unit; 0 when it is down."""
        return int(self.lab.run(f"systemctl show -P MainPID {unit}").stdout)

    def put(self, path: str, text: str) -> None:
        """Replace a file on the host at once, as ds01 itself does."""
        encoded = base64.b64encode(text.encode()).decode()
        place = shlex.quote(path)
        self.lab.run(
            f"printf %s {encoded} | base64 -d > {place}.new && chmod 644 {place}.new"
            f" && mv {place}.new {place}"
        )

    # -- both sides --------------------------------------------------------------------------

    def both(
        self, steps: list[tuple[str, str]], timeout: float = 420.0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run the same steps as alice through the door and as root at the engine, side by side.

        :param steps: labels with bash command lines; $N is the side's own name.
        :return: by label, exit code and normalised outputs, at the door and at the engine.
        """
        door = self._steps("alice", "", DOOR_NAME, steps)
        bare = self._steps("root", f"unix://{ENGINE}", BARE_NAME, steps)
        return self._outcome(door, timeout), self._outcome(bare, timeout)

    def _steps(
        self, user: str, docker_host: str, name: str, steps: list[tuple[str, str]]
    ) -> subprocess.Popen[str]:
        script = (LAB_TESTS / "clients_host.py").read_text(encoding="utf-8")
        order = json.dumps({"host": docker_host, "name": name, "steps": steps})
        return self.popen(shlex.join(["python3", "-c", script, order]), user)

    def popen(self, command: str, user: str) -> subprocess.Popen[str]:
        """Start a command line on the host, its input and outputs at pipes."""
        return subprocess.Popen(
            ssh.command(self.lab.settings, user, [command]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def _outcome(self, process: subprocess.Popen[str], timeout: float) -> dict[str, Any]:
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        for step in found.values():
            step["out"], step["err"] = alike(step["out"]), alike(step["err"])
        return found

    # -- clients on this machine -------------------------------------------------------------

    @contextmanager
    def forwarded(self, user: str, far: str = DOOR) -> Iterator[str]:
        """Forward a socket of the host to this machine by ssh; gives the near socket's path.

        The far end is ``user``'s sshd: whoever connects here is that user there.
        """
        near = self.lab.settings.runtime / f"fwd-{user}-{time.monotonic_ns():x}"
        line = ssh.command(self.lab.settings, user, [])
        options = [
            "-N",
            "-o",
            "ControlMaster=no",
            "-o",
            "ControlPath=none",
            "-o",
            "ExitOnForwardFailure=yes",
        ]
        process = subprocess.Popen(
            [line[0], *options, "-L", f"{near}:{far}", *line[1:]],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(near.exists, 60, f"ssh as {user} forwards {far}")
            yield str(near)
        finally:
            process.terminate()
            process.wait(20)
            near.unlink(missing_ok=True)

    def ssh_on_path(self, folder: Path) -> dict[str, str]:
        """An environment whose ssh knows the lab host, for clients that call ssh themselves."""
        program = folder / "ssh"
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {self.lab.settings.ssh_config} "$@"\n')
        program.chmod(0o755)
        return {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "HOME": str(folder),
            "DOCKER_CONFIG": str(folder / "docker"),
        }

    # -- logs --------------------------------------------------------------------------------

    def mark(self, log: str = ACCESS_LOG) -> int:
        """Where a log ends now, in bytes."""
        return int(self.lab.run(f"stat -c %s {log} 2>/dev/null || echo 0", check=False).stdout)

    def since(self, mark: int, log: str = ACCESS_LOG) -> list[dict[str, Any]]:
        """The lines of a log behind a mark."""
        text = self.lab.run(f"tail -c +{mark + 1} {log}").stdout
        return [json.loads(line) for line in text.splitlines()]


class Terminals:
    """Programs of one user at terminals of the lab host: see terminals_host.py."""

    def __init__(self, door: DoorLab, user: str, docker_host: str = "") -> None:
        script = (LAB_TESTS / "terminals_host.py").read_text(encoding="utf-8")
        words = ["env", f"DOCKER_HOST={docker_host}"] if docker_host else []
        self._process = door.popen(shlex.join([*words, "python3", "-c", script]), user)

    def __enter__(self) -> Terminals:
        return self

    def __exit__(self, *_unused: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _do(self, order: str, name: str, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": order, "name": name, **more}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(self._process.stderr.read())
        answer: dict[str, Any] = json.loads(line)
        assert answer["ok"], f"{name}: {answer['error']}"
        return answer

    def start(self, name: str, command: str, terminal: bool = True) -> None:
        """Start a command (no shell) at a terminal of 24 rows and 80 columns, or at pipes."""
        argv = shlex.split(command)
        self._do("start", name, argv=argv, terminal=terminal, rows=24, columns=80)

    def send(self, name: str, text: str) -> None:
        self._do("send", name, text=text)

    def close(self, name: str) -> None:
        self._do("close", name)

    def resize(self, name: str, rows: int, columns: int) -> None:
        self._do("resize", name, rows=rows, columns=columns)

    def expect(self, name: str, pattern: str, seconds: float = 40.0) -> str:
        """Wait for a pattern in what the program wrote since the last one; returns the match."""
        match: str = self._do("expect", name, pattern=pattern, seconds=seconds)["match"]
        return match

    def wait(self, name: str, seconds: float = 40.0) -> tuple[int, str]:
        """Wait for the program's end; returns its exit code and all that it wrote."""
        answer = self._do("wait", name, seconds=seconds)
        return answer["rc"], answer["text"]

    def signal(self, name: str, number: int) -> None:
        self._do("signal", name, number=number)
