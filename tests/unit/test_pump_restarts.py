# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pump is killed and comes again: real processes, and a stand-in for systemd's store."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ds01.pump.wire import DOWN
from pump_service import (
    Gateway,
    StandIn,
    cpu_seconds,
    in_background,
    read_all,
    send_all,
    until,
)

MEGA = 1 << 20


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def gateway(systemd: StandIn) -> Iterator[Gateway]:
    made = Gateway(systemd.path)
    assert made.next() == {"streams": {}}
    yield made
    made.close()


def pid_of(systemd: StandIn) -> int:
    assert systemd.process is not None
    return systemd.process.pid


def transfer_with_kills(systemd: StandIn, gateway: Gateway, size: int, kills: int) -> None:
    up, down = os.urandom(size), os.urandom(size)
    owed = 70_000
    client, engine = gateway.stream(up=up[:owed], down=down[:owed])
    for end in (client, engine):
        end.settimeout(120)  # for all of it, with every restart
    assert "taken" in gateway.next()
    got: dict[str, bytes] = {}

    def side(name: str, end: socket.socket, data: bytes) -> None:
        sending = in_background(lambda: send_all(end, data))
        got[name] = read_all(end)
        sending.join()

    sides = [
        in_background(lambda: side("client", client, up[owed:])),
        in_background(lambda: side("engine", engine, down[owed:])),
    ]
    in_the_middle = 0
    for _unused in range(kills):
        time.sleep(random.uniform(0, 0.015))
        systemd.kill()
        in_the_middle += any(thread.is_alive() for thread in sides)
        systemd.settled()
        systemd.start()
    for thread in sides:
        thread.join(150)
    assert got["engine"] == up
    assert got["client"] == down
    assert in_the_middle >= kills * 2 // 3


def test_a_pump_that_is_killed_loses_and_doubles_nothing(
    systemd: StandIn, gateway: Gateway
) -> None:
    transfer_with_kills(systemd, gateway, 64 * MEGA, 3)
    until(lambda: set(systemd.store) == {"table"})


def test_killed_thirty_times_at_random_moments(systemd: StandIn, gateway: Gateway) -> None:
    transfer_with_kills(systemd, gateway, 256 * MEGA, 30)


def test_bytes_and_seconds_are_counted_across_a_restart(systemd: StandIn, gateway: Gateway) -> None:
    client, engine = gateway.stream(DOWN, uid=7, tag="logs-1")
    engine.sendall(b"before")
    assert client.recv(10) == b"before"
    time.sleep(0.05)
    assert systemd.kill(signal.SIGTERM) == 0
    systemd.start()
    after = Gateway(systemd.path)
    assert after.next() == {"streams": {"7": 1}}
    engine.sendall(b"after")
    engine.close()
    assert read_all(client) == b"after"
    ended = after.next()["ended"]
    assert (ended["tag"], ended["uid"], ended["down"]) == ("logs-1", 7, 11)
    assert ended["seconds"] >= 0.05
    after.close()


def test_half_closes_and_modes_survive_a_restart(systemd: StandIn, gateway: Gateway) -> None:
    client, engine = gateway.stream()
    client.shutdown(socket.SHUT_WR)
    assert engine.recv(10) == b""
    reader, talker = gateway.stream(DOWN)
    assert "taken" in gateway.next() and "taken" in gateway.next()
    systemd.kill()
    systemd.settled()
    reader.sendall(b"smuggled")
    systemd.start()
    engine.sendall(b"goes on")
    assert client.recv(10) == b"goes on"
    talker.sendall(b"this too")
    assert reader.recv(10) == b"this too"
    assert not select.select([talker], [], [], 0.1)[0]


def test_an_end_while_the_pump_is_away_is_seen(systemd: StandIn, gateway: Gateway) -> None:
    client, engine = gateway.stream(DOWN)
    assert "taken" in gateway.next()
    systemd.kill()
    systemd.settled()
    engine.sendall(b"last words")
    engine.close()
    systemd.start()
    assert read_all(client) == b"last words"
    until(lambda: set(systemd.store) == {"table"})


def test_a_set_that_is_not_complete_ends_the_stream(systemd: StandIn, gateway: Gateway) -> None:
    client, _engine = gateway.stream(tag="broken")
    assert "taken" in gateway.next()
    systemd.kill()
    systemd.settled()
    (name,) = (name for name in systemd.store if name.endswith(".e"))
    for number in systemd.store.pop(name):
        os.close(number)
    systemd.start()
    assert client.recv(10) == b""
    after = Gateway(systemd.path)
    assert after.next() == {"streams": {}}
    assert after.next()["ended"]["why"].startswith("lost")
    until(lambda: set(systemd.store) == {"table"})
    after.close()


def test_what_waits_for_a_busy_systemd_is_taken_later_and_moved_after_that(
    systemd: StandIn, gateway: Gateway
) -> None:
    systemd.stuck.set()
    time.sleep(0.1)
    pairs = [gateway.stream(up=b"owed", tag=f"t{n}") for n in range(40)]
    time.sleep(0.3)
    before = cpu_seconds(pid_of(systemd))
    time.sleep(1)
    assert cpu_seconds(pid_of(systemd)) - before < 0.3
    assert not select.select([pairs[-1][1]], [], [], 0)[0]
    systemd.stuck.clear()
    for _client, engine in pairs:
        assert engine.recv(10) == b"owed"
    assert [gateway.next()["taken"] for _unused in pairs]


def test_told_to_end_it_does_however_busy_systemd_is(systemd: StandIn, gateway: Gateway) -> None:
    systemd.stuck.set()
    time.sleep(0.1)
    pairs = [gateway.stream(up=b"owed") for _unused in range(100)]
    begin = time.monotonic()
    assert systemd.kill(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 8
    assert pairs[-1][1].recv(10) == b""  # never moved: it would be the gateway's still
    systemd.stuck.clear()
