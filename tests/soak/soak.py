# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many processes against one book, killed at every named step.

Usage: ``PYTHONPATH=files/runtime:tests python -m soak.soak --requests 2000 --processes 8 --seed 1``

In rounds: workers ask, start, stop, remove, release, drain and reconcile, and are killed at fault
points; after each kill a fresh process reconciles and another worker takes the rest of the share.
At the end of a round nobody works; every second time
the power goes; then book, lease files, world and event log must agree. At the end
of all everything is given back, and every slot must be free.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soak import checker
from soak.kills import Log, entries
from soak.place import Place
from soak.worker import POINTS, Worker, recover, wind_up
from soak.world import World

ROUND = 250
"""Requests of a round."""


@dataclass
class Summary:
    """What a run did."""

    requests: int
    processes: int
    seed: int
    seconds: float = 0.0
    rounds: int = 0
    checks: int = 0
    changes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """Fault points at which nothing was killed."""
        return [point for point in POINTS if not self.kills[point]]

    def text(self) -> str:
        """For people."""
        counts = ", ".join(f"{name} {number:,}" for name, number in sorted(self.counts.items()))
        lines = [
            f"{self.requests:,} requests by {self.processes} processes in {self.rounds} rounds, "
            f"{self.seconds:,.0f} s, seed {self.seed}",
            f"what happened: {counts}",
            f"kills: {sum(self.kills.values()):,} at {len(POINTS) - len(self.missed)} of "
            f"{len(POINTS)} fault points",
            *(f"  {point}: {self.kills[point]:,}" for point in POINTS),
            f"looks of the checker: {self.checks:,}; lease changes, each once in the event log: "
            f"{self.changes:,}",
            *(f"never killed at: {point}" for point in self.missed),
            *(f"VIOLATION: {text}" for text in self.violations),
        ]
        return "\n".join(lines)


class Soak:
    """One run in a folder."""

    def __init__(self, top: Path, requests: int, processes: int, seed: int) -> None:
        self.place = Place(top)
        self.summary = Summary(requests, processes, seed)
        self._rng = random.Random(seed)
        self._ledger = checker.Ledger(self.place)
        self._lives = 0
        self._logs: dict[int, tuple[Path, int]] = {}

    def run(self) -> Summary:
        """All rounds, and the winding up."""
        start = time.monotonic()
        self.place.build()
        left = self.summary.requests
        stop_checker = self._start_checker()
        try:
            while left > 0 and not self.summary.violations:
                share = min(ROUND, left)
                self._round(share)
                left -= share
                self.summary.rounds += 1
                if self._rng.random() < 0.5:
                    self._power_cut()
                self._judge("after a round")
        finally:
            stop_checker()
        if not self.summary.violations:
            self._in_a_process("winding up", lambda: wind_up(self.place))
            self._judge("at the end", empty=True)
        self.summary.seconds = time.monotonic() - start
        return self.summary

    # --- processes --------------------------------------------------------------------------------

    def _round(self, requests: int) -> None:
        share, more = divmod(requests, self.summary.processes)
        for number in range(self.summary.processes):
            self._start_worker(share + (number < more))
        while self._logs:
            pid, status = os.wait()
            if pid not in self._logs:
                self._trouble(f"the checker ended with status {status}")
                continue
            path, wanted = self._logs.pop(pid)
            left = wanted - self._tally(path)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            if killed:
                self._in_a_process("recovery", lambda: recover(self.place))
                if left > 0:
                    self._start_worker(left)
            elif status != 0:
                self._trouble(f"a worker ended with status {status}; see {self.place.errors}")

    def _start_worker(self, share: int) -> None:
        self._lives += 1
        path = self.place.logs / f"{self._lives}.log"
        path.touch()
        seed = self._rng.getrandbits(64)
        points = self._next_points()
        pid = self._fork(lambda: Worker(self.place, Log(path), points, seed).work(share))
        self._logs[pid] = (path, share)

    def _next_points(self) -> Sequence[str]:
        """Where the next worker may die: anywhere, and as likely where fewest died so far."""
        least = min(self.summary.kills[point] for point in POINTS)
        rare = [point for point in POINTS if self.summary.kills[point] <= least]
        return [*POINTS, *(rare * (len(POINTS) // len(rare)))]

    def _tally(self, path: Path) -> int:
        found = entries([path])
        for (kind, detail), number in found.items():
            if kind == "kill":
                self.summary.kills[detail] += number
            else:
                self.summary.counts[kind] += number
        path.unlink()
        return sum(number for (kind, _detail), number in found.items() if kind == "requested")

    def _in_a_process(self, what: str, action: Callable[[], None]) -> None:
        _pid, status = os.waitpid(self._fork(action), 0)
        if status != 0:
            self._trouble(f"{what} ended with status {status}; see {self.place.errors}")

    def _fork(self, action: Callable[[], object]) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            with open(self.place.errors, "a", encoding="utf-8") as stream:
                stream.write(traceback.format_exc() + "\n")
        finally:
            os._exit(status)

    def _start_checker(self) -> Callable[[], None]:
        """A process that looks all the time; it ends when it is told to, with what it saw."""
        told = self.place.top / "checker"
        pid = self._fork(lambda: checker.watch(self.place, told))

        def stop() -> None:
            told.touch()
            _pid, status = os.waitpid(pid, 0)
            if status != 0:
                self._trouble(f"the checker ended with status {status}")
            self.summary.checks += int(told.read_text() or 0)

        return stop

    def _power_cut(self) -> None:
        world = World(self.place.world, self.place.cdi, lambda: self.place.clock().wall)
        world.power_cut()
        world.close()
        self.place.power_cut()
        self.summary.counts["power cut"] += 1

    # --- verdicts ---------------------------------------------------------------------------------

    def _judge(self, when: str, empty: bool = False) -> None:
        self._in_a_process("reconciling", lambda: recover(self.place))
        self.summary.violations += checker.rest(self.place, empty=empty)
        self.summary.violations += self._ledger.faults()
        self.summary.changes = self._ledger.changes
        if self.place.errors.exists():
            self._trouble(f"{when}: {self.place.errors.read_text(encoding='utf-8')}")
            self.place.errors.unlink()

    def _trouble(self, text: str) -> None:
        self.summary.violations.append(text)


def main() -> int:
    """Run, print the summary; 1 where something was wrong or a fault point was never hit."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=2_000)
    options.add_argument("--processes", type=int, default=8)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--folder", type=Path, help="work here and leave everything there")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="ds01-soak-") as folder:
        top = chosen.folder or Path(folder)
        top.mkdir(exist_ok=True)
        summary = Soak(top, chosen.requests, chosen.processes, chosen.seed).run()
    print(summary.text())
    return 1 if summary.violations or summary.missed else 0


if __name__ == "__main__":
    sys.exit(main())
