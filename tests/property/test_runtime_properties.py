# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens to events and releases, a line is a line and the link leads somewhere whole."""

from __future__ import annotations

import json
from typing import Any

from ds01.core.events import MAX_LINE_BYTES, Event, encode
from ds01.core.release import Found, Plan, ReleaseError, plan_install, plan_rollback
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec=None, categories=None), max_size=3000)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(TEXTS, inner, max_size=40),
    max_leaves=60,
)


@given(details=st.dictionaries(TEXTS, VALUES, max_size=30), user=st.none() | TEXTS)
def test_any_event_is_one_whole_line_below_the_limit(
    details: dict[str, Any], user: str | None
) -> None:
    line = encode(Event("test.event", "test", user, details))
    assert len(line) < MAX_LINE_BYTES
    assert line.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in line[:-1])
    record = json.loads(line)
    assert record["schema_version"] == 1
    # What a strict reader refuses: lone surrogates.
    json.dumps(record, ensure_ascii=False).encode("utf-8")


NAMES = [f"0.1.{n}-{n:012x}" for n in range(6)]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["install", "back", "damage"]), st.sampled_from(NAMES)), max_size=25
)


def _carried_out(found: Found, plan: Plan) -> Found:
    """What is on the host after a plan, without the disk."""
    sound = {*found.sound, *({plan.build} if plan.build else set())} - {*plan.remove}
    return Found(
        current=plan.release,
        sound=tuple(sorted(sound)),
        damaged=tuple(name for name in found.damaged if name not in (*plan.remove, plan.build)),
        history=found.history if plan.history is None else plan.history,
    )


@given(actions=ACTIONS, keep=st.integers(2, 4))
def test_after_any_installs_and_rollbacks_the_release_in_force_is_whole(
    actions: list[tuple[str, str]], keep: int
) -> None:
    found = Found()
    for action, name in actions:
        if action == "damage" and name in found.sound and name != found.current:
            rest = tuple(entry for entry in found.sound if entry != name)
            found = Found(found.current, rest, (*found.damaged, name), found.history)
        elif action == "install":
            before = found.current
            found = _carried_out(found, plan_install(found, name, {}, keep))
            assert found.current == name
            assert before in (None, name) or before in found.sound
            assert len(found.sound) + len(found.damaged) <= keep
            assert not plan_install(found, name, {}, keep).changed
        elif action == "back":
            try:
                plan = plan_rollback(found)
            except ReleaseError:
                continue
            assert plan.switch_to != found.current
            found = _carried_out(found, plan)
        assert found.current is None or found.current in found.sound


@given(names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True))
def test_a_rollback_after_an_install_returns_to_where_one_was(names: list[str]) -> None:
    first, second = names
    found = _carried_out(Found(), plan_install(Found(), first, {}, 3))
    found = _carried_out(found, plan_install(found, second, {}, 3))
    assert plan_rollback(found).switch_to == first
