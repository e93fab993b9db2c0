# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds of the owner of any container, whatever anybody writes into it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from ds01.core.owner_accounts import Named, is_person, same_person
from ds01.core.owner_decide import decide, decide_thing, keep, paths_of
from ds01.core.owner_origin import managed, origin
from ds01.core.owner_words import summary
from ds01.core.owners import (
    ADMIN,
    CERTAIN,
    CONTAINER,
    GATEWAY,
    INTERFACES,
    METHODS,
    NONE,
    TYPES,
    UNKNOWN,
    WEAK,
    Account,
    ContainerFacts,
    Made,
    Mount,
    Owner,
    PathFacts,
    Record,
    SetBy,
)
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from owner_cases import EVERYBODY, FILES, ID, Accounts

MANY = settings(max_examples=120, deadline=None, database=None)

NAMES = [one.name for one in EVERYBODY]
UIDS = [one.uid for one in EVERYBODY]
SPELT = ["h.baker", "HERTIE-SCHOOL\\h.baker", "ghost", "ghost@x", "1001", "1099", "0", "\uff11", ""]
HOSTILE = "\ud800\udcff\0\x1b\u202e\n\x85:/\\@-._ \"';"
ANYTHING = st.text(st.characters() | st.sampled_from(HOSTILE), max_size=30)
"""Control characters and lone surrogates too: JSON can say ``\\ud800``."""
named = st.sampled_from(NAMES + SPELT) | ANYTHING
numbered = st.sampled_from([str(uid) for uid in UIDS]) | st.integers().map(str) | named
uids = st.sampled_from([*UIDS, 1099, 100999, 2**32 - 1]) | st.integers()
HERE = sorted(FILES)
path = st.one_of(
    st.sampled_from(HERE),
    st.tuples(st.sampled_from(HERE), ANYTHING).map("/".join),
    st.sampled_from(
        ["/home/alice/../bob/proj", "//home/alice", "/home/alice/", ".", "C:\\x", "/\0"]
    ),
    ANYTHING,
)
LABELS: dict[str, st.SearchStrategy[str]] = {
    "ds01.user": named,
    "ds01.uid": numbered,
    "ds01.interface": st.sampled_from(INTERFACES) | ANYTHING,
    "ds01.managed": st.sampled_from(["true", "false"]) | ANYTHING,
    "aime.mlc": named,
    "aime.mlc.USER": named,
    "devcontainer.local_folder": path,
    "devcontainer.metadata": ANYTHING,
    "com.docker.compose.project": ANYTHING,
    "com.docker.compose.project.working_dir": path,
}
known_labels = st.fixed_dictionaries({}, optional=LABELS)
labels = st.tuples(known_labels, st.dictionaries(ANYTHING, ANYTHING, max_size=2)).map(
    lambda two: {**two[1], **two[0]}
)
mounts = st.lists(st.builds(Mount, path, st.booleans()), max_size=5).map(tuple)
slices = st.one_of(
    st.just(""),
    st.sampled_from(["alice", "bob", "ghost", "root", "1001"]).map("ds01-student-{}.slice".format),
    ANYTHING.map("ds01-x-{}.slice".format),
    ANYTHING,
)


def _cgroup(unit: str) -> str:
    return f"/ds01.slice/ds01-student.slice/{unit}/docker-4f.scope"


facts = st.builds(
    ContainerFacts,
    id=st.just(ID),
    name=st.tuples(ANYTHING, numbered).map("._.".join) | ANYTHING,
    labels=labels,
    mounts=mounts,
    cgroup_parent=slices,
    cgroup=st.just("") | slices.map(_cgroup) | ANYTHING,
    uids=st.lists(uids, max_size=3).map(tuple),
    tty=st.booleans(),
    stdin=st.booleans(),
    restart_policy=st.sampled_from(["", "no", "always"]) | ANYTHING,
)
moments = st.floats()
made_by = st.builds(Made, uids, named, moments, ANYTHING, ANYTHING, st.booleans(), st.booleans())
set_by = st.builds(SetBy, uids, named, named, moments, ANYTHING)
people = st.lists(st.sampled_from(EVERYBODY), unique=True).map(
    lambda rows: Accounts(rows, [Account(1500, "1001", "/"), Account(1501, "h.baker", "/home")])
)


@st.composite
def files(draw: st.DrawFn, of: ContainerFacts) -> dict[str, PathFacts]:
    """Anything that a file system could say of what is asked."""
    there = {}
    for wanted in paths_of(of):
        if draw(st.integers(0, 9)) == 0:
            continue
        there[wanted] = PathFacts(
            wanted,
            draw(st.none() | st.just(FILES.get(wanted)) | uids),
            draw(st.lists(uids, max_size=2).map(tuple)),
            draw(st.none() | uids),
            draw(st.integers(0, 9)) > 0,
        )
    return there


