# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine shows of its things, and where the kernel has a container."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.owner_lookout import OwnerLookout
from ds01.core.owners import IMAGE, NETWORK, VOLUME, Account, Mount
from ds01.host.container_cgroup import ContainerCgroups
from ds01.host.engine import EngineError
from ds01.host.engine_things import LABELS_MAX, TELLING_MAX, ThingsEngine, binds, labels, seen
from ds01.host.owner_accounts import HomeAccount
from ds01.host.paths import PathLook

ONE = "a" * 64
INSPECTION: dict[str, Any] = {
    "Id": ONE,
    "Name": "/train",
    "Created": "2026-11-22T11:14:11.062175099Z",
    "State": {
        "Status": "exited",
        "StartedAt": "2026-11-22T11:14:12Z",
        "FinishedAt": "2026-11-22T11:14:13.5Z",
        "ExitCode": 137,
    },
    "HostConfig": {
        "Binds": ["/home/alice/proj:/work:ro,z", "data:/data", "/srv/x:/x"],
        "Mounts": [
            {"Type": "bind", "Source": "/home/alice/more", "Target": "/more", "ReadOnly": True},
            {"Type": "volume", "Source": "data", "Target": "/d"},
        ],
        "RestartPolicy": {"Name": "always"},
        "CgroupParent": "ds01-student-alice.slice",
        "DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["ds01.local/lease=abc"]}],
    },
    "Config": {
        "Image": "lab/base",
        "Labels": {"ds01.user": "alice"},
        "Tty": True,
        "OpenStdin": True,
    },
    "Mounts": [
        {"Type": "volume", "Name": "data", "Destination": "/data"},
        {"Type": "bind", "Source": "/srv/x", "RW": True},
        {"Type": "bind", "Source": "/srv/of-another", "RW": False},
    ],
}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append(unquote(self.path))
        answer = self.server.answers.get(unquote(url.path))
        if callable(answer):
            answer = answer(parse_qs(url.query))
        status = 404 if answer is None else 200
        body = json.dumps({"message": "no such thing"} if answer is None else answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        super().__init__(path, Handler)


@contextmanager
def engine(folder: Path, **answers: Any) -> Iterator[tuple[ThingsEngine, Server]]:
    path = str(folder / "engine.sock")
    with Server(path, {name.replace("__", "/"): found for name, found in answers.items()}) as up:
        threading.Thread(target=up.serve_forever, args=(0.01,), daemon=True).start()
        yield ThingsEngine(path, timeout=5, patience=0.3), up
        up.shutdown()


def test_an_inspection_has_all_that_a_decision_wants() -> None:
    found = seen(INSPECTION)
    assert found["facts"] == {
        "id": ONE,
        "name": "train",
        "created": pytest.approx(1795346051.062175),
        "state": "exited",
        "image": "lab/base",
        "labels": {"ds01.user": "alice"},
        "mounts": (
            ("/home/alice/more", True),
            ("/home/alice/proj", True),
            ("/srv/of-another", True),
            ("/srv/x", False),
        ),
        "volumes": ("data",),
        "cgroup_parent": "ds01-student-alice.slice",
        "tty": True,
        "stdin": True,
        "restart_policy": "always",
        "leases": ("abc",),
    }
    assert (found["exit_code"], found["finished"] - found["started"]) == (137, 1.5)
    assert found["inspection"] is INSPECTION


def test_a_container_may_have_nothing_at_all() -> None:
    found = seen({"Id": ONE, "HostConfig": None, "Config": None, "Mounts": None, "State": None})
    assert found["facts"]["mounts"] == () and found["facts"]["labels"] == {}
    assert binds({"HostConfig": {"Binds": None, "Mounts": None}}) == ()


def test_labels_without_end_are_cut_but_not_those_that_tell_an_owner() -> None:
    many = {f"a{number}": "x" * 9999 for number in range(5000)}
    many["devcontainer.local_folder"] = "/home/" + "y" * 9999
    many["ds01.user"] = "alice"
    kept = labels(many)
    assert len(kept) == LABELS_MAX
    assert kept["ds01.user"] == "alice" and len(kept["devcontainer.local_folder"]) == TELLING_MAX
    assert sum(len(key) + len(text) for key, text in kept.items()) < 80_000


def test_the_list_tells_much_in_one_call(tmp_path: Path) -> None:
    row = {
        "Id": ONE,
        "Names": ["/other/alias", "/train"],
        "State": "running",
        "Created": 1795346051,
        "Image": "lab/base",
        "Labels": {"ds01.user": "alice"},
        "Mounts": INSPECTION["Mounts"],
    }
    asked: list[Any] = []

    def answer(query: Any) -> Any:
        asked.append(query)
        return [row]

    with engine(tmp_path, __containers__json=answer) as (there, _server):
        found = there.listed()
        assert found[0]["name"] == "train" and found[0]["state"] == "running"
        assert found[0]["mounts"] == (("/srv/of-another", True), ("/srv/x", False))
        assert found[0]["volumes"] == ("data",)
        there.listed([ONE])
    assert asked[0] == {"all": ["1"]}
    assert json.loads(asked[1]["filters"][0]) == {"id": [ONE]}


def test_images_volumes_and_networks(tmp_path: Path) -> None:
    image = {
        "Id": "sha256:" + "1" * 64,
        "RepoTags": ["b:1", "a/b:2", "<none>:<none>"],
        "Created": 17,
    }
    volume = {"Name": "data", "CreatedAt": "2026-11-22T11:14:11Z", "Labels": None}
    nets = [
        {"Id": "n1", "Name": "lan", "Created": "2026-11-22T11:14:11.5Z"},
        {"Id": "n2", "Name": "bridge", "Created": "2026-11-22T11:14:11.5Z"},
    ]
    answers: dict[str, Any] = {
        "__images__json": [image],
        "__images__a__b:2__json": {**image, "Created": "2026-11-22T11:14:11Z"},
        "__volumes": {"Volumes": [volume], "Warnings": None},
        "__volumes__data": {**volume, "Labels": {"com.docker.volume.anonymous": ""}},
        "__networks": nets,
        "__networks__n1": nets[0],
    }
    with engine(tmp_path, **answers) as (there, _server):
        assert there.images()[0]["names"] == ("a/b:2", "b:1")
        found = there.image("a/b:2")
        assert found is not None and found["created"] == 1795346051.0
        assert there.image("none") is None
        assert there.volumes() == [
            {"id": "data", "name": "data", "created": 1795346051.0, "anonymous": False}
        ]
        one = there.volume("data")
        assert one is not None and one["anonymous"] and there.volume("no") is None
        assert [row["name"] for row in there.networks()] == ["lan"]
        lan = there.network("n1")
        assert lan is not None and lan["created"] == 1795346051.5
        look = lookout(there)
        assert [one.id for one in look.things(IMAGE)] == [image["Id"]]
        assert [one.kind for one in look.things(VOLUME)] == [VOLUME]
        assert look.thing(NETWORK, "nothing") is None


# --- the lookout ------------------------------------------------------------------------------------


class Accounts:
    def by_uid(self, uid: int) -> HomeAccount | None:
        return HomeAccount(1001, "alice", "/home/alice") if uid == 1001 else None

    def by_name(self, name: str) -> HomeAccount | None:
        return self.by_uid(1001) if name == "alice" else None

    def like(self, name: str) -> tuple[HomeAccount, ...]:
        return (HomeAccount(1001, "alice", "/home/alice"),)

    def unsure(self) -> bool:
        return False


class Files:
    def look(self, wanted: Any, seconds: float | None = None) -> dict[str, PathLook]:
        return {path: PathLook(path, 1001, (0,), 1001) for path in wanted}


def lookout(there: ThingsEngine, root: str = "/nowhere") -> OwnerLookout:
    cgroups = ContainerCgroups(root, root)
    members = {"docker-admins": ("dana",)}
    return OwnerLookout(
        lambda: there, cgroups, Accounts(), Files(), EngineError, lambda group: members[group]
    )


def test_the_host_comes_as_the_domain_knows_it(tmp_path: Path) -> None:
    with engine(tmp_path, **{f"__containers__{ONE}__json": INSPECTION}) as (there, _server):
        look = lookout(there)
        found = look.look([ONE, "b" * 64], 5)
        one = found[ONE]
        assert found["b" * 64] is None and one is not None
        assert one.whole and Mount("/home/alice/proj", True) in one.facts.mounts
        assert look.accounts.by_name("alice") == Account(1001, "alice", "/home/alice")
        assert look.accounts.by_uid(7) is None
        assert look.accounts.like("ALICE")[0].name == "alice"
        facts = look.paths(["/x"], 1)["/x"]
        assert (facts.uid, facts.links, facts.above, facts.reachable) == (1001, (0,), 1001, True)
        assert look.members("docker-admins") == ("dana",) and look.members("") == ()
        assert look.inside(ONE, "") == ("", ())


def test_an_engine_that_is_down_is_told_of_in_the_projects_words(tmp_path: Path) -> None:
    look = lookout(ThingsEngine(str(tmp_path / "none")))
    with pytest.raises(Ds01Error, match="does not answer"):
        look.listed()
    with pytest.raises(Ds01Error, match="does not answer"):
        look.things(IMAGE)
    assert look.look([ONE], 1) == {}


def test_an_inspection_that_hangs_is_not_waited_for_and_not_asked_for_twice(
    tmp_path: Path,
) -> None:
    go = threading.Event()

    def answer(_query: Any) -> Any:
        go.wait(5)
        return INSPECTION

    answers = {f"__containers__{ONE}__json": answer}
    with engine(tmp_path, **answers) as (there, server):
        there = ThingsEngine(there.path, patience=5)
        look = lookout(there)
        began = time.monotonic()
        assert look.look([ONE], 0.02) == {}
        assert look.look([ONE], 0.02) == {}
        assert time.monotonic() - began < 1
        go.set()
        assert look.look([ONE], 5)[ONE] is not None
        assert len(server.asked) == 1


# --- the kernel ---------------------------------------------------------------------------------------


def tree(root: Path, path: str, *uids: int) -> None:
    folder = root / path
    folder.mkdir(parents=True)
    first = 1000 * (1 + len(list((root / "proc").glob("*"))))
    pids = [first + number for number, _uid in enumerate(uids)]
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    for pid, uid in zip(pids, uids, strict=True):
        (root / "proc" / str(pid)).mkdir(parents=True, exist_ok=True)
        status = f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        (root / "proc" / str(pid) / "status").write_text(status)


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        (f"system.slice/docker-{ONE}.scope", ""),
        (f"ds01.slice/ds01-a.slice/ds01-a-b.slice/docker-{ONE}.scope", "ds01-a-b.slice"),
        (f"ds01.slice/ds01-a.slice/ds01-a-b.slice/docker-{ONE}.scope", ""),
        (f"docker/{ONE}", ""),
        (f"my/parent/{ONE}", "/my/parent"),
        (f"my/parent/{ONE}", ""),
    ],
)
def test_a_container_is_found_wherever_it_lies(tmp_path: Path, path: str, parent: str) -> None:
    tree(tmp_path, path, 1001, 0, 1001)
    tree(tmp_path, f"user.slice/user-1.slice/docker-{'b' * 64}.scope", 7)
    found = ContainerCgroups(str(tmp_path), str(tmp_path / "proc"))
    assert found.find(ONE, parent) == f"/{path}"
    assert found.find(ONE, parent) == f"/{path}"
    assert found.uids(f"/{path}") == (0, 1001)
    assert found.find("b" * 64) == "" and found.find("c" * 64, "../../etc") == ""
    assert found.uids("") == () and found.uids("/gone") == ()


def test_processes_below_and_ended_ones(tmp_path: Path) -> None:
    tree(tmp_path, f"system.slice/docker-{ONE}.scope")
    tree(tmp_path, f"system.slice/docker-{ONE}.scope/init", 1002)
    (tmp_path / f"system.slice/docker-{ONE}.scope/cgroup.procs").write_text("77777\n")
    found = ContainerCgroups(str(tmp_path), str(tmp_path / "proc"))
    assert found.uids(found.find(ONE)) == (1002,)
