# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: holds programs at pseudo-terminals or pipes and obeys JSON lines.

A line on standard input is an order (see the ``do_…`` functions), the line that answers it is
``{"ok": true, …}`` or ``{"ok": false, "error": …}``. The programs live until the input ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any


class Program:
    """One program with the text that it has written so far."""

    def __init__(self, argv: list[str], terminal: bool, rows: int, columns: int) -> None:
        self.text = ""
        self.seen = 0
        if terminal:
            self.reads, far = pty.openpty()
            self.writes = self.reads
            self.resize(rows, columns)
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *argv], stdin=far, stdout=far, stderr=far
            )
            os.close(far)
            return
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.writes = os.dup(self.process.stdin.fileno())
        self.process.stdin.close()
        self.reads = os.dup(self.process.stdout.fileno())
        self.process.stdout.close()

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size; the kernel tells the program by SIGWINCH."""
        fcntl.ioctl(self.reads, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, end: float) -> bool:
        """Take what comes before ``end`` (monotonic seconds); False when no more will come."""
        ready, _unused, _unused = select.select(
            [self.reads], [], [], max(0.0, end - time.monotonic())
        )
        if not ready:
            return True
        try:
            data = os.read(self.reads, 65536)
        except OSError:  # a terminal whose last process is gone answers EIO
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


programs: dict[str, Program] = {}


def do_start(order: dict[str, Any]) -> dict[str, Any]:
    """Start ``argv`` under ``name``."""
    programs[order["name"]] = Program(
        order["argv"], order["terminal"], order["rows"], order["columns"]
    )
    return {}


def do_send(order: dict[str, Any]) -> dict[str, Any]:
    """Type ``text``."""
    os.write(programs[order["name"]].writes, order["text"].encode())
    return {}


def do_close(order: dict[str, Any]) -> dict[str, Any]:
    """End the input of a program at pipes."""
    os.close(programs[order["name"]].writes)
    return {}


def do_resize(order: dict[str, Any]) -> dict[str, Any]:
    """Give the terminal ``rows`` and ``columns``."""
    programs[order["name"]].resize(order["rows"], order["columns"])
    return {}


def do_expect(order: dict[str, Any]) -> dict[str, Any]:
    """Wait ``seconds`` for ``pattern`` in what was not yet looked at; answers the match."""
    program = programs[order["name"]]
    end = time.monotonic() + order["seconds"]
    more = True
    while True:
        found = re.search(order["pattern"], program.text[program.seen :])
        if found:
            program.seen += found.end()
            return {"match": found.group(0), "groups": list(found.groups())}
        if not more or time.monotonic() > end:
            raise LookupError(f"no {order['pattern']!r} in {program.text[program.seen :]!r}")
        more = program.read_until(end)


def do_wait(order: dict[str, Any]) -> dict[str, Any]:
    """Wait ``seconds`` for the program's end; answers its exit code and all its text."""
    program = programs[order["name"]]
    end = time.monotonic() + order["seconds"]
    while program.read_until(end) and time.monotonic() < end:
        pass
    code = program.process.wait(max(0.1, end - time.monotonic()))
    return {"rc": code, "text": program.text}


def do_signal(order: dict[str, Any]) -> dict[str, Any]:
    """Send the program signal ``number``."""
    programs[order["name"]].process.send_signal(order["number"])
    return {}


def main() -> None:
    """Obey until the input ends, then end what still runs."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"ok": True, **globals()[f"do_{order['do']}"](order)}
        except (OSError, LookupError, subprocess.TimeoutExpired) as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    for program in programs.values():
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    main()
