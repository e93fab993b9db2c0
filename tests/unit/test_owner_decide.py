# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who wins over whom, what is a contradiction, and what an incomplete look may not undo."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from ds01.core.owner_decide import decide
from ds01.core.owner_words import summary
from ds01.core.owners import (
    ADMIN,
    CERTAIN,
    GATEWAY,
    METHODS,
    NONE,
    PROCESS,
    WEAK,
    Account,
    ContainerFacts,
    Made,
    Mount,
    Owner,
    SetBy,
)
from owner_cases import (
    ALICE,
    BAKER,
    BOB,
    DANA,
    EVERYBODY,
    NOBODY,
    ROOT,
    Accounts,
    box,
    brief,
    look_at,
    made_by,
    owner_of,
    set_to,
)

GONE = "(no such account, or no longer)"
FOLDER = "devcontainer.local_folder"
WORKING_DIR = "com.docker.compose.project.working_dir"

# How each method comes to name an account: what it adds to a container's facts.
SIGNS: dict[str, Any] = {
    "ds01_label": lambda who: {"labels": {"ds01.user": who.name}},
    "aime_label": lambda who: {"labels": {"aime.mlc.USER": who.name}},
    "container_name": lambda who: {"name": f"proj._.{who.uid}"},
    "devcontainer": lambda who: {"labels": {FOLDER: f"/dev/{who.name}"}},
    "mount_path": lambda who: {"mounts": [f"{who.home}/proj"]},
    "compose_dir": lambda who: {"labels": {WORKING_DIR: f"/compose/{who.name}"}},
    "cgroup": lambda who: {"cgroup_parent": f"ds01-student-{who.name}.slice"},
    "process": lambda who: {"uids": (who.uid,)},
}
PAIRS = list(combinations(SIGNS, 2))
PLACES = {
    f"{top}{who.name}{end}": who.uid
    for who in (ALICE, BOB)
    for top, end in (("/dev/", ""), ("/compose/", ""), ("/home/", "/proj"), ("/home/", ""))
} | {"/": 0, "/home": 0}


def signs(**who: Account) -> ContainerFacts:
    """A container in which each method names somebody."""
    known: dict[str, Any] = {"labels": {}}
    for method, account in who.items():
        for key, value in SIGNS[method](account).items():
            known[key] = {**known[key], **value} if key == "labels" else value
    return box(**known)


@pytest.mark.parametrize("method", SIGNS)
def test_each_method_is_weak_alone(method: str) -> None:
    owner = owner_of(signs(**{method: ALICE}), files=PLACES)
    assert brief(owner) == ("alice", method, WEAK)
    assert owner.evidence[0].words.count("; weak: ") == 1
    assert not owner.contradictions
    assert not owner.incomplete


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_first_of_two_methods_decides(first: str, second: str) -> None:
    for one, two in ((ALICE, BOB), (BOB, ALICE)):
        owner = owner_of(signs(**{first: one, second: two}), files=PLACES)
        assert brief(owner) == (one.name, first, WEAK)
        assert [item.method for item in owner.evidence] == [first, second]
        if second == PROCESS:
            assert owner.contradictions == ()
        else:
            (against,) = owner.contradictions
            assert two.name in against
            assert "weak" not in against


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_methods_that_agree_are_no_contradiction(first: str, second: str) -> None:
    owner = owner_of(signs(**{first: ALICE, second: ALICE}), files=PLACES)
    assert brief(owner) == ("alice", first, WEAK)
    assert [item.method for item in owner.evidence] == [first, second]
    assert owner.contradictions == ()


def test_the_order_is_the_one_that_is_told() -> None:
    owner = owner_of(
        signs(**dict.fromkeys(SIGNS, ALICE)), made_by(ALICE), set_to(ALICE), files=PLACES
    )
    assert tuple(item.method for item in owner.evidence) == METHODS
    assert (owner.method, owner.contradictions) == (ADMIN, ())


# --- forgery --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SIGNS)
def test_the_gateways_record_wins_over_everything_forged(method: str) -> None:
    owner = owner_of(signs(**{method: BOB}), made_by(ALICE), files=PLACES)
    assert brief(owner) == ("alice", GATEWAY, CERTAIN)
    assert len(owner.contradictions) == (method != PROCESS)
    assert all("bob" in words for words in owner.contradictions)


