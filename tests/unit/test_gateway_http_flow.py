# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proper requests at a running gateway, in every order and at every pace."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from engine_answers import LARGE, SMALL, TEXT
from gateway_client import Client, request
from gateway_world import GatewayWorld

UPDATE = "/containers/x/update"


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door for all tests of this module."""
    with GatewayWorld({"head_seconds": 2}) as found:
        yield found


def chunked(path: str, *parts: bytes) -> bytes:
    """A POST with a chunked body."""
    head = f"POST {path} HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def numbered(count: int) -> list[tuple[bytes, str, bytes]]:
    """Requests of several kinds: the bytes, the path, the body."""
    made = []
    for n in range(count):
        body = b"body %d " % n * (n % 7)
        path = f"/containers/x{n}/json" if n % 3 == 0 else f"/containers/x{n}/update"
        if n % 3 == 0:
            made.append((request(path), path, b""))
        elif n % 3 == 1:
            made.append((request(path, "POST", body), path, body))
        else:
            parts = [body] if body else []
            made.append((chunked(path, *parts), path, body))
    return made


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50])
def test_requests_sent_at_once_are_answered_in_their_order(world: GatewayWorld, count: int) -> None:
    mark = len(world.engine.seen)
    asked = numbered(count)
    with world.connect() as client:
        client.send(b"".join(raw for raw, _path, _body in asked))
        for _raw, _path, body in asked:
            answer = client.answer()
            assert answer.status == 200
            assert f'"size": {len(body)}'.encode() in answer.body
    seen = world.since(mark, count)
    assert [(one.path, one.body) for one in seen] == [(path, body) for _raw, path, body in asked]


def test_requests_byte_by_byte_are_answered_in_their_order(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    asked = numbered(6)
    with world.connect() as client:
        client.pieces(b"".join(raw for raw, _path, _body in asked), [1] * 5000)
        assert [client.answer().status for _one in asked] == [200] * 6
    assert [one.body for one in world.since(mark, 6)] == [body for _raw, _path, body in asked]


@pytest.mark.parametrize(
    "raw",
    [request(UPDATE, "POST", b"hello"), chunked(UPDATE, b"he", b"llo")],
    ids=["length", "chunked"],
)
def test_a_request_that_breaks_off_anywhere_never_reaches_the_engine_whole(
    world: GatewayWorld, raw: bytes
) -> None:
    mark = len(world.engine.seen)
    for end in range(len(raw)):
        with world.connect() as client:
            client.send(raw[:end])
            if end % 2:
                client.half_close()
                client.rest()
    assert [one for one in world.since(mark, 0) if one.complete] == []


def test_the_answer_comes_though_the_client_has_ended_its_side(world: GatewayWorld) -> None:
    for name, body in (("late", SMALL), ("chunked", TEXT), ("until-close", TEXT), ("slow", SMALL)):
        with world.connect() as client:
            client.send(request(f"/containers/{name}/json"))
            client.half_close()
            answer = client.answer()
            assert (answer.status, answer.body) == (200, body), name
            assert client.ended()


def test_all_answers_come_though_the_client_has_ended_its_side(world: GatewayWorld) -> None:
    for _time in range(20):
        with world.connect() as client:
            client.send(b"".join(raw for raw, _path, _body in numbered(20)))
            client.half_close()
            assert [client.answer().status for _n in range(20)] == [200] * 20
            assert client.ended()


def test_a_request_that_comes_while_another_is_answered_waits(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(request("/containers/late/json"))
        time.sleep(0.1)
        client.send(request("/containers/second/json"))
        time.sleep(0.1)
        assert [one.path for one in world.engine.seen[mark:]] == ["/containers/late/json"]
        assert client.answer().body == SMALL
        assert client.answer().status == 200
    assert [one.path for one in world.since(mark, 2)][1] == "/containers/second/json"


def test_garbage_behind_a_request_is_refused_after_its_answer(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(request(UPDATE, "POST", b"hello") + b" and more\r\n\r\n")
        assert client.answer().status == 200
        assert client.answer().status == 400
        assert client.ended()
    assert [one.what for one in world.since(mark, 1)] == [("POST", UPDATE, b"hello")]


def test_a_connection_is_kept_for_the_next_request(world: GatewayWorld) -> None:
    with world.connect() as client:
        for name in (
            "x",
            "fixed",
            "chunked",
            "empty204",
            "empty304",
            "refused",
            "hints",
            "trailers",
        ):
            client.send(request(f"/containers/{name}/json"))
            answer = client.answer()
            assert answer.status in (200, 204, 304, 404), name
            assert answer.headers.get("connection", "") != "close", name


def test_the_answer_to_head_has_no_body_and_the_next_one_follows(world: GatewayWorld) -> None:
    with world.connect() as client:
        for name in ("fixed", "chunked", "x", "empty204"):
            client.send(request(f"/containers/{name}/json", "HEAD") + request("/containers/x/json"))
            assert client.answer("HEAD").body == b""
            assert client.answer().status == 200


def test_a_client_of_http_1_0_is_answered_and_let_go(world: GatewayWorld) -> None:
    for raw in (
        b"GET /containers/fixed/json HTTP/1.0\r\n\r\n",
        b"GET /containers/fixed/json HTTP/1.0\r\nHost: docker\r\n\r\n",
        b"GET /containers/fixed/json HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /containers/until-close/json HTTP/1.0\r\n\r\n",
    ):
        with world.connect() as client:
            client.send(raw)
            answer = client.answer()
            assert (answer.status, answer.body) == (200, TEXT)
            assert client.ended()


def test_a_client_that_says_close_is_let_go(world: GatewayWorld) -> None:
    with world.connect() as client:
        client.send(request("/containers/fixed/json", "GET", b"", "Connection: close"))
        assert client.answer().body == TEXT
        assert client.ended()


@pytest.mark.parametrize("name", ["x", "continue"])
def test_a_client_that_waits_for_continue_is_told_to(world: GatewayWorld, name: str) -> None:
    path = f"/containers/{name}/update"
    with world.connect() as client:
        head = request(path, "POST", b"hello", "Expect: 100-continue")[:-5]
        client.send(head)
        status, _head = client.head()
        assert status == 100
        client.send(b"hello")
        answer = client.answer()
        assert (answer.status, answer.interim) == (200, ())
        client.send(request())
        assert client.answer().status == 200


def test_a_client_that_does_not_wait_for_continue_is_answered_too(world: GatewayWorld) -> None:
    with world.connect() as client:
        client.send(request(UPDATE, "POST", b"hello", "Expect: 100-continue"))
        assert client.answer().status == 200


def test_a_refusal_lets_the_next_request_in(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(request("/v1.99/containers/x/json") + request())
        assert client.answer().status == 400
        assert client.answer().status == 200
    assert len(world.since(mark, 1)) == 1


def test_every_request_of_a_connection_is_judged_by_itself(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(
            request() + b"GET /containers/../x HTTP/1.1\r\nHost: docker\r\n\r\n" + request()
        )
        answers = [client.answer().status, client.answer().status]
        assert answers == [200, 400]
    assert {one.path for one in world.since(mark, 1)} == {"/containers/x/json"}


def test_what_the_door_knows_of_the_connection_is_not_passed_on(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    lines = ("TE: trailers", "Keep-Alive: timeout=5", "Proxy-Connection: close", "Trailer: X")
    world.ask(request(UPDATE, "POST", b"hello", *lines, "Connection: keep-alive", "X-Kept: 1"))
    (seen,) = world.since(mark, 1)
    assert dict(seen.head.headers) == {
        b"host": b"docker",
        b"content-length": b"5",
        b"x-kept": b"1",
    }


def test_a_slow_head_is_told_so_and_let_go(world: GatewayWorld) -> None:
    mark, begun = len(world.engine.seen), time.monotonic()
    with world.connect() as client, world.connect() as other:
        client.send(b"GET /containers/x/json HTTP/1.1\r\n")
        while time.monotonic() - begun < 1.8:
            client.send(b"X: 1\r\n")
            other.send(request())
            assert other.answer().status == 200
            time.sleep(0.1)
        answer = client.answer()
        assert answer.status == 408 and b"within 2 s" in answer.body
        assert client.ended()
    assert time.monotonic() - begun < 6
    assert "/containers/x/json" in {one.path for one in world.since(mark, 1)}


def test_a_connection_that_asks_nothing_may_stay(world: GatewayWorld) -> None:
    with world.connect() as client:
        time.sleep(3.5)
        client.send(request())
        assert client.answer().status == 200
        time.sleep(3.5)
        client.send(request())
        assert client.answer().status == 200


def test_bodies_that_wait_for_a_slow_engine_are_not_mixed_up(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    clients = [world.connect() for _n in range(6)]
    left = [request("/containers/no-reader/update", "POST", b"%d" % n * LARGE) for n in range(6)]
    for _time in range(12):
        for n, client in enumerate(clients):
            client.sock.settimeout(0.001)
            left[n] = left[n][_some(client, left[n][:50_000]) :]
    for client, raw in zip(clients, left, strict=True):
        client.sock.settimeout(15)
        client.send(raw)
    assert [client.answer().status for client in clients] == [200] * 6
    seen = world.since(mark, 6)
    assert sorted(one.body for one in seen) == [b"%d" % n * LARGE for n in range(6)]
    for client in clients:
        client.sock.close()


def _some(client: Client, data: bytes) -> int:
    """Send as much as is taken at once."""
    try:
        return client.sock.send(data)
    except TimeoutError:
        return 0


def test_answers_that_wait_for_slow_clients_are_not_mixed_up(world: GatewayWorld) -> None:
    clients = [world.connect() for _n in range(6)]
    for n, client in enumerate(clients):
        client.send(request(f"/containers/large/json?{n}"))
    for _time in range(20):
        for client in clients:
            client.buffer += client.sock.recv(10_000)
    for n, client in enumerate(clients):
        assert client.answer().body == b"%d" % n * LARGE
        client.sock.close()


def test_many_connections_at_once_get_their_own_answers(world: GatewayWorld) -> None:
    clients = [world.connect() for _n in range(200)]
    for n, client in enumerate(clients):
        client.send(request(f"/containers/x{n}/update", "POST", b"a" * n))
    for n, client in enumerate(clients):
        assert f'"size": {n}}}'.encode() in client.answer().body
        client.sock.close()
