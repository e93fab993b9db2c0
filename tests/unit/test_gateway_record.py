# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running gateway writes down of things that are made through it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from ds01.core.owners import CONTAINER, EXEC, IMAGE, NETWORK
from ds01.core.store import Store
from engine_answers import ANSWERS
from gateway_client import Client, connect, request
from gateway_world import GatewayWorld
from recording_things import Things, id_of

ALICE = 2001
DAEMON = 1
"""Has an account on every host, so that his mode is that of the limits."""
BODY = json.dumps({"Image": "lab/base", "Cmd": ["sleep", "1"]}).encode()
MORE = request("/containers/after/json")


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door with a book of owners, before an engine that makes things."""
    with GatewayWorld(records=True) as found:
        found.engine.answers = {**ANSWERS, **Things().answers()}
        yield found


def create(name: str, *lines: str, body: bytes = BODY) -> bytes:
    """A request for a container."""
    return request(f"/v1.45/containers/create?name={name}", "POST", body, *lines)


def owners(world: GatewayWorld, kind: str = CONTAINER) -> dict[str, int | None]:
    """Who made what, by name."""
    return {one.name: one.owner.uid for one in world.book.records(kind)}


def under_way(world: GatewayWorld, name: str) -> list[float | None]:
    """The ends of what was begun under a name and not bound."""
    return [one.ended for one in world.book.intents() if one.name == name]


def raw_answer(client: Client, data: bytes) -> bytes:
    """Every byte of the answer to a request after which the connection ends."""
    client.send(data)
    return client.rest()


def test_the_container_is_recorded_when_the_client_hears_of_it(world: GatewayWorld) -> None:
    with world.visitor(ALICE) as alice, alice.connect() as client:
        client.send(create("box", "User-Agent: Docker-Client/26.1.5 (linux)"))
        answer = client.answer()
        (made,) = [one for one in world.book.records(CONTAINER) if one.name == "box"]
    assert answer.status == 201
    assert made.id == json.loads(answer.body)["Id"]
    assert made.owner.uid == ALICE and made.owner.confidence == "certain"
    assert made.made is not None
    assert (made.made.uid, made.made.agent) == (ALICE, "Docker-Client/26.1.5 (linux)")
    assert not made.made.admin and not made.made.mended and made.made.container == ""
    assert under_way(world, "box") == []


@pytest.mark.parametrize("name", ["plain", "chunked", "refused", "early"])
def test_client_and_engine_see_the_bytes_that_they_would_see_without(
    world: GatewayWorld, name: str
) -> None:
    """Ids are counted on, so that they are the same for the same number of things made."""
    asked = create(f"{name}-bytes", "Connection: close", "X-Odd:  header ")
    answers, bodies = [], []
    for path in (world.engine.path, world.door):
        world.engine.answers = {**ANSWERS, **Things().answers()}
        mark = len(world.engine.seen)
        with connect(path) as client:
            answers.append(raw_answer(client, asked))
        (seen,) = [one for one in world.engine.seen[mark:] if "create" in one.path]
        bodies.append(seen.what)
    direct, ours = answers
    assert ours.replace(b"Connection: close\r\n", b"") == direct.replace(
        b"Connection: close\r\n", b""
    )
    assert bodies[0] == bodies[1]


def test_what_the_engine_refuses_leaves_nothing_behind(world: GatewayWorld) -> None:
    for name in ("refused-1", "early-1"):
        assert world.ask(create(name)).status in (400, 409)
        assert name not in owners(world)
        assert world.engine.wait(lambda name=name: under_way(world, name) == [])  # type: ignore[misc]


@pytest.mark.parametrize(
    "lines",
    [("Expect: 100-continue",), ("Transfer-Encoding: chunked",), ("Connection: close",), ()],
    ids=["expect", "chunked", "close", "plain"],
)
def test_however_the_body_comes_it_arrives_whole(
    world: GatewayWorld, lines: tuple[str, ...]
) -> None:
    mark = len(world.engine.seen)
    body = json.dumps({"Image": "x", "Env": ["A=" + "b" * 200_000]}).encode()
    name = "way-" + (lines[0][:3] if lines else "x")
    if "Transfer-Encoding: chunked" in lines:
        head = f"POST /containers/create?name={name} HTTP/1.1\r\nHost: x\r\n{lines[0]}\r\n\r\n"
        pieces = [
            b"%x\r\n%s\r\n" % (len(body[at : at + 999]), body[at : at + 999])
            for at in range(0, len(body), 999)
        ]
        raw = head.encode() + b"".join(pieces) + b"0\r\n\r\n"
    else:
        raw = create(name, *lines, body=body)
    with world.connect() as client:
        if "Expect: 100-continue" in lines:
            cut = raw.index(b"\r\n\r\n") + 4
            client.send(raw[:cut])
            assert client.head()[0] == 100
            raw = raw[cut:]
        client.pieces(raw, [1000, 70_000, 3] * 20)
        answer = client.answer()
    assert answer.status == 201
    (seen,) = [one for one in world.engine.seen[mark:] if "create" in one.path]
    assert seen.body == body
    assert name in owners(world)


def test_http_1_0_is_answered_and_ended(world: GatewayWorld) -> None:
    with world.connect() as client:
        client.send(b"POST /containers/create?name=old HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
        assert client.answer().status == 201
        assert client.ended()
    assert "old" in owners(world)


def test_requests_behind_one_another_are_answered_in_order(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(create("first") + MORE + create("second") + create("refused-2") + MORE)
        assert [client.answer().status for _n in range(5)] == [201, 200, 201, 409, 200]
    seen = [one for one in world.engine.seen[mark:] if "create" in one.path or "after" in one.path]
    assert [one.head.target.decode().rpartition("=")[2] for one in seen] == [
        "first",
        "/containers/after/json",
        "second",
        "refused-2",
        "/containers/after/json",
    ]
    # One connection serves them all, as without a book.
    assert len({one.connection for one in seen}) == 1
    assert {"first", "second"} <= set(owners(world))


def test_a_client_that_ends_its_sending_reads_its_answer(world: GatewayWorld) -> None:
    with world.connect() as client:
        client.send(create("late-half"))
        client.half_close()
        assert client.answer().status == 201
    assert "late-half" in owners(world)


def test_a_client_that_is_gone_leaves_a_record(world: GatewayWorld) -> None:
    for name in ("late-gone", "late-gone-more"):
        with world.connect() as client:
            client.send(create(name) + (MORE if name.endswith("more") else b""))
            time.sleep(0.2)
        assert world.engine.wait(lambda name=name: name in owners(world), 5)  # type: ignore[misc]
        assert under_way(world, name) == []


def test_nothing_is_made_of_half_a_body(world: GatewayWorld) -> None:
    mark = len(world.engine.seen)
    with world.connect() as client:
        client.send(create("half")[:-5])
        time.sleep(0.1)
    with world.connect() as client:
        client.send(create("half")[:-5])
        client.half_close()
        assert client.ended()
    assert [one for one in world.since(mark, 0) if "create" in one.path] == []
    assert "half" not in owners(world) and under_way(world, "half") == []


@pytest.mark.parametrize("name", ["hangup-x", "endless-x", "cut-x"])
def test_an_engine_without_an_answer_leaves_the_intent_for_others(
    world: GatewayWorld, name: str
) -> None:
    assert world.ask(create(name)).status == 502
    assert world.engine.wait(lambda: under_way(world, name) not in ([], [None]))
    (ended,) = under_way(world, name)
    assert ended is not None and abs(ended - time.time()) < 30
    assert name not in owners(world)


def test_what_an_answer_names_is_recorded_however_long_it_goes_on(world: GatewayWorld) -> None:
    """Else its own labels would say whose it is: an image's words make the engine warn at length."""
    assert world.ask(create("warned-x")).status == 502
    assert owners(world)["warned-x"] is not None
    assert under_way(world, "warned-x") == []


