# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the door costs: no door, HAProxy and ds01 in one run, taking turns.

Usage: ``PYTHONPATH=files/runtime:tests python tests/bench/bench_door.py [--write] [--quick] [--alone]``,
as root. First before an engine that costs next to nothing, so that the door itself shows; then
before Docker's own engine, started natively.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import commands
import knocks
from contest import DIRECT, HAPROXY, HAPROXY_TCP, OURS, Contest
from ds01.core.gateway_settings import GatewaySettings
from knocks import quantile
from native_engine import IMAGE, MEMORY, NativeEngine, environment, wait_until
from report import machine, table, write_section

BUSY = 50
HOG = 1_000
ALL = (DIRECT, HAPROXY, HAPROXY_TCP, OURS)
FAST = Path(__file__).with_name("fast_engine.py")


@dataclass
class Size:
    """How much is measured."""

    rounds: int
    kept: int
    anew: int
    created: int
    streams: int
    seconds: float
    runs: int
    commands: int


WHOLE = Size(
    rounds=6, kept=1500, anew=500, created=100, streams=3, seconds=1.0, runs=30, commands=50
)
QUICK = Size(rounds=2, kept=500, anew=200, created=50, streams=1, seconds=0.5, runs=3, commands=5)


@dataclass
class Figures:
    """Everything that was measured, by name and contestant: seconds, or bytes a second."""

    of: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, name: str, who: str, found: Sequence[float]) -> None:
        """More of the same."""
        self.of.setdefault(name, {}).setdefault(who, []).extend(found)

    def take_turns(
        self,
        name: str,
        contest: Contest,
        action: Callable[[Path], Sequence[float]],
        who: Sequence[str],
    ) -> None:
        """One round: each contestant once."""
        for one in who:
            self.add(name, one, action(contest.sockets[one]))

    def part(self, name: str, who: str, part: float) -> float:
        """A quantile; nan where this was not measured."""
        found = self.of.get(name, {}).get(who)
        return quantile(found, part) if found else float("nan")


@contextlib.contextmanager
def fast_engine(top: Path) -> Iterator[Path]:
    """The engine that costs nothing."""
    path = top / "fast.sock"
    process = subprocess.Popen([sys.executable, str(FAST), str(path)], env=environment())
    try:
        wait_until(path.exists, 10.0)
        yield path
    finally:
        process.kill()
        process.wait()


def before_a_fast_engine(size: Size, figures: Figures) -> None:
    """Latency, streams, many users, and one who wants everything."""
    with folder() as top, fast_engine(top) as engine:
        contest = Contest(top, engine)
        try:
            for _round in range(size.rounds):
                figures.take_turns("kept", contest, lambda path: knocks.kept(path, size.kept), ALL)
                figures.take_turns("anew", contest, lambda path: knocks.anew(path, size.anew), ALL)
                figures.take_turns(
                    "list", contest, lambda path: knocks.kept(path, 100, knocks.LIST), ALL
                )
                figures.take_turns(
                    "create", contest, lambda path: knocks.created(path, size.created), ALL
                )
            for _round in range(size.streams):
                for name, action in STREAMS.items():
                    figures.take_turns(name, contest, action, ALL)
            for _round in range(size.streams):
                _crowds(size, figures, contest)
                _hogs(size, figures, contest)
        finally:
            contest.stop()


STREAMS: dict[str, Callable[[Path], Sequence[float]]] = {
    "upload, length": lambda path: [knocks.upload(path, chunked=False)],
    "upload, chunks": lambda path: [knocks.upload(path, chunked=True)],
    "download": lambda path: [knocks.download(path)],
    "attached": lambda path: [knocks.attached(path)],
}


def _crowds(size: Size, figures: Figures, contest: Contest) -> None:
    uids = range(2001, 2001 + BUSY)
    for name, pause in (("busy", 0.0), ("calm", 0.05)):

        def ask(path: Path, pause: float = pause) -> list[float]:
            return knocks.crowd(path, uids, size.seconds, pause)

        figures.take_turns(name, contest, ask, (DIRECT, HAPROXY, OURS))


