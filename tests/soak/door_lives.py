# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lives of containers through the door by four users at once, the gateway restarted in the middle.

Usage: ``PYTHONPATH=files/runtime:tests python -m soak.door_lives --lives 1000``, as root

The first lives only warm it up. In the next part the gateway is ended with SIGTERM, and in the one
after that with SIGKILL, while the users go on; a client that was in a short call may fail then and
asks again, what was open for longer must not notice. In the quiet after each part, gateway and pump
are measured: what they hold must be what they held, to the last descriptor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from native_engine import NativeEngine, environment
from soak.house import House, Measure
from soak.witnesses import Events, Witnesses

USERS = (2001, 2002, 2003, 2004)
GROUP = 2000
"""Of the users who may open the door. No accounts of these numbers need to exist."""
WARM_UP = 60
PART = 300
"""Lives around each of the two restarts, at most; all others are one gateway's, so that what leaks
little shows."""
ORDER = 400
"""Lives that are asked for at a time."""
RSS_BAND_KIB = 8 * 1024
"""How much memory a service may have more at the end than after its first lives."""
OBJECTS_BAND = 30
"""How many more objects of one class there may be: caches fill; what leaks does so at each life."""
LATE_S = 15.0
STEADY = 8
"""As often, half a second apart, the first measurement has to say the same."""
SILENCE_S = 300.0


@dataclass
class Quiet:
    """Gateway, pump and engine when nobody asks for anything."""

    name: str
    lives: int
    gateway: Measure
    pump: Measure
    engine: int
    door: int

    def exact(self) -> dict[str, int]:
        """What must be the same in each quiet."""
        found = {"connections to the engine": self.engine, "connections to the door": self.door}
        for name, measure in (("gateway", self.gateway), ("pump", self.pump)):
            found |= {f"{name}: {what}": number for what, number in measure.exact().items()}
        return found


@dataclass
class Summary:
    """What a run has seen."""

    lives: int
    seconds: float = 0.0
    kinds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    excused: list[str] = field(default_factory=list)
    swept: int = 0
    restarts: list[str] = field(default_factory=list)
    quiets: list[Quiet] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        count = sum(map(len, self.kinds.values()))
        lines = [
            f"{count:,} lives of containers by {len(USERS)} users at once, {self.seconds:,.0f} s",
            *(
                f"  {kind:18} {len(times):6,}  {sum(times) / len(times):5.2f} s each"
                for kind, times in sorted(self.kinds.items())
            ),
            f"containers that left clients left behind, removed after them: {self.swept}",
            *self.restarts,
            f"calls that a restart cut, asked again with success: {len(self.excused)}",
            *(f"  {text}" for text in self.excused[:20]),
            "",
            f"{'in the quiet':34}" + "".join(f"{quiet.name:>18}" for quiet in self.quiets),
            f"{'lives until then':34}" + "".join(f"{quiet.lives:18,}" for quiet in self.quiets),
        ]
        for row in self.quiets[0].exact() if self.quiets else ():
            lines.append(f"{row:34}" + "".join(f"{q.exact()[row]:18,}" for q in self.quiets))
        for name in ("gateway", "pump"):
            cells = (f"{getattr(quiet, name).rss:18,}" for quiet in self.quiets)
            lines.append(f"{name + ': memory, KiB':34}" + "".join(cells))
        return "\n".join([*lines, *(f"FAULT: {text}" for text in self.faults)])


