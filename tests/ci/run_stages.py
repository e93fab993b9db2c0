"""Run the stages of `make test` in order and sum them up.

Each stage is the make target ``stage-NAME``. Its whole output goes to a log file; a failed
stage shows the end of its log. Every stage runs even when an earlier one failed, so that one
run tells all that is wrong; only what stands on a failed stage (``NEEDS``) does not run.

Stages run one at a time, but for those that wait for the lab's guest nearly all their time
(``BESIDE``): such a one goes on beside the stages that follow. What measures times, and what others
stand on (``ALONE``), begins when nothing else runs and has the machine to itself.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

TAIL_LINES = 60
HEARTBEAT_S = 60.0
GRACE_S = 20.0
POLL_S = 0.1
# They share the lab, so there is one of them at a time.
BESIDE = frozenset({"lab-site", "newest-site"})
ALONE = frozenset({"setup", "lab-tests", "lab-down"})
# What cannot say anything when another stage failed; of `setup` that is true of every stage.
NEEDS = {"lab-tests": "lab-site"}
# Run after an interrupt too: it stops the machine that earlier stages leave running.
CLEANUP = "lab-down"


@dataclass(frozen=True)
class Result:
    """How one stage ended: its name, the outcome word, and the wall time in seconds."""

    name: str
    outcome: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Tell whether the stage ran to its end with exit status 0."""
        return self.outcome == "pass"


@dataclass
class Running:
    """A stage under way: its process, its log, and when it began and was last told of."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Give the wall time so far."""
        return time.monotonic() - self.began


def last_line(log: Path) -> str:
    """Return the last telling line of a log file, cut to fit one terminal line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    telling = (line for line in reversed(lines) if line and not line.startswith("make["))
    return next(telling, "")[:100]


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a stage with all it started: politely first, so that it can take the lab down."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return


class Run:
    """One run of stages, told on standard output as it goes."""

    def __init__(self, make: str, logs: Path, limit_s: float) -> None:
        """Take what all stages have in common.

        Args:
            make: the make program to call.
            logs: folder of the log files, one a stage.
            limit_s: wall time in seconds after which a stage is ended and counts as failed.
        """
        self._make = make
        self._logs = logs
        self._limit_s = limit_s
        self._under_way: list[Running] = []
        self.results: list[Result] = []

    def stage(self, name: str) -> None:
        """Run a stage: to its end, or only begin it where it goes on beside the next ones."""
        if name in ALONE:
            self.finish()
        elif name in BESIDE:
            self.finish(*BESIDE)
        failed = {result.name for result in self.results if not result.passed}
        for needed in ("setup", NEEDS.get(name, "")):
            if needed in failed:
                self.results.append(Result(name, f"FAIL (not run: {needed} failed)", 0.0))
                print(f"==> {name}\n    {name}: {self.results[-1].outcome}", flush=True)
                return
        self._begin(name)
        if name not in BESIDE:
            self.finish(name)

    def _begin(self, name: str) -> None:
        beside = " beside ".join(("", *(stage.name for stage in self._under_way)))
        print(f"==> {name}{beside}", flush=True)
        log = self._logs / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [self._make, "--no-print-directory", "--silent", f"stage-{name}"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._under_way.append(Running(name, log, process))

    def finish(self, *names: str) -> None:
        """Wait for these stages to end, or for all; each one that ends meanwhile is told."""
        while any(not names or stage.name in names for stage in self._under_way):
            for stage in list(self._under_way):
                self._look_at(stage)
            time.sleep(POLL_S)

    def _look_at(self, stage: Running) -> None:
        """Tell of a stage that has ended; end one that is over its time; show that it lives."""
        status = stage.process.poll()
        if status is not None:
            self._ended(stage, "pass" if status == 0 else "FAIL")
        elif stage.seconds() > self._limit_s:
            stop_group(stage.process)
            self._ended(stage, f"FAIL (over {self._limit_s:.0f} s)")
        elif time.monotonic() - stage.told > HEARTBEAT_S:
            # So that a person or a CI log sees that a long stage goes on.
            stage.told = time.monotonic()
            done = f"{stage.seconds():.0f} s so far; {last_line(stage.log)}"
            print(f"    {stage.name}: {done}", flush=True)

    def _ended(self, stage: Running, outcome: str) -> None:
        self._under_way.remove(stage)
        seconds = stage.seconds()
        self.results.append(Result(stage.name, outcome, seconds))
        done = f"{outcome} in {seconds:.1f} s; {last_line(stage.log)}"
        print(f"    {stage.name}: {done}", flush=True)
        if outcome != "pass":
            tail = stage.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            print("\n".join(f"    | {line}" for line in tail))
            print(f"    | whole log: {stage.log}", flush=True)

    def stop(self) -> str:
        """End all that is under way; returns the names of it."""
        names = ", ".join(stage.name for stage in self._under_way)
        for stage in self._under_way:
            stop_group(stage.process)
        self._under_way.clear()
        return names


def print_table(results: Sequence[Result], total: float) -> None:
    """Print the closing table and the two summary lines, the last one plain.

    Args:
        results: how the stages ended.
        total: wall time of all of them in seconds.
    """
    width = max(len(result.name) for result in results)
    print("\n" + "stage".ljust(width) + "     time  result")
    for result in results:
        print(f"{result.name.ljust(width)}  {result.seconds:6.1f}s  {result.outcome}")
    passed = sum(result.passed for result in results)
    failed = len(results) - passed
    words = ([f"{failed} failed"] if failed else []) + [f"{passed} passed"]
    print(f"\n===== {', '.join(words)} in {total:.2f}s =====")
    print(f"{passed} passed, {failed} failed", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named stages; return 0 when all passed, 1 when any failed, 130 on interrupt."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("stages", nargs="+", metavar="STAGE")
    parser.add_argument("--make", default="make", help="the make program")
    parser.add_argument("--logs", type=Path, default=Path(".cache/logs"), help="log folder")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds allowed for a stage")
    options = parser.parse_args(argv)
    options.logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    run = Run(options.make, options.logs, options.limit)
    try:
        for name in options.stages:
            run.stage(name)
        run.finish()
    except KeyboardInterrupt:
        print(f"\ninterrupted during {run.stop()}", file=sys.stderr)
        if CLEANUP in options.stages:
            Run(options.make, options.logs, options.limit).stage(CLEANUP)
        return 130
    order = {name: number for number, name in enumerate(options.stages)}
    run.results.sort(key=lambda result: order[result.name])
    print_table(run.results, time.monotonic() - began)
    return 0 if run.results and all(result.passed for result in run.results) else 1


if __name__ == "__main__":
    # Whoever ends the run politely gets the lab taken down as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
