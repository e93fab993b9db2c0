# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths, slices and processes name whom they should, say why in words, and are silent where they should."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core.owners import NONE, Evidence, Owner
from owner_cases import BAKER, box, found, owner_of, silent

FOLDER = "devcontainer.local_folder"
WORKING_DIR = "com.docker.compose.project.working_dir"
SLICE = "/ds01.slice/ds01-student.slice/{0}/docker-4f4f.scope"

# --- folders of dev containers and compose projects -----------------------------------------------

FOLDERS = [
    (FOLDER, "devcontainer", "the folder of its dev container"),
    (WORKING_DIR, "compose_dir", "the directory of its compose project"),
]


@pytest.mark.parametrize(("label", "method", "what"), FOLDERS)
@pytest.mark.parametrize(
    ("path", "who", "said"),
    [
        ("/home/alice/proj", "alice", "is alice's"),
        ("/home/alice/proj/", "alice", "is alice's"),
        ("/home/bob/../alice/proj", "alice", "is alice's"),
        ("/home/alice/made-by-engine", "alice", "lies in alice's home"),
        ("/data/staff/carol", "carol", "is carol's"),
        ("/data/alice", "alice", "is alice's"),
    ],
)
def test_folders_by_who_owns_them(
    label: str, method: str, what: str, path: str, who: str, said: str
) -> None:
    owner = owner_of(box(labels={label: path}))
    clean = path.rstrip("/").replace("bob/../", "")
    words = f"{clean}, {what}, {said}; weak: whoever made the container, or its image, could have "
    assert found(owner)[:1] + found(owner)[2:] == (method, who, words + "written that path")


@pytest.mark.parametrize(("label", "method", "what"), FOLDERS)
@pytest.mark.parametrize(
    "path",
    [
        "C:\\Users\\alice\\proj",
        "c:/Users/alice/proj",
        "\\\\wsl$\\Ubuntu\\home\\alice\\proj",
        "\\\\wsl.localhost\\Ubuntu\\home\\alice\\proj",
        "//wsl$/Ubuntu/home/alice/proj",
        "//home/alice/proj",
        "file:///home/alice/proj",
        "vscode-vfs://github/alice/proj",
        "proj",
        "~/proj",
        "./home/alice/proj",
    ],
)
def test_folders_of_another_machine_say_nothing(
    label: str, method: str, what: str, path: str
) -> None:
    owner = owner_of(box(labels={label: path}))
    shown = f'"{path}"' if "$" in path else path
    silent(owner, f"{shown}, {what}, is no path of this host")
    assert owner.evidence[0].method == method


@pytest.mark.parametrize(("label", "method", "_what"), FOLDERS)
@pytest.mark.parametrize("path", ["/Users/alice/proj", "/home/alice/gone", "/c/Users/alice"])
def test_folders_that_are_not_here_say_nothing(
    label: str, method: str, _what: str, path: str
) -> None:
    owner = owner_of(box(labels={label: path}))
    silent(owner, f"{path} is not found on this host")
    assert owner.evidence == (
        Evidence(method, None, "", NONE, f"{path} is not found on this host"),
    )


@pytest.mark.parametrize(("label", "_method", "_what"), FOLDERS)
@pytest.mark.parametrize("path", ["/tmp", "/", "/srv/of-a-service", "/data/nobodys", "/home/ghost"])
def test_folders_of_nobody_say_nothing(label: str, _method: str, _what: str, path: str) -> None:
    silent(owner_of(box(labels={label: path})))


@pytest.mark.parametrize(("label", "_method", "_what"), FOLDERS)
def test_folders_behind_somebody_elses_link_say_nothing(
    label: str, _method: str, _what: str
) -> None:
    owner = owner_of(box(labels={label: "/home/alice/proj"}), links={"/home/alice/proj": (1002,)})
    silent(owner, "/home/alice/proj leads over a link that somebody else may have laid")


# --- mounts ---------------------------------------------------------------------------------------

MINE, OWNED = "/home/alice/proj", "/data/alice"
COULD = "anybody who may mount it could have"
READ = f"{COULD}, and what is only read is often somebody else's"


