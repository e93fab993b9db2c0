# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a durable decision on GPUs takes, beside flock and a JSON file that keep the same books.

Usage: ``PYTHONPATH=files/runtime:tests python tests/bench/bench_leases.py [--write]``

64 slots, 200 users, half of the slots leased. One round: a request until its reservation is on the
disk and its lease file is there; bind; and the end. State on the disk of the temporary folder, lease
files on a tmpfs, as /run is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ds01.core import book_rows, store
from ds01.core.book import Book
from ds01.core.book_clock import host_clock
from ds01.core.gpu_settings import GpuSettings
from ds01.core.lease_files import LeaseFiles
from ds01.core.leases import FREE, Allowance, Ask, Lease, Refused
from json_book import JsonBook
from report import machine, table, write_section
from soak.gpus import many_gpus, user, vendor_spec

SLOTS = 64
USERS = 200
ENDED = (10, 100, 1_000, 10_000)
ROUNDS = 400
WAITING = 50
"""Requests in the queue, in the measurement that has one."""
MEMORY = Path("/dev/shm")
BUDGET_MS = 10.0


@dataclass
class Times:
    """Seconds of each operation."""

    of: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, name: str, action: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call it and keep how long it took."""
        start, busy = time.perf_counter(), time.process_time()
        result = action(*given, **named)
        self.of.setdefault(name, []).append(time.perf_counter() - start)
        self.of.setdefault(f"{name} CPU", []).append(time.process_time() - busy)
        return result

    def ms(self, name: str, part: float) -> float:
        """A quantile in milliseconds."""
        times = sorted(self.of[name])
        return times[min(len(times) - 1, int(part * len(times)))] * 1000


class NoEngine:
    """An engine without containers."""

    def containers_of(self, _lease_id: str) -> tuple[()]:
        """None."""
        return ()


# Users whom the host limits before their quota does.
USERS_OF_HOST = [
    user(n, max_gpu_equivalents=2.0, max_mig_instances=4, priority=10 * (n % 3))
    for n in range(USERS)
]


def open_book(top: Path, cdi: Path, ended: int) -> Book:
    """A book with so many ended leases whose containers are still there."""
    found = many_gpus(SLOTS)
    vendor = vendor_spec(found, "/dev/bench/")
    path = str(top / "state.db")
    store.migrate(path)
    opened = store.open_store(path)
    book = Book(
        opened,
        LeaseFiles(lambda: vendor, str(cdi)),
        host_clock,
        GpuSettings(reservation_seconds=86_400.0),
        str(top / "events.jsonl"),
        "bench",
        settle_seconds=0.0,
    )
    book.reconcile(found, [], [])
    with opened.transaction() as connection:
        for number in range(ended):
            slot = found.slots[number % SLOTS].uuid
            lease = Lease(f"e{number}", 10_000, "user0", FREE, (slot,), 0.0, container=f"c{number}")
            book_rows.put_lease(connection, lease)
    return book


def measure_book(ended: int, waiting: int = 0) -> Times:
    """ds01's book."""
    times, rng = Times(), random.Random(1)
    with ExitStack() as stack:
        top, cdi = _folders(stack)
        book = open_book(top, cdi, ended)
        _fill(lambda: book.request(Ask(), rng.choice(USERS_OF_HOST), queue=False), SLOTS // 2)
        if waiting:
            _fill(lambda: book.request(Ask(), rng.choice(USERS_OF_HOST), queue=False), SLOTS)
            _fill(lambda: book.request(Ask(), rng.choice(USERS_OF_HOST)), waiting)
        for _round in range(ROUNDS):
            if waiting:
                _round_with_a_queue(book, times, rng)
                continue
            outcome = _granted(times, lambda one: book.request(Ask(), one, queue=False), rng)
            lease = outcome.granted.id
            name = secrets.token_hex(32)
            times.measure("bind", book.bind, lease, name, "box")
            times.measure("end", _end, book, lease, name)
        book.store.close()
    return times


def _granted(times: Times, action: Callable[[Allowance], Any], rng: random.Random) -> Any:
    """What the first user gets who may have something; the next one is asked otherwise."""
    while True:
        try:
            return times.measure("request", action, rng.choice(USERS_OF_HOST))
        except (Refused, LookupError):
            continue


def _round_with_a_queue(book: Book, times: Times, rng: random.Random) -> None:
    """A lease ends, its slot goes to the head of the queue, somebody new joins."""
    lease = rng.choice([one for one in book.snapshot(eta=False).leases if one.holding])
    times.measure("end", _end, book, lease.id, lease.container)
    with contextlib.suppress(Refused):
        times.measure("request", book.request, Ask(), rng.choice(USERS_OF_HOST))


def _end(book: Book, lease: str, container: str) -> None:
    """Both steps, without the pause between them."""
    if container:
        book.container_gone(lease, container)
    else:
        book.cancel(lease, "the bench")
    book.finish(NoEngine())
    book.finish(NoEngine())


def measure_json(ended: int) -> Times:
    """The reference."""
    times, rng = Times(), random.Random(1)
    found = many_gpus(SLOTS)
    edits = {
        device["name"]: device["containerEdits"]
        for device in vendor_spec(found, "/dev/bench/")["devices"]
    }
    with ExitStack() as stack:
        top, cdi = _folders(stack)
        book = JsonBook(top, cdi, found.slots, edits)
        row = {"uid": 10_000, "user": "user0", "state": FREE, "slots": [found.slots[0].uuid]}
        row |= {"created": 0.0, "container": secrets.token_hex(32)}
        book.fill([row] * ended)
        _fill(lambda: book.request(rng.choice(USERS_OF_HOST)), SLOTS // 2)
        for _round in range(ROUNDS if ended < 1_000 else ROUNDS // 4):
            lease = _granted(times, book.request, rng)
            name = secrets.token_hex(32)
            times.measure("bind", book.bind, lease, name)
            times.measure("end", book.end, lease)
        book.close()
    return times


def _folders(stack: ExitStack) -> tuple[Path, Path]:
    top = stack.enter_context(tempfile.TemporaryDirectory(prefix="ds01-bench-"))
    cdi = stack.enter_context(tempfile.TemporaryDirectory(prefix="ds01-bench-", dir=MEMORY))
    return Path(top), Path(cdi)


def _fill(action: Callable[[], Any], times: int) -> None:
    """Some of these may be refused; that is no matter."""
    for _time in range(times):
        with contextlib.suppress(Refused, LookupError):
            action()


def rows(ours: dict[int, Times], theirs: dict[int, Times], queued: Times) -> list[list[str]]:
    """The table's lines."""
    lines = []
    for name, words in (("request", "request → reserved"), ("bind", "bind"), ("end", "end")):
        for who, found in (("ds01", ours), ("reference: flock and JSON", theirs)):
            cells = [_cell(times, name) for times in found.values()]
            lines.append([f"{who}: {words}, ms", *cells])
        ratios = [f"{ours[n].ms(name, 0.99) / theirs[n].ms(name, 0.99):.2f}" for n in ENDED]
        lines.append([f"ratio of the p99: {words}", *ratios])
    for name, words in (("request", "request → queued"), ("end", "end → the next has it")):
        cell = _cell(queued, name)
        lines.append([f"ds01, {WAITING} waiting: {words}, ms", "", cell, "", ""])
    return lines


def _cell(times: Times, name: str) -> str:
    parts = (times.ms(name, 0.5), times.ms(name, 0.99), times.ms(f"{name} CPU", 0.5))
    return " / ".join(f"{part:.1f}" for part in parts)


def _alone() -> str:
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        return ", scheduled before all other work (chrt -f)"
    return ""


def main() -> None:
    """Measure, print, and with ``--write`` put the table into docs/benchmarks.md."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    chosen = options.parse_args()
    ours = {ended: measure_book(ended) for ended in ENDED}
    theirs = {ended: measure_json(ended) for ended in ENDED}
    queued = measure_book(100, WAITING)
    worst = max(ours[ended].ms("request", 0.99) for ended in ENDED)
    least = min(ours[ended].ms("request", 0.99) for ended in ENDED)
    text = "\n".join(
        [
            "## A durable decision on GPUs",
            "",
            f"On the controller: {machine()}. {SLOTS} slots, half of them leased, {USERS} users; wall "
            f"time, p50 / p99 / p50 of the CPU time alone, {ROUNDS} rounds in one process, state on "
            "disk (fsync included), "
            f"lease files on a tmpfs{_alone()}. Columns: ended leases whose "
            "containers still exist. An end is both of its steps, without "
            "the second that the book waits between them.",
            "",
            table(("", *(f"{ended:,}" for ended in ENDED)), rows(ours, theirs, queued)),
            "",
            f"The budget of a decision is {BUDGET_MS:.0f} ms at p99; it takes {worst:.1f} ms at most, "
            f"and from {ENDED[0]:,} to {ENDED[-1]:,} containers {worst / least:.1f} times its least.",
        ]
    )
    print(text)
    if chosen.write:
        write_section("leases", text)


if __name__ == "__main__":
    main()
