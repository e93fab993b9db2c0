# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running gateway under bytes that were made up: the fuzz target of the door.

What the engine gets is what the strict reader finds in the bytes sent, in that order and no more.
Bounded by time (``DS01_FUZZ_SECONDS``, 20 by default); for long with ``make fuzz SECONDS=600``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import gateway_fuzz as fuzz
import http_judge
import pytest
from gateway_client import request
from gateway_world import GatewayWorld
from http_judge import Head
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_engine import Seen

SECONDS = float(os.environ.get("DS01_FUZZ_SECONDS", "20"))
SETTINGS = settings(max_examples=int(SECONDS * 50), suppress_health_check=list(HealthCheck))
# About the connection, or written anew by the door.
FRAMING = {b"connection", b"content-length", b"transfer-encoding", b"upgrade"}


@dataclass
class Budget:
    """How long there is to go on; once something failed it is looked into without haste."""

    end: float = 0.0
    failed: bool = False
    tried: int = 0

    def spent(self) -> bool:
        """Whether time is up; begins with the first question."""
        self.end = self.end or time.monotonic() + SECONDS / 2
        if not self.failed and time.monotonic() > self.end:
            return True
        self.tried += 1
        return False


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door for everything."""
    with GatewayWorld({"head_seconds": 2}) as found:
        yield found


def spelled(target: bytes) -> bytes:
    """A target as the door spells it."""
    path, mark, query = target.partition(b"?")
    for character, escape in ((b'"', b"%22"), (b"<", b"%3C"), (b">", b"%3E")):
        query = query.replace(character, escape)
    for escape, character in ((b"%2D", b"-"), (b"%5F", b"_")):
        path = path.replace(escape, character)
    return path + (mark + query if query else b"")


def same(seen: Seen, head: Head, body: bytes) -> None:
    """What arrived is what was sent."""
    assert (seen.head.method, seen.head.target) == (head.method, spelled(head.target))
    assert seen.body == body[: len(seen.body)]
    assert seen.body == body or not seen.complete
    kept = [pair for pair in seen.head.headers if pair[0] not in FRAMING]
    assert [pair for pair in head.headers if pair in kept] == kept


def play(world: GatewayWorld, pieces: list[bytes]) -> None:
    """Send bytes in pieces, and compare what came to the engine with the strict reading."""
    mark = len(world.engine.seen)
    with world.connect() as client:
        for piece in pieces:
            client.send(piece)
        with contextlib.suppress(OSError):
            client.half_close()
        answered = client.rest()
    for fault in (b"HTTP/1.1 500", b"HTTP/1.1 502", b"HTTP/1.1 503", b"HTTP/1.1 504"):
        assert fault not in answered
    seen = world.since(mark, 0)
    found, _why = http_judge.read_all(b"".join(pieces))
    whole = [one for one in seen if one.complete]
    assert seen[: len(whole)] == whole and len(seen) <= len(whole) + 1
    assert len(whole) <= len(found)
    for one, (head, body) in zip(whole, found, strict=False):
        same(one, head, body)
    assert world.engine.faults == []
    assert world.gateway.process.poll() is None


def test_the_engine_gets_only_what_a_strict_reader_finds(world: GatewayWorld) -> None:
    budget = Budget()

    @SETTINGS
    @given(st.data())
    def run(data: st.DataObject) -> None:
        pieces = data.draw(fuzz.streams().flatmap(fuzz.cuts))
        if budget.spent():
            return
        try:
            play(world, pieces)
        except AssertionError:
            budget.failed = True
            raise

    run()
    print(f"\n{budget.tried} streams in {SECONDS / 2:.0f} s")
    assert budget.tried > 20
    assert world.ask(request()).status == 200


NAMES = st.from_regex(r"\AX-[A-Za-z0-9_-]{1,12}\Z")
VALUES = st.text("abcXYZ0189 ,;=/\"'()<>\t~", max_size=30).map(str.strip)
SEGMENTS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,20}\Z").filter(lambda s: s[0] != "v")
QUERIES = st.text("abc=&%20,;:/?@+~'()*!$-._", max_size=30)


@dataclass(frozen=True)
class Asked:
    """A proper request, and how its body is framed."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunks: tuple[int, ...]

    @property
    def raw(self) -> bytes:
        """As a client sends it."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: docker"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not self.chunks:
            lines.append(f"Content-Length: {len(self.body)}")
            return "\r\n".join([*lines, "", ""]).encode() + self.body
        lines.append("Transfer-Encoding: chunked")
        places = [0, *sorted(n % (len(self.body) + 1) for n in self.chunks), len(self.body)]
        parts = [self.body[a:b] for a, b in pairwise(places) if a < b]
        framed = b"".join(b"%X\r\n%s\r\n" % (len(part), part) for part in parts)
        return "\r\n".join([*lines, "", ""]).encode() + framed + b"0\r\n\r\n"


def asked() -> st.SearchStrategy[Asked]:
    """A proper request."""
    path = st.builds("/containers/{}/{}".format, SEGMENTS, st.sampled_from(["json", "update"]))
    version = st.sampled_from(["", "/v1.45", "/v1.44"])
    target = st.builds(
        lambda v, p, q: v + p + (f"?{q}" if q else ""), version, path, QUERIES.filter(_escaped)
    )
    return st.builds(
        Asked,
        st.sampled_from(["GET", "POST", "POST"]),
        target,
        st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple),
        st.one_of(st.binary(max_size=300), st.binary(max_size=20).map(lambda b: b * 5000)),
        st.lists(st.integers(0, 100_000), max_size=6).map(tuple),
    )


def _escaped(query: str) -> bool:
    return "%" not in query.replace("%20", "")


def test_every_proper_request_arrives_as_it_was_sent(world: GatewayWorld) -> None:
    budget = Budget()

    @SETTINGS
    @given(st.data())
    def run(data: st.DataObject) -> None:
        wanted = data.draw(st.lists(asked(), min_size=1, max_size=3))
        pieces = data.draw(fuzz.cuts(b"".join(one.raw for one in wanted)))
        if budget.spent():
            return
        try:
            mark = len(world.engine.seen)
            with world.connect() as client:
                for piece in pieces:
                    client.send(piece)
                assert [client.answer().status for _one in wanted] == [200] * len(wanted)
            seen = world.since(mark, len(wanted))
            assert len(seen) == len(wanted)
            for one, was in zip(seen, wanted, strict=True):
                head, body = http_judge.read_all(was.raw)[0][0]
                same(one, head, body)
                assert one.complete and one.body == was.body
                names = [name for name, _value in one.head.headers if name.startswith(b"x-")]
                assert names == [name.lower().encode() for name, _value in was.headers]
        except AssertionError:
            budget.failed = True
            raise

    run()
    print(f"\n{budget.tried} requests in {SECONDS / 2:.0f} s")
    assert budget.tried > 20
