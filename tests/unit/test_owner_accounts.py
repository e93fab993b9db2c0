# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name or a number means one account, or nobody."""

from __future__ import annotations

import pytest
from ds01.core.owner_accounts import (
    Directory,
    Named,
    is_name,
    is_person,
    number,
    parts_of,
    same_person,
    same_spelling,
)
from ds01.core.owners import Account
from owner_cases import ALICE, BAKER, EVERYBODY, ROOT, Accounts

PLAIN = Account(2001, "h.baker", "/home/h.baker")
ELSEWHERE = Account(2002, "h.baker@other.lan", "/home/other/h.baker")


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("0", 0),
        ("1001", 1001),
        ("1722830498", 1722830498),
        ("4294967294", 4294967294),
        ("4294967295", None),
        ("99999999999999", None),
        ("9" * 100_000, None),
        ("01001", None),
        ("-1", None),
        ("+1001", None),
        ("1_001", None),
        ("1001 ", None),
        ("1001\n", None),
        ("1e3", None),
        ("0x3e9", None),
        ("", None),
        # Digits of other scripts, which int() and isdigit() take.
        ("\uff11\uff10\uff10\uff11", None),
        ("\u0661\u0660\u0660\u0661", None),
        ("\u00b2", None),
    ],
)
def test_a_user_id_is_written_in_plain_digits(text: str, uid: int | None) -> None:
    assert number(text) == uid


@pytest.mark.parametrize(
    ("uid", "person"),
    [
        (-1, False),
        (0, False),
        (999, False),
        (1000, True),
        (60000, True),
        (65533, True),
        (65534, False),
        (65535, False),
        (65536, True),
        (1722830498, True),
        (2**32 - 3, True),
        (2**32 - 2, False),
        (2**32 - 1, False),
        (2**64, False),
    ],
)
def test_people_are_numbered_from_1000_directories_far_above(uid: int, person: bool) -> None:
    assert is_person(uid) is person


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("alice", True),
        ("h.baker@hertie-school.lan", True),
        ("SCHOOL\\h.baker", True),
        ("müller", True),
        ("1001", True),
        ("Jane Doe", True),
        ("x" * 256, True),
        ("x" * 257, False),
        ("x" * 100_000, False),
        ("", False),
        (" alice", False),
        ("alice\n", False),
        ("al\x1b[31mice", False),
        ("alice\u202e", False),
        ("al\ud800ice", False),
        ("al\0ice", False),
        ("alice:x:0:0", False),
        ("../alice", False),
    ],
)
def test_only_what_can_be_a_name_is_asked_for(text: str, good: bool) -> None:
    accounts = Accounts()
    assert is_name(text) is good
    found = Directory(accounts).of_name(text)
    assert isinstance(found, Named) is good
    assert bool(accounts.asked) is good
    if isinstance(found, str):
        assert found.endswith("which is no account's name")
        assert found.isprintable()
        assert len(found) < 200


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("alice", ("alice", "")),
        ("Alice", ("Alice", "")),
        ("H.Baker@Hertie-School.LAN", ("h.baker", "hertie-school.lan")),
        ("SCHOOL\\H.Baker", ("h.baker", "school")),
        ("a@b@c", ("a@b", "c")),
        ("@lan", ("@lan", "")),
        ("alice@", ("alice@", "")),
        ("\\alice", ("\\alice", "")),
        ("", ("", "")),
    ],
)
def test_a_name_has_a_short_form_and_perhaps_a_domain(name: str, parts: tuple[str, str]) -> None:
    assert parts_of(name) == parts


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("alice", "alice", True),
        ("alice", "Alice", False),
        ("alice", "bob", False),
        ("h.baker", "h.baker@hertie-school.lan", True),
        ("H.Baker", "h.baker@hertie-school.lan", True),
        ("h.baker@HERTIE-SCHOOL.LAN", "h.baker@hertie-school.lan", True),
        ("HERTIE-SCHOOL\\h.baker", "h.baker@hertie-school.lan", True),
        ("hertie-school\\H.BAKER", "h.baker@hertie-school.lan", True),
        ("OTHER\\h.baker", "h.baker@hertie-school.lan", False),
        ("h.baker@hertie-school.org", "h.baker@hertie-school.lan", False),
        ("h.baker@evil.hertie-school.lan", "h.baker@hertie-school.lan", False),
        ("h.baker@evil", "h.baker@hertie-school.lan", False),
        ("HERTIE-SCHOOL\\h.baker", "OTHER\\h.baker", False),
        ("a.baker@hertie-school.lan", "h.baker@hertie-school.lan", False),
        ("a.baker", "h.baker@hertie-school.lan", False),
        ("@lan", "alice", False),
        # Windows keeps 15 characters.
        ("UNIVERSITY-OF-B\\x", "x@university-of-berlin.example.org", True),
        ("UNIVERSITY-OF-X\\x", "x@university-of-berlin.example.org", False),
    ],
)
def test_domains_may_be_spelt_differently(one: str, other: str, same: bool) -> None:
    assert same_spelling(one, other) is same
    assert same_spelling(other, one) is same


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("alice", Named(1001, "alice", True)),
        ("Alice", Named(None, "Alice", False)),
        ("h.baker", Named(BAKER.uid, BAKER.name, True)),
        ("H.BAKER@HERTIE-SCHOOL.LAN", Named(BAKER.uid, BAKER.name, True)),
        ("HERTIE-SCHOOL\\h.baker", Named(BAKER.uid, BAKER.name, True)),
        ("EVIL\\h.baker", Named(None, "EVIL\\h.baker", False)),
        ("h.baker@evil.lan", Named(None, "h.baker@evil.lan", False)),
        ("1001", Named(1001, "alice", True)),
        ("1099", Named(1099, "1099", False)),
        ("0", Named(0, "root", True)),
        ("\uff11\uff10\uff10\uff11", Named(None, "\uff11\uff10\uff10\uff11", False)),
        ("ghost", Named(None, "ghost", False)),
        # The host's name service decides whose an account's name in a domain is.
        ("alice@hertie-school.lan", Named(1001, "alice", True)),
    ],
)
def test_whom_a_name_means(text: str, meant: Named) -> None:
    assert Directory(Accounts()).of_name(text) == meant