@pytest.mark.parametrize("method", SIGNS)
def test_an_administrators_word_wins_over_everything_forged(method: str) -> None:
    owner = owner_of(signs(**{method: BOB}), None, set_to(ALICE), files=PLACES)
    assert brief(owner) == ("alice", ADMIN, CERTAIN)
    assert len(owner.contradictions) == (method != PROCESS)


@pytest.mark.parametrize("method", SIGNS)
@pytest.mark.parametrize("who", [ROOT, NOBODY, Account(1099, "ghost")])
def test_who_is_no_person_is_an_owner_too_if_it_is_certain(method: str, who: Account) -> None:
    facts = signs(**{method: ALICE})
    assert brief(owner_of(facts, made_by(who), files=PLACES)) == (who.name, GATEWAY, CERTAIN)
    assert brief(owner_of(facts, None, set_to(who), files=PLACES)) == (who.name, ADMIN, CERTAIN)
    both = owner_of(facts, made_by(ALICE), set_to(who), files=PLACES)
    assert brief(both) == (who.name, ADMIN, CERTAIN)


def test_all_together_forged_change_nothing() -> None:
    everything = signs(**dict.fromkeys(SIGNS, BOB))
    owner = owner_of(everything, made_by(ALICE), files=PLACES)
    assert brief(owner) == ("alice", GATEWAY, CERTAIN)
    assert len(owner.contradictions) == len(SIGNS) - 1
    assert owner.evidence[0].words == "the gateway saw alice make it"


@pytest.mark.parametrize("method", SIGNS)
@pytest.mark.parametrize("who", [ALICE, ROOT, Account(1099, "ghost")])
def test_what_was_asked_in_a_container_is_as_certain(method: str, who: Account) -> None:
    made = made_by(who, container="4f" * 32)
    owner = owner_of(signs(**{method: BOB}), made, files=PLACES)
    assert brief(owner) == (who.name, GATEWAY, CERTAIN)
    assert len(owner.contradictions) == (method != PROCESS)
    assert not owner_of(box(mounts=["/x"]), made, unreachable=["/x"]).incomplete
    assert brief(owner_of(box(), made, set_to(BOB))) == ("bob", ADMIN, CERTAIN)


def test_an_administrators_word_wins_over_the_gateways_record() -> None:
    owner = owner_of(box(), made_by(ALICE), set_to(BOB, "it is bob's thesis"))
    assert brief(owner) == ("bob", ADMIN, CERTAIN)
    assert owner.contradictions == ("the gateway saw alice make it",)
    said = "dana, an administrator, said on 2025-10-09 that it is bob's (it is bob's thesis)"
    assert owner.evidence[0].words == said
    assert owner_of(box(), made_by(ALICE), set_to(ALICE)).contradictions == ()


@pytest.mark.parametrize("nobodys", ["root", "0", "nobody", "ds01-dashboard", "ghost", "1099"])
@pytest.mark.parametrize("method", ["mount_path", "compose_dir", "cgroup", "aime_label"])
def test_a_label_cannot_make_a_container_nobodys(nobodys: str, method: str) -> None:
    facts = signs(**{method: ALICE})
    facts = replace(facts, labels={**facts.labels, "ds01.user": nobodys})
    owner = owner_of(facts, files=PLACES)
    assert brief(owner) == ("alice", method, WEAK)
    assert len(owner.contradictions) == 1
    assert owner.contradictions[0].startswith("its label ds01.user names ")


STEP = ContainerFacts(
    "c" * 64,
    "angry_jones",
    image=f"sha256:{'1' * 64}",
    labels={"ds01.user": "bob"},
    cgroup_parent="ds01-student-bob.slice",
    uids=(1002,),
)


@pytest.mark.parametrize(
    ("facts", "is_step"),
    [
        (STEP, True),
        (replace(STEP, image="1" * 12, restart_policy="no"), True),
        (replace(STEP, image="lab/base"), False),
        (replace(STEP, name="train"), False),
        (replace(STEP, mounts=(Mount("/home/bob", False),)), False),
        (replace(STEP, restart_policy="always"), False),
    ],
)
def test_a_dockerfile_charges_nobody_with_the_steps_of_its_build(
    facts: ContainerFacts, is_step: bool
) -> None:
    """The engine makes their containers, so the door saw nobody make them."""
    found = decide(facts, None, None, Accounts(EVERYBODY), {})
    assert found.known is not is_step
    through_the_door = decide(facts, made_by(ALICE), None, Accounts(EVERYBODY), {})
    assert through_the_door.user == "alice" and through_the_door.contradictions