def test_an_answer_in_chunks_on_a_connection_that_ends_is_read_too(world: GatewayWorld) -> None:
    """The engine sends chunks as soon as it has more than 2 KiB to say."""
    with world.visitor(ALICE) as alice, alice.connect() as client:
        answer = raw_answer(client, create("chunked-ends", "Connection: close"))
    assert b" 201 " in answer and answer.endswith(b"0\r\n\r\n")
    assert owners(world)["chunked-ends"] == ALICE


def test_a_refusal_of_any_length_leaves_nothing_that_others_could_be_taken_for(
    world: GatewayWorld,
) -> None:
    """Else root's container of that name would be whose request was refused."""
    assert world.ask(create("scolded-x")).status == 502
    assert world.engine.wait(lambda: under_way(world, "scolded-x") == [])


def test_an_answer_that_names_nothing_passes_and_is_left_for_others(world: GatewayWorld) -> None:
    assert world.ask(create("odd-x")).body == b'{"Id": "../../etc"}'
    assert world.engine.wait(lambda: under_way(world, "odd-x") not in ([], [None]))


def test_an_engine_that_is_away_leaves_nothing(world: GatewayWorld) -> None:
    path, aside = world.engine.path, world.top / "aside.sock"
    path.rename(aside)
    try:
        for _time in range(3):
            answer = world.ask(create("away"))
        assert answer.status == 503 and b"engine does not answer" in answer.body
        assert world.engine.wait(lambda: under_way(world, "away") == [])
    finally:
        aside.rename(path)
    assert world.ask(request()).status == 200


