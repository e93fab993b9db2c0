# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 gpu``: who has which GPU, asking for one, giving it back."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from ds01 import client
from ds01.cli import gpu_text
from ds01.cli.output import Exit, Output, printable
from ds01.client import DaemonDown, DaemonError
from ds01.core.errors import Ds01Error, InputError, Problem
from ds01.core.units import UnitError, parse_duration
from ds01.daemon import protocol

PATIENCE_SECONDS = 2.0
_EXITS = {
    protocol.REFUSED: Exit.REFUSED,
    protocol.NOT_ALLOWED: Exit.REFUSED,
    protocol.NO_GPU: Exit.NO_GPU,
    protocol.NOT_FOUND: Exit.INPUT,
    protocol.BAD_REQUEST: Exit.INPUT,
    protocol.FAULT: Exit.BUG,
}


class _TimeUp(Exception):
    """The wait has lasted as long as its caller wanted."""


class NoGpu(Ds01Error):
    """A wait that ended without a GPU."""

    exit_code = Exit.NO_GPU


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """The daemon's errors with the exit code that belongs to them."""
    try:
        yield
    except DaemonError as error:
        error.exit_code = _EXITS.get(error.code, Exit.HOST)
        raise


@contextlib.contextmanager
def patience(words: str = "waiting for ds01d ...") -> Iterator[None]:
    """Says what is waited for when it takes longer than a moment."""
    timer = threading.Timer(PATIENCE_SECONDS, lambda: print(f"ds01: {words}", file=sys.stderr))
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def ask(verb: str, waiting: str = "waiting for ds01d ...", **fields: Any) -> dict[str, Any]:
    """The daemon's answer; root gets it from the store when the daemon is down, and is told so.

    :param waiting: what to say when it takes longer than a moment.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    with exits(), patience(waiting):
        try:
            return client.ask(verb, path=protocol.SOCKET_PATH, **given)
        except DaemonDown as down:
            if os.geteuid() != 0:
                raise
            from ds01.daemon.local import answer

            print(f"ds01: {printable(down.what)}: read from the store", file=sys.stderr)
            return answer(verb, given)


def status(options: argparse.Namespace, output: Output) -> int:
    """``gpu status``."""
    found = ask("status", user=options.user)
    return _answer(found, output, lambda: gpu_text.show_status(found, output))


def queue(_options: argparse.Namespace, output: Output) -> int:
    """``gpu queue``."""
    found = ask("queue")
    return _answer(found, output, lambda: gpu_text.show_queue(found, output))


def release(options: argparse.Namespace, output: Output) -> int:
    """``gpu release``."""
    found = ask("release", lease=options.lease)
    return _answer(
        found, output, lambda: output.line(f"Given back: {gpu_text.slots_of(found['released'])}")
    )


def drain(options: argparse.Namespace, output: Output) -> int:
    """``gpu drain``."""
    found = ask("drain", slot=options.slot, message=options.message)
    words = "is handed out no more" if found["changed"] else "was drained with these words already"
    return _answer(found, output, lambda: output.line(f"{options.slot} {words}"))


def undrain(options: argparse.Namespace, output: Output) -> int:
    """``gpu undrain``."""
    found = ask("undrain", slot=options.slot)
    words = "is handed out again" if found["changed"] else "was not drained"
    return _answer(found, output, lambda: output.line(f"{options.slot} {words}"))


def reconcile(_options: argparse.Namespace, output: Output) -> int:
    """``gpu reconcile``."""
    found = ask("reconcile")
    if output.as_json:
        output.json(found)
        return Exit.OK
    output.line(f"GPU driver: {found['driver']}; engine: {found['engine']}")
    for row in found["actions"]:
        output.line(f"  {row['kind']}: {row.get('why') or row.get('container') or row['lease']}")
    if not found["actions"]:
        output.line("Leases, containers and GPU processes agree")
    return Exit.OK


def _answer(found: Mapping[str, Any], output: Output, text: Callable[[], None]) -> int:
    """The whole answer for programs, or its text for people."""
    if output.as_json:
        output.json(found)
    else:
        text()
    return Exit.OK


def request(options: argparse.Namespace, output: Output) -> int:
    """``gpu request``."""
    fields: dict[str, Any] = {
        "count": options.count,
        "kind": options.kind,
        "devices": options.devices,
        "note": options.note,
        "wait": options.wait,
        "user": options.user,
        "lease": options.renew or None,
    }
    seconds = _seconds(options.timeout)
    live = Live(output)
    try:
        with exits(), _alarm(seconds), patience():
            given = {name: value for name, value in fields.items() if value is not None}
            found = _follow(given, live)
    except _TimeUp:
        live.end()
        what = f"no GPU became free within {options.timeout}; you have left the queue"
        raise NoGpu(what, "gpu request", "Ask again, or wait longer") from None
    except KeyboardInterrupt:
        live.end()
        if live.waited:
            print("ds01: interrupted: you have left the queue", file=sys.stderr)
        return Exit.INTERRUPTED
    except Ds01Error:
        live.end()
        raise
    live.end()
    return _answer(found, output, lambda: gpu_text.show_granted(found["granted"], output))


def _follow(fields: Mapping[str, Any], live: Live) -> dict[str, Any]:
    with contextlib.closing(client.request(path=protocol.SOCKET_PATH, **fields)) as messages:
        for message in messages:
            if "granted" in message:
                return message
            live.show(message)
    raise DaemonDown("ds01d ended the connection without an answer", protocol.SOCKET_PATH)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except UnitError as error:
        problem = Problem("error", str(error), "--timeout", "Write 30s, 10m or 2h")
        raise InputError([problem]) from None
    if not seconds:
        problem = Problem("error", "a wait of no time is --no-wait", "--timeout", "Use --no-wait")
        raise InputError([problem])
    return float(seconds)


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Ends what is inside with :class:`_TimeUp` after that time."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TimeUp

    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Live:
    """How a wait stands: one line that changes on a terminal, else a line for each change.

    It goes to standard error, so that the result can be read by a program.
    """

    def __init__(self, output: Output) -> None:
        self._terminal = sys.stderr.isatty() and not output.as_json
        self._quiet = output.as_json
        self._last = ""
        self.waited = False

    def show(self, message: Mapping[str, Any]) -> None:
        """The present state."""
        self.waited = True
        text = printable(gpu_text.waiting_words(message))
        if self._quiet or text == self._last:
            return
        self._last = text
        if self._terminal:
            width = max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._last:
            sys.stderr.write("\n")
            sys.stderr.flush()