@pytest.mark.parametrize("who", ["root", "ghost"])
def test_what_is_only_read_and_processes_come_after_a_label(who: str) -> None:
    for more in ({"mounts": ["/home/alice/proj:ro"]}, {"uids": (1001,)}):
        owner = owner_of(box(labels={"ds01.user": who}, **more), files=PLACES)
        assert (owner.user, owner.contradictions) == (who, ())


def test_a_dataset_that_is_read_is_no_contradiction() -> None:
    facts = box(mounts=["/home/bob/dataset:ro"], labels={"ds01.user": "alice"})
    owner = owner_of(facts)
    assert (owner.user, owner.contradictions) == ("alice", ())
    assert [item.user for item in owner.evidence] == ["alice", "bob"]
    # Nor does it decide before anything else that names somebody.
    compose = {WORKING_DIR: "/home/alice/proj"}
    assert owner_of(box(mounts=["/home/bob/dataset:ro"], labels=compose)).user == "alice"
    assert owner_of(box(mounts=["/home/bob/dataset"], labels=compose)).user == "bob"


def test_contradictions_are_told_once_each() -> None:
    labels = {"ds01.user": "alice", "aime.mlc": "bob", "aime.mlc.USER": "bob", "ds01.uid": "1003"}
    owner = owner_of(box(labels=labels, name="x._.1002", mounts=["/home/bob/proj"]))
    assert owner.contradictions == (
        "its label ds01.uid names carol",
        "its label aime.mlc.USER names bob",
        "its name ends in ._.1002, the user id of bob",
        "/home/bob/proj, which it mounts, is bob's",
    )


# --- accounts that are gone, renamed, numbered anew -----------------------------------------------


@pytest.mark.parametrize(
    ("labels", "name", "uid", "user", "method"),
    [
        ({"ds01.user": "ghost"}, "x", None, "ghost", "ds01_label"),
        ({"aime.mlc": "ghost"}, "x._.1099", None, "ghost", "aime_label"),
        ({}, "x._.1099", 1099, "1099", "container_name"),
        ({"ds01.user": "ghost", "ds01.uid": "1099"}, "x._.1099", 1099, "ghost", "ds01_label"),
        ({"ds01.user": "ghost", "aime.mlc": "alice"}, "x._.1099", 1001, "alice", "aime_label"),
        ({"ds01.user": "ghost", "aime.mlc": "ghoul"}, "x._.1001", 1001, "alice", "container_name"),
    ],
)
def test_who_is_gone_still_owns_unless_somebody_who_is_here_does(
    labels: dict[str, str], name: str, uid: int | None, user: str, method: str
) -> None:
    owner = owner_of(box(labels=labels, name=name))
    assert (owner.uid, owner.user, owner.method) == (uid, user, method)
    assert (GONE in owner.evidence[0].words) is (user != "alice")


def test_spellings_of_one_domain_account_agree() -> None:
    facts = box(
        labels={"ds01.user": "h.baker", "aime.mlc": "HERTIE-SCHOOL\\H.Baker"},
        name=f"x._.{BAKER.uid}",
        mounts=["/home/h.baker@hertie-school.lan/thesis"],
        cgroup_parent="ds01-researcher-h.baker\\x40hertie\\x2dschool.lan.slice",
    )
    for made in (None, made_by(BAKER)):
        owner = owner_of(facts, made)
        assert (owner.user, owner.contradictions) == (BAKER.name, ())
    # Even where the directory does not enumerate, so that the short name finds nobody.
    hidden = Accounts((ROOT,), hidden=(BAKER,))
    owner = owner_of(facts, made_by(BAKER), accounts=hidden)
    assert (owner.user, owner.contradictions) == (BAKER.name, ())


