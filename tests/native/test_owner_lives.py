# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners followed over lives of containers, engine, gateway and daemon killed meanwhile; and the judge."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from native_engine import environment
from owner_judge import Case, Kill, judge, unheard
from soak.small_host import inside

LIVES = 150


def test_150_lives_with_engine_gateway_and_daemon_killed_at_random(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Records are the engine's truth at the end, and events are complete and told once."""
    words = inside("soak.owner_lives", "--inside", "--lives", str(LIVES), "--seed", "1")
    done = subprocess.run(
        words,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    for unit in ("daemon", "gateway", "engine"):
        assert f"{unit} killed" in done.stdout


# --- a judge that cannot say guilty is none -------------------------------------------------------

HERE, WENT, FORGED, ROOTS = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
NOW = 1_700_000_000.0
ALICES = {"expect.owner": "alice", "expect.method": "gateway"}
BOBS = {"expect.owner": "bob", "expect.method": "ds01_label", "ds01.user": "bob"}


def _said(container: str, action: str, after: float, labels: dict[str, str]) -> dict[str, Any]:
    actor = {"ID": container, "Attributes": labels}
    return {
        "Type": "container",
        "Action": action,
        "Actor": actor,
        "timeNano": int((NOW + after) * 1e9),
    }


def _told(
    container: str, kind: str, after: float, user: str | None, **details: str
) -> dict[str, Any]:
    seconds, rest = divmod(after, 1.0)
    stamp = f"2023-11-14T22:13:{20 + int(seconds):02d}.{round(rest * 1000):03d}Z"
    number = f"{container[:4]}-{kind}-{after}"
    found = {
        "timestamp": stamp,
        "event_type": kind,
        "details": {"id": container[:12], "event_id": number, **details},
    }
    return {**found, "user": user} if user else found


def _case() -> Case:
    forged = {**ALICES, "ds01.user": "bob"}
    owners = {HERE: ("alice", ALICES), WENT: ("alice", ALICES), FORGED: ("alice", forged)}
    owners[ROOTS] = ("bob", BOBS)
    said, told = [], []
    for number, (box, (owner, labels)) in enumerate(owners.items()):
        said.append(_said(box, "create", number, labels))
        said.append(_said(box, "attach", number + 0.1, labels))
        told.append(_told(box, "container.created", number, owner))
    said += [_said(WENT, "start", 5, ALICES), _said(WENT, "destroy", 6, ALICES)]
    told += [
        _told(WENT, "container.started", 5, "alice"),
        _told(WENT, "container.destroyed", 6, "alice"),
        _told(FORGED, "owner.contradiction", 2.5, "alice"),
    ]
    boxes = {HERE: "here", FORGED: "forged", ROOTS: "roots"}
    there = [
        {"id": box, "name": name, "state": "created", "labels": owners[box][1]}
        for box, name in boxes.items()
    ]
    published = {
        box[:12]: {
            "owner": owners[box][0],
            "name": name,
            "detection_method": owners[box][1]["expect.method"],
        }
        for box, name in boxes.items()
    }
    rows = [
        {"id": box, "name": name, "state": "created", "owner": owners[box][0]}
        for box, name in boxes.items()
    ]
    witness = {"events": said, "containers": there, "faults": [], "reads": 9}
    gone = {WENT: ("alice", "gateway")}
    return Case(witness, told, {"containers": published}, {"containers": rows}, gone)


def _drop(case: Case, kind: str, box: str) -> None:
    case.told = [
        one for one in case.told if (one["event_type"], one["details"]["id"]) != (kind, box[:12])
    ]


def _rename(case: Case) -> None:
    case.published["containers"][HERE[:12]]["name"] = "other"


def _other_owner(case: Case) -> None:
    case.published["containers"][HERE[:12]]["owner"] = "bob"


def _other_state(case: Case) -> None:
    case.view["containers"][0]["state"] = "running"


def _not_gone(case: Case) -> None:
    case.published["containers"][WENT[:12]] = case.published["containers"][HERE[:12]]


def _unpublished(case: Case) -> None:
    del case.published["containers"][HERE[:12]]


def _add(case: Case, *told: dict[str, Any]) -> None:
    case.told = [*case.told, *told]


def _forget(case: Case) -> None:
    case.gone = {}


WRONGS: dict[str, tuple[Callable[[Case], None], str]] = {
    "lost": (lambda case: _drop(case, "container.started", WENT), "the engine said 1, the log 0"),
    "doubled": (lambda case: _add(case, dict(case.told[0])), "2 times"),
    "created twice": (
        lambda case: _add(case, _told(HERE, "container.created", 8, "alice")),
        "container.created 2 times",
    ),
    "invented": (
        lambda case: _add(case, _told(HERE, "container.died", 8, "alice")),
        "the engine said no such thing",
    ),
    "another's": (
        lambda case: _add(case, _told(HERE, "container.died", 8, "bob", seen_by="sync")),
        "bob in place of alice",
    ),
    "silent": (
        lambda case: _drop(case, "owner.contradiction", FORGED),
        "no owner.contradiction",
    ),
    "accused": (
        lambda case: _add(case, _told(HERE, "owner.contradiction", 8, "alice")),
        "of which its labels say nothing",
    ),
    "renamed": (_rename, "name is 'other', not 'here'"),
    "charged": (_other_owner, "owner is 'bob', not 'alice'"),
    "state": (_other_state, "state is 'running', not 'created'"),
    "stays": (_not_gone, "is published and not there"),
    "unpublished": (_unpublished, "(here) is not published"),
    "forgotten": (_forget, "went, and nobody remembers it"),
    "malformed": (
        lambda case: case.witness["faults"].append("cannot be read"),
        "published: cannot be read",
    ),
}


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert judge(_case()).faults == []


@pytest.mark.parametrize("name", WRONGS)
def test_what_is_wrong_is_found(name: str) -> None:
    case = _case()
    change, fault = WRONGS[name]
    change(case)
    faults = judge(case).faults
    assert any(fault in one for one in faults), faults


def test_only_the_engines_own_death_excuses_and_never_who_came_by_the_door() -> None:
    case = _case()
    _drop(case, "container.started", WENT)
    case.kills = [Kill("daemon", NOW + 5.1, NOW + 5.5)]
    assert judge(case).faults
    case.kills = [Kill("engine", NOW + 5.1, NOW + 5.5)]
    verdict = judge(case)
    assert (verdict.faults, len(verdict.excused)) == ([], 1)
    _drop(case, "container.created", WENT)
    case.kills = [Kill("engine", NOW + 1.1, NOW + 5.5)]
    assert any("container.created" in fault for fault in judge(case).faults)


def test_what_was_said_to_a_daemon_that_was_dead_died_with_the_engine_too() -> None:
    engine = Kill("engine", 100.0, 102.0)
    daemons = [Kill("daemon", 90.0, 94.0), Kill("daemon", 94.5, 99.5), Kill("daemon", 50.0, 60.0)]
    assert unheard([engine], 1.0) == [(99.0, 102.0)]
    assert unheard([engine, *daemons], 1.0) == [(89.0, 102.0)]


def test_what_a_sync_has_found_needs_no_witness() -> None:
    case = _case()
    _add(case, _told(HERE, "container.died", 8, "alice", seen_by="sync"))
    assert judge(case).faults == []
