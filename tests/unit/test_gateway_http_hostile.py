# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile bytes at the door of a running gateway: what is answered, and what reaches the engine."""

from __future__ import annotations

from collections.abc import Iterator

import h11
import pytest
from gateway_client import NoAnswerError
from gateway_world import GatewayWorld
from hostile_heads import HEADS
from hostile_http import CHUNKS, CODINGS, LENGTHS, Case

CASES = (*LENGTHS, *CODINGS, *CHUNKS, *HEADS)


@pytest.fixture(scope="module")
def world() -> Iterator[GatewayWorld]:
    """One door for all cases, so that one case's leavings would show in the next."""
    with GatewayWorld({"head_seconds": 2}) as found:
        yield found


def play(world: GatewayWorld, case: Case, *, slowly: bool) -> None:
    """Send a case and compare what came of it."""
    mark = len(world.engine.seen)
    method = case.raw.split(b" ", 1)[0].decode("latin-1")
    with world.connect(5) as client:
        if slowly:
            client.pieces(case.raw, [1] * 600)
        else:
            client.send(case.raw)
        for allowed in case.answers:
            try:
                answer = client.answer("HEAD" if method == "HEAD" else "GET")
            except (NoAnswerError, h11.RemoteProtocolError) as error:
                raise AssertionError(f"no answer to {case.name}: {error}") from error
            assert answer.status in allowed, answer
            if answer.status >= 400:
                assert b'"message"' in answer.body, answer
        assert client.rest() == b"", "the door goes on after the last answer"
    seen = world.since(mark, len(case.reach))
    if case.partial:
        assert [one.path for one in seen if one.complete] == []
        assert {one.path for one in seen} <= {case.partial}
    else:
        assert [one.what for one in seen] == list(case.reach)
        assert all(one.complete for one in seen)
    assert world.engine.faults == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_bytes_are_refused_and_nothing_unasked_reaches_the_engine(
    world: GatewayWorld, case: Case
) -> None:
    play(world, case, slowly=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_the_same_when_the_bytes_come_one_by_one(world: GatewayWorld, case: Case) -> None:
    play(world, case, slowly=True)


def test_no_case_has_the_name_of_another() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