@st.composite
def cases(draw: st.DrawFn) -> tuple[ContainerFacts, Accounts, dict[str, PathFacts]]:
    """A container, the host's accounts and its files."""
    box = draw(facts)
    return box, draw(people), draw(files(box))


Case = tuple[ContainerFacts, Accounts, dict[str, PathFacts]]
maybe_made = st.none() | made_by
maybe_set = st.none() | set_by


def _named(uid: int | None, user: str, accounts: Accounts) -> Named:
    return Named(uid, user, uid is not None and accounts.by_uid(uid) is not None)


def _bare(**known: Any) -> Case:
    return ContainerFacts(ID, "x", **known), Accounts(), {}


@MANY
@given(cases(), maybe_made, maybe_set)
@example(_bare(cgroup_parent="ds01-x-\ud800.slice"), None, None)
@example(_bare(cgroup_parent=f"ds01-x-{'a' * 100_000}.slice"), None, None)
@example(_bare(labels={"ds01.user": "x" * 100_000, "ds01.uid": "9" * 100_000}), None, None)
@example(_bare(), Made(-1, "\ud800", float("nan")), SetBy(2**70, "\ud800" * 999, "\0", 1e300))
def test_whatever_is_written_there_is_an_owner_or_none(
    case: Case, made: Made | None, by: SetBy | None
) -> None:
    box, accounts, paths = case
    owner = decide(box, made, by, accounts, paths)
    assert owner == decide(box, made, by, accounts, paths)
    assert owner.method in (*METHODS, UNKNOWN)
    if owner.known:
        first = owner.evidence[0]
        assert (first.uid, first.user) == (owner.uid, owner.user)
        assert (first.method, first.confidence) == (owner.method, owner.confidence)
        certain = made is not None or by is not None
        assert owner.confidence == (CERTAIN if certain else WEAK)
        assert owner.user
    else:
        assert (owner.uid, owner.user, owner.confidence) == (None, "", NONE)
        assert made is None
        assert by is None
    told = [item.words for item in owner.evidence] + list(owner.contradictions) + [summary(owner)]
    for words in told[:-1]:
        assert words.isprintable()
        assert 0 < len(words) < 700
    assert told[-1].isprintable()
    json.dumps(told).encode()
    json.dumps(asdict(owner), ensure_ascii=False).encode()
    assert len(owner.user) <= 256


@MANY
@given(cases(), maybe_made, maybe_set)
def test_who_is_contradicted_is_not_who_contradicts(
    case: Case, made: Made | None, by: SetBy | None
) -> None:
    box, accounts, paths = case
    owner = decide(box, made, by, accounts, paths)
    it = _named(owner.uid, owner.user, accounts)
    others = [
        item
        for item in owner.evidence
        if item.confidence != NONE and not same_person(_named(item.uid, item.user, accounts), it)
    ]
    # Each contradiction is evidence for somebody else, without what is said of its weight.
    for words in owner.contradictions:
        assert any(item.words.startswith(words) for item in others)
    assert len(set(owner.contradictions)) == len(owner.contradictions) <= len(others)
    # And all evidence for somebody else is one, but for what is only read and for processes.
    for item in others:
        quiet = item.method == "process" or "for reading" in item.words
        assert quiet or any(item.words.startswith(words) for words in owner.contradictions)


@MANY
@given(cases(), maybe_made, st.randoms(use_true_random=False))
def test_no_order_matters(case: Case, made: Made | None, random: Any) -> None:
    box, accounts, paths = case

    def mixed(items: Any) -> list[Any]:
        shuffled = list(items)
        random.shuffle(shuffled)
        return shuffled

    other = replace(
        box,
        labels=dict(mixed(box.labels.items())),
        mounts=tuple(mixed(box.mounts)),
        uids=tuple(mixed(box.uids)),
    )
    assert paths_of(other) == paths_of(box)
    one = decide(box, made, None, accounts, paths)
    shuffled = Accounts(mixed(accounts.rows), accounts.hidden)
    two = decide(other, made, None, shuffled, dict(mixed(paths.items())))
    assert one == two
    assert origin(box, made) == origin(other, made)
    doubled = replace(box, mounts=box.mounts * 2, uids=box.uids * 2)
    assert decide(doubled, made, None, accounts, paths) == one


@MANY
@given(cases(), made_by, set_by)
def test_an_administrators_word_then_the_gateways_record_then_all_else(
    case: Case, made: Made, by: SetBy
) -> None:
    box, accounts, paths = case
    both = decide(box, made, by, accounts, paths)
    assert (both.uid, both.method, both.confidence) == (by.uid, ADMIN, CERTAIN)
    assert not both.incomplete
    seen = decide(box, made, None, accounts, paths)
    assert (seen.uid, seen.method, seen.confidence) == (made.uid, GATEWAY, CERTAIN)
    assert not seen.incomplete
    thing = decide_thing(made, by, accounts)
    assert (thing.uid, thing.user, thing.method) == (both.uid, both.user, ADMIN)
    assert decide_thing(made, None, accounts, both).uid == made.uid


