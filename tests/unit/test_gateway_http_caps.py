# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one user may take of a running gateway, and that the others do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from gateway_client import Client, Visitor, request
from gateway_world import GatewayWorld

GREEDY, MODEST = 2001, 2002
CAPS = {
    "connections_per_user": 20,
    "requests_per_user": 4,
    "streams_per_user": 3,
    "head_seconds": 2,
}
HELD = request("/containers/held/json")
ATTACH = request(
    "/containers/hijack/attach?stream=1", "POST", b"", "Connection: Upgrade", "Upgrade: tcp"
)


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door with narrow caps."""
    with GatewayWorld(CAPS) as found:
        yield found


@pytest.fixture
def greedy(world: GatewayWorld) -> Iterator[Visitor]:
    """Who takes all he can get."""
    with world.visitor(GREEDY) as found:
        yield found


@pytest.fixture
def modest(world: GatewayWorld) -> Iterator[Visitor]:
    """Who asks now and then."""
    with world.visitor(MODEST) as found:
        yield found


def at_once(visitor: Visitor) -> bool:
    """Whether a new connection is answered, and within a second."""
    begun = time.monotonic()
    with visitor.connect() as client:
        client.send(request())
        status = client.answer().status
    return status == 200 and time.monotonic() - begun < 1.0


def close(clients: list[Client]) -> None:
    """End connections."""
    for client in clients:
        client.sock.close()


def test_connections_beyond_the_cap_are_refused_with_a_reason(
    world: GatewayWorld, greedy: Visitor, modest: Visitor
) -> None:
    clients = [greedy.connect() for _n in range(20)]
    for client in clients:
        client.send(request())
        assert client.answer().status == 200
    for _time in range(5):
        with greedy.connect() as client:
            client.send(request())
            answer = client.answer()
            assert answer.status == 503
            assert b"too many connections" in answer.body and b"Close some" in answer.body
            assert client.rest() == b""
    assert at_once(modest)
    with world.connect() as root:
        root.send(request())
        assert root.answer().status == 200
    clients[0].sock.close()
    assert world.engine.wait(lambda: at_once(greedy))
    close(clients)


def test_unfinished_requests_beyond_the_cap_wait_for_their_turn(
    world: GatewayWorld, greedy: Visitor, modest: Visitor
) -> None:
    world.engine.gate.clear()
    mark = len(world.engine.seen)
    clients = [greedy.connect() for _n in range(12)]
    for client in clients:
        client.send(HELD)

    def held() -> int:
        return sum(one.path == "/containers/held/json" for one in world.engine.seen[mark:])

    assert world.engine.wait(lambda: held() >= 4)
    for _time in range(5):
        assert at_once(modest)
    time.sleep(0.3)
    assert held() == 4
    world.engine.gate.set()
    assert [client.answer().status for client in clients] == [200] * 12
    assert held() == 12
    close(clients)


def test_who_leaves_the_queue_makes_room(world: GatewayWorld, greedy: Visitor) -> None:
    world.engine.gate.clear()
    mark = len(world.engine.seen)
    clients = [greedy.connect() for _n in range(12)]
    for client in clients:
        client.send(HELD)
    assert world.engine.wait(lambda: len(world.engine.seen) >= mark + 4)
    close(clients)
    time.sleep(0.2)
    world.engine.gate.set()
    assert world.engine.wait(lambda: at_once(greedy))


def test_a_slow_head_costs_only_who_sends_it(
    world: GatewayWorld, greedy: Visitor, modest: Visitor
) -> None:
    clients = [greedy.connect() for _n in range(19)]
    for client in clients:
        client.send(b"GET /containers/x/json HTTP/1.1\r\n")
    assert at_once(modest)
    statuses = [client.answer().status for client in clients]
    assert statuses == [408] * 19
    assert all(client.ended() for client in clients)
    close(clients)
    assert world.engine.wait(lambda: at_once(greedy))


def test_a_slow_body_costs_only_who_sends_it(
    world: GatewayWorld, greedy: Visitor, modest: Visitor
) -> None:
    clients = [greedy.connect() for _n in range(10)]
    for client in clients:
        client.send(request("/containers/x/update", "POST", b"a" * 1000)[:-500])
    for _time in range(10):
        assert at_once(modest)
    close(clients)
    assert world.engine.wait(lambda: at_once(greedy))


def test_streams_beyond_the_cap_are_refused_with_a_reason(
    world: GatewayWorld, greedy: Visitor, modest: Visitor
) -> None:
    clients = []
    for _n in range(3):
        client = greedy.connect()
        client.send(ATTACH)
        assert client.head()[0] == 101
        clients.append(client)
    with greedy.connect() as client:
        client.send(ATTACH)
        answer = client.answer()
        assert answer.status == 429 and b"streams open" in answer.body
    assert at_once(greedy)
    with modest.connect() as client:
        client.send(ATTACH)
        assert client.head()[0] == 101
    close(clients)

    def opens() -> bool:
        with greedy.connect() as client:
            client.send(ATTACH)
            return client.head()[0] == 101

    assert world.engine.wait(opens)


def test_who_reads_nothing_holds_up_nobody_and_costs_no_memory(
    world: GatewayWorld, greedy: Visitor, modest: Visitor
) -> None:
    before = world.gateway.resident()
    clients = [greedy.connect() for _n in range(10)]
    for client in clients:
        client.send(request("/containers/fixed/json") * 200)
    for _time in range(10):
        assert at_once(modest)
    time.sleep(0.5)
    assert world.gateway.resident() - before < 16 << 20
    close(clients)
    assert world.engine.wait(lambda: at_once(greedy))
