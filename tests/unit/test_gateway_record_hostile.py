# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile bodies of requests that are read whole: what is answered, and what reaches the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from ds01.gateway import gather
from ds01.gateway.gather import BODY_MAX, TOTAL_MAX, USER_MAX, Gather, Held
from ds01.gateway.head import HttpError
from engine_answers import ANSWERS
from gateway_client import Visitor, request
from gateway_world import GatewayWorld
from recording_things import Things

GREEDY, MODEST = 2001, 2002
MORE = request("/containers/after/json")
PATH = "/containers/create?name={}"


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door for all of them."""
    with GatewayWorld({"requests_per_user": 8}) as found:
        found.engine.answers = {**ANSWERS, **Things().answers()}
        yield found


def post(name: str, length: str, body: bytes) -> bytes:
    """A request whose frame is as it is told."""
    head = f"POST {PATH.format(name)} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n"
    return head.encode() + body


def arrived(world: GatewayWorld, name: str) -> list[bytes]:
    """Bodies that came to the engine under a name."""
    seen = [one for one in world.engine.seen if one.head.target.decode().endswith(f"={name}")]
    return [one.body for one in seen]


def test_a_body_that_says_that_it_is_too_long_is_refused_before_it_is_sent(
    world: GatewayWorld,
) -> None:
    with world.connect() as client:
        client.send(post("long", f"Content-Length: {BODY_MAX + 1}\r\nExpect: 100-continue", b""))
        answer = client.answer()
        assert (answer.status, answer.interim) == (413, ())
        assert b"limit.body" in answer.body and str(BODY_MAX).encode() in answer.body
        assert client.ended()
    assert arrived(world, "long") == []


def test_a_chunked_body_is_refused_when_it_has_become_too_long(world: GatewayWorld) -> None:
    piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    with world.connect() as client:
        client.send(post("chunks", "Transfer-Encoding: chunked", piece * 65))
        assert client.answer().status == 413
    assert arrived(world, "chunks") == []


def test_the_longest_body_passes(world: GatewayWorld) -> None:
    body = b'{"Image": "x", "Env": ["' + b"a" * (BODY_MAX - 27) + b'"]}'
    assert len(body) == BODY_MAX
    assert world.ask(post("longest", f"Content-Length: {BODY_MAX}", body)).status == 201
    assert arrived(world, "longest") == [body]
    assert world.book.find("longest")


@pytest.mark.parametrize(
    ("name", "frame", "body", "statuses"),
    [
        ("two", "Content-Length: 2\r\nContent-Length: 4", b"{}  ", (400,)),
        (
            "both",
            "Content-Length: 2\r\nTransfer-Encoding: chunked",
            b"2\r\n{}\r\n0\r\n\r\n",
            (400,),
        ),
        ("minus", "Content-Length: -2", b"{}", (400,)),
        ("list", "Content-Length: 2, 2", b"{}", (400,)),
        ("bad-chunk", "Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n", (400,)),
        ("short-chunk", "Transfer-Encoding: chunked", b"1\r\n{}\r\n0\r\n\r\n", (400,)),
        ("bare-lf", "Transfer-Encoding: chunked", b"2\n{}\n0\n\n", (400,)),
    ],
)
def test_a_body_whose_end_is_not_clear_goes_nowhere(
    world: GatewayWorld, name: str, frame: str, body: bytes, statuses: tuple[int, ...]
) -> None:
    for slowly in (False, True):
        with world.connect(5) as client:
            raw = post(name, frame, body) + MORE
            if slowly:
                client.pieces(raw, [1] * 300)
            else:
                client.send(raw)
            assert client.answer().status in statuses
            assert client.rest() == b""
    assert arrived(world, name) == []
    assert world.book.find(name) == []


def test_what_follows_a_body_is_the_next_request_and_no_part_of_it(world: GatewayWorld) -> None:
    smuggled = request(PATH.format("smuggled"), "POST", b"{}")
    with world.connect() as client:
        client.send(post("outer", f"Content-Length: {len(smuggled)}", smuggled) + MORE)
        assert client.answer().status == 201
        assert client.answer().status == 200
    assert arrived(world, "outer") == [smuggled]
    assert arrived(world, "smuggled") == []
    assert world.book.find("smuggled") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe{\x00}\x00",
        b'{"Image": "a", "Image": "b", "iMAGE": "c"}',
        b'{"Image": ["a"], "Cmd": {"a": 1}, "HostConfig": 7, "Labels": [1]}',
        b'{"HostConfig": {"Binds": [null, 7], "Mounts": [1, {}], "DeviceRequests": [[]]}}',
        b'{"Image": "\\ud800"}',
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a": [' + b"{}," * 300_000 + b"{}]}",
        b'{"Image": NaN}',
    ],
    ids=range(15),
)
def test_whatever_is_in_a_body_it_goes_to_the_engine_as_it_is(
    world: GatewayWorld, body: bytes, request: pytest.FixtureRequest
) -> None:
    name = f"odd{request.node.callspec.id}"
    assert world.ask(post(name, f"Content-Length: {len(body)}", body)).status == 201
    assert arrived(world, name) == [body]
    assert [one.owner.uid for one in world.book.find(name)] == [0]


def test_a_long_body_holds_up_nobody(world: GatewayWorld) -> None:
    """It is read in the thread, and only as far as that takes no time."""
    body = b'{"a": [' + b"[]," * 1_300_000 + b"[]]}"
    slowest = 0.0
    with world.visitor(GREEDY) as greedy, world.connect() as calm:
        clients = [greedy.connect() for _n in range(3)]
        for number, client in enumerate(clients):
            client.send(post(f"heavy{number}", f"Content-Length: {len(body)}", body))
        for _time in range(60):
            begun = time.monotonic()
            calm.send(request())
            assert calm.answer().status == 200
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.005)
        assert [client.answer().status for client in clients] == [201] * 3
        for client in clients:
            client.sock.close()
    assert slowest < 0.5


def test_a_body_that_comes_slowly_costs_only_who_sends_it(world: GatewayWorld) -> None:
    with world.visitor(GREEDY) as greedy, world.visitor(MODEST) as modest:
        clients = [greedy.connect() for _n in range(12)]
        for client in clients:
            client.send(post("slow", "Content-Length: 1000", b"{"))
        for _time in range(5):
            assert at_once(modest)
        for client in clients:
            client.sock.close()
        assert world.engine.wait(lambda: at_once(greedy))
    assert arrived(world, "slow") == []


def at_once(visitor: Visitor) -> bool:
    """Whether something is made at once."""
    begun = time.monotonic()
    with visitor.connect() as client:
        client.send(request(PATH.format("quick"), "POST", b"{}"))
        status = client.answer().status
    return status == 201 and time.monotonic() - begun < 2.0


def test_one_user_holds_no_more_than_his_share_of_bodies(world: GatewayWorld) -> None:
    most = USER_MAX // BODY_MAX
    part = b"a" * (BODY_MAX - 1)
    with world.visitor(GREEDY) as greedy, world.visitor(MODEST) as modest:
        clients = [greedy.connect() for _n in range(most + 2)]
        for client in clients[:most]:
            client.send(post("hoard", f"Content-Length: {BODY_MAX}", part))

        def held() -> int:
            world.engine.wait(lambda: False, 0.1)
            counted = json.loads((world.top / "counters.json").read_text(encoding="utf-8"))
            return int(counted["gauges"]["bodies_held"])

        assert world.engine.wait(lambda: held() >= most * len(part), 12)
        for client in clients[most:]:
            client.send(post("hoard", f"Content-Length: {BODY_MAX}", part))
            answer = client.answer()
            assert answer.status == 503 and b"limit.bodies" in answer.body
        assert at_once(modest)
        for client in clients:
            client.sock.close()
        assert world.engine.wait(lambda: at_once(greedy))
        assert world.engine.wait(lambda: held() == 0, 12)
    assert arrived(world, "hoard") == []


# --- the count of what is held ----------------------------------------------------------------------


def test_what_is_held_is_counted_and_given_back() -> None:
    held = Held()
    bodies = []
    for number in range(TOTAL_MAX // USER_MAX):
        for _time in range(USER_MAX // BODY_MAX):
            body = Gather(BODY_MAX, held, number)
            body.feed(memoryview(bytes(BODY_MAX)))
            assert body.done and len(body.content()) == BODY_MAX
            bodies.append(body)
    with pytest.raises(HttpError) as full:
        Gather(1, held, 9999).feed(memoryview(b"a"))
    assert full.value.status == 503
    for body in bodies:
        body.free()
        body.free()
    assert held.total == 0
    Gather(1, held, 9999).feed(memoryview(b"a"))


def test_content_and_frame_are_those_that_came() -> None:
    body = Gather(None, Held(), 0)
    raw = b'2\r\n{"\r\n3;x=y\r\na":\r\n2\r\n1}\r\n0\r\nTrailer: 1\r\n\r\n'
    assert body.feed(memoryview(raw + b"next")) == len(raw)
    assert body.content() == b'{"a":1}'
    assert body.framed() == b'7\r\n{"a":1}\r\n0\r\n\r\n'
    empty = Gather(None, Held(), 0)
    empty.feed(memoryview(b"0\r\n\r\n"))
    assert (empty.content(), empty.framed()) == (b"", b"0\r\n\r\n")
    assert gather.SECONDS >= 10
