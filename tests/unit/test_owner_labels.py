# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels and names name whom they should, say why in words, and are silent where they should be."""

from __future__ import annotations

import pytest
from ds01.core.owners import Account
from owner_cases import BAKER, CAROL, EVERYBODY, Accounts, box, found, owner_of, silent

LABEL = "whoever made the container, or its image, could have written that"
GONE = "(no such account, or no longer)"
FOLDER = "devcontainer.local_folder"

# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "uid", "user", "said"),
    [
        ({"ds01.user": "alice"}, 1001, "alice", "label ds01.user names alice"),
        ({"ds01.uid": "1001"}, 1001, "alice", "label ds01.uid names alice"),
        ({"ds01.user": "1001"}, 1001, "alice", "label ds01.user names alice"),
        ({"ds01.user": "", "ds01.uid": "1001"}, 1001, "alice", "label ds01.uid names alice"),
        (
            {"ds01.user": "alice", "ds01.uid": "1001"},
            1001,
            "alice",
            "labels ds01.user and ds01.uid name alice",
        ),
        (
            {"ds01.user": "h.baker", "ds01.uid": str(BAKER.uid)},
            BAKER.uid,
            BAKER.name,
            f"labels ds01.user and ds01.uid name {BAKER.name}",
        ),
        ({"ds01.user": "ghost"}, None, "ghost", f"label ds01.user names ghost {GONE}"),
        ({"ds01.uid": "1099"}, 1099, "1099", f"label ds01.uid names 1099 {GONE}"),
        (
            {"ds01.user": "ghost", "ds01.uid": "1099"},
            1099,
            "ghost",
            f"labels ds01.user and ds01.uid name ghost {GONE}",
        ),
        ({"ds01.user": "root"}, 0, "root", "label ds01.user names root"),
        ({"ds01.user": "0"}, 0, "root", "label ds01.user names root"),
        ({"ds01.user": "65534"}, 65534, "nobody", "label ds01.user names nobody"),
        (
            {"ds01.user": "bob; certain"},
            None,
            "bob; certain",
            f'label ds01.user names "bob; certain" {GONE}',
        ),
        (
            {"ds01.user": 'x" is a liar, "bob'},
            None,
            'x" is a liar, "bob',
            f"label ds01.user names \"x' is a liar, 'bob\" {GONE}",
        ),
    ],
)
def test_our_labels(labels: dict[str, str], uid: int | None, user: str, said: str) -> None:
    owner = owner_of(box(labels=labels))
    verb = "its " + said
    assert found(owner) == ("ds01_label", uid, user, f"{verb}; weak: {LABEL}")
    assert owner.contradictions == ()


@pytest.mark.parametrize(
    ("labels", "who", "against"),
    [
        ({"ds01.user": "alice", "ds01.uid": "1002"}, "alice", "its label ds01.uid names bob"),
        (
            {"ds01.user": "alice", "ds01.uid": "1099"},
            "alice",
            f"its label ds01.uid names 1099 {GONE}",
        ),
        ({"ds01.user": "alice", "ds01.uid": "0"}, "alice", "its label ds01.uid names root"),
        # Renamed: the user id is what lasts.
        (
            {"ds01.user": "ghost", "ds01.uid": "1001"},
            "alice",
            f"its label ds01.user names ghost {GONE}",
        ),
    ],
)
def test_our_labels_that_differ(labels: dict[str, str], who: str, against: str) -> None:
    owner = owner_of(box(labels=labels))
    assert found(owner)[2] == who
    assert owner.contradictions == (against,)


def test_a_name_that_is_not_enumerated_is_found_by_the_user_id_with_it() -> None:
    accounts = Accounts((CAROL,), hidden=(BAKER,))
    labels = {"ds01.user": "h.baker", "ds01.uid": str(BAKER.uid)}
    owner = owner_of(box(labels=labels), accounts=accounts)
    assert (owner.uid, owner.user, owner.contradictions) == (BAKER.uid, BAKER.name, ())


