"""Run the stages of `make test` one after the other and sum them up.

Each stage is the make target ``stage-NAME``. Its whole output goes to a log file; a failed
stage shows the end of its log. Every stage runs even when an earlier one failed, so that one
run tells all that is wrong; only a failed ``setup`` ends the run, as nothing can work without.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 60
HEARTBEAT_S = 60.0
GRACE_S = 20.0
# Run after an interrupt too: it stops the machine that earlier stages leave running.
CLEANUP = "lab-down"


@dataclass(frozen=True)
class Result:
    """How one stage ended: its name, the outcome word, and the wall time in seconds."""

    name: str
    outcome: str
    seconds: float
    summary: str

    @property
    def passed(self) -> bool:
        """Tell whether the stage ran to its end with exit status 0."""
        return self.outcome == "pass"


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


def heartbeat(name: str, log: Path, started: float, done: threading.Event) -> None:
    """Print a line each minute, so that a person or a CI log sees that a long stage lives."""
    while not done.wait(HEARTBEAT_S):
        elapsed = time.monotonic() - started
        print(f"    {name}: {elapsed:.0f} s so far; {last_line(log)}", flush=True)


def run_stage(name: str, make: str, log: Path, limit_s: float) -> Result:
    """Run one stage to its end or its time limit, and report it on standard output.

    Args:
        name: stage name; the make target is ``stage-NAME``.
        make: the make program to call.
        log: file that takes the stage's standard output and error.
        limit_s: wall time in seconds after which the stage is ended and counts as failed.
    """
    print(f"==> {name}", flush=True)
    started = time.monotonic()
    done = threading.Event()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [make, "--no-print-directory", "--silent", f"stage-{name}"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        pulse = threading.Thread(target=heartbeat, args=(name, log, started, done), daemon=True)
        pulse.start()
        try:
            outcome = "pass" if process.wait(limit_s) == 0 else "FAIL"
        except subprocess.TimeoutExpired:
            stop_group(process)
            outcome = f"FAIL (over {limit_s:.0f} s)"
        except KeyboardInterrupt:
            stop_group(process)
            raise
        finally:
            done.set()
            pulse.join()
    seconds = time.monotonic() - started
    summary = last_line(log)
    print(f"    {name}: {outcome} in {seconds:.1f} s; {summary}", flush=True)
    if outcome != "pass":
        tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        print("\n".join(f"    | {line}" for line in tail))
        print(f"    | whole log: {log}", flush=True)
    return Result(name, outcome, seconds, summary)


def print_table(results: Sequence[Result]) -> None:
    """Print the closing table and the two summary lines, the last one plain."""
    width = max(len(result.name) for result in results)
    print("\n" + "stage".ljust(width) + "     time  result")
    for result in results:
        print(f"{result.name.ljust(width)}  {result.seconds:6.1f}s  {result.outcome}")
    passed = sum(result.passed for result in results)
    failed = len(results) - passed
    total = sum(result.seconds for result in results)
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

    def run(name: str) -> Result:
        return run_stage(name, options.make, options.logs / f"{name}.log", options.limit)

    results: list[Result] = []
    for name in options.stages:
        if results and results[0].name == "setup" and not results[0].passed:
            results.append(Result(name, "FAIL (not run: setup failed)", 0.0, ""))
            continue
        try:
            results.append(run(name))
        except KeyboardInterrupt:
            print(f"\ninterrupted during {name}", file=sys.stderr)
            if CLEANUP in options.stages:
                run(CLEANUP)
            return 130
    print_table(results)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
