"""Progress lines: nobody looks at a silent terminal for more than a few seconds."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

TICK_SECONDS = 10.0


def say(text: str) -> None:
    """Print one line at once (stderr, so that stdout stays the command's answer)."""
    print(text, file=sys.stderr, flush=True)


class Step:
    """A piece of work with its name, a sign of life every ten seconds, and its duration."""

    def __init__(self, name: str, expect: str = "") -> None:
        self.name = name
        self.expect = f" (about {expect})" if expect else ""
        self.started = 0.0
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            say(f"lab:   … {self.name}, {self.elapsed:.0f} s")

    def __enter__(self) -> Step:
        self.started = time.monotonic()
        say(f"lab: {self.name}{self.expect}")
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._ticker.join()
        word = "done" if kind is None else "FAILED"
        say(f"lab:   {word}: {self.name}, {self.elapsed:.1f} s")
