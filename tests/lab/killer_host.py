# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills units at random while lives go on, as root on the host.

``python3 killer_host.py SEED UNIT=FROM,TO,MOST …``: FROM and TO say for how many lives a unit is left alone,
MOST how often it is killed in all. Each line of the input is a life that is over. When the input has
ended and all units serve again, it writes a JSON list of what it killed: unit, when, and when the next
one served.
"""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import threading
import time

BACK_S = 120.0


class Killer:
    """Kills one unit again and again."""

    def __init__(self, word: str, seed: str) -> None:
        self.unit, _equals, numbers = word.partition("=")
        self._low, self._high, self._left = (int(number) for number in numbers.split(","))
        self._rng = random.Random(seed + self.unit)
        self.lives: queue.Queue[bool] = queue.Queue()
        self.kills: list[tuple[str, float, float]] = []
        self.thread = threading.Thread(target=self._go_on)
        self.thread.start()

    def _wait(self) -> bool:
        """Wait for some lives; False when they have ended."""
        lives = self._rng.randint(self._low, self._high)
        return all(self.lives.get() for _life in range(lives))

    def _go_on(self) -> None:
        while self._left and self._wait():
            time.sleep(self._rng.uniform(0.0, 2.0))
            former = self._main()
            began = time.time()
            subprocess.run(["systemctl", "kill", "-s", "KILL", self.unit], check=True)
            end = time.monotonic() + BACK_S
            # Another process than before that systemd takes for ready.
            while self._main() in ("0", former) or not self._active():
                if time.monotonic() > end:
                    raise RuntimeError(f"{self.unit} does not come back")
                time.sleep(0.2)
            self._left -= 1
            self.kills.append((self.unit, began, time.time()))

    def _main(self) -> str:
        words = ["systemctl", "show", "-P", "MainPID", self.unit]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    def _active(self) -> bool:
        words = ["systemctl", "is-active", "--quiet", self.unit]
        return subprocess.run(words, check=False).returncode == 0


def main(words: list[str]) -> None:
    """Kill until the input ends."""
    killers = [Killer(word, words[0]) for word in words[1:]]
    for _line in sys.stdin:
        for killer in killers:
            killer.lives.put(True)
    for killer in killers:
        killer.lives.put(False)
        killer.thread.join()
    print(json.dumps([kill for killer in killers for kill in killer.kills]))


if __name__ == "__main__":
    main(sys.argv[1:])