@pytest.mark.parametrize(
    ("made", "user", "words"),
    [
        (Made(1001, "alice", 0.0), "alice", "the gateway saw alice make it"),
        (Made(1001, "1001", 0.0), "alice", "the gateway saw alice make it"),
        (Made(1001, "", 0.0), "alice", "the gateway saw alice make it"),
        (Made(1099, "ghost", 0.0), "ghost", f"the gateway saw ghost {GONE} make it"),
        (Made(1099, "", 0.0), "1099", f"the gateway saw 1099 {GONE} make it"),
        (Made(1001, "eve", 0.0), "alice", "the gateway saw alice make it (then called eve)"),
        (Made(0, "root", 0.0), "root", "the gateway saw root make it"),
        (
            Made(1001, "alice", 0.0, container="4f" * 32),
            "alice",
            "the gateway saw alice make it, from within the container 4f4f4f4f4f4f",
        ),
        (
            Made(1001, "alice", 0.0, mended=True),
            "alice",
            "the gateway saw alice make it, as was found after the gateway had died meanwhile",
        ),
        (
            Made(1001, "alice", 0.0, restored=True),
            "alice",
            "the gateway saw alice make it, as the published files told when the store was lost",
        ),
        (Made(BAKER.uid, "h.baker", 0.0), BAKER.name, f"the gateway saw {BAKER.name} make it"),
        # What can be no account's name is not told further.
        (Made(1099, "x\x1b", 0.0), "1099", f"the gateway saw 1099 {GONE} make it"),
        (Made(-1, "x" * 300, 0.0), "-1", f"the gateway saw -1 {GONE} make it"),
        (Made(1001, "x\x1b", 0.0), "alice", "the gateway saw alice make it"),
    ],
)
def test_the_gateways_record_in_words(made: Made, user: str, words: str) -> None:
    owner = owner_of(box(), made)
    assert (owner.uid, owner.user, owner.method) == (made.uid, user, GATEWAY)
    assert owner.confidence == CERTAIN
    assert owner.evidence[0].words == words
    assert summary(owner) == f"{user}, because {words}"


@pytest.mark.parametrize(
    ("set_by", "words"),
    [
        (SetBy(1001, "alice", "dana", 0.0), "said on 1970-01-01 that it is alice's"),
        (SetBy(1001, "alice", "dana", float("nan")), "said that it is alice's"),
        (
            SetBy(1001, "alice", "dana", 1e300, "a" * 200),
            f"said that it is alice's ({'a' * 117}...)",
        ),
        (
            SetBy(1001, "eve", "dana", 0.0),
            "said on 1970-01-01 that it is alice's (then called eve)",
        ),
        (SetBy(1099, "ghost", "dana", 0.0), f"said on 1970-01-01 that it is ghost {GONE}'s"),
    ],
)
def test_an_administrators_word_in_words(set_by: SetBy, words: str) -> None:
    owner = owner_of(box(), None, set_by)
    assert owner.evidence[0].words == f"dana, an administrator, {words}"
    assert (owner.uid, owner.method) == (set_by.uid, ADMIN)


def test_a_number_that_was_given_to_somebody_else_is_told_by_the_number() -> None:
    # bob was deleted, and his number is eve's now: whatever bears the number is eve's, the name nobody's.
    eve = Account(1002, "eve", "/home/eve")
    accounts = Accounts((ALICE, eve))
    owner = owner_of(box(labels={"ds01.user": "bob"}), made_by(BOB), accounts=accounts)
    assert (owner.uid, owner.user) == (1002, "eve")
    assert owner.contradictions == (f"its label ds01.user names bob {GONE}",)


# --- in one line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"mounts": ["/home/alice/proj"]},
            "alice, because /home/alice/proj, which it mounts, is alice's; weak: anybody who may mount "
            "it could have",
        ),
        (
            {"labels": {"ds01.user": "ghost"}},
            f"ghost, because its label ds01.user names ghost {GONE}; weak: whoever made the container, "
            "or its image, could have written that",
        ),
        ({}, "nobody is known: nothing about it names anybody"),
        (
            {"labels": {FOLDER: "/Users/alice/x"}},
            "nobody is known: /Users/alice/x is not found on this host",
        ),
        (
            {"labels": {FOLDER: "/Users/alice/x"}, "name": "x._.y"},
            "nobody is known: its name ends in y, which is no user id; /Users/alice/x is not found on "
            "this host",
        ),
    ],
)
def test_the_whole_in_one_line(facts: dict[str, Any], words: str) -> None:
    assert summary(owner_of(box(**facts))) == words


def test_an_owner_without_evidence_can_be_told_too() -> None:
    assert summary(Owner(1001, "alice", "mount_path", WEAK)) == "alice"
    assert summary(Owner()) == "nobody is known: nothing about it names anybody"
    assert Owner().confidence == NONE
    assert {DANA, *EVERYBODY} == set(EVERYBODY)


def test_a_path_that_is_given_but_was_not_asked_for_does_not_matter() -> None:
    facts = box(mounts=["/home/alice/proj"])
    paths = look_at(["/home/alice/proj", "/home/alice", "/home", "/home/bob/proj", "/data/bob"])
    assert decide(facts, None, None, Accounts(), paths) == owner_of(facts)