def _hogs(size: Size, figures: Figures, contest: Contest) -> None:
    """A victim who asks 200 times a second, alone and beside a hog."""

    def victim(path: Path) -> list[float]:
        return knocks.crowd(path, [2001], size.seconds, 0.005)

    for who in (HAPROXY, OURS):
        path = contest.sockets[who]
        figures.add("alone", who, victim(path))
        for name, busy in (("beside idle", False), ("beside busy", True)):
            with knocks.hog(path, HOG, busy):
                time.sleep(0.5)
                figures.add(name, who, victim(path))


def before_docker(size: Size, figures: Figures, alone: bool) -> None:
    """``docker run``, a long list, and two commands with the wrapper before the client."""
    # Version 1 of cgroups takes in no process that is scheduled before all others.
    schedule(os.SCHED_OTHER, nice=-15 if alone else 0)
    with NativeEngine() as engine, folder() as top:
        if alone:
            schedule(os.SCHED_FIFO)
        contest = Contest(top, engine.socket, GatewaySettings())
        try:
            commands.measure(figures.add, contest.sockets, top, size.commands)
            schedule(os.SCHED_OTHER)
            for _run in range(size.runs):
                figures.take_turns(
                    "run",
                    contest,
                    lambda path: [commands.run(path, top, IMAGE)],
                    (DIRECT, HAPROXY, OURS),
                )
            for number in range(200):
                engine(
                    "POST",
                    f"/containers/create?name=box{number}",
                    {"Image": IMAGE, "Cmd": ["true"]},
                )
            for _round in range(size.rounds):
                figures.take_turns(
                    "docker's list",
                    contest,
                    lambda path: knocks.kept(path, 20, knocks.LIST.replace(b"v1.45", b"v1.41")),
                    (DIRECT, HAPROXY, OURS),
                )
        finally:
            contest.stop()


def schedule(policy: int, nice: int | None = None) -> None:
    """How this process and what it starts from now on are scheduled."""
    os.sched_setscheduler(0, policy, os.sched_param(int(policy == os.SCHED_FIFO)))
    if nice is not None:
        os.setpriority(os.PRIO_PROCESS, 0, nice)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory that users may pass through."""
    with tempfile.TemporaryDirectory(prefix="ds01-bench-", dir=MEMORY) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def rows(figures: Figures) -> list[list[str]]:
    """The table's lines."""
    found = []
    times = [
        ("kept", "`GET /_ping`, connection kept, µs", 1e6),
        ("anew", "`GET /_ping`, new connection, µs", 1e6),
        ("list", "list of 200 containers, 120 KB, µs", 1e6),
        ("create", "container created, recorded on the disk by ds01, ms", 1e3),
        ("calm", f"{BUSY} users, each 20 times a second, µs", 1e6),
        ("busy", f"{BUSY} users, each without a pause, ms", 1e3),
        ("docker's list", "Docker's own list of 200 containers, ms", 1e3),
    ]
    for name, words, unit in times:
        cells = [_pair(figures, name, who, unit) for who in ALL]
        found.append([words, *cells, _ratio(figures, name, 0.5), _ratio(figures, name, 0.99)])
    streams = [
        ("upload, length", "archive in, with a length, GB/s"),
        ("upload, chunks", "archive in, chunked, GB/s"),
        ("download", "export out, chunked, GB/s"),
        ("attached", "attached stream out, GB/s"),
    ]
    for name, words in streams:
        cells = [f"{figures.part(name, who, 0.5) / 1e9:.2f}" for who in ALL]
        found.append([words, *cells, _ratio(figures, name, 0.5), ""])
    cells = [_pair(figures, "run", who, 1e3) for who in ALL]
    ratios = [_ratio(figures, "run", 0.5), _ratio(figures, "run", 0.99)]
    return [*found, ["`docker run --rm`, start to exit, ms", *cells, *ratios]]


