# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a path is, by the file system's word alone."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core.owner_accounts import Directory
from ds01.core.owner_paths import (
    LEVELS_MAX,
    MOUNTS_MAX,
    Place,
    Silent,
    folder_path,
    host_path,
    parents_of,
    paths_of,
    place_of,
    sources_of,
)
from ds01.core.owners import Account, Mount, PathFacts
from owner_cases import EVERYBODY, Accounts, box, look_at


def place(
    path: str, must_exist: bool = False, rows: Any = EVERYBODY, **files: Any
) -> Place | Silent:
    wanted = [path, *parents_of(path)]
    return place_of(
        path, look_at(wanted, **files), Directory(Accounts(rows)), must_exist=must_exist
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/home/alice", "/home/alice"),
        ("/home/alice/", "/home/alice"),
        ("//home//alice///", "/home/alice"),
        ("///home/alice", "/home/alice"),
        ("/home/alice/./proj/.", "/home/alice/proj"),
        ("/home/alice/../bob", "/home/bob"),
        ("/../../home/bob", "/home/bob"),
        ("/", "/"),
        ("//", "/"),
        ("/home/al ice", "/home/al ice"),
        ("/home/\udcff", "/home/\udcff"),
        ("", ""),
        (".", ""),
        ("./proj", ""),
        ("proj", ""),
        ("~/proj", ""),
        ("$HOME/proj", ""),
        ("C:\\Users\\alice", ""),
        ("c:/Users/alice", ""),
        ("\\\\wsl$\\Ubuntu\\home\\alice", ""),
        ("\\\\wsl.localhost\\Ubuntu\\home\\alice", ""),
        ("file:///home/alice/proj", ""),
        ("vscode-remote://ssh/home/alice", ""),
        (" /home/alice", ""),
        ("/home/alice\0/x", ""),
        ("/home/\ud800", ""),
        ("/" + "x" * 4096, ""),
        ("/" + "é" * 2048, ""),
        ("/" + "x" * 100_000, ""),
        ("/" + "x" * 4095, "/" + "x" * 4095),
    ],
)
def test_a_path_is_read_as_the_engine_reads_it(text: str, path: str) -> None:
    assert host_path(text) == path
    assert folder_path(text) == ("" if text.startswith("//") else path)


def test_a_path_is_asked_for_with_the_directories_that_may_be_homes_above() -> None:
    facts = box(
        mounts=["/data/alice/x/", "relative", "/var/run/docker.sock:ro", "/", "/data/alice/x"],
        labels={
            "devcontainer.local_folder": "C:\\Users\\alice",
            "com.docker.compose.project.working_dir": "/home/alice/app",
        },
    )
    assert paths_of(facts) == (
        "/",
        "/data",
        "/data/alice",
        "/data/alice/x",
        "/home",
        "/home/alice",
        "/home/alice/app",
        "/var",
        "/var/run",
        "/var/run/docker.sock",
    )
    assert paths_of(box()) == ()


def test_the_directories_above_are_without_the_path_and_the_top() -> None:
    assert parents_of("/home/alice/proj") == ["/home/alice", "/home"]
    assert parents_of("/home") == parents_of("/") == []


def test_hostile_depths_and_numbers_are_not_followed() -> None:
    deep = "/a" * 2000
    assert parents_of(deep) == ["/a" * n for n in range(LEVELS_MAX, 0, -1)]
    assert len(paths_of(box(mounts=[deep]))) == LEVELS_MAX + 1
    # What it may write comes first.
    many = [f"/r/{n:05}:ro" for n in range(5000)] + [f"/w/{n:05}" for n in range(MOUNTS_MAX - 1)]
    sources = sources_of(box(mounts=many))
    assert len(sources) == MOUNTS_MAX
    assert sources["/r/00000"] is True
    assert sum(sources.values()) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_path_that_is_mounted_twice_can_be_written_if_one_can(order: int) -> None:
    mounts = [Mount("/home/alice", True), Mount("/home/alice/", False)][::order]
    assert sources_of(box(mounts=mounts)) == {"/home/alice": False}


@pytest.mark.parametrize(
    ("path", "who", "home", "owned"),
    [
        ("/home/alice", "alice", True, True),
        ("/home/alice/proj", "alice", True, True),
        ("/data/staff/carol", "carol", True, True),
        ("/data/alice", "alice", False, True),
        # Made by the engine, or by a container that has its own numbers.
        ("/home/alice/made-by-engine", "alice", True, False),
        ("/home/alice/of-a-container", "alice", True, False),
        ("/data/staff/carol/out", "carol", True, False),
        # In a home, but somebody else's own.
        ("/home/bob/for-alice", "alice", False, True),
        ("/home/alicex/of-alice", "alice", False, True),
        # Deleted since.
        ("/home/alice/gone/deep/er", "alice", True, False),
        ("/home/h.baker@hertie-school.lan/thesis", "h.baker@hertie-school.lan", True, True),
    ],
)
def test_a_path_is_its_owners_or_lies_in_somebodys_home(
    path: str, who: str, home: bool, owned: bool
) -> None:
    found = place(path)
    assert isinstance(found, Place)
    assert (found.named.user, found.home, found.owned) == (who, home, owned)
    assert found.named.person
    assert found.words == (f"is {who}'s" if owned else f"lies in {who}'s home")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/home",
        "/tmp",
        "/var/run/docker.sock",
        "/data/shared",
        "/data/gone",
        "/nonexistent/x",
        "/home/ghost",  # a user id without an account
        "/home/ghost/x",
        "/data/nobodys",
        "/srv/of-a-service",
        "/data/alice/by-root",  # in a directory of alice, which is no home
        "/home/bob/for-alice/by-root",  # between two
        "/home/alicex",
        "/home/alicex/proj",
        "/home/alicex/of-alice/root",
    ],
)
def test_a_path_of_nobody_says_nothing(path: str) -> None:
    assert place(path) == Silent()


