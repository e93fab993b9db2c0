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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import gateway_fuzz as fuzz
import http_judge
import pytest
from gateway_client import request
from gateway_world import GatewayWorld
from http_judge import Head
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from recording_engine import Seen

SECONDS = float(os.environ.get("DS01_FUZZ_SECONDS", "20"))
ROUND = 40
SETTINGS = settings(max_examples=ROUND, suppress_health_check=list(HealthCheck))
# About the connection, or written anew by the door.
FRAMING = {b"connection", b"content-length", b"transfer-encoding", b"upgrade"}


def for_long(what: Callable[[], None]) -> int:
    """Have something tried again and again for half of the time; how often it was."""
    rounds, end = 0, time.monotonic() + SECONDS / 2
    while not rounds or time.monotonic() < end:
        what()
        rounds += 1
    return rounds * ROUND


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


def alike(seen: Seen, head: Head, body: bytes) -> bool:
    """Whether they ask the same."""
    return seen.what == (head.method.decode(), spelled(head.target).decode(), body)


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
    sent = iter(found)
    for one in whole:
        # One that was refused is left out; the next is a request of its own.
        head, body = next(pair for pair in sent if alike(one, *pair))
        same(one, head, body)
    assert world.engine.faults == []
    assert world.gateway.process.poll() is None


def test_the_engine_gets_only_what_a_strict_reader_finds(world: GatewayWorld) -> None:
    @SETTINGS
    @given(fuzz.streams().flatmap(fuzz.cuts))
    def run(pieces: list[bytes]) -> None:
        note(repr(pieces))
        play(world, pieces)

    print(f"\n{for_long(run)} streams in {SECONDS / 2:.0f} s")
    assert world.ask(request()).status == 200


NAMES = st.text("abcXYZ019_-", min_size=1, max_size=12).map("X-{}".format)
VALUES = st.text("abcXYZ0189 ,;=/\"'()<>\t~", max_size=30).map(str.strip)
SEGMENTS = st.text("abcXYZ019_.-", max_size=20).map("x{}".format)
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
    @SETTINGS
    @given(st.lists(asked(), min_size=1, max_size=3), st.lists(st.floats(0, 1), max_size=6))
    def run(wanted: list[Asked], cuts: list[float]) -> None:
        mark = len(world.engine.seen)
        raw = b"".join(one.raw for one in wanted)
        with world.connect() as client:
            for piece in fuzz.cut(raw, [int(cut * len(raw)) for cut in cuts]):
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

    print(f"\n{for_long(run)} lists of requests in {SECONDS / 2:.0f} s")
