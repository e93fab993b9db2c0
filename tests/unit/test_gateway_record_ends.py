# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway that ends, politely or not, while something is made through it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from ds01.core.owners import CONTAINER, IMAGE
from engine_answers import ANSWERS
from gateway_client import NoAnswerError, request
from gateway_world import GatewayWorld
from recording_things import Things

PULL = "/images/create?fromImage={}&tag=1"


def create(name: str) -> bytes:
    """A request for a container."""
    return request(f"/containers/create?name={name}", "POST", b'{"Image": "lab/base"}')


def begin(things: Things, **options: object) -> GatewayWorld:
    """A door with a book before an engine that makes things."""
    world = GatewayWorld(records=True, **options)  # type: ignore[arg-type]
    world.engine.answers = {**ANSWERS, **things.answers()}
    return world


@pytest.mark.parametrize(
    ("step", "made", "bound"),
    [("reserved", False, False), ("answered", True, False), ("bound", True, True)],
)
def test_whenever_it_is_killed_the_container_can_be_told_whose_it_is(
    step: str, made: bool, bound: bool
) -> None:
    things = Things()
    with begin(things, fault=step) as world:
        with world.connect() as client:
            client.send(create("box"))
            with pytest.raises(NoAnswerError):
                client.answer()
        world.gateway.process.wait()
        assert ("box" in things.containers) is made
        records = world.book.records(CONTAINER)
        intents = world.book.intents(CONTAINER)
        if bound:
            assert [(one.name, one.id) for one in records] == [("box", things.containers["box"])]
            assert intents == []
        else:
            assert records == []
            assert [(one.name, one.uid) for one in intents] == [("box", 0)]
            assert intents[0].fingerprint["image"] == "lab/base"
            assert "sleep" not in str(intents[0].fingerprint)
        world.fault = ""
        world.restart()
        # Whoever syncs is told that nobody will bind it any more.
        assert world.engine.wait(
            lambda: all(one.orphaned is not None for one in world.book.intents()), 8
        )
        assert len(world.book.intents()) == len(intents)
        # Asked for once more by its client, it is made and recorded once.
        assert world.ask(create("again")).status == 201
        assert [one.name for one in world.book.records(CONTAINER)].count("again") == 1


def test_killed_between_asking_and_answer_the_intent_stays() -> None:
    things = Things()
    with begin(things) as world:
        world.engine.gate.clear()
        with world.connect() as client:
            client.send(create("held"))
            assert world.engine.wait(lambda: "held" in things.containers)
            os.kill(world.gateway.pid, signal.SIGKILL)
            world.gateway.process.wait()
        world.engine.gate.set()
        (intent,) = world.book.intents(CONTAINER)
        assert (intent.name, intent.ended) == ("held", None)
        world.restart()
        assert world.engine.wait(lambda: world.book.intents()[0].orphaned is not None, 8)


def test_ended_politely_it_waits_for_what_is_being_made() -> None:
    things = Things()
    with begin(things) as world:
        with world.connect() as client:
            client.send(create("late-one"))
            assert world.engine.wait(lambda: "late-one" in things.containers)
            begun = time.monotonic()
            ended = threading.Thread(target=world.gateway.stop)
            ended.start()
            assert client.answer().status == 201
            ended.join()
        assert time.monotonic() - begun < 1.9
        assert world.gateway.process.returncode == 0
        assert [one.name for one in world.book.records(CONTAINER)] == ["late-one"]
        assert world.book.intents() == []
        world.restart()


def test_ended_politely_it_breaks_off_what_takes_too_long_and_says_so() -> None:
    things = Things()
    with begin(things) as world:
        world.engine.gate.clear()
        with world.connect() as client:
            client.send(create("held"))
            assert world.engine.wait(lambda: "held" in things.containers)
            begun = time.monotonic()
            assert world.gateway.stop() == 0
            assert time.monotonic() - begun < 2.5
            with pytest.raises(NoAnswerError):
                client.answer()
        world.engine.gate.set()
        (intent,) = world.book.intents(CONTAINER)
        assert intent.ended is not None
        world.restart()


def test_the_end_of_a_pull_is_heard_by_the_next_gateway() -> None:
    things = Things()
    with begin(things) as world:
        with world.connect() as slow, world.connect() as slower:
            slow.send(request(PULL.format("slow-one"), "POST"))
            slower.send(request(PULL.format("slow-two"), "POST"))
            time.sleep(0.6)
            assert [one.ended for one in world.book.intents(IMAGE)] == [None, None]
            os.kill(world.gateway.pid, signal.SIGKILL)
            world.gateway.process.wait()
            world.restart()
            assert slow.rest().endswith(b"0\r\n\r\n")
            assert slower.rest().endswith(b"0\r\n\r\n")
        assert world.engine.wait(
            lambda: all(one.ended is not None for one in world.book.intents(IMAGE)), 8
        )
        # They were never taken for lost, as the pump had them.
        assert [one.orphaned for one in world.book.intents(IMAGE)] == [None, None]
        assert {one.name for one in world.book.intents(IMAGE)} == {"slow-one:1", "slow-two:1"}
