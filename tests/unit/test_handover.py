# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's side of the pump, against a real pump process that comes and goes."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ds01.gateway.handover import Ended, Pump
from ds01.pump.wire import BOTH, DOWN, INITIAL_MAX, BadMessage
from pump_service import StandIn, read_all


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.close()


@asynccontextmanager
async def connected(path: str) -> AsyncIterator[tuple[Pump, list[Ended]]]:
    ends: list[Ended] = []
    pump = Pump(path, ends.append)
    pump.start()
    yield pump, ends
    pump.close()


async def until(said: Callable[[], Any]) -> None:
    limit = time.monotonic() + 20
    while not said():
        assert time.monotonic() < limit, "it did not become so in time"
        await asyncio.sleep(0.005)


def is_ready(pump: Pump) -> bool:
    return pump.ready


Far = tuple[socket.socket, socket.socket]


@pytest.fixture
def give() -> Iterator[Callable[..., Far]]:
    """Hands a new stream over; its far ends, the client's and the engine's."""
    made: list[socket.socket] = []

    def one(pump: Pump, uid: int = 1000, tag: str = "t", mode: str = BOTH, **owed: bytes) -> Far:
        client, client_far = socket.socketpair()
        engine, engine_far = socket.socketpair()
        pump.hand_over(client, engine, mode=mode, uid=uid, tag=tag, **owed)
        for far in (client_far, engine_far):
            far.settimeout(10)
            made.append(far)
        return client_far, engine_far

    yield one
    for far in made:
        far.close()


def run(case: Callable[[], Any]) -> None:
    asyncio.run(case())


def test_a_stream_goes_over_and_its_end_is_heard_of(
    systemd: StandIn, give: Callable[..., Far]
) -> None:
    systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (pump, ends):
            client, engine = give(pump, tag="attach-1", up=b"hello ", down=b"welcome ")
            assert pump.ready and pump.streams_of(1000) == 1 and pump.streams_of(7) == 0
            assert await pump.settle(10)
            assert pump.streams_of(1000) == 1
            client.sendall(b"engine")
            engine.sendall(b"client")
            client.shutdown(socket.SHUT_WR)
            engine.shutdown(socket.SHUT_WR)
            assert read_all(engine) == b"hello engine"
            assert read_all(client) == b"welcome client"
            await until(lambda: ends)
            (end,) = ends
            assert (end.tag, end.uid, end.why) == ("attach-1", 1000, "done")
            assert (end.up_bytes, end.down_bytes) == (12, 14)
            assert pump.streams_of(1000) == 0

    run(case)


def test_no_pump_is_not_ready_and_streams_wait_for_one(
    tmp_path: Path, give: Callable[..., Far]
) -> None:
    async def case() -> None:
        async with connected(str(tmp_path / "pump.sock")) as (pump, _ends):
            assert not is_ready(pump)
            _client, engine = give(pump, up=b"waited")
            assert pump.streams_of(1000) == 1
            assert not await pump.settle(0.05)
            stand_in = StandIn(tmp_path)
            try:
                await asyncio.to_thread(stand_in.start)
                assert await pump.settle(10)
                assert is_ready(pump)
                assert engine.recv(10) == b"waited"
            finally:
                await asyncio.to_thread(stand_in.close)

    run(case)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_hand_overs_while_the_pump_restarts_are_neither_lost_nor_doubled(
    systemd: StandIn, give: Callable[..., Far], how: int
) -> None:
    systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (pump, ends):
            await until(lambda: pump.ready)
            made: list[tuple[int, Far]] = []
            ending = False

            async def keep_giving() -> None:
                while not ending:
                    number = len(made)
                    made.append((number, give(pump, tag=f"n{number}", up=b"%d." % number)))
                    await asyncio.sleep(random.uniform(0, 0.003))

            giving = asyncio.create_task(keep_giving())
            for _unused in range(6):
                await asyncio.sleep(random.uniform(0.01, 0.1))
                await asyncio.to_thread(systemd.kill, how)
                await asyncio.to_thread(systemd.settled)
                await asyncio.to_thread(systemd.start)
            ending = True
            await giving
            assert await pump.settle(20)
            assert pump.streams_of(1000) == len(made) > 30
            for number, (client, engine) in made:
                client.sendall(b"more")
                client.shutdown(socket.SHUT_WR)
                engine.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(read_all, engine) == b"%d.more" % number
            await until(lambda: len(ends) >= len(made))
            assert sorted(end.tag for end in ends) == sorted(f"n{n}" for n, _unused in made)
            assert {end.why for end in ends} == {"done"}
            assert pump.streams_of(1000) == 0

    run(case)


def test_a_second_gateway_knows_the_first_ones_streams_and_hears_of_their_ends(
    systemd: StandIn, give: Callable[..., Far]
) -> None:
    systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (first, _unused):
            client, engine = give(first, uid=5, tag="kept", mode=DOWN)
            assert await first.settle(10)
        async with connected(systemd.path) as (second, ends):
            await until(lambda: second.streams_of(5) == 1)
            engine.sendall(b"after the gateway")
            engine.close()
            assert await asyncio.to_thread(read_all, client) == b"after the gateway"
            await until(lambda: ends)
            assert ends[0].tag == "kept" and second.streams_of(5) == 0

    run(case)


def test_an_end_that_no_gateway_heard_is_told_to_the_next(
    systemd: StandIn, give: Callable[..., Far]
) -> None:
    systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (first, _unused):
            client, engine = give(first, tag="unheard")
            assert await first.settle(10)
        await asyncio.sleep(0.1)
        engine.close()
        client.close()
        await asyncio.sleep(0.1)
        async with connected(systemd.path) as (_second, ends):
            await until(lambda: ends)
            assert ends[0].tag == "unheard"

    run(case)


def test_many_large_hand_overs_at_once_wait_their_turn(
    systemd: StandIn, give: Callable[..., Far]
) -> None:
    systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (pump, _ends):
            up, down = random.randbytes(INITIAL_MAX), random.randbytes(INITIAL_MAX)
            made = [give(pump, up=up, down=down) for _unused in range(20)]
            assert await pump.settle(20)
            for client, engine in made:
                client.shutdown(socket.SHUT_WR)
                engine.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(read_all, engine) == up
                assert await asyncio.to_thread(read_all, client) == down

    run(case)


def test_a_refused_stream_is_heard_of(systemd: StandIn, give: Callable[..., Far]) -> None:
    process = systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (pump, ends):
            keeps_it_alive, _unused = give(pump)
            assert await pump.settle(10)
            process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(0.2)
            client, _engine = give(pump, uid=9, tag="late")
            await until(lambda: ends)
            assert ends[0].tag == "late" and ends[0].why.startswith("refused: ")
            assert pump.streams_of(9) == 0
            assert client.recv(10) == b""
            keeps_it_alive.close()

    run(case)


def test_what_cannot_be_handed_over_stays_the_callers(systemd: StandIn) -> None:
    systemd.start()

    async def case() -> None:
        async with connected(systemd.path) as (pump, _ends):
            client, engine = socket.socketpair()
            with pytest.raises(BadMessage):
                pump.hand_over(client, engine, mode="up", uid=1, tag="t")
            client.sendall(b"x")
            assert engine.recv(1) == b"x" and pump.streams_of(1) == 0
            client.close()
            engine.close()

    run(case)