class Crowd:
    """The users' processes."""

    def __init__(self, house: House, seed: int) -> None:
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._house = house
        self._patrons = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "soak.patron", str(uid), str(GROUP)),
                    *(
                        str(house.socket),
                        str(house.folder / f"home{uid}"),
                        str(seed * 10_000 + uid),
                    ),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for uid in USERS
        ]
        self._ears = [
            threading.Thread(target=self._listen, args=(patron,), daemon=True)
            for patron in self._patrons
        ]
        for ear in self._ears:
            ear.start()

    def order(self, lives: int) -> None:
        """Let them live so many lives together."""
        for number, patron in enumerate(self._patrons):
            share = lives // len(USERS) + (number < lives % len(USERS))
            assert patron.stdin is not None
            patron.stdin.write(f"{share}\n")
            patron.stdin.flush()

    def close(self) -> None:
        """End them."""
        for patron, ear in zip(self._patrons, self._ears, strict=True):
            patron.kill()
            patron.wait()
            ear.join()
            for pipe in (patron.stdin, patron.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _listen(self, patron: subprocess.Popen[str]) -> None:
        assert patron.stdout is not None
        for line in patron.stdout:
            self.heard.put(json.loads(line))
        self.heard.put({"gone": patron.wait()})


class Run:
    """One run; see the module."""

    def __init__(self, lives: int, seed: int, folder: Path, engine: NativeEngine) -> None:
        self.summary = Summary(lives)
        self._engine = engine
        self._house = House(folder, engine.socket, GROUP, ["--any-cgroup"])
        self._seed = seed
        self._done = 0
        self._failures: list[tuple[str, dict[str, Any]]] = []
        self._is_enough = False

    def is_enough(self, *_signal: object) -> None:
        """Come to the end after the lives that were asked for last."""
        self._is_enough = True

    def run(self) -> Summary:
        """All of it."""
        start = time.monotonic()
        lives, faults = self.summary.lives, self.summary.faults
        part = min(lives * 3 // 10, PART)
        parts = [WARM_UP, part, part]
        with contextlib.ExitStack() as stack:
            stack.callback(self._house.stop)
            self._house.start()
            events = Events(self._house.socket)
            stack.callback(events.close)
            crowd = Crowd(self._house, self._seed)
            stack.callback(crowd.close)
            self._live(crowd, parts)
            faults += events.faults()
        self.summary.seconds = time.monotonic() - start
        self._judge()
        return self.summary

    def _live(self, crowd: Crowd, parts: Sequence[int]) -> None:
        try:
            self._part(crowd, parts[0])
            self._be_quiet("warm")
            self._part(crowd, parts[1], signal.SIGTERM)
            self._be_quiet("after SIGTERM")
            self._part(crowd, parts[2], signal.SIGKILL)
            self._be_quiet("after SIGKILL")
            while (left := self.summary.lives - self._done) > 0 and not self._is_enough:
                self._part(crowd, min(left, ORDER))
            self._be_quiet("at the end")
        except RuntimeError as error:
            self.summary.faults.append(str(error))

    def _part(self, crowd: Crowd, lives: int, number: signal.Signals | None = None) -> None:
        """Some lives; in their midst a restart, in another thread, so that it waits for nobody."""
        half, left, restart = self._done + lives // 2, len(USERS), None
        crowd.order(lives)
        while left:
            try:
                told = crowd.heard.get(timeout=SILENCE_S)
            except queue.Empty:
                raise RuntimeError(f"no user said anything for {SILENCE_S:.0f} s") from None
            if "gone" in told:
                raise RuntimeError(f"a user's process ended with {told['gone']}")
            if "done" in told:
                left -= 1
                self.summary.swept += told["swept"]
                continue
            self._done += 1
            self.summary.kinds[told["kind"]].append(told["seconds"])
            self._failures += [(told["kind"], failure) for failure in told["failures"]]
            if number is not None and restart is None and self._done >= half:
                restart = threading.Thread(target=self._restart, args=(number,))
                restart.start()
        if restart is not None:
            restart.join()
        self._house.check()

    def _restart(self, number: signal.Signals) -> None:
        faults = self.summary.faults
        home = self._house.folder / f"home{USERS[0]}"
        try:
            witnesses = Witnesses(self._house.socket, home, USERS[0], GROUP)
            found = self._house.restart(number)
            self.summary.restarts.append(
                f"gateway ended by {found.signal}: the door answered {found.ready - found.began:.2f} s "
                "later; a foreground run, a terminal, logs and events went on"
            )
            faults += [f"{found.signal}: {text}" for text in witnesses.finish()]
        except (OSError, AssertionError, RuntimeError, subprocess.SubprocessError) as error:
            faults.append(f"at {number.name}: {type(error).__name__}: {error}")

    def _be_quiet(self, name: str) -> None:
        """Measure once it is as it was when it was warm, or as it is after a while."""
        found = self._measure(name)
        wanted = self.summary.quiets[0].exact() if self.summary.quiets else None
        deadline = time.monotonic() + LATE_S
        steady = 0
        while time.monotonic() < deadline and found.exact() != wanted and steady < STEADY:
            time.sleep(0.5)
            former, found = found, self._measure(name)
            # The first one is measured when it has been the same for some time.
            steady = steady + 1 if wanted is None and former.exact() == found.exact() else 0
        self.summary.quiets.append(found)

    def _measure(self, name: str) -> Quiet:
        house = self._house
        gateway, pump = house.gateway(), house.pump()
        connections = house.engine_connections(), house.door_connections()
        return Quiet(name, self._done, gateway, pump, *connections)

    def _judge(self) -> None:
        faults, quiets = self.summary.faults, self.summary.quiets
        for kind, failure in self._failures:
            cut = (
                one.signal
                for one in self._house.restarts
                if one.covers(failure["began"], failure["ended"])
            )
            cause = next(cut, "")
            if cause:
                self.summary.excused.append(f"{cause}: {kind}: {failure['what'][:160]}")
            else:
                faults.append(f"{kind}: {failure['what']}")
        for quiet in quiets[1:]:
            if found := grown(quiets[0].exact(), quiet.exact(), 0, quiet.name):
                for one in (quiets[0], quiet):
                    found.append(f"{one.name}: {one.gateway.links} {one.pump.links}")
            faults += found
        if len(quiets) == 4:
            _warm, _term, kill, end = quiets
            # The gateway that lives at the end was started at the kill; the pump from the first on.
            faults += memory("gateway", kill.gateway, end.gateway)
            faults += memory("pump", quiets[0].pump, end.pump)
        if left := self._engine.containers():
            faults.append(f"the engine still has {', '.join(left)}")


def grown(before: dict[str, int], after: dict[str, int], band: int, where: str) -> list[str]:
    """What is more than it was by more than the band; with no band also what is less."""
    found = []
    for name in sorted({*before, *after}):
        change = after.get(name, 0) - before.get(name, 0)
        if change > band or (not band and change):
            found.append(f"{where}: {name}: {after.get(name, 0)}, was {before.get(name, 0)}")
    return found


def memory(name: str, before: Measure, after: Measure) -> list[str]:
    """Whether a service's memory stayed flat."""
    found = grown(before.objects, after.objects, OBJECTS_BAND, f"{name}: objects")
    if after.rss - before.rss > RSS_BAND_KIB:
        found.append(f"{name}: memory: {after.rss:,} KiB, was {before.rss:,} KiB")
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Run, print the summary; 1 where something was wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lives", type=int, default=1_000)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(words)
    with NativeEngine() as engine:
        # Not below the engine's own folder: users pass through this one.
        folder = engine.folder / "door"
        folder.mkdir(mode=0o711)
        os.chmod(folder, 0o711)
        run = Run(chosen.lives, chosen.seed, folder, engine)
        # A long one may be asked to end early, and still says what it saw.
        former = signal.signal(signal.SIGHUP, run.is_enough)
        try:
            summary = run.run()
        finally:
            signal.signal(signal.SIGHUP, former)
    print(summary.text())
    return 1 if summary.faults else 0


if __name__ == "__main__":
    sys.exit(main())