@pytest.mark.parametrize("text", ["99999999999999", "4294967295", "01001", "9" * 200])
def test_digits_that_are_no_user_id_mean_nobody(text: str) -> None:
    named = Directory(Accounts()).of_name(text)
    assert isinstance(named, str)
    assert named.endswith("which is no user id")
    assert Directory(Accounts((Account(5000, text, ""),))).of_name(text) == Named(5000, text, True)


def test_an_account_that_is_named_in_digits_comes_before_the_user_id() -> None:
    digits = Account(5000, "1001", "/home/1001")
    assert Directory(Accounts((ALICE, digits))).of_name("1001") == Named(5000, "1001", True)
    # In a container's name it is always the user id.
    assert Directory(Accounts((ALICE, digits))).of_number("1001") == Named(1001, "alice", True)


def test_the_very_name_comes_before_another_spelling() -> None:
    directory = Directory(Accounts((*EVERYBODY, PLAIN, ELSEWHERE)))
    assert directory.of_name("h.baker") == Named(2001, "h.baker", True)
    assert directory.of_name("OTHER\\h.baker") == "OTHER\\h.baker, who may be any of " + (
        "h.baker and h.baker@other.lan"
    )


def test_two_domains_with_one_short_name_mean_nobody() -> None:
    accounts = Accounts((*EVERYBODY, ELSEWHERE))
    assert Directory(accounts).of_name("h.baker") == (
        "h.baker, who may be any of h.baker@hertie-school.lan and h.baker@other.lan"
    )
    named = Directory(accounts).of_name("h.baker@hertie-school.lan")
    assert named == Named(BAKER.uid, BAKER.name, True)


def test_an_account_that_does_not_enumerate_is_found_by_its_very_name() -> None:
    directory = Directory(Accounts((ROOT,), hidden=(BAKER,)))
    assert directory.of_name(BAKER.name) == Named(BAKER.uid, BAKER.name, True)
    assert directory.of_name("h.baker") == Named(None, "h.baker", False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Named(1001, "alice", True), Named(1001, "alice", True), True),
        (Named(1001, "alice", True), Named(1001, "1001", False), True),
        (Named(1001, "alice", True), Named(1002, "alice", True), False),
        # The account was deleted and made anew.
        (Named(1005, "bob", False), Named(1002, "bob", True), False),
        (Named(None, "ghost", False), Named(None, "ghost", False), True),
        (Named(None, "ghost", False), Named(None, "ghoul", False), False),
        (Named(None, "ghost", False), Named(1001, "alice", True), False),
        # The directory does not enumerate the short name.
        (Named(None, "h.baker", False), Named(BAKER.uid, BAKER.name, True), True),
        (Named(None, "h.baker@evil.lan", False), Named(BAKER.uid, BAKER.name, True), False),
    ],
)
def test_people_are_the_same_by_their_user_id(one: Named, other: Named, same: bool) -> None:
    assert same_person(one, other) is same
    assert same_person(other, one) is same


def test_the_directory_is_asked_once_for_each() -> None:
    accounts = Accounts()
    directory = Directory(accounts)
    for _again in range(3):
        directory.of_name("alice")
        directory.of_uid(1099)
        directory.person(1002)
    assert accounts.asked == ["alice", 1099, 1002]
    assert directory.account(-1) is None
    assert directory.account(2**32) is None
    assert directory.person(None) is None
    assert directory.person(998) is None
    assert accounts.asked == ["alice", 1099, 1002]


@pytest.mark.parametrize(
    ("named", "person", "words"),
    [
        (Named(1001, "alice", True), True, "alice"),
        (Named(0, "root", True), False, "root"),
        (Named(998, "ds01-dashboard", True), False, "ds01-dashboard"),
        (Named(1099, "1099", False), False, "1099 (no such account, or no longer)"),
        (
            Named(None, "bob; certain", False),
            False,
            '"bob; certain" (no such account, or no longer)',
        ),
    ],
)
def test_a_named_one_in_words(named: Named, person: bool, words: str) -> None:
    assert named.person is person
    assert named.words == words
