# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lives of containers whose owners are followed while engine, gateway and daemon are killed at random.

Usage: ``PYTHONPATH=files/runtime:tests python -m soak.owner_lives --lives 150``, as root

Four users live through the door and root at the engine. At the end what is published has to be what
the engine has, and the event log what an independent witness has heard.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from native_engine import environment, wait_until
from owner_judge import Case, Kill, Verdict, judge, truth
from soak.small_host import GROUP, LOGS, RUN, STATE, STORE, USERS, SmallHost, enter, inside

TESTS = Path(__file__).resolve().parents[1]
OWNERS = STATE / "opa/container-owners.json"
VIEW = STATE / "containers.json"
PAUSES = {"daemon": (4, 12), "gateway": (4, 12), "engine": (10, 25)}
"""For how many lives each is left alone, from and to."""
SETTLE_S = 30.0
ROOT_SHARE = 6
"""One life of so many is root's."""


class Progress:
    """How many lives are over."""

    def __init__(self) -> None:
        self._done = 0
        self._over = False
        self._changed = threading.Condition()

    def one_more(self) -> None:
        """A life has ended."""
        with self._changed:
            self._done += 1
            self._changed.notify_all()

    def end(self) -> None:
        """No more will."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, more: int) -> bool:
        """Wait until so many more are over; False when it has ended."""
        with self._changed:
            wanted = self._done + more
            self._changed.wait_for(lambda: self._over or self._done >= wanted)
            return not self._over


class Killer:
    """Kills services at random while lives go on."""

    def __init__(self, host: SmallHost, seed: int, progress: Progress) -> None:
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self._host = host
        self._progress = progress
        self._threads = [
            threading.Thread(target=self._go_on, args=(unit, random.Random(f"{seed}{unit}")))
            for unit in PAUSES
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all serve, once lives have ended."""
        for thread in self._threads:
            thread.join()

    def _go_on(self, unit: str, rng: random.Random) -> None:
        while self._progress.wait_for(rng.randint(*PAUSES[unit])):
            time.sleep(rng.uniform(0.0, 0.5))
            began = time.time()
            try:
                self._host.kill(unit)
            except (OSError, RuntimeError) as error:
                self.faults.append(f"{unit}: {error}")
                return
            self.kills.append(Kill(unit, began, time.time()))


class Watcher:
    """The witness, in a process of its own."""

    def __init__(self) -> None:
        words = [str(TESTS / "witness_on_host.py"), str(RUN / "engine.sock"), str(OWNERS)]
        self._process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._out: IO[str] = self._process.stdout
        if self._out.readline() != "listening\n":
            raise RuntimeError("the witness does not listen")

    def told(self) -> dict[str, Any]:
        """All that it saw; it ends."""
        out, _unused = self._process.communicate("", timeout=120)
        found: dict[str, Any] = json.loads(out)
        return found


def run(lives: int, seed: int) -> tuple[Verdict, str]:
    """One run within namespaces; what the judge says, and a summary."""
    began = time.monotonic()
    with SmallHost() as host:
        if not wait_until(OWNERS.exists, SETTLE_S):
            raise RuntimeError(f"{OWNERS} does not appear: {host.tail()}")
        watcher = Watcher()
        progress = Progress()
        killer = Killer(host, seed, progress)
        try:
            led = lead(lives, seed, progress)
        finally:
            progress.end()
            killer.join()
        settled = settle(host)
        case = Case(
            watcher.told(),
            [json.loads(line) for line in (LOGS / "events.jsonl").read_text().splitlines()],
            json.loads(OWNERS.read_text()),
            json.loads(VIEW.read_text()),
            gone(),
            killer.kills,
        )
        verdict = judge(case)
        verdict.faults += killer.faults
        verdict.faults += [f"{life['life']}: {life['fault']}" for life in led if life["fault"]]
        if verdict.faults:
            verdict.faults += _in_detail(verdict, case)
            verdict.faults.append(host.tail())
    return verdict, summary(led, killer.kills, time.monotonic() - began, settled, case)


