# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway and the pump as processes, before a recording engine, for tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ds01 import limits_source
from ds01.core.durable import replace_file
from ds01.core.limits import to_json
from ds01.core.owner_book import OwnerBook
from ds01.core.store import Store, migrate
from engine_answers import ANSWERS
from gateway_client import Answer, Client, NoAnswerError, Visitor, connect, request, wait_for_file
from recording_engine import RecordingEngine, Seen

TESTS = Path(__file__).resolve().parent
RUNTIME = Path(__file__).resolve().parents[1] / "files" / "runtime"
READY = 20.0
"""Seconds in which the door has to open."""


class Program:
    """A process of ours, with what it says on standard error.

    :param strict: with Python's and asyncio's checks for mistakes, which make it slow.
    """

    def __init__(self, name: str, words: Sequence[str], log: Path, strict: bool = True) -> None:
        self.log = log
        self.name = name
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, *(["-X", "dev"] if strict else []), "-m", name, *words],
                env={
                    **os.environ,
                    "PYTHONPATH": f"{RUNTIME}:{TESTS}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid

    def descriptors(self) -> list[str]:
        """What its open descriptors lead to."""
        top = f"/proc/{self.pid}/fd"
        found = []
        for name in os.listdir(top):
            try:
                found.append(os.readlink(f"{top}/{name}"))
            except FileNotFoundError:
                continue
        return found

    def resident(self) -> int:
        """Bytes of memory that it holds (VmRSS)."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """End it politely; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -signal.SIGKILL

    def faults(self) -> list[str]:
        """What is wrong with how it runs."""
        said = self.said()
        found = []
        if self.process.poll() is not None:
            found.append(f"{self.name} ended with {self.process.returncode}:\n{said[-2000:]}")
        if "Traceback" in said or "ResourceWarning" in said or "never retrieved" in said:
            found.append(f"{self.name} said:\n{said[-4000:]}")
        return found


class GatewayWorld:
    """A door with all that is behind it; ends with checks of the processes' health.

    :param settings: keys of ``gateway.json``.
    :param engine: socket of another engine than the recording one.
    :param strict: see :class:`Program`.
    :param records: with a store, in which the gateway writes down who makes what.
    :param fault: the step at which the gateway dies: ``reserved``, ``answered`` or ``bound``.
    :param mode: of everybody who has an account; without it there are no limits in force.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        engine: Path | None = None,
        strict: bool = True,
        records: bool = True,
        fault: str = "",
        mode: str = "",
    ) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="ds01-door-"))
        self.top.chmod(0o711)
        self.door = self.top / "docker.sock"
        self.engine = RecordingEngine(self.top / "engine.sock", ANSWERS)
        self._behind = engine or self.engine.path
        self._settings = dict(settings or {})
        self._strict = strict
        self.fault = fault
        self.store = self.top / "state.db" if records else None
        if self.store:
            migrate(str(self.store))
        if mode:
            self.rule(mode)
        self.pump = self._start_pump()
        self.gateway = self._start_gateway()
        self.wait_ready()
        self.quiet = len(self.gateway.descriptors())

    def rule(self, mode: str) -> None:
        """Put limits in force under which everybody is in this mode."""
        text = self.top / "limits.yml"
        text.write_text(f"default_group: all\ngroups: {{all: {{gateway_mode: {mode}}}}}\n")
        limits = to_json(limits_source.from_file(str(text)))
        replace_file(str(self.top / "limits.json"), json.dumps(limits))

    def _start_pump(self) -> Program:
        pump = self.top / "pump.sock"
        program = Program("ds01.pump", ["--listen", str(pump)], self.top / "pump.log", self._strict)
        try:
            wait_for_file(pump, READY)
        except TimeoutError:
            program.stop()
            raise AssertionError(program.said()) from None
        return program

    def _start_gateway(self) -> Program:
        (self.top / "gateway.json").write_text(
            json.dumps({"schema": 1, **self._settings}), encoding="utf-8"
        )
        files = {
            "listen": "docker.sock",
            "engine": str(self._behind),
            "pump": "pump.sock",
            "settings": "gateway.json",
            "limits": "limits.json",
            "events": "events.jsonl",
            "access": "access.jsonl",
            "counters": "counters.json",
        }
        if self.store:
            files["store"] = self.store.name
        words = [
            word for name, file in files.items() for word in (f"--{name}", str(self.top / file))
        ]
        name = "ds01.gateway"
        if self.fault:
            name, words = "gateway_fault", [self.fault, *words]
        return Program(name, [*words, "--any-cgroup"], self.top / "gateway.log", self._strict)

    @property
    def book(self) -> OwnerBook:
        """What the gateway wrote down."""
        assert self.store is not None
        return OwnerBook(Store(str(self.store)), str(self.top / "events.jsonl"), "test")

    def wait_ready(self) -> None:
        """Wait until the door answers."""
        end = time.monotonic() + READY
        while True:
            try:
                with self.connect(5) as client:
                    client.send(request("/_ping"))
                    if client.answer().status == 200 and self._has_store():
                        return
            except (OSError, NoAnswerError):
                pass
            if time.monotonic() > end or self.gateway.process.poll() is not None:
                said = self.gateway.said()
                self._kill()
                raise AssertionError(f"the door does not open:\n{said[-4000:]}")
            time.sleep(0.02)

    def _has_store(self) -> bool:
        open_files = self.gateway.descriptors() if self.store else []
        return self.store is None or any(name.endswith("-wal") for name in open_files)

    def restart(self) -> None:
        """Another gateway in the place of one that has ended."""
        faults = [] if "Traceback" not in self.gateway.said() else [self.gateway.said()]
        assert not faults, faults
        self.door.unlink(missing_ok=True)
        self.gateway = self._start_gateway()
        self.wait_ready()
        self.quiet = len(self.gateway.descriptors())

    def connect(self, seconds: float = 15.0) -> Client:
        """A connection to the door as oneself; waits at most so long for anything."""
        return connect(self.door, seconds)

    def visitor(self, uid: int) -> Visitor:
        """Another user at the door."""
        self.door.chmod(0o666)
        return Visitor(uid, self.door)

    def ask(self, raw: bytes, method: str = "GET") -> Answer:
        """Send one request on a new connection and read its answer."""
        with self.connect() as client:
            client.send(raw)
            return client.answer(method)

    def since(self, mark: int, expected: int) -> list[Seen]:
        """What the engine was asked since ``mark``, read when the door has done all it will.

        A request of our own goes through after the others; what was sent before it has come.
        """
        assert self.ask(request("/containers/probe/json")).status == 200
        self.engine.wait(lambda: len(self.engine.seen) > mark + expected)
        time.sleep(0.005)
        return [seen for seen in self.engine.seen[mark:] if "/probe/" not in seen.path]

    def _at_rest(self) -> bool:
        return len(self.gateway.descriptors()) <= self.quiet

    def faults(self) -> list[str]:
        """What is wrong: with the processes, with what came to the engine, with descriptors."""
        found = self.gateway.faults() + self.pump.faults() + self.engine.faults
        if not found and not self.engine.wait(self._at_rest, 10.0):
            found.append(
                f"the gateway has {len(self.gateway.descriptors())} descriptors open,"
                f" at rest it had {self.quiet}: {self.gateway.descriptors()}"
            )
        return found

    def _kill(self) -> None:
        for program in (self.gateway, self.pump):
            program.process.kill()
            program.process.wait()

    def close(self) -> None:
        """End all, and tell what was wrong."""
        try:
            found = self.faults()
            for program in (self.gateway, self.pump):
                if program.process.poll() is None and (code := program.stop()) != 0:
                    found.append(f"{program.name} ends with {code}:\n{program.said()[-2000:]}")
                if "Traceback" in program.said() and not found:
                    found.append(program.said())
            assert not found, "\n".join(found)
        finally:
            self._kill()
            self.engine.close()
            shutil.rmtree(self.top, ignore_errors=True)

    def __enter__(self) -> GatewayWorld:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
