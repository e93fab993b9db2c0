# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pump: a real process between real sockets."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ds01.pump.wire import BOTH, DOWN, INITIAL_MAX
from pump_service import (
    Gateway,
    StandIn,
    cpu_seconds,
    descriptors_of,
    in_background,
    read_all,
    resident,
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


def test_bytes_go_both_ways_the_owed_ones_first(gateway: Gateway) -> None:
    client, engine = gateway.stream(up=b"up first, ", down=b"down first, ")
    client.sendall(b"then up")
    engine.sendall(b"then down")
    client.shutdown(socket.SHUT_WR)
    engine.shutdown(socket.SHUT_WR)
    assert read_all(engine) == b"up first, then up"
    assert read_all(client) == b"down first, then down"
    assert "taken" in gateway.next()
    ended = gateway.next()["ended"]
    assert (ended["tag"], ended["uid"], ended["why"], ended["now"]) == ("t1", 1000, "done", 0)
    assert (ended["up"], ended["down"]) == (17, 21)


def test_what_is_owed_may_be_more_than_a_pipe_usually_holds(gateway: Gateway) -> None:
    up, down = os.urandom(INITIAL_MAX), os.urandom(INITIAL_MAX)
    client, engine = gateway.stream(up=up, down=down)
    client.shutdown(socket.SHUT_WR)
    engine.shutdown(socket.SHUT_WR)
    assert read_all(engine) == up
    assert read_all(client) == down


@pytest.mark.parametrize("first", ["client", "engine"])
def test_a_half_close_is_carried_and_the_other_way_goes_on(gateway: Gateway, first: str) -> None:
    client, engine = gateway.stream()
    near, far = (client, engine) if first == "client" else (engine, client)
    near.sendall(b"last words")
    near.shutdown(socket.SHUT_WR)
    assert read_all(far) == b"last words"
    for _unused in range(3):
        far.sendall(b"still here")
        assert near.recv(100) == b"still here"
    far.close()
    assert near.recv(100) == b""


@pytest.mark.parametrize("first", ["client", "engine"])
def test_a_side_that_closes_is_gone_for_the_other(gateway: Gateway, first: str) -> None:
    client, engine = gateway.stream()
    assert "taken" in gateway.next()
    near, far = (client, engine) if first == "client" else (engine, client)
    near.close()
    assert far.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        while True:
            far.sendall(b"x")
    assert gateway.next()["ended"]["why"] == f"{first} closed"


@pytest.mark.parametrize("mode", [BOTH, DOWN])
def test_all_that_the_engine_said_before_it_closed_reaches_a_slow_client(
    gateway: Gateway, mode: str
) -> None:
    client, engine = gateway.stream(mode)
    data = os.urandom(300_000)
    sending = in_background(lambda: send_all(engine, data, half=False))
    got = b""
    while part := client.recv(7_000):
        got += part
        time.sleep(0.001)
    assert got == data
    sending.join()


def test_both_directions_at_once(gateway: Gateway) -> None:
    client, engine = gateway.stream()
    up, down = os.urandom(32 * MEGA), os.urandom(32 * MEGA)
    got: dict[str, bytes] = {}

    def side(name: str, end: socket.socket, data: bytes) -> None:
        sending = in_background(lambda: send_all(end, data))
        got[name] = read_all(end)
        sending.join()

    other = in_background(lambda: side("client", client, up))
    side("engine", engine, down)
    other.join()
    assert got["engine"] == up and got["client"] == down


def test_down_never_takes_anything_from_the_client(gateway: Gateway) -> None:
    client, engine = gateway.stream(DOWN)
    client.sendall(b"GET /smuggled HTTP/1.1\r\n\r\n")
    engine.sendall(b"event")
    assert client.recv(100) == b"event"
    assert not select.select([engine], [], [], 0.1)[0]
    client.shutdown(socket.SHUT_WR)
    assert engine.recv(100) == b""  # the half-close alone
    engine.sendall(b"last event")
    engine.close()
    assert client.recv(100) == b"last event"


def test_down_ends_with_its_client(gateway: Gateway) -> None:
    client, engine = gateway.stream(DOWN)
    client.close()
    assert engine.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        engine.sendall(b"x")
    assert "taken" in gateway.next()
    assert gateway.next()["ended"]["why"] == "client closed"


def test_stalled_and_half_closed_streams_cost_no_processor_time(
    systemd: StandIn, gateway: Gateway
) -> None:
    kept = []
    for mode in (BOTH, DOWN):
        for ends in ("nothing", "engine", "client half", "engine half"):
            client, engine = gateway.stream(mode)
            kept += [client, engine]
            engine.setblocking(False)
            with pytest.raises(
                BlockingIOError
            ):  # until nothing more goes: the client does not read
                while True:
                    engine.send(b"x" * 10_000)
                    time.sleep(0.002)
            if mode == BOTH:
                client.sendall(b"x" * 1000)
            if ends == "engine":
                engine.close()
            elif ends != "nothing":
                (client if ends == "client half" else engine).shutdown(socket.SHUT_WR)
    client, engine = gateway.stream()  # half closed, and idle
    engine.shutdown(socket.SHUT_WR)
    kept += [client, engine]
    time.sleep(0.2)
    before = cpu_seconds(pid_of(systemd))
    time.sleep(2)
    assert cpu_seconds(pid_of(systemd)) - before <= 0.05
    for end in kept:
        end.close()


def test_many_streams_leave_nothing_behind(systemd: StandIn, gateway: Gateway) -> None:
    before = descriptors_of(pid_of(systemd))
    streams = [gateway.stream(BOTH if n % 2 else DOWN, uid=n % 5) for n in range(500)]
    for _unused in streams:
        assert "taken" in gateway.next()
    systemd.settled()
    assert len(systemd.store) == 4 * 500 + 1
    idle = cpu_seconds(pid_of(systemd))
    time.sleep(1)
    assert cpu_seconds(pid_of(systemd)) - idle <= 0.05
    for client, engine in streams:
        engine.sendall(b"x")
        assert client.recv(10) == b"x"
        client.close()
        engine.close()
    ended = [gateway.next()["ended"] for _unused in streams]
    assert [e["now"] for e in ended if e["uid"] == 3] == list(range(99, -1, -1))
    until(lambda: set(systemd.store) == {"table"})
    assert descriptors_of(pid_of(systemd)) == before


def test_memory_is_flat(systemd: StandIn, gateway: Gateway) -> None:
    client, engine = gateway.stream()
    engine.sendall(b"x")
    client.recv(1)
    before = resident(pid_of(systemd))
    sending = in_background(lambda: send_all(engine, bytes(MEGA), 1024, half=False))
    count, most, view = 0, 0, bytearray(MEGA)
    while got := client.recv_into(view):
        count += got
        if count % 64 < 16:
            most = max(most, resident(pid_of(systemd)))
    sending.join()
    assert count == 1024 * MEGA
    assert most - before < 2 * MEGA


# --- the life of the service ----------------------------------------------------------------------


def test_drained_it_takes_nothing_new_and_ends_with_its_last_stream(
    systemd: StandIn, gateway: Gateway
) -> None:
    client, engine = gateway.stream()
    assert "taken" in gateway.next()
    assert systemd.process is not None
    systemd.process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    late, _unused = gateway.stream()
    assert late.recv(10) == b""
    assert gateway.next()["ended"]["why"] == "refused: the pump takes no more streams"
    engine.sendall(b"x")
    assert client.recv(10) == b"x"
    assert systemd.process.poll() is None
    client.close()
    engine.close()
    assert systemd.process.wait(10) == 77


def test_without_its_socket_it_moves_what_is_left_to_its_end(
    systemd: StandIn, gateway: Gateway
) -> None:
    client, engine = gateway.stream()
    assert "taken" in gateway.next()
    systemd.kill()
    systemd.settled()
    process = systemd.start(listens=False)
    engine.sendall(b"x")
    assert client.recv(10) == b"x"
    client.close()
    engine.close()
    assert process.wait(10) == 77


def test_it_ends_by_itself_when_another_release_is_in_force(
    systemd: StandIn, tmp_path: Path
) -> None:
    systemd.kill()
    link = tmp_path / "current"
    link.symlink_to("one")
    process = systemd.start("--release", str(link))
    (tmp_path / "next").symlink_to("two")
    os.rename(tmp_path / "next", link)
    assert process.wait(10) == 0


def test_a_gateway_that_does_not_read_harms_nobody(systemd: StandIn, gateway: Gateway) -> None:
    idle = Gateway(systemd.path)
    client, engine = gateway.stream()
    assert "taken" in gateway.next()
    for _unused in range(700):  # more than the socket of one that does not read holds
        one, other = gateway.stream()
        one.close()
        other.close()
        assert "taken" in gateway.next() and "ended" in gateway.next()
    engine.sendall(b"x")
    assert client.recv(10) == b"x"
    idle.close()


def test_without_a_socket_it_says_how_it_is_started(capfd: pytest.CaptureFixture[str]) -> None:
    from ds01.pump.main import run

    assert run([]) == 2
    assert "systemctl start ds01-pump.socket" in capfd.readouterr().err