@pytest.mark.parametrize(
    ("label", "value", "note"),
    [
        ("ds01.uid", "alice", "its label ds01.uid names alice, which is no user id"),
        (
            "ds01.uid",
            "99999999999999",
            "its label ds01.uid names 99999999999999, which is no user id",
        ),
        (
            "ds01.uid",
            "\uff11\uff10\uff10\uff11",
            "its label ds01.uid names \uff11\uff10\uff10\uff11, which is no user id",
        ),
        ("ds01.uid", "-1", "its label ds01.uid names -1, which is no user id"),
        (
            "ds01.user",
            "99999999999999",
            "its label ds01.user names 99999999999999, which is no user id",
        ),
        ("ds01.user", " alice", 'its label ds01.user names " alice", which is no account\'s name'),
        (
            "ds01.user",
            "a\x1b[2Jb",
            'its label ds01.user names "a?[2Jb", which is no account\'s name',
        ),
        (
            "aime.mlc.USER",
            "a\nb",
            'its label aime.mlc.USER names "a?b", which is no account\'s name',
        ),
    ],
)
def test_labels_that_name_nobody(label: str, value: str, note: str) -> None:
    silent(owner_of(box(labels={label: value})), note)


def test_a_huge_label_is_cut() -> None:
    for value in ("x" * 100_000, "\ud800" * 100_000, "\u202e" * 100_000):
        owner = owner_of(box(labels={"ds01.user": value, "aime.mlc": value, FOLDER: f"/{value}"}))
        assert not owner.known
        assert len(owner.evidence) == 3
        assert all(len(item.words) < 200 and item.words.isprintable() for item in owner.evidence)


@pytest.mark.parametrize("label", ["aime.mlc.USER", "aime.mlc", "aime.mlc.DS01_USER"])
def test_the_labels_of_aime(label: str) -> None:
    owner = owner_of(box(labels={label: "alice", "aime.mlc.NAME": "bob"}))
    words = f"its label {label} names alice; weak: {LABEL}"
    assert found(owner) == ("aime_label", 1001, "alice", words)


def test_the_labels_of_aime_that_differ() -> None:
    owner = owner_of(box(labels={"aime.mlc": "bob", "aime.mlc.USER": "alice"}))
    assert found(owner)[2] == "alice"
    assert owner.contradictions == ("its label aime.mlc names bob",)
    same = owner_of(box(labels={"aime.mlc": "1001", "aime.mlc.USER": "alice"}))
    assert len(same.evidence) == 1


def test_ambiguous_names_mean_nobody() -> None:
    other = Account(2002, "h.baker@other.lan", "")
    accounts = Accounts((*EVERYBODY, other))
    note = "h.baker, who may be any of h.baker@hertie-school.lan and h.baker@other.lan"
    for label in ("ds01.user", "aime.mlc.USER"):
        owner = owner_of(box(labels={label: "h.baker"}), accounts=accounts)
        silent(owner, f"its label {label} names {note}")


# --- name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "uid", "user", "whose"),
    [
        ("proj._.1001", 1001, "alice", "alice"),
        ("._.1001", 1001, "alice", "alice"),
        ("a._.1002._.1001", 1001, "alice", "alice"),
        ("a._._.1001", 1001, "alice", "alice"),
        ("proj._.1722830498", BAKER.uid, BAKER.name, BAKER.name),
        ("proj._.0", 0, "root", "root"),
        ("proj._.998", 998, "ds01-dashboard", "ds01-dashboard"),
        ("proj._.1099", 1099, "1099", f"nobody {GONE}"),
    ],
)
def test_names_as_aime_gives_them(name: str, uid: int, user: str, whose: str) -> None:
    words = f"its name ends in ._.{uid}, the user id of {whose}; weak: "
    words += "whoever made or renamed the container chose its name"
    assert found(owner_of(box(name=name))) == ("container_name", uid, user, words)


@pytest.mark.parametrize(
    "name", ["proj", "alice", "1001", "proj_1001", "proj.1001", "proj._1001", ""]
)
def test_other_names_say_nothing(name: str) -> None:
    silent(owner_of(box(name=name)))


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ("99999999999999", "99999999999999"),
        ("4294967295", "4294967295"),
        ("alice", "alice"),
        ("1001x", "1001x"),
        ("01001", "01001"),
        ("", '""'),
        ("\uff11\uff10\uff10\uff11", "\uff11\uff10\uff10\uff11"),
    ],
)
def test_a_name_that_ends_in_no_user_id(end: str, shown: str) -> None:
    silent(owner_of(box(name=f"x._.{end}")), f"its name ends in {shown}, which is no user id")


def test_a_name_is_a_user_id_even_if_an_account_is_called_so() -> None:
    accounts = Accounts((*EVERYBODY, Account(5000, "1001", "/home/1001")))
    assert owner_of(box(name="x._.1001"), accounts=accounts).user == "alice"
    assert owner_of(box(labels={"ds01.user": "1001"}), accounts=accounts).uid == 5000
