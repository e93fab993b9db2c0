# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a volume is, where anybody may ask for one that is there, or for one that is about to be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
from ds01.core.owners import VOLUME
from ds01.gateway.volumes import Volumes
from engine_answers import ANSWERS
from gateway_client import Client, Visitor, request
from gateway_world import GatewayWorld
from recording_things import Things

ALICE, BOB = 2001, 2002


@pytest.fixture
def things() -> Things:
    """What the engine has."""
    return Things()


@pytest.fixture(scope="module")
def door() -> Iterator[GatewayWorld]:
    """One door for all of them."""
    with GatewayWorld() as found:
        yield found


@pytest.fixture
def world(door: GatewayWorld, things: Things) -> GatewayWorld:
    """With an engine that has nothing yet."""
    door.engine.answers = {**ANSWERS, **things.answers()}
    return door


@pytest.fixture
def alice(world: GatewayWorld) -> Iterator[Visitor]:
    """Who wants what is not hers."""
    with world.visitor(ALICE) as found:
        yield found


@pytest.fixture
def bob(world: GatewayWorld) -> Iterator[Visitor]:
    """Whose it is."""
    with world.visitor(BOB) as found:
        yield found


def volume(body: bytes) -> bytes:
    """A request for a volume."""
    return request("/v1.45/volumes/create", "POST", body)


def named(name: str) -> bytes:
    """A request for a volume of a name."""
    return volume(json.dumps({"Name": name}).encode())


def ask(visitor: Visitor, raw: bytes) -> str:
    """The name of the volume that is answered."""
    with visitor.connect() as client:
        client.send(raw)
        answer = client.answer()
    assert answer.status == 201
    return str(json.loads(answer.body)["Name"])


def owner(world: GatewayWorld, name: str) -> int | None:
    """Whose a volume is recorded to be."""
    return next((one.owner.uid for one in world.book.records(VOLUME) if one.id == name), None)


def test_who_makes_a_volume_has_it_and_who_asks_for_it_later_has_not(
    world: GatewayWorld, alice: Visitor, bob: Visitor
) -> None:
    assert ask(bob, named("bobs")) == "bobs"
    assert owner(world, "bobs") == BOB
    for _time in range(3):
        assert ask(alice, named("bobs")) == "bobs"
    assert owner(world, "bobs") == BOB


@pytest.mark.parametrize(
    "body",
    [
        b'{"Name": "%s"}',
        b'{"nAMe": "%s"}',
        b'{"Name": "", "NAME": "%s"}',
        b'{"Name": "mine", "name": "%s"}',
        b'{"name": "%s", "Name": null}',
        b'{"N\\u0061me": "%s"}',
        b' \n{"Name": "%s"}',
        b'{"Labels": {"a": "' + b"," * 30_000 + b'"}, "Name": "%s"}',
        b'{"Labels": {"a": "' + b"a" * 100_000 + b'"}, "Name": "%s"}',
    ],
    ids=range(9),
)
def test_a_volume_from_before_is_not_had_for_the_asking(
    world: GatewayWorld, things: Things, alice: Visitor, body: bytes
) -> None:
    """Nobody has a record of it, and it was made this very second."""
    for name in ("legacy", "f" * 64):
        things.volumes[name] = time.time()
        assert ask(alice, volume(body % name.encode())) == name
        assert owner(world, name) is None


def test_a_volume_whose_answer_would_be_too_long_to_read_is_not_made(
    world: GatewayWorld, alice: Visitor
) -> None:
    """The engine's answer has its labels, and who reads none of it cannot say whose the volume is."""
    body = b'{"Name": "heavy", "Labels": {"a": "%s"}}' % (b"a" * 131_072)
    with alice.connect() as client:
        client.send(volume(body))
        assert client.answer().status == 413
    assert not [one for one in world.engine.seen if one.body == body]


def test_a_volume_without_a_name_is_its_makers(world: GatewayWorld, alice: Visitor) -> None:
    for body in (b"{}", b"", b'{"Name": ""}', b'{"Driver": "local"}'):
        assert owner(world, ask(alice, volume(body))) == ALICE


def test_a_name_that_is_free_again_is_the_next_ones(
    world: GatewayWorld, things: Things, alice: Visitor, bob: Visitor
) -> None:
    """Even when nobody has told yet that the old one has gone."""
    ask(bob, named("shared"))
    del things.volumes["shared"]
    time.sleep(1.1)
    ask(alice, named("shared"))
    assert owner(world, "shared") == ALICE


def send(visitor: Visitor, raw: bytes) -> Client:
    """Ask without waiting for the answer."""
    client = visitor.connect()
    client.send(raw)
    return client


def test_of_two_who_ask_at_once_the_first_one_has_it(
    world: GatewayWorld, things: Things, alice: Visitor, bob: Visitor
) -> None:
    world.engine.gate.clear()
    first = send(bob, named("held-both"))
    before = len(world.engine.seen)
    assert world.engine.wait(
        lambda: any(one.path.endswith("/create") for one in world.engine.seen[before:])
    )
    others = [send(alice, named("held-both")) for _n in range(5)]
    time.sleep(0.2)
    world.engine.gate.set()
    for client in (first, *others):
        assert client.answer().status == 201
        client.sock.close()
    assert owner(world, "held-both") == BOB


def with_volume(name: str) -> bytes:
    """A request for a container that brings a volume into being."""
    body = json.dumps({"Image": "x", "HostConfig": {"Binds": [f"{name}:/data"]}}).encode()
    return request(f"/containers/create?name={name}", "POST", body)


@pytest.mark.parametrize("container_first", [True, False])
def test_what_a_container_of_somebody_else_may_have_made_meanwhile_is_not_claimed(
    world: GatewayWorld, alice: Visitor, bob: Visitor, container_first: bool
) -> None:
    name = f"held-race-{container_first}"
    asked = [(bob, with_volume(name)), (alice, named(name))]
    world.engine.gate.clear()
    clients = []
    for who, raw in asked if container_first else reversed(asked):
        clients.append(send(who, raw))
        time.sleep(0.3)
    world.engine.gate.set()
    for client in clients:
        assert client.answer().status == 201
        client.sock.close()
    assert owner(world, name) is None


def test_ones_own_container_is_no_reason_to_doubt(world: GatewayWorld, alice: Visitor) -> None:
    world.engine.gate.clear()
    clients = [send(alice, with_volume("held-own")), send(alice, named("held-own"))]
    time.sleep(0.3)
    world.engine.gate.set()
    for client in clients:
        assert client.answer().status == 201
        client.sock.close()
    assert owner(world, "held-own") == ALICE


# --- turns ------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_names_that_nobody_wants_any_more() -> None:
    async def play() -> tuple[list[str], int]:
        volumes = Volumes()
        told: list[str] = []

        async def want(who: str, names: set[str], uid: int) -> None:
            async with volumes.claim(names, uid) as claim:
                told.append(who)
                await asyncio.sleep(0.01)
                told.append(f"{who} {'alone' if claim.alone else 'not alone'}")

        async def use(names: set[str], uid: int) -> None:
            await asyncio.sleep(0.002)
            with volumes.used(names, uid):
                await asyncio.sleep(0.002)

        await asyncio.gather(want("first", {"b"}, 1), want("second", {"b", "a"}, 2), use({"b"}, 2))
        with pytest.raises(ZeroDivisionError), volumes.used({"a"}, 1):
            raise ZeroDivisionError
        return told, len(volumes._names)

    told, left = asyncio.run(play())
    assert told == ["first", "first not alone", "second", "second alone"]
    assert left == 0