def _rate(figures: Figures) -> str:
    """By Little's law: users in the system over the mean of their times."""
    found = figures.of["busy"][OURS]
    return f"{BUSY * len(found) / sum(found):,.0f}"


def _pair(figures: Figures, name: str, who: str, unit: float) -> str:
    if who not in figures.of.get(name, {}):
        return ""
    digits = 0 if unit == 1e6 else 1
    pair = (figures.part(name, who, part) * unit for part in (0.5, 0.99))
    return " / ".join(f"{value:,.{digits}f}" for value in pair)


def _ratio(figures: Figures, name: str, part: float) -> str:
    return f"{figures.part(name, OURS, part) / figures.part(name, HAPROXY, part):.2f}"


def hog_rows(figures: Figures) -> list[list[str]]:
    """What a victim notices."""
    found = []
    for name, words in (
        ("alone", "alone"),
        ("beside idle", f"beside {HOG:,} connections with half a head each"),
        ("beside busy", f"beside {HOG:,} connections that ask all the time"),
    ):
        cells = []
        for who in (HAPROXY, OURS):
            ratio = figures.part(name, who, 0.5) / figures.part("alone", who, 0.5)
            cells += [_pair(figures, name, who, 1e6), f"{ratio:.2f}"]
        found.append([words, *cells])
    return found


def command_rows(figures: Figures) -> list[list[str]]:
    """Commands, and what door and wrapper add."""
    found = []
    for name in commands.COMMANDS:
        plain, door, whole = (figures.of[name][who] for who in commands.WAYS)
        best = [quantile(times, 0.1) * 1e3 for times in (plain, door, whole)]
        cells = [f"{one:.1f}" for one in best]
        found.append([f"`docker {name}`", *cells, f"{best[2] - best[0]:+.1f}"])
    return found


def text(figures: Figures, alone: bool) -> str:
    """The section of the page."""
    how = (
        ", scheduled before all other work (chrt -f; with Docker's engine at nice -15)"
        if alone
        else ""
    )
    heads = (*ALL, "ds01 / HAProxy, p50", "p99")
    return "\n".join(
        [
            "## The door",
            "",
            f"On the controller: {machine()}{how}. unix → unix, p50 / p99, the contestants in turns. "
            "HAProxy 2.6, `mode http` with `http-reuse never`, and `mode tcp` with `splice-auto`; two "
            "threads, where ds01 has one process and its pump. Down to the users the engine behind "
            "them answers at once, so that the difference is the door's; Docker's lines are before "
            "Docker's engine (20.10, started natively). ds01 reads every request, knows who asks, "
            "judges it by the allow-list, and writes it down. The budget of 5 ms at p99 is for users "
            "who each ask 20 times a second; without a pause one process is at its limit, at "
            f"{_rate(figures)} requests a second.",
            "",
            table(("", *heads), rows(figures)),
            "",
            "A user who asks 200 times a second, and a neighbour with a thousand connections, µs:",
            "",
            table(("", HAPROXY, "times alone", OURS, "times alone"), hog_rows(figures)),
            "",
            "Commands, the tenth percentile in ms, which other work on the machine disturbs least:",
            "",
            table(
                ("", "client, engine", "client, door", "wrapper, client, door", "added"),
                command_rows(figures),
            ),
        ]
    )


def main() -> None:
    """Measure, print, and with ``--write`` put the section into docs/benchmarks.md."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    options.add_argument(
        "--quick", action="store_true", help="little of everything, to see it work"
    )
    options.add_argument("--alone", action="store_true", help="before all other work (chrt -f)")
    chosen = options.parse_args()
    size = QUICK if chosen.quick else WHOLE
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # as the units of both have it
    figures = Figures()
    if chosen.alone:
        schedule(os.SCHED_FIFO)
    before_a_fast_engine(size, figures)
    before_docker(size, figures, chosen.alone)
    found = text(figures, chosen.alone)
    print(found)
    if chosen.write:
        write_section("door", found)


if __name__ == "__main__":
    main()
