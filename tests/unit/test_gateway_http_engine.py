# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running gateway before an engine that answers early, wrongly or not at all, or hands a stream over."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import h11
import pytest
from engine_answers import SMALL, TEXT
from gateway_client import Client, NoAnswerError, request
from gateway_world import GatewayWorld

MORE = request("/containers/after/json")
ATTACH = "/containers/hijack/attach?stream=1&stdin=1&stdout=1"
TCP = ("Connection: Upgrade", "Upgrade: tcp")


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door for all tests of this module."""
    with GatewayWorld() as found:
        yield found


# --- an engine with faults --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hang-up", "garbage", "two-lengths", "split", "huge-head"])
def test_an_answer_that_is_none_is_said_to_be_the_engines_fault(
    world: GatewayWorld, name: str
) -> None:
    answer = world.ask(request(f"/containers/{name}/json"))
    assert answer.status == 502
    assert b'"message"' in answer.body and b"engine" in answer.body
    assert world.ask(request()).status == 200


@pytest.mark.parametrize("name", ["cut", "cut-chunk", "bad-chunk"])
def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(
    world: GatewayWorld, name: str
) -> None:
    with world.connect() as client:
        client.send(request(f"/containers/{name}/json") + MORE)
        with pytest.raises((h11.RemoteProtocolError, NoAnswerError)):
            client.answer()
    assert world.ask(request()).status == 200


def test_a_protocol_that_nobody_asked_for_is_not_passed_on(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    for raw in (
        request("/containers/upgrade-unasked/json"),
        request("/containers/upgrade-unasked/attach?stream=1", "POST"),
        request("/containers/upgrade-unasked/update", "POST", b"hello"),
    ):
        with world.connect() as client:
            client.send(raw + MORE)
            assert client.answer().status == 502
    assert [one.after for one in world.since(mark, 3)] == [b""] * 3


def test_an_answer_to_nothing_is_nobodys_answer(world: GatewayWorld) -> None:
    with world.connect() as client:
        for name in ("extra", "extra-late") * 3:
            client.send(request(f"/containers/{name}/json"))
            assert client.answer().body == SMALL
            time.sleep(0.1)
            client.send(request("/containers/fixed/json"))
            assert client.answer().body == TEXT


def test_an_answer_before_the_whole_request_ends_the_connection(world: GatewayWorld) -> None:
    for name in ("early-error", "early-close"):
        with world.connect() as client:
            path = f"/containers/{name}/archive?path=/"
            client.send(request(path, "PUT", b"a" * 100_000)[:50_000])
            assert client.answer().status == 404, name
            client.send(b"a" * 50_000 + MORE)
            assert client.rest() == b"", name


def test_a_whole_request_whose_answer_came_early_is_one_of_many(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        for _time in range(10):
            client.send(request("/containers/early-error/update", "POST", b"hello"))
            assert client.answer().status == 404
    assert all(one.complete for one in world.since(mark, 10))


def test_no_engine_is_said_in_plain_words_and_mended_when_it_is_back(world: GatewayWorld) -> None:
    path, aside = world.engine.path, world.top / "aside.sock"
    path.rename(aside)
    try:
        # A connection may have been made in advance.
        answer = [world.ask(request()) for _time in range(3)][-1]
        assert answer.status == 503 and b"engine does not answer" in answer.body
    finally:
        aside.rename(path)
    assert world.ask(request()).status == 200


# --- hijacked connections ---------------------------------------------------------------------------


def attached(client: Client, raw: bytes) -> None:
    """Send a request that is answered with a stream, and read its head."""
    client.send(raw)
    status, head = client.head()
    assert status == 101, head
    assert b"upgrade: tcp" in head.lower()


def read(client: Client, size: int) -> bytes:
    """So many bytes of a stream."""
    while len(client.buffer) < size:
        assert client.fill(), client.buffer
    data, client.buffer = client.buffer[:size], client.buffer[size:]
    return data


@pytest.mark.parametrize("path", [ATTACH, "/exec/hijack/start", "/v1.45/exec/hijack/start"])
def test_a_hijacked_stream_goes_both_ways_and_each_side_ends_by_itself(
    world: GatewayWorld, path: str
) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        attached(client, request(path, "POST", b"{}", "Content-Type: application/json", *TCP))
        assert read(client, 6) == b"hello\n"
        for n in range(50):
            data = b"%d " % n * n
            client.send(data)
            assert read(client, len(data)) == data
        client.half_close()
        assert client.rest() == b"goodbye\n"
    (seen,) = [one for one in world.engine.seen[mark:] if "hijack" in one.path]
    assert seen.body == b"{}"


def test_what_is_sent_with_the_request_belongs_to_the_stream(world: GatewayWorld) -> None:
    with world.connect() as client:
        early = b"early " * 1000 + MORE
        attached(client, request(ATTACH, "POST", b"", *TCP) + early)
        assert read(client, 6 + len(early)) == b"hello\n" + early
        client.half_close()
        assert client.rest() == b"goodbye\n"


def test_a_stream_without_upgrade_goes_both_ways_too(world: GatewayWorld) -> None:
    with world.connect() as client:
        client.send(request(ATTACH, "POST"))
        status, _head = client.head()
        assert status == 200
        client.send(b"data")
        assert read(client, 10) == b"hello\ndata"
        client.half_close()
        assert client.rest() == b"goodbye\n"


def test_a_hijack_that_the_engine_refuses_leaves_requests_behind_it_requests(
    world: GatewayWorld,
) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        path = "/containers/refused/attach?stream=1"
        client.send(request(path, "POST", b"", *TCP) + request("/v1.99/info") + MORE)
        assert client.answer().status == 404
        assert client.answer().status == 400
        assert client.answer().status == 200
    assert [one.path for one in world.since(mark, 2)] == [
        "/containers/refused/attach",
        "/containers/after/json",
    ]


def test_garbage_behind_a_refused_hijack_is_refused(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        path = "/containers/refused/attach?stream=1"
        client.send(request(path, "POST", b"", *TCP) + b"\x00\x01 typed ahead\r\n\r\n")
        assert client.answer().status == 404
        assert client.answer().status == 400
        assert client.ended()
    assert len(world.since(mark, 1)) == 1


def test_a_client_that_goes_ends_the_engines_side(world: GatewayWorld) -> None:
    open_before = world.engine.open
    clients = [world.connect() for _n in range(20)]
    for client in clients:
        attached(client, request(ATTACH, "POST", b"", *TCP))
    assert world.engine.open >= 20
    for client in clients:
        client.sock.close()
    assert world.engine.wait(lambda: world.engine.open <= open_before, 10)


# --- answers that stay open -------------------------------------------------------------------------


def test_a_long_answer_comes_as_it_is_made_and_whole(world: GatewayWorld) -> None:
    with world.connect() as client:
        begun = time.monotonic()
        client.send(request("/containers/ticking/logs?follow=1&stdout=1"))
        status, _head = client.head()
        assert status == 200
        read(client, 8)
        assert time.monotonic() - begun < 1.5
        rest = client.rest()
    assert rest.count(b"tick") == 100 - 1 + (b"tick 0" in rest)
    assert rest.endswith(b"0\r\n\r\n")


def test_nothing_that_a_client_says_to_a_long_answer_reaches_the_engine(
    world: GatewayWorld,
) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(request("/containers/ticking/logs?follow=1&stdout=1") + MORE)
        time.sleep(0.6)
        client.send(MORE)
        client.rest()
    (seen,) = world.since(mark, 1)
    assert seen.path == "/containers/ticking/logs" and seen.head.closes
    assert world.engine.faults == []


def test_streams_go_on_when_the_gateway_ends() -> None:
    with GatewayWorld() as world:
        with world.connect() as terminal, world.connect() as logs:
            attached(terminal, request(ATTACH, "POST", b"", *TCP))
            logs.send(request("/containers/ticking/logs?follow=1&stdout=1"))
            time.sleep(0.5)
            os.kill(world.gateway.pid, signal.SIGKILL)
            world.gateway.process.wait()
            terminal.send(b"still here")
            assert read(terminal, 16) == b"hello\nstill here"
            assert logs.rest().endswith(b"0\r\n\r\n")
            terminal.half_close()
            assert terminal.rest() == b"goodbye\n"
        world.restart()
        assert world.ask(request()).status == 200


def test_a_gateway_that_is_ended_politely_finishes_what_it_has_begun() -> None:
    with GatewayWorld() as world:
        with world.connect() as client:
            client.send(request("/containers/late/json"))
            time.sleep(0.1)
            ended = threading.Thread(target=world.gateway.stop)
            ended.start()
            answer = client.answer()
            assert (answer.status, answer.body) == (200, SMALL)
            ended.join()
        assert world.gateway.process.returncode == 0
        world.restart()
