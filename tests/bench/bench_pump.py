# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast bytes go through the pump, beside a bare socket pair, HAProxy, and a loop of recv and send.

Usage: ``PYTHONPATH=files/runtime:tests python tests/bench/bench_pump.py [--write]``

One stream from engine to client, sender and receiver in processes of their own. HAProxy, where it is
installed, in TCP mode from unix socket to unix socket. Then eight streams at once.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ds01.pump.wire import DOWN
from pump_service import Gateway, StandIn, cpu_seconds, resident, until
from report import machine, table, write_section

SIZE = 2 << 30
ROUNDS = 5
CHUNK = 256 * 1024
Pair = tuple[socket.socket, socket.socket]

HAPROXY = """
defaults
    mode tcp
    timeout client 1m
    timeout server 1m
    timeout connect 5s
global
    nbthread 1
frontend door
    bind unix@{folder}/door
    default_backend engine
backend engine
    server engine unix@{folder}/engine
"""


def child(work: Callable[[], object]) -> int:
    """A process that does it and ends."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def flood(sink: socket.socket, size: int) -> None:
    """Send that many bytes, then close."""
    data = bytes(CHUNK)
    for _unused in range(size // CHUNK):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_RDWR)


def swallow(source: socket.socket) -> int:
    """Read to the end; how many bytes."""
    view, count = bytearray(CHUNK), 0
    while got := source.recv_into(view):
        count += got
    return count


def seconds_of(make: Callable[[], Pair], streams: int, size: int) -> float:
    """Wall time for that many streams of that size at once."""
    pairs = [make() for _unused in range(streams)]
    for client, _engine in pairs:
        client.settimeout(None)
    start = time.perf_counter()
    children = []
    for _client, engine in pairs:
        engine.settimeout(None)
        children.append(child(partial(flood, engine, size)))
        engine.close()
    for client, _engine in pairs[1:]:
        children.append(child(partial(swallow, client)))
    if swallow(pairs[0][0]) != size:
        raise SystemExit("bytes were lost")
    for pid in children:
        os.waitpid(pid, 0)
    for client, _engine in pairs:
        client.close()
    return time.perf_counter() - start


@contextmanager
def direct() -> Iterator[tuple[Callable[[], Pair], int]]:
    """Nothing between the two."""
    yield socket.socketpair, 0


@contextmanager
def pump() -> Iterator[tuple[Callable[[], Pair], int]]:
    """The pump, with a stand-in for systemd's store."""
    with tempfile.TemporaryDirectory() as folder:
        systemd = StandIn(Path(folder))
        pid = systemd.start().pid
        gateway = Gateway(systemd.path)
        gateway.next()

        def make() -> Pair:
            pair = gateway.stream(DOWN)
            while "taken" not in gateway.next():
                pass
            return pair

        yield make, pid
        gateway.close()
        systemd.close()


@contextmanager
def recv_send() -> Iterator[tuple[Callable[[], Pair], int]]:
    """A loop of recv_into and send in a process of its own, for one stream after another."""
    ours, theirs = socket.socketpair()
    pid = child(lambda: (ours.close(), relay(theirs)))  # type: ignore[func-returns-value]
    theirs.close()

    def make() -> Pair:
        client, client_far = socket.socketpair()
        engine, engine_far = socket.socketpair()
        socket.send_fds(ours, [b"x"], [client.fileno(), engine.fileno()])
        client.close()
        engine.close()
        return client_far, engine_far

    yield make, pid
    ours.close()
    os.waitpid(pid, 0)


def relay(orders: socket.socket) -> None:
    """The least that a relay in Python does: wait, recv, send, without blocking."""
    view = memoryview(bytearray(CHUNK))
    poll = select.epoll()
    poll.register(orders.fileno(), select.EPOLLIN)
    ways: dict[int, Pair] = {}
    while True:
        for number, _mask in poll.poll():
            if number == orders.fileno():
                _unused, got, _unused, _unused = socket.recv_fds(orders, 10, 2)
                if len(got) < 2:
                    return
                client, engine = (socket.socket(fileno=fd) for fd in got)
                engine.setblocking(False)
                ways[engine.fileno()] = client, engine
                poll.register(engine.fileno(), select.EPOLLIN)
                continue
            client, engine = ways[number]
            with suppress(BlockingIOError):
                if count := engine.recv_into(view):
                    client.sendall(view[:count])
                    continue
                poll.unregister(number)
                del ways[number]
                client.close()
                engine.close()


@contextmanager
def haproxy() -> Iterator[tuple[Callable[[], Pair], int]]:
    """HAProxy with one thread."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as engine:
        engine.bind(f"{folder}/engine")
        engine.listen()
        Path(folder, "conf").write_text(HAPROXY.format(folder=folder))
        program = shutil.which("haproxy") or "/usr/sbin/haproxy"
        process = subprocess.Popen([program, "-q", "-f", f"{folder}/conf"])
        until(lambda: Path(folder, "door").exists())

        def make() -> Pair:
            client = socket.socket(socket.AF_UNIX)
            client.connect(f"{folder}/door")
            return client, engine.accept()[0]

        yield make, process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()


def measure(streams: int) -> list[list[str]]:
    """One row a way, in rounds that take turns, so that other load meets all of them."""
    ways = {"bare socket pair": direct, "pump (splice)": pump, "recv and send": recv_send}
    if shutil.which("haproxy") or os.path.exists("/usr/sbin/haproxy"):
        ways["HAProxy, TCP mode"] = haproxy
    times: dict[str, list[float]] = {name: [] for name in ways}
    busy = dict.fromkeys(ways, 0.0)
    memory = dict.fromkeys(ways, 0)
    for _unused in range(ROUNDS):
        for name, way in ways.items():
            with way() as (make, pid):
                before = cpu_seconds(pid) if pid else 0.0
                times[name].append(seconds_of(make, streams, SIZE // streams))
                if pid:
                    busy[name] += cpu_seconds(pid) - before
                    memory[name] = resident(pid)
    best = {name: statistics.median(found) for name, found in times.items()}
    gigabytes = SIZE / 1e9
    rows = []
    for name, seconds in best.items():
        cost = f"{busy[name] / ROUNDS / gigabytes:.2f}" if busy[name] else ""
        ratio = f"{best['bare socket pair'] / seconds:.2f}"
        held = f"{memory[name] / 1e6:.0f}" if memory[name] else ""
        rows.append([name, str(streams), f"{gigabytes / seconds:.2f}", ratio, cost, held])
    return rows


def main() -> None:
    """Measure, print, and write the section when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    write = parser.parse_args().write
    head = ["way", "streams", "GB/s", "of bare", "CPU s/GB", "MB"]
    rows = table(head, measure(1) + measure(8))
    text = f"## Streams\n\n{SIZE >> 30} GiB from engine to client, median of {ROUNDS}. {machine()}.\n\n{rows}"
    print(text)
    if write:
        write_section("streams", text)


if __name__ == "__main__":
    main()
