# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is open while the gateway goes and comes, and must not notice: a foreground ``docker run``, a
terminal in a container, logs that are followed, and the engine's events.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from native_engine import IMAGE, UnixConnection, client_environment, docker_program

PATIENCE_S = 60.0
COUNT_TO = 1_000_000
Starter = Callable[..., subprocess.Popen[bytes]]


class Events:
    """The engine's events through the door, read from the first life to the last.

    :param door: the socket.
    """

    def __init__(self, door: Path) -> None:
        self.seen: Counter[str] = Counter()
        self.error = ""
        self._line = UnixConnection(door, timeout=3600.0)
        self._line.request("GET", "/events", headers={"Host": "docker"})
        self._answer = self._line.getresponse()
        self._socket = self._line.sock
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def faults(self) -> list[str]:
        """What is wrong with it: an end, or containers that came and never went."""
        found = [f"the events' stream ended: {self.error}"] if not self._thread.is_alive() else []
        # What happened last may still be on its way.
        deadline = time.monotonic() + 10.0
        while self.seen["create"] != self.seen["destroy"] and time.monotonic() < deadline:
            time.sleep(0.1)
        if self.seen["create"] != self.seen["destroy"]:
            found.append(
                f"events told {self.seen['create']} creations, {self.seen['destroy']} ends"
            )
        return found

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(2)
        self._thread.join(5.0)
        self._line.close()

    def _read(self) -> None:
        try:
            for line in self._answer:
                event = json.loads(line)
                if event.get("Type") == "container":
                    self.seen[event["Action"].split(":")[0]] += 1
            self.error = "the other end closed it"
        except (OSError, ValueError, AttributeError) as error:
            self.error = str(error)


class Witnesses:
    """Three long clients of one user.

    :param door: the socket.
    :param home: a folder of the user's.
    :param uid: the user.
    :param group: his group that may open the door.
    """

    def __init__(self, door: Path, home: Path, uid: int, group: int) -> None:
        self._environment = client_environment(door, home)
        self._as = {"user": uid, "group": uid, "extra_groups": [group]}
        self._name = f"witness-{time.monotonic_ns()}"
        self._docker = docker_program()
        words = ["run", "--rm", "-i", "--name", self._name, IMAGE, "cat"]
        self._run = self._start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._say("before\n")
        # One that only prints, for logs.
        self._counter = f"{self._name}-counter"
        count = f"for i in $(seq {COUNT_TO}); do echo $i; sleep 0.05; done"
        self._do("run", "-d", "--name", self._counter, IMAGE, "sh", "-c", count)
        self._logs = self._start("logs", "--follow", self._counter, stdout=subprocess.PIPE)
        self._terminal, inner = pty.openpty()
        words = ["exec", "-it", self._name, "sh"]
        self._exec = self._start(*words, stdin=inner, stdout=inner, start_new_session=True)
        os.close(inner)
        self._ask("echo $((20 + 1))", "\r\n21\r\n")
        time.sleep(0.5)  # all of them are the pump's by now

    def finish(self) -> list[str]:
        """Use all three once more and end them; returns what is wrong."""
        found = []
        for check in (self._finish_terminal, self._finish_run, self._finish_logs):
            try:
                check()
            except (OSError, AssertionError, subprocess.SubprocessError) as error:
                found.append(f"{check.__name__.removeprefix('_finish_')} was cut: {error}")
        for client in (self._run, self._logs, self._exec):
            client.kill()
            client.wait()
            for pipe in (client.stdin, client.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        os.close(self._terminal)
        for name in (self._name, self._counter):
            self._do("rm", "-f", name, check=False)
        return found

    def _finish_terminal(self) -> None:
        self._ask("echo $((40 + 2))", "\r\n42\r\n")
        os.write(self._terminal, b"exit 7\n")
        status = self._exec.wait(PATIENCE_S)
        assert status == 7, f"its exit status is {status}"

    def _finish_run(self) -> None:
        self._say("after\n")
        out, _err = self._run.communicate(timeout=PATIENCE_S)
        assert (out, self._run.returncode) == (b"", 0), f"{self._run.returncode}: {out!r}"

    def _finish_logs(self) -> None:
        self._do("kill", self._counter)
        out, _err = self._logs.communicate(timeout=PATIENCE_S)
        lines = [int(word) for word in out.split()]
        assert lines == list(range(1, len(lines) + 1)), f"lines are missing: {lines}"
        whole = self._do("logs", self._counter).stdout
        assert out == whole, f"{len(whole) - len(out)} bytes are missing at the end"
        assert self._logs.returncode == 0, f"its exit status is {self._logs.returncode}"

    def _say(self, text: str) -> None:
        assert self._run.stdin is not None and self._run.stdout is not None
        self._run.stdin.write(text.encode())
        self._run.stdin.flush()
        ready, _w, _x = select.select([self._run.stdout], [], [], PATIENCE_S)
        assert ready, f"no answer to {text!r}"
        answer = os.read(self._run.stdout.fileno(), 4096)
        assert answer == text.encode(), f"{answer!r} in place of {text!r}"

    def _ask(self, command: str, wanted: str) -> None:
        os.write(self._terminal, f"{command}\n".encode())
        seen = ""
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in seen:
            left = deadline - time.monotonic()
            ready, _w, _x = select.select([self._terminal], [], [], max(left, 0.0))
            assert ready, f"the terminal does not answer {command!r}: {seen!r}"
            seen += os.read(self._terminal, 4096).decode(errors="replace")
            seen = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", seen)

    def _start(self, *words: str, **more: object) -> subprocess.Popen[bytes]:
        starter: Starter = subprocess.Popen
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        facts = {**quiet, "env": self._environment, **self._as, **more}
        return starter([self._docker, *words], **facts)

    def _do(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._docker, *words],
            env=self._environment,
            check=check,
            capture_output=True,
            timeout=PATIENCE_S,
        )
