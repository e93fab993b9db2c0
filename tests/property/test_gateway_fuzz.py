# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's readers against two others: the strict one of the tests, and h11.

The fuzz target of the readers. What ours takes the others take too, and read alike; and how the
bytes are cut changes nothing. Bounded here; for long with ``make fuzz SECONDS=600``.
"""

from __future__ import annotations

import os

import gateway_fuzz as fuzz
import h11
import http_judge
from ds01.core.targets import TargetError, parse_target
from ds01.gateway.body import Chunked, chunk
from ds01.gateway.head import HttpError, build_request, find_end, parse_request
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
SECONDS = float(os.environ.get("DS01_FUZZ_SECONDS", "20"))
MANY = settings(max_examples=int(SECONDS * 20), suppress_health_check=SLOW)


def heads(raw: bytes) -> tuple[bytes, bytes] | None:
    """A head that the gateway finds at the beginning, and what is behind it."""
    try:
        end = find_end(raw)
    except HttpError:
        return None
    return None if end < 0 else (raw[:end], raw[end:])


@MANY
@given(fuzz.requests())
def test_a_head_that_is_taken_reads_alike_everywhere(raw: bytes) -> None:
    found = heads(raw)
    if found is None:
        return
    try:
        ours = parse_request(found[0])
        parse_target(ours.target, ours.method)
    except (HttpError, TargetError):
        return
    strict = http_judge.read_head(found[0])
    assert (ours.method.encode(), ours.target) == (strict.method, strict.target)
    assert ours.length == strict.length
    assert f"1.{ours.minor}".encode() == strict.version
    if ours.keep_alive:
        assert not strict.closes
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=http_judge.HEAD_MAX)
    judge.receive_data(found[0])
    event = judge.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (ours.method.encode(), ours.target)


@MANY
@given(fuzz.requests(), st.booleans())
def test_a_head_that_is_built_is_one_request_of_the_same_meaning(raw: bytes, close: bool) -> None:
    found = heads(raw)
    try:
        ours = parse_request(found[0] if found else raw)
    except HttpError:
        return
    built = build_request(ours, b"/v1.45/canonical?a=b", close)
    strict = http_judge.read_head(built)
    assert built.count(b"\r\n\r\n") == 1
    assert (strict.method, strict.target) == (ours.method.encode(), b"/v1.45/canonical?a=b")
    assert strict.length == ours.length
    kept = dict(ours.headers)
    assert {name.lower() for name in kept} <= {name for name, _value in strict.headers}
    if strict.length == 0:
        assert http_judge.second_opinion(built, strict, b"") == ""


def read_body(pieces: list[bytes]) -> tuple[int, bytes, bool] | str:
    """How much belongs to a chunked body, its content, whether it is whole; or why not."""
    body, taken, content = Chunked(), 0, b""
    for piece in pieces:
        if not piece:
            continue
        try:
            count, parts = body.feed(memoryview(piece))
        except HttpError as error:
            return error.what
        taken += count
        content += b"".join(parts)
        if body.done:
            break
        assert count == len(piece)
    return taken, content, body.done


@MANY
@given(st.data())
def test_a_chunked_body_reads_alike_everywhere_and_however_it_is_cut(data: st.DataObject) -> None:
    raw = data.draw(fuzz.bodies())
    whole = read_body([raw])
    in_pieces = read_body(data.draw(fuzz.cuts(raw)))
    if isinstance(whole, str) or not whole[2]:
        assert isinstance(in_pieces, str) or not in_pieces[2]
        return
    assert in_pieces == whole
    taken, content, _done = whole
    target(float(len(content)))
    place = http_judge.Bytes(raw)
    chunks = http_judge.read_chunks(lambda: place.until(b"\r\n"), place.take, True)
    assert (place.at, b"".join(chunks)) == (taken, content)
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    judge.next_event()
    judge.receive_data(raw[:taken])
    got = b""
    while isinstance(event := judge.next_event(), h11.Data):
        got += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage) and got == content
    assert judge.trailing_data[0] == b""


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_chunks_that_are_written_read_as_their_content(parts: list[bytes]) -> None:
    raw = b"".join(b"".join(chunk([part])) for part in parts) + b"0\r\n\r\n"
    place = http_judge.Bytes(raw)
    chunks = http_judge.read_chunks(lambda: place.until(b"\r\n"), place.take)
    assert b"".join(chunks) == b"".join(parts) and place.at == len(raw)


@MANY
@given(st.data())
def test_where_a_head_ends_does_not_depend_on_how_it_is_cut(data: st.DataObject) -> None:
    raw = data.draw(fuzz.requests())
    try:
        whole = find_end(raw)
    except HttpError:
        whole = -2
    got, place = b"", -1
    for piece in data.draw(fuzz.cuts(raw)):
        before = len(got)
        got += piece
        try:
            place = find_end(got, before)
        except HttpError:
            place = -2
        if place != -1:
            break
    assert place == whole
