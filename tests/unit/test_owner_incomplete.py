# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an incomplete look may not undo, and whose things are that are no containers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ds01.core.owner_decide import decide, decide_thing, keep
from ds01.core.owner_words import summary
from ds01.core.owners import ADMIN, CERTAIN, GATEWAY, WEAK, WITH_CONTAINER, Made, Owner
from owner_cases import ALICE, BOB, CAROL, Accounts, box, brief, made_by, owner_of, set_to

FOLDER = "devcontainer.local_folder"
WORKING_DIR = "com.docker.compose.project.working_dir"

# --- what could not be looked at ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "made", "user", "incomplete"),
    [
        ({}, None, "", True),
        ({"labels": {"ds01.user": "bob"}}, None, "bob", False),
        ({"labels": {"ds01.user": "ghost"}}, None, "ghost", True),
        ({"labels": {"ds01.user": "root"}}, None, "root", True),
        ({"labels": {FOLDER: "/home/bob/proj"}}, None, "bob", False),
        ({"labels": {WORKING_DIR: "/home/bob/proj"}}, None, "bob", True),
        ({"cgroup_parent": "ds01-student-bob.slice"}, None, "bob", True),
        ({"uids": (1002,)}, None, "bob", True),
        ({}, made_by(BOB), "bob", False),
    ],
)
def test_what_is_out_of_reach_matters_only_if_it_could_decide(
    known: dict[str, Any], made: Made | None, user: str, incomplete: bool
) -> None:
    facts = box(mounts=["/home/alice/proj"], **known)
    owner = owner_of(facts, made, unreachable=["/home/alice"])
    assert (owner.user, owner.incomplete) == (user, incomplete)
    assert owner.evidence[-1].words == "/home/alice/proj could not be looked at"
    assert summary(owner).endswith("; not everything could be looked at") is incomplete


def test_an_unreachable_folder_is_incomplete_too() -> None:
    for label in (FOLDER, WORKING_DIR):
        owner = owner_of(box(labels={label: "/home/alice/proj"}), unreachable=["/home/alice"])
        assert owner.incomplete
    facts = box(mounts=["/home/alice/proj"])
    assert decide(facts, None, None, Accounts(), {}).incomplete
    assert not decide(box(mounts=["x"]), None, None, Accounts(), {}).incomplete


@pytest.mark.parametrize("hung", ["/home/alice", "/home/bob"])
def test_one_of_several_mounts_that_hangs_could_decide_otherwise(hung: str) -> None:
    facts = box(mounts=["/home/alice/proj", "/home/bob/proj"])
    owner = owner_of(facts, unreachable=[hung])
    assert owner.incomplete
    assert owner.user == ("bob" if hung == "/home/alice" else "alice")
    whole = owner_of(box(mounts=["/home/alice/proj", "/data/bob"]))
    part = owner_of(box(mounts=["/home/alice/proj", "/data/bob"]), unreachable=["/home/alice"])
    assert (whole.user, part.user, keep(whole, part).user) == ("alice", "bob", "alice")


def known(method: str, confidence: str = WEAK, incomplete: bool = False) -> Owner:
    return Owner(1001, "alice", method, confidence, incomplete=incomplete)


NOW = Owner(1002, "bob", "compose_dir", WEAK, incomplete=True)
LOST = Owner(incomplete=True)


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        (None, LOST, False),
        (Owner(), LOST, False),
        (known("mount_path"), LOST, True),
        (known("process"), LOST, True),
        (known("mount_path"), NOW, True),
        (known("ds01_label"), NOW, True),
        (known("compose_dir"), NOW, True),
        (known("cgroup"), NOW, False),
        (known("process"), NOW, False),
        # Theirs is always at hand: it is not kept beyond its end.
        (known(ADMIN, CERTAIN), NOW, False),
        (known(GATEWAY, CERTAIN), LOST, False),
        (known(GATEWAY), LOST, False),
        # A complete look always counts.
        (known("mount_path"), Owner(), False),
        (known("mount_path"), replace(NOW, incomplete=False), False),
        (known(WITH_CONTAINER), LOST, False),
    ],
)
def test_a_better_conclusion_outlives_a_look_that_could_not_see(
    before: Owner | None, now: Owner, kept: bool
) -> None:
    assert keep(before, now) is (before if kept else now)


def test_a_home_that_hangs_does_not_make_a_container_somebody_elses() -> None:
    facts = box(mounts=["/home/alice/proj", "/home/bob/dataset:ro"], uids=(1002,))
    before = owner_of(facts)
    hung = owner_of(facts, unreachable=["/home/alice"])
    assert (before.user, hung.user, hung.incomplete) == ("alice", "bob", True)
    assert keep(before, hung) is before
    assert keep(before, owner_of(facts)) == before


# --- things that are no containers ----------------------------------------------------------------


def test_a_thing_is_its_makers_or_whose_an_administrator_says() -> None:
    assert decide_thing(None, None, Accounts()) == Owner()
    made = decide_thing(made_by(ALICE), None, Accounts())
    assert brief(made) == ("alice", GATEWAY, CERTAIN)
    both = decide_thing(made_by(ALICE), set_to(BOB), Accounts())
    assert brief(both) == ("bob", ADMIN, CERTAIN)
    assert both.contradictions == ("the gateway saw alice make it",)


def test_a_volume_that_came_with_a_container_is_the_containers_owners() -> None:
    container = owner_of(box(mounts=["/home/alice/proj"]))
    volume = decide_thing(None, None, Accounts(), container)
    assert (volume.uid, *brief(volume)) == (1001, "alice", WITH_CONTAINER, WEAK)
    assert summary(volume) == (
        "alice, because it was made together with alice's container; weak: whose that is, is known "
        "no better"
    )
    sure = decide_thing(None, None, Accounts(), owner_of(box(), made_by(ALICE)))
    assert (*brief(sure), sure.evidence[0].words) == (
        "alice",
        WITH_CONTAINER,
        CERTAIN,
        "it was made together with alice's container",
    )
    assert decide_thing(None, None, Accounts(), Owner()) == Owner()
    # Who made it through the door comes first, however sure the container's owner is.
    other = decide_thing(made_by(CAROL), None, Accounts(), owner_of(box(), made_by(ALICE)))
    assert (*brief(other), other.contradictions) == (
        "carol",
        GATEWAY,
        CERTAIN,
        ("it was made together with alice's container",),
    )
    ghost = decide_thing(None, None, Accounts(), owner_of(box(labels={"ds01.user": "ghost"})))
    assert (ghost.uid, ghost.user) == (None, "ghost")