@MANY
@given(cases(), cases(), maybe_made, maybe_set)
def test_no_sign_changes_a_certain_owner(
    case: Case, other: Case, made: Made | None, by: SetBy | None
) -> None:
    assume(made is not None or by is not None)
    box, accounts, paths = case
    owner = decide(box, made, by, accounts, paths)
    forged = decide(other[0], made, by, accounts, other[2])
    bare = decide(ContainerFacts(ID, "x"), made, by, accounts, {})
    for one in (owner, forged):
        assert (one.uid, one.user, one.method, one.confidence) == (
            bare.uid,
            bare.user,
            bare.method,
            bare.confidence,
        )
        assert one.evidence[0] == bare.evidence[0]


former = st.builds(
    Owner, method=st.sampled_from(METHODS), confidence=st.sampled_from([WEAK, CERTAIN])
)


@MANY
@given(cases(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_no_lesser_sign_changes_whom_a_label_names_if_it_is_a_person(
    case: Case, label: str, slice_of: str
) -> None:
    box, _accounts, paths = case
    accounts = Accounts()
    account = accounts.by_name(label)
    assert account is not None
    rest = {key: value for key, value in box.labels.items() if not key.startswith("ds01.")}
    box = replace(box, labels={**rest, "ds01.user": label})
    owner = decide(box, None, None, accounts, paths)
    if is_person(account.uid):
        assert (owner.uid, owner.method, owner.incomplete) == (account.uid, "ds01_label", False)
        more = replace(box, cgroup="", cgroup_parent=f"ds01-x-{slice_of}.slice")
        assert decide(more, None, None, accounts, paths).uid == account.uid
    else:
        # Who is no person gives way to whoever is.
        others = [i for i in owner.evidence if i.confidence == WEAK and i.method != "ds01_label"]
        loud = [i for i in others if i.method != "process" and "for reading" not in i.words]
        people_named = any(
            i.uid is not None and is_person(i.uid) and accounts.by_uid(i.uid) for i in loud
        )
        assert (owner.method != "ds01_label") is people_named


@MANY
@given(cases())
def test_what_the_file_system_does_not_say_names_nobody(case: Case) -> None:
    box, accounts, paths = case
    deaf = {
        key: value for key, value in box.labels.items() if not key.startswith(("ds01.", "aime."))
    }
    bare = replace(box, name="x", labels=deaf, cgroup="", cgroup_parent="", uids=())
    owner = decide(bare, None, None, accounts, paths)
    if owner.known:
        # Whoever is named owns one of the paths, or a directory above one, and is a person.
        owners = {one.uid for one in paths.values()} | {one.above for one in paths.values()}
        assert owner.uid in owners
        assert owner.uid is not None
        assert is_person(owner.uid)
        assert accounts.by_uid(owner.uid) is not None
    gone = {key: PathFacts(key, None, one.links, 0) for key, one in paths.items()}
    assert not decide(bare, None, None, accounts, gone).known


@MANY
@given(
    cases(),
    st.none()
    | st.builds(
        Owner, method=st.sampled_from(METHODS), confidence=st.sampled_from([WEAK, CERTAIN])
    ),
)
def test_a_complete_look_never_keeps_what_was(case: Case, before: Owner | None) -> None:
    box, accounts, paths = case
    now = decide(box, None, None, accounts, paths)
    kept = keep(before, now)
    assert kept is now or (kept is before and now.incomplete)
    whole = {key: replace(paths.get(key, PathFacts(key)), reachable=True) for key in paths_of(box)}
    seen = decide(box, None, None, accounts, whole)
    assert not seen.incomplete
    assert keep(before, seen) is seen


@MANY
@given(facts, maybe_made)
@example(ContainerFacts(ID, "x", labels={"aime.mlc." + "x" * 100_000: ""}), None)
def test_an_origin_is_always_one_of_ours(box: ContainerFacts, made: Made | None) -> None:
    found = origin(box, made)
    assert found.interface in INTERFACES
    assert found.container_type in TYPES
    for words in (found.interface_words, found.type_words):
        assert words.isprintable()
        assert 0 < len(words) < 400
    record = Record(CONTAINER, ID, facts=box, made=made)
    assert managed(record) or made is None


@MANY
@given(facts)
def test_few_paths_are_asked_for_and_each_is_one(box: ContainerFacts) -> None:
    wanted = paths_of(box)
    assert list(wanted) == sorted(set(wanted))
    for one in wanted:
        assert one.startswith("/")
        assert not one.startswith("//")
        assert "\0" not in one
        assert ".." not in one.split("/")
        assert one == "/" or not one.endswith("/")
        one.encode(errors="surrogateescape")