@pytest.mark.parametrize(
    ("mounts", "who", "words"),
    [
        ([MINE], "alice", f"{MINE}, which it mounts, is alice's; weak: {COULD}"),
        (
            [f"{MINE}:ro"],
            "alice",
            f"{MINE}, which it mounts for reading, is alice's; weak: {READ}",
        ),
        (
            ["/home/alice/made-by-engine"],
            "alice",
            f"/home/alice/made-by-engine, which it mounts, lies in alice's home; weak: {COULD}",
        ),
        (["/home/alice/gone"], "alice", None),
        (["/home/alice/"], "alice", None),
        ([OWNED], "alice", f"{OWNED}, which it mounts, is alice's; weak: {COULD}"),
        (["/data/staff/carol/out"], "carol", None),
        (["/home/h.baker@hertie-school.lan/thesis"], BAKER.name, None),
        # One's own home, then what is one's own elsewhere; to write comes before to read.
        ([MINE, "/data/bob"], "alice", None),
        ([MINE, "/home/bob/dataset:ro"], "alice", None),
        ([OWNED, "/home/bob/dataset:ro"], "alice", None),
        ([OWNED, "/data/bob:ro"], "alice", None),
        (["/home/bob/dataset:ro", "/data/alice:ro"], "bob", None),
        (["/home/bob/for-alice"], "alice", None),
        (["/home/bob/for-alice", "/home/bob/proj"], "bob", None),
        # The same twice.
        ([MINE, "/home/alice"], "alice", None),
        (
            [MINE, "/home/alice/gone", "/home/alice/made-by-engine"],
            "alice",
            "/home/alice/gone, which it mounts, lies in alice's home (and 2 more like it); "
            f"weak: {COULD}",
        ),
        # What says nothing does no harm.
        (
            [MINE, "/", "/var/run/docker.sock", "/tmp", "relative", "", "/data/nobodys"],
            "alice",
            None,
        ),
    ],
)
def test_mounts_by_who_owns_them(mounts: list[str], who: str, words: str | None) -> None:
    for order in (mounts, mounts[::-1]):
        method, _uid, user, said = found(owner_of(box(mounts=order)))
        assert (method, user) == ("mount_path", who)
        assert words is None or said == words


@pytest.mark.parametrize(
    ("mounts", "notes"),
    [
        ([], []),
        (["/", "/tmp", "/var/run/docker.sock"], []),
        (["/data/nobodys", "/home/ghost", "/srv/of-a-service"], []),
        (["", ".", "volume", "C:\\Users\\alice", "/home/alice\0"], []),
        ([MINE, "/home/bob/proj"], ["it mounts what is alice's and bob's alike"]),
        # The best sort decides or nobody: what is less is not asked.
        (
            [MINE, "/home/bob/proj", "/data/alice", "/home/alice:ro"],
            ["it mounts what is alice's and bob's alike"],
        ),
        (["/data/alice", "/data/bob"], ["it mounts what is alice's and bob's alike"]),
        (
            ["/home/alice/proj:ro", "/home/bob/proj:ro", "/data/staff/carol:ro"],
            ["it mounts what is alice's, bob's and carol's alike"],
        ),
    ],
)
def test_mounts_that_say_nothing(mounts: list[str], notes: list[str]) -> None:
    silent(owner_of(box(mounts=mounts)), *notes)
    silent(owner_of(box(mounts=mounts[::-1])), *notes)


def test_a_link_in_a_mount_says_nothing() -> None:
    links = {"/home/bob/to-alice": (1002,)}
    files = {"/": 0, "/home": 0, "/home/bob": 1002, "/home/bob/to-alice": 1001}
    owner = owner_of(box(mounts=["/home/bob/to-alice"]), links=links, files=files)
    silent(owner, "/home/bob/to-alice leads over a link that somebody else may have laid")


def test_many_paths_that_say_nothing_are_not_all_told() -> None:
    mounts = [f"/home/alice/{n:02}" for n in range(50)]
    owner = owner_of(box(mounts=mounts), links={"/home/alice": (1002,)})
    assert len(owner.evidence) == 4
    assert owner.evidence[-1].words == "and so on"