def lead(lives: int, seed: int, progress: Progress) -> list[dict[str, Any]]:
    """Let all live; what came of each life."""
    of_root = lives // ROOT_SHARE
    rest = lives - of_root
    crowd = []
    for number, (name, uid) in enumerate(USERS.items()):
        share = rest // len(USERS) + (number < rest % len(USERS))
        crowd.append(_start(str(RUN / "door.sock"), name, "user", share, seed + number, uid))
    crowd.append(_start(str(RUN / "engine.sock"), "root", "root", of_root, seed + 99, 0))
    found: list[dict[str, Any]] = []

    def listen(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found.append(json.loads(line))
            progress.one_more()
        if process.wait():
            found.append({"life": "a user's process", "fault": f"ended with {process.returncode}"})

    ears = [threading.Thread(target=listen, args=(process,)) for process in crowd]
    for ear in ears:
        ear.start()
    for ear in ears:
        ear.join()
    return found


def _start(
    path: str, name: str, kinds: str, count: int, seed: int, uid: int
) -> subprocess.Popen[str]:
    words = [str(TESTS / "lives_on_host.py"), path, name, kinds, str(count), str(seed)]
    own: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": [GROUP]} if uid else {}
    return subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **own
    )


def _in_detail(verdict: Verdict, case: Case) -> list[str]:
    """All that was said of the containers that something is wrong with."""
    wrong = "\n".join(verdict.faults)
    lines = []
    for event in case.witness["events"]:
        name = event["Actor"]["ID"][:12]
        if name in wrong:
            lines.append((event["timeNano"] / 1e9, f"{name} engine: {event['Action']}"))
    for one in case.told:
        if str(one["details"].get("id"))[:12] in wrong:
            when = datetime.fromisoformat(one["timestamp"].replace("Z", "+00:00")).timestamp()
            lines.append((when, f"{one['details']['id'][:12]} log: {json.dumps(one)}"))
    lines += [(kill.began, f"{kill.unit} killed, back {kill.ready:.3f}") for kill in case.kills]
    return [f"{when:.3f} {text}" for when, text in sorted(lines)]


def settle(host: SmallHost) -> float:
    """Wait until what is published is what the engine has; seconds that it took."""
    began = time.monotonic()

    def settled() -> bool:
        _status, boxes = host.engine("GET", "/containers/json?all=1")
        there = [
            {
                "id": box["Id"],
                "name": box["Names"][0].lstrip("/"),
                "state": box["State"],
                "labels": box["Labels"],
            }
            for box in boxes
        ]
        published, view = json.loads(OWNERS.read_text()), json.loads(VIEW.read_text())
        return not truth(Case({"containers": there}, [], published, view))

    wait_until(settled, SETTLE_S, pause=0.2)
    took = time.monotonic() - began
    time.sleep(1.0)  # for the last events
    return took


def gone() -> dict[str, tuple[str, str]]:
    """Containers that the store remembers as gone."""
    # Late, so that this module can be imported by those who only read it.
    from ds01.core.owner_book import OwnerBook
    from ds01.core.owners import CONTAINER
    from ds01.core.store import open_store

    book = OwnerBook(open_store(str(STORE)))
    return {
        record.id: (record.owner.user, record.owner.method)
        for record in book.records(CONTAINER, gone=True)
        if record.gone is not None
    }


def summary(
    led: Sequence[dict[str, Any]], kills: Sequence[Kill], seconds: float, settled: float, case: Case
) -> str:
    """For people."""
    kinds = Counter(str(life.get("kind", "?")) for life in led)
    tries = sum(len(life.get("tries", ())) for life in led)
    lines = [
        f"{len(led):,} lives of containers by {len(USERS)} users and root, {seconds:,.0f} s: "
        + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()),
        *(
            f"{unit} killed {len(times)} times, back after {max(times):.2f} s at most"
            for unit in PAUSES
            if (times := [kill.ready - kill.began for kill in kills if kill.unit == unit])
        ),
        f"steps of clients that a kill cut, taken again: {tries}",
        f"published as the engine has it {settled:.1f} s after the last life",
        f"containers at the end: {len(case.witness['containers'])}; remembered as gone: {len(case.gone)}",
    ]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run, print the summary; 1 where something was wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lives", type=int, default=150)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args(words)
    if not chosen.inside:
        again = ["--inside", "--lives", str(chosen.lives), "--seed", str(chosen.seed)]
        command = inside("soak.owner_lives", *again)
        return subprocess.run(command, env=environment(), check=False).returncode
    enter()
    verdict, told = run(chosen.lives, chosen.seed)
    print(told, verdict.text(), sep="\n")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