def test_other_things_are_recorded_too(world: GatewayWorld) -> None:
    asked = {
        "network": request("/networks/create", "POST", b'{"Name": "net"}'),
        "exec": request("/containers/box/exec", "POST", b'{"Cmd": ["true"]}'),
        "exec by id": request(f"/containers/{id_of('b')}/exec", "POST", b'{"Cmd": ["true"]}'),
        "commit": request("/commit?container=box&repo=mine&tag=1", "POST", b"{}"),
    }
    answers = {name: world.ask(raw) for name, raw in asked.items()}
    made = {name: json.loads(answer.body)["Id"] for name, answer in answers.items()}
    found = {one.id: one for one in world.book.records()}
    assert (found[made["network"]].kind, found[made["network"]].name) == (NETWORK, "net")
    assert found[made["exec"]].kind == EXEC
    # The engine tells which container a name means.
    assert found[made["exec"]].parent == id_of("box")
    assert found[made["exec by id"]].parent == id_of("b")
    assert (found[made["commit"]].kind, found[made["commit"]].name) == (IMAGE, "mine:1")
    assert {found[one].owner.uid for one in made.values()} == {0}


def test_what_makes_images_is_written_down_with_begin_and_end(world: GatewayWorld) -> None:
    began = time.time()
    for path, body, name in (
        ("/images/x/tag?repo=mine&tag=2", b"", "mine:2"),
        ("/images/create?fromImage=alpine&tag=3", b"", "alpine:3"),
        ("/images/create?fromSrc=-&repo=imported", b"tar", "imported:latest"),
        ("/build?t=built", b"tar", "built:latest"),
        ("/images/load", b"tar", ""),
    ):
        assert world.ask(request(path, "POST", body)).status in (200, 201)
        assert world.engine.wait(lambda name=name: None not in under_way(world, name))  # type: ignore[misc]
        (one,) = [one for one in world.book.intents(IMAGE) if one.name == name]
        assert one.ended is not None and began - 1 < one.at < one.ended < time.time() + 1
        assert one.uid == 0 and one.route


def test_while_somebody_else_has_the_store_all_else_goes_on(world: GatewayWorld) -> None:
    assert world.store is not None
    with world.connect() as waits, world.connect() as gone, world.connect() as calm:
        with Store(str(world.store)).locked():
            mark = len(world.engine.seen)
            waits.send(create("waits"))
            gone.send(create("gone"))
            gone.sock.close()
            for _time in range(50):
                begun = time.monotonic()
                calm.send(request())
                assert calm.answer().status == 200
                assert time.monotonic() - begun < 0.5
            assert [one for one in world.engine.seen[mark:] if "create" in one.path] == []
        assert waits.answer().status == 201
    assert owners(world)["waits"] == 0
    # It was asked whole, as without a book: it is made, and recorded.
    assert world.engine.wait(lambda: "gone" in owners(world) and under_way(world, "gone") == [])


# --- when nothing can be written down ---------------------------------------------------------------


def test_who_may_not_go_unrecorded_is_refused_and_others_are_recorded_later() -> None:
    with GatewayWorld(records=True, mode="observe") as world:
        world.engine.answers = {**ANSWERS, **Things().answers()}
        assert world.store is not None
        aside = world.store.with_suffix(".aside")
        world.store.rename(aside)
        with world.visitor(DAEMON) as watched, watched.connect() as client:
            client.send(create("watched"))
            assert client.answer().status == 201
        assert world.ask(create("roots")).status == 201
        world.rule("enforce")

        def refused() -> bool:
            with world.visitor(DAEMON) as watched, watched.connect() as client:
                client.send(create("unseen") + MORE)
                answer = client.answer()
                if answer.status != 503:
                    return False
                assert b"owner.record" in answer.body and b"state store" in answer.body
                # It was read whole: the next one is served.
                return client.answer().status == 200

        assert world.engine.wait(refused, 10)
        asked = len([one for one in world.engine.seen if "unseen" in one.head.target.decode()])
        aside.rename(world.store)
        assert world.engine.wait(lambda: {"watched", "roots"} <= set(owners(world)), 15)
        with world.visitor(DAEMON) as watched, watched.connect() as client:
            client.send(create("again"))
            assert client.answer().status == 201
        assert owners(world)["again"] == DAEMON == owners(world)["watched"]
        seen = [one for one in world.engine.seen if "unseen" in one.head.target.decode()]
        assert len(seen) == asked
        counted = json.loads((world.top / "counters.json").read_text(encoding="utf-8"))
        assert any(one["name"] == "records" for one in counted["counters"])