# --- slices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "user", "words"),
    [
        (
            {"cgroup": SLICE.format("ds01-student-alice.slice")},
            "alice",
            "it runs in ds01-student-alice.slice, the slice of alice",
        ),
        (
            {"cgroup_parent": "ds01-student-alice.slice"},
            "alice",
            "it was to run in ds01-student-alice.slice, the slice of alice",
        ),
        (
            {"cgroup_parent": "/ds01.slice/ds01-student.slice/ds01-student-alice.slice"},
            "alice",
            "it was to run in ds01-student-alice.slice, the slice of alice",
        ),
        # Where it runs, not where it was to.
        (
            {
                "cgroup": SLICE.format("ds01-student-alice.slice"),
                "cgroup_parent": "ds01-student-bob.slice",
            },
            "alice",
            "it runs in ds01-student-alice.slice, the slice of alice",
        ),
        (
            {"cgroup_parent": "ds01-researcher-h.baker\\x40hertie\\x2dschool.lan.slice"},
            BAKER.name,
            "it was to run in ds01-researcher-h.baker\\x40hertie\\x2dschool.lan.slice, the slice of "
            + BAKER.name,
        ),
        ({"cgroup_parent": "ds01-student-1001.slice"}, "alice", None),
        ({"cgroup_parent": "ds01-student-ghost.slice"}, "ghost", None),
        ({"cgroup_parent": "ds01-student-1099.slice"}, "1099", None),
        ({"cgroup_parent": "ds01-admin-root.slice"}, "root", None),
    ],
)
def test_the_slice_of_a_user(where: dict[str, str], user: str, words: str | None) -> None:
    method, _uid, who, said = found(owner_of(box(**where)))
    assert (method, who) == ("cgroup", user)
    if words is not None:
        assert said == f"{words}; weak: whoever made the container chose its slice"


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"cgroup_parent": "ds01.slice"},
        {"cgroup_parent": "ds01-student.slice"},
        {"cgroup_parent": "ds01-unattributed.slice"},
        {"cgroup_parent": "ds01-unattributed-alice.slice"},
        {"cgroup_parent": "ds01-build-alice.slice"},
        {"cgroup_parent": "ds01-system-alice.slice"},
        {"cgroup_parent": "ds01-student-alice"},
        {"cgroup_parent": "ds01-student-alice-x.slice"},
        {"cgroup_parent": "system.slice"},
        {"cgroup_parent": "user-1001.slice"},
        {"cgroup_parent": "/"},
        {"cgroup_parent": ".slice"},
        {"cgroup_parent": "-.slice"},
        {"cgroup_parent": "ds01-student-\ud800.slice"},
        {"cgroup_parent": "ds01-student-\xe9.slice"},
        {"cgroup_parent": f"ds01-student-{'a' * 237}.slice"},
        {"cgroup_parent": f"ds01-student-{'a' * 100_000}.slice"},
        {"cgroup": SLICE.format("ds01-student-\ud800.slice")},
        # Not in its place of the tree: made up.
        {"cgroup": "/system.slice/ds01-student-alice.slice/docker-4f.scope"},
        {"cgroup": "/ds01.slice/ds01-student-alice.slice/docker-4f.scope"},
        {"cgroup": "/user.slice/ds01.slice/ds01-student.slice/ds01-student-alice.slice/x"},
        {"cgroup": "/x/ds01.slice/ds01-student.slice/ds01-student-alice.slice"},
        # It runs elsewhere than it was to.
        {"cgroup": "/system.slice/docker-4f.scope", "cgroup_parent": "ds01-student-alice.slice"},
    ],
)
def test_other_slices_say_nothing(where: dict[str, str]) -> None:
    silent(owner_of(box(**where)))


def test_a_slice_of_no_possible_name() -> None:
    owner = owner_of(box(cgroup_parent="ds01-student-a\\x0ab.slice"))
    silent(owner, 'its slice names "a?b", which is no account\'s name')


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("uids", [(1001,), (1001, 1001), (0, 1001), (1001, 0)])
def test_processes_of_one_account(uids: tuple[int, ...]) -> None:
    words = (
        "its processes run with the user id of alice; weak: images often bring their own numbers"
    )
    assert found(owner_of(box(uids=uids))) == ("process", 1001, "alice", words)


@pytest.mark.parametrize(
    "uids",
    [(), (0,), (1001, 1002), (998,), (998, 1001), (65534,), (1099,), (100999,), (-1,), (2**40,)],
)
def test_other_processes_say_nothing(uids: tuple[int, ...]) -> None:
    silent(owner_of(box(uids=uids)))


def test_nothing_at_all_says_nothing() -> None:
    facts: dict[str, Any] = {
        "labels": {"ds01.user": "", "aime.mlc": "", FOLDER: "", WORKING_DIR: ""}
    }
    assert owner_of(box(**facts)) == Owner()