def test_what_is_not_there_says_nothing_where_it_has_to_be() -> None:
    assert place("/home/alice/gone", must_exist=True) == Silent(
        "/home/alice/gone is not found on this host"
    )
    assert place("/Users/alice/proj", must_exist=True) == Silent(
        "/Users/alice/proj is not found on this host"
    )
    assert isinstance(place("/home/alice/made-by-engine", must_exist=True), Place)


@pytest.mark.parametrize(
    ("laid", "silent"),
    [
        ((), False),
        ((0,), False),
        ((1001,), False),
        ((0, 1001), False),
        ((1002,), True),
        ((1001, 1002), True),
        ((0, 1099), True),
    ],
)
def test_a_link_of_somebody_else_makes_a_path_say_nothing(
    laid: tuple[int, ...], silent: bool
) -> None:
    found = place("/home/alice/proj", links={"/home/alice/proj": laid})
    assert isinstance(found, Silent) is silent
    if isinstance(found, Silent):
        assert found == Silent(
            "/home/alice/proj leads over a link that somebody else may have laid"
        )


@pytest.mark.parametrize("path", ["/home/alice/made-by-engine", "/home/alice/gone"])
def test_a_link_into_nothing_of_ones_own_says_nothing(path: str) -> None:
    # alice's link to root's file, or to what is not there: anybody can lay such a link.
    assert isinstance(place(path), Place)
    assert isinstance(place(path, links={path: (1001,)}), Silent)
    assert isinstance(place(path, links={path: (0,)}), Place)


def test_nested_homes_are_the_inner_ones() -> None:
    lab = Account(1500, "lab", "/lab")
    inner = Account(1501, "inner", "/lab/people/inner/")
    files = {"/": 0, "/lab": 1500, "/lab/people": 0, "/lab/people/inner": 1501}
    files |= {"/lab/people/inner/root": 0, "/lab/people/root": 0, "/lab/people/inner/labs": 1500}
    rows = (lab, inner)
    expected = {
        "/lab/people/inner/root": ("inner", True),
        "/lab/people/root": ("lab", True),
        "/lab/people/inner": ("inner", True),
        # The outer one's own file lies in the outer home as well.
        "/lab/people/inner/labs": ("lab", True),
    }
    for path, (who, home) in expected.items():
        found = place(path, rows=rows, files=files)
        assert isinstance(found, Place)
        assert (found.named.user, found.home) == (who, home)


@pytest.mark.parametrize(
    "home", ["", "/", "//", "/nonexistent", "/dev/null", "home/x", "/home/../"]
)
def test_a_home_that_is_none_holds_nothing(home: str) -> None:
    person = Account(1700, "homeless", home)
    files = {"/": 1700, "/nonexistent": 1700, "/dev/null": 1700, "/x": 1700, "/x/root": 0}
    for path in ("/x/root", "/nonexistent/x", "/gone", "/home/x"):
        assert place(path, rows=(person,), files=files) == Silent(), path
    owned = place("/x", rows=(person,), files=files)
    assert isinstance(owned, Place)
    assert not owned.home


def test_a_home_counts_only_if_it_is_its_persons() -> None:
    # An account whose home field names another's directory.
    thief = Account(1600, "thief", "/home/alice")
    found = place("/home/alice/made-by-engine", rows=(thief, *EVERYBODY))
    assert isinstance(found, Place)
    assert found.named.user == "alice"


@pytest.mark.parametrize("hung", ["/home/alice/made-by-engine", "/home/alice", "/home"])
def test_what_does_not_answer_may_say_something_later(hung: str) -> None:
    found = place("/home/alice/made-by-engine", unreachable=[hung])
    assert isinstance(found, Silent)
    assert found.unreachable
    assert "could not be looked at" in found.words


def test_a_directory_above_that_does_not_answer_may_be_a_home() -> None:
    paths = look_at(["/home/alice/made-by-engine"])
    paths["/home/alice"] = PathFacts("/home/alice", reachable=False)
    found = place_of("/home/alice/made-by-engine", paths, Directory(Accounts()), must_exist=False)
    assert found == Silent("/home/alice could not be looked at", unreachable=True)


def test_the_deepest_directory_that_is_there_tells_even_far_down() -> None:
    # Deeper than homes are looked for.
    path = "/home/alice" + "/x" * 20
    seen = PathFacts(path, None, (), 1001)
    for paths in ({path: seen}, look_at([path]) | {path: seen}):
        found = place_of(path, paths, Directory(Accounts()), must_exist=False)
        assert isinstance(found, Place)
        assert (found.named.user, found.home, found.owned) == ("alice", True, False)
    strange = {path: PathFacts(path, None, (), 1002)}
    assert place_of(path, strange, Directory(Accounts()), must_exist=False) == Silent()


def test_a_path_that_was_not_looked_at_counts_as_hung() -> None:
    found = place_of("/home/alice", {}, Directory(Accounts()), must_exist=False)
    assert found == Silent("/home/alice could not be looked at", unreachable=True)


def test_only_the_parents_that_are_needed_have_to_answer() -> None:
    paths = look_at(["/home/alice/proj", "/home"])
    paths["/home/alice"] = PathFacts("/home/alice", reachable=False)
    found = place_of("/home/alice/proj", paths, Directory(Accounts()), must_exist=False)
    assert isinstance(found, Place)
