# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the lease book, from their parameters to their result, with a real store."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes import read_limits
from modules import plugin, run

shell = plugin("module_utils._gpu_shell")
alloc = plugin("module_utils._gpu_alloc")
store = plugin("module_utils._core.store")
limits = plugin("module_utils._core.limits")
apply = plugin("module_utils._core.apply")
accounts = plugin("module_utils._host.accounts")
nvml = plugin("module_utils._host.nvml")
clock = plugin("module_utils._core.book_clock")

GIB = 2**30
LIMITS = """\
default_group: student
groups:
  student:
    max_gpus_per_container: 2
    max_mig_instances: 2
    max_gpu_equivalents: 2
    allow_full_gpu: false
  researcher:
    members: [carol]
    max_gpus_per_container: 2
    max_gpu_equivalents: 2
    allow_full_gpu: true
"""
UIDS = {"alice": 1001, "bob": 1002, "carol": 1003, "h.baker@hertie-school.lan": 70001}
SECOND_NAMES = {"alice-too": "alice"}


def gpu(index: int, mig: int = 0) -> dict[str, Any]:
    """A GPU as NVML shows it; with MIG devices of 2g.10gb."""
    row: dict[str, Any] = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA A100-SXM4-40GB",
        "memory": 40 * GIB,
        "minor": index,
        "lost": False,
        "mig_enabled": bool(mig),
        "mig": [
            {
                "index": number,
                "uuid": f"MIG-{index}-{number}",
                "profile": "2g.10gb",
                "memory": 10 * GIB,
                "compute_slices": 2,
            }
            for number in range(mig)
        ],
        "processes": [],
    }
    return row


class World:
    """A host with two whole GPUs and three MIG devices, and an engine.

    :ivar gpus: rows of NVML.
    :ivar containers: those that the engine has; None: it does not answer.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.gpus = [gpu(0), gpu(1), gpu(2, mig=3)]
        self.driver = "ready"
        self.containers: list[Any] | None = []
        self.now = 1000.0
        self.on_sleep: Callable[[], None] = lambda: None
        self.paths: dict[str, Any] = {
            "store_path": str(top / "state.db"),
            "limits_path": str(top / "limits.json"),
            "settings_path": str(top / "gpu.json"),
            "vendor_dirs": [str(top / "vendor")],
        }
        self.places: dict[str, Any] = {
            **self.paths,
            "lease_dir": str(top / "cdi"),
            "engine_socket": str(top / "docker.sock"),
            "event_log": str(top / "events.jsonl"),
        }
        store.migrate(self.paths["store_path"])
        text = apply.render_record(limits.to_json(read_limits(LIMITS)))
        Path(self.paths["limits_path"]).write_text(text)
        self.describe()

    def describe(self) -> None:
        """Write the vendor's CDI spec for the GPUs."""
        uuids = [row["uuid"] for row in self.gpus] + [
            mig["uuid"] for row in self.gpus for mig in row["mig"]
        ]
        devices = [
            {"name": uuid, "containerEdits": {"deviceNodes": [{"path": f"/dev/{uuid}"}]}}
            for uuid in uuids
        ]
        spec = {"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": devices}
        (self.top / "vendor").mkdir(exist_ok=True)
        (self.top / "vendor" / "nvidia.json").write_text(json.dumps(spec))

    def read(self) -> dict[str, Any]:
        """In the place of NVML."""
        return {
            "state": self.driver,
            "reason": "" if self.driver == "ready" else "Driver Not Loaded",
            "driver_version": "550.90.07",
            "gpus": self.gpus if self.driver == "ready" else [],
        }

    def sleep(self, seconds: float) -> None:
        """In the place of time.sleep(): time passes, and something may happen."""
        self.now += seconds
        self.on_sleep()

    def container(self, lease: str, state: str = "running", name: str = "training") -> None:
        """The engine has a container that names a lease."""
        device = {"Driver": "cdi", "DeviceIDs": [f"ds01.local/lease={lease}"]}
        found = {
            "Id": "c" * 64,
            "Name": f"/{name}",
            "Created": "2026-11-22T12:00:00.5Z",
            "State": {"Status": state, "Pid": 0, "FinishedAt": "0001-01-01T00:00:00Z"},
            "HostConfig": {"DeviceRequests": [device]},
            "Config": {"Labels": {}},
        }
        self.containers = [*(self.containers or []), found]

    def engine(self, target: str) -> tuple[int, Any]:
        """What the engine answers to ``GET``: a status and its JSON."""
        if self.containers is None:
            return 500, {"message": "the engine is being restarted"}
        if target == "/containers/json?all=1":
            rows = [{"Id": found["Id"], "Names": [found["Name"]]} for found in self.containers]
            return 200, rows
        for found in self.containers:
            if target == f"/containers/{found['Id']}/json":
                return 200, found
        return 404, {"message": f"no such container: {target}"}

    def alloc(self, check: bool = False, **params: Any) -> dict[str, Any]:
        """Run ds01_gpu_alloc."""
        return run("ds01_gpu_alloc", {**self.places, **params}, check=check)

    def info(self, check: bool = False) -> dict[str, Any]:
        """Run ds01_gpu_info."""
        return run("ds01_gpu_info", self.paths, check=check)

    def files(self) -> dict[str, str]:
        """Everything below the host's directories except the store."""
        return {
            str(path.relative_to(self.top)): path.read_text()
            for path in sorted(self.top.rglob("*"))
            if path.is_file() and not path.name.startswith("state.")
        }

    def state(self) -> dict[str, Any]:
        """All that a run may change."""
        found = self.info()
        return {"files": self.files(), **{k: found[k] for k in ("slots", "leases", "queue")}}

    def events(self) -> list[str]:
        """The types of the events."""
        lines = Path(self.places["event_log"]).read_text().splitlines()
        return [json.loads(line)["event_type"] for line in lines]

    def six_steps(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Any]:
        """Check, do, check again, again, changed check, changed; what each step answered.

        A check changes nothing, and foretells what the run then does.
        """
        answers = []
        for params in (first, first, second):
            before = self.state()
            foretold = self.alloc(check=True, **params)
            assert self.state() == before
            done = self.alloc(**params)
            assert done["changed"] == foretold["changed"], (foretold, done)
            answers += [foretold, done]
        changed = [answer["changed"] for answer in answers]
        assert changed == [True, True, False, False, True, True]
        return answers


class EngineHandler(http.server.BaseHTTPRequestHandler):
    """The engine's API, as far as it is read."""

    server: EngineServer

    def do_GET(self) -> None:
        status, value = self.server.world.engine(self.path)
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class EngineServer(socketserver.UnixStreamServer):
    """The engine on its socket."""

    def __init__(self, world: World) -> None:
        self.world = world
        super().__init__(world.places["engine_socket"], EngineHandler)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with EngineServer(made) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def world(engine: World, monkeypatch: pytest.MonkeyPatch) -> World:
    made = engine

    def find(name: str) -> Any:
        name = SECOND_NAMES.get(name, name)
        return accounts.HostAccount(name, UIDS[name], ()) if name in UIDS else None

    def by_uid(uid: int) -> Any:
        names = {number: name for name, number in UIDS.items()}
        return find(names[uid]) if uid in names else None

    monkeypatch.setattr(accounts, "find", find)
    monkeypatch.setattr(accounts, "by_uid", by_uid)
    monkeypatch.setattr(nvml, "read", made.read)
    monkeypatch.setattr(shell, "host_clock", lambda: clock.Moment("boot", made.now, made.now))
    monkeypatch.setattr(alloc.time, "sleep", made.sleep)
    monkeypatch.setattr(alloc.time, "monotonic", lambda: made.now)
    return made


def lease_files(world: World) -> list[str]:
    folder = world.top / "cdi"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


# --- leasing --------------------------------------------------------------------------------------


def test_a_named_request_is_leased_once(world: World) -> None:
    first = {"user": "alice", "request": "course", "note": "week 3"}
    second = {"user": "alice", "request": "thesis"}
    answers = world.six_steps(first, second)
    lease = answers[1]["lease"]
    assert (lease["user"], lease["uid"], lease["state"]) == ("alice", 1001, "reserved")
    assert (lease["request"], lease["note"]) == ("course", "week 3")
    assert lease["device"] == f"ds01.local/lease={lease['id']}"
    assert [slot["profile"] for slot in lease["slots"]] == ["2g.10gb"]
    assert answers[3]["lease"] == lease
    assert answers[5]["lease"]["id"] != lease["id"]
    ids = sorted((lease["id"], answers[5]["lease"]["id"]))
    assert lease_files(world) == [f"ds01-{name}.json" for name in ids]
    assert answers[1]["diff"]["before"].count("free") == 5
    assert "reserved for alice (course)" in answers[1]["diff"]["after"]


def test_a_run_after_one_that_was_killed_makes_the_lease_whole(world: World) -> None:
    lease = world.alloc(user="alice", request="course")["lease"]["id"]
    os.unlink(world.top / "cdi" / f"ds01-{lease}.json")  # killed before it was written
    again = world.alloc(user="alice", request="course")
    assert (again["changed"], again["lease"]["id"]) == (False, lease)
    assert lease_files(world) == [f"ds01-{lease}.json"]


def test_a_lease_that_nobody_took_in_time_is_leased_anew(world: World) -> None:
    first = world.alloc(user="alice", request="course")["lease"]
    world.now += 121
    foretold = world.alloc(check=True, user="alice", request="course")
    second = world.alloc(user="alice", request="course")
    assert foretold["changed"] and second["changed"]
    assert first["id"] != second["lease"]["id"]
    assert lease_files(world) == [f"ds01-{second['lease']['id']}.json"]


def test_without_a_name_each_run_is_a_request_of_its_own(world: World) -> None:
    assert world.alloc(user="alice")["lease"]["id"] != world.alloc(user="alice")["lease"]["id"]


def test_two_users_may_use_the_same_name(world: World) -> None:
    one = world.alloc(user="alice", request="course")
    other = world.alloc(user="bob", request="course")
    assert other["changed"] and one["lease"]["id"] != other["lease"]["id"]


def test_a_name_is_not_taken_over_for_something_else(world: World) -> None:
    world.alloc(user="carol", request="thesis", kind="full")
    refused = world.alloc(user="carol", request="thesis", kind="mig")
    assert "is a lease of something else already" in refused["msg"]
    assert "state=released" in refused["msg"]
    refused = world.alloc(user="carol", request="thesis", devices=["1"])
    assert "is a lease of something else already" in refused["msg"]


def test_explicit_devices_are_leased_by_index_or_uuid(world: World) -> None:
    lease = world.alloc(user="carol", devices=["1"], request="pair")["lease"]
    assert [slot["uuid"] for slot in lease["slots"]] == ["GPU-1"]
    assert not world.alloc(user="carol", devices=["GPU-1"], request="pair")["changed"]
    refused = world.alloc(user="carol", devices=["GPU-1"])
    assert "1 is leased to carol" in refused["msg"]


def test_a_user_may_be_named_by_uid(world: World) -> None:
    assert world.alloc(user="1002")["lease"]["user"] == "bob"


def test_a_directory_account_is_a_user_like_any_other(world: World) -> None:
    lease = world.alloc(user="h.baker@hertie-school.lan")["lease"]
    assert (lease["user"], lease["uid"]) == ("h.baker@hertie-school.lan", 70001)


def test_a_second_name_of_one_uid_has_no_limits_of_its_own(world: World) -> None:
    world.alloc(user="alice", count=2)
    refused = world.alloc(user="alice-too")
    assert refused["rule"] == "max_mig_instances"
    assert "alice" in refused["msg"]


def test_a_lease_of_a_container_is_renewed_under_its_id(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease, state="exited")
    ended = world.alloc(state="released", lease=lease)
    assert ended["lease"]["state"] == "free"
    answers = world.six_steps({"user": "alice", "lease": lease}, {"user": "bob"})
    assert answers[1]["lease"]["id"] == lease
    assert answers[1]["lease"]["container_name"] == "training"
    assert f"ds01-{lease}.json" in lease_files(world)


def test_a_lease_of_somebody_else_is_not_renewed(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    assert world.alloc(user="bob", lease=lease)["rule"] == "owner"


# --- waiting --------------------------------------------------------------------------------------


def test_what_is_not_free_is_refused_at_once(world: World) -> None:
    for name in ("alice", "alice", "bob"):
        world.alloc(user=name)
    for check in (True, False):
        assert world.alloc(check=check, user="bob")["rule"] == "busy"
        taken = world.alloc(check=check, user="bob", devices=["2:0"])
        assert "2:0 is leased to alice" in taken["msg"]
    assert world.info()["queue"] == []


def test_a_request_waits_until_a_slot_comes_free(world: World) -> None:
    taken = [world.alloc(user=name)["lease"]["id"] for name in ("alice", "alice", "bob")]
    foretold = world.alloc(check=True, user="bob", wait=60)
    assert foretold["changed"] and foretold["lease"] is None
    assert foretold["waiting"]["position"] == 1
    assert world.info()["queue"] == []

    def free_one() -> None:
        world.on_sleep = lambda: None
        assert [row["user"] for row in world.info()["queue"]] == ["bob"]
        world.alloc(state="released", lease=taken[0])

    world.on_sleep = free_one
    lease = world.alloc(user="bob", wait=60)["lease"]
    assert lease["user"] == "bob" and lease["state"] == "reserved"


def test_a_wait_that_was_for_nothing_leaves_the_queue(world: World) -> None:
    for name in ("alice", "alice", "bob"):
        world.alloc(user=name)
    refused = world.alloc(user="bob", wait=3)
    assert "nothing that fits came free in 3 s" in refused["msg"]
    assert world.info()["queue"] == []


def test_a_run_that_is_broken_off_leaves_the_queue(world: World) -> None:
    for name in ("alice", "alice", "bob"):
        world.alloc(user=name)

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.alloc(user="bob", wait=3)
    assert world.info()["queue"] == []


# --- ending ---------------------------------------------------------------------------------------


def test_a_lease_ends_once(world: World) -> None:
    world.alloc(user="alice", request="course")
    world.alloc(user="alice", request="thesis")
    answers = world.six_steps(
        {"state": "released", "user": "alice", "request": "course"},
        {"state": "released", "user": "alice", "request": "thesis"},
    )
    assert answers[1]["lease"]["request"] == "course"
    assert answers[3]["lease"] is None
    assert lease_files(world) == []
    assert world.info()["leases"] == []


def test_a_lease_ends_by_the_name_of_its_container(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease, state="exited", name="training")
    world.alloc(state="reconciled")
    assert world.alloc(state="released", container="other")["changed"] is False
    assert world.alloc(state="released", container="training")["changed"]
    assert not world.alloc(state="released", container="training")["changed"]


def test_a_lease_in_use_is_not_ended(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease, state="running")
    for check in (True, False):
        refused = world.alloc(check=check, state="released", lease=lease)
        assert refused["rule"] == "running"
        assert "docker stop training" in refused["msg"]


def test_nothing_is_freed_while_the_engine_does_not_answer(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.containers = None
    assert "the engine is being restarted" in world.alloc(state="released", lease=lease)["msg"]
    assert len(world.info()["leases"]) == 1


def test_a_lease_that_is_not_there_has_ended(world: World) -> None:
    assert world.alloc(state="released", lease="l0123456789abcdef") == {
        "changed": False,
        "lease": None,
        "diff": world.alloc(state="released", lease="../../etc/passwd")["diff"],
        "invocation": world.alloc(state="released", lease="l0123456789abcdef")["invocation"],
    }


# --- slots ----------------------------------------------------------------------------------------


def test_a_drained_slot_is_not_handed_out(world: World) -> None:
    answers = world.six_steps(
        {"state": "drained", "slot": "0", "reason": "fan"},
        {"state": "drained", "slot": "GPU-1", "reason": "fan too"},
    )
    assert answers[1]["slot"] == {"uuid": "GPU-0", "index": "0", "profile": "", "drained": True}
    assert "0 GPU: drained: fan" in answers[1]["diff"]["after"]
    assert "0 is drained: fan" in world.alloc(user="carol", devices=["0"])["msg"]
    answers = world.six_steps(
        {"state": "undrained", "slot": "0"}, {"state": "undrained", "slot": "1"}
    )
    assert answers[1]["slot"]["drained"] is False
    assert world.alloc(user="carol", devices=["0"])["lease"]["slots"][0]["index"] == "0"
    assert world.events().count("gpu.drained") == 2


def test_a_lease_on_a_drained_slot_goes_on(world: World) -> None:
    lease = world.alloc(user="carol", devices=["0"])["lease"]["id"]
    world.alloc(state="drained", slot="0", reason="fan")
    assert [row["id"] for row in world.info()["leases"]] == [lease]


def test_reconciling_mends_once(world: World) -> None:
    lease = world.alloc(user="alice")["lease"]["id"]
    world.container(lease)
    foretold = world.alloc(check=True, state="reconciled")
    assert world.info()["leases"][0]["state"] == "reserved"
    done = world.alloc(state="reconciled")
    assert foretold["changed"] and done["changed"]
    assert foretold["reconciled"] == done["reconciled"] != []
    assert world.info()["leases"][0]["state"] == "bound"
    for check in (True, False):
        again = world.alloc(check=check, state="reconciled")
        assert (again["changed"], again["reconciled"]) == (False, [])


def test_a_store_that_was_lost_hands_no_running_containers_slot_out(world: World) -> None:
    lease = world.alloc(user="carol", devices=["0"])["lease"]["id"]
    world.container(lease)
    world.alloc(state="reconciled")
    os.unlink(world.paths["store_path"])
    store.migrate(world.paths["store_path"])
    for check in (True, False):
        refused = world.alloc(check=check, user="carol", devices=["0"])
        assert "0 is leased to carol in container training" in refused["msg"]
    assert [row["id"] for row in world.info()["leases"]] == [lease]
    assert lease_files(world) == [f"ds01-{lease}.json"]


def test_a_gpu_in_use_without_a_lease_is_not_leased(world: World) -> None:
    world.gpus[0]["processes"] = [{"pid": os.getpid(), "slot": "GPU-0", "memory": GIB}]
    for check in (True, False):
        refused = world.alloc(check=check, user="carol", devices=["0"])
        assert "0 is in use without a lease" in refused["msg"]
    lease = world.alloc(user="carol", kind="full")["lease"]
    assert [slot["index"] for slot in lease["slots"]] == ["1"]
    assert str(os.getpid()) in world.info()["slots"][0]["blocked"]


def test_nothing_is_leased_while_nobody_knows_what_runs(world: World) -> None:
    world.containers = None
    for check in (True, False):
        assert "the engine is being restarted" in world.alloc(check=check, user="alice")["msg"]


def test_reconciling_records_a_lost_gpu(world: World) -> None:
    world.alloc(state="reconciled")
    world.gpus[0] = {"index": 0, "uuid": "GPU-0", "lost": True}
    assert world.info()["driver"]["changes"] == ["gpu_lost 0"]
    assert world.alloc(state="reconciled")["changed"]
    assert world.info()["slots"][0]["health"] == "lost"


# --- reading --------------------------------------------------------------------------------------


def test_info_tells_slots_leases_and_use_and_changes_nothing(world: World) -> None:
    world.alloc(user="carol", devices=["0"], note="thesis")
    world.alloc(state="drained", slot="1", reason="fan")
    world.alloc(user="alice")
    before = world.state()
    found = world.info()
    assert world.info(check=True) == found | {"invocation": world.info(check=True)["invocation"]}
    assert world.state() == before
    assert found["driver"] == {
        "state": "ready",
        "reason": "",
        "version": "550.90.07",
        "changes": [],
    }
    rows = {row["index"]: row for row in found["slots"]}
    assert (rows["0"]["user"], rows["0"]["free"], rows["0"]["equivalents"]) == ("carol", False, 1.0)
    assert (rows["1"]["drained"], rows["1"]["free"]) == ("fan", False)
    assert (rows["2:0"]["user"], rows["2:1"]["free"]) == ("alice", True)
    assert [(row["user"], row["equivalents"], row["mig_instances"]) for row in found["users"]] == [
        ("alice", 0.2857, 1),
        ("carol", 1.0, 0),
    ]


def test_info_tells_a_driver_that_does_not_answer(world: World) -> None:
    world.alloc(user="alice")
    world.driver = "driver_restarting"
    found = world.info()
    assert found["driver"]["state"] == "driver_restarting"
    assert found["driver"]["reason"] == "Driver Not Loaded"
    assert len(found["leases"]) == 1


def test_info_tells_a_slot_that_the_vendors_spec_does_not_describe(world: World) -> None:
    (world.top / "vendor" / "nvidia.json").unlink()
    refused = world.alloc(user="alice")
    assert refused["failed"]
    assert lease_files(world) == []


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"user": "nobody-knows"}, "this host knows no user 'nobody-knows'"),
        ({"user": "4711"}, "this host knows no user '4711'"),
        ({"user": ""}, "this host knows no user ''"),
        ({"user": "alice\x00"}, "this host knows no user"),
        ({"user": "alice", "count": 0}, "0 is no number of GPUs"),
        ({"user": "alice", "count": -1}, "-1 is no number of GPUs"),
        ({"user": "alice", "count": 10**9}, "more than any host has"),
        ({"user": "alice", "count": 3}, "3 GPUs for one container are more than the 2"),
        ({"user": "alice", "kind": "9g.90gb"}, "this host has no 9g.90gb slot"),
        ({"user": "alice", "kind": "big"}, "'big' is no kind of GPU"),
        ({"user": "alice", "kind": "full"}, "alice may lease MIG devices only"),
        ({"user": "alice", "devices": ["GPU-7"]}, "no GPU or MIG device 'GPU-7'"),
        ({"user": "alice", "devices": ["2"]}, "GPU 2 is split by MIG"),
        ({"user": "alice", "devices": ["2:0", "MIG-2-0"]}, "a device is named twice"),
        ({"user": "alice", "devices": ["2:0"], "kind": "mig"}, "mutually exclusive"),
        ({"user": "alice", "devices": ["2:0"], "count": 1}, "mutually exclusive"),
        ({"user": "alice", "note": "a\nb"}, "a note has up to 200 printable characters"),
        ({"user": "alice", "request": "a\nb"}, "a request's name has 1 to 64 printable"),
        ({"user": "alice", "request": ""}, "a request's name has 1 to 64 printable"),
        ({"user": "alice", "wait": -1}, "wait is no number of seconds"),
        ({"user": "alice", "slot": "0"}, "slot says nothing with state=allocated"),
        ({"user": "alice", "lease": "l99"}, "there is no lease l99"),
        ({}, "user"),
        ({"state": "released"}, "lease, container, request"),
        ({"state": "released", "request": "course"}, "user"),
        ({"state": "drained", "slot": "0"}, "reason"),
        ({"state": "drained", "slot": "9", "reason": "fan"}, "no GPU or MIG device '9'"),
        ({"state": "drained", "slot": "2", "reason": "fan"}, "GPU 2 is split by MIG"),
        ({"state": "undrained", "slot": "9"}, "no GPU or MIG device '9'"),
        ({"state": "reconciled", "count": 2}, "count says nothing with state=reconciled"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_bad_input_is_refused_with_its_reason(
    world: World, params: dict[str, Any], words: str, check: bool
) -> None:
    before = world.state()
    refused = world.alloc(check=check, **params)
    assert refused["failed"]
    assert words in refused["msg"]
    after = world.state()
    assert (after["leases"], after["queue"]) == (before["leases"], before["queue"])


def test_a_driver_that_does_not_answer_hands_nothing_out(world: World) -> None:
    world.driver = "driver_absent"
    refused = world.alloc(user="alice")
    assert refused["rule"] == "driver"
    assert "Driver Not Loaded" in refused["msg"]


def test_missing_bindings_are_not_taken_for_a_missing_driver(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> dict[str, Any]:
        raise ImportError("No module named 'pynvml'")

    world.alloc(user="alice")
    monkeypatch.setattr(nvml, "read", missing)
    refused = world.alloc(user="alice")
    assert "NVML's Python bindings are missing" in refused["msg"]
    monkeypatch.setattr(nvml, "read", world.read)
    assert world.alloc(user="alice")["changed"]


def test_without_limits_nothing_is_leased(world: World) -> None:
    os.unlink(world.paths["limits_path"])
    assert "no limits are in force on this host yet" in world.alloc(user="alice")["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_a_missing_store_is_told_with_its_remedy(world: World, check: bool) -> None:
    os.unlink(world.paths["store_path"])
    for refused in (world.alloc(check=check, user="alice"), world.info(check=check)):
        assert "there is no state store" in refused["msg"]
        assert "Run site.yml" in refused["msg"]
    assert not Path(world.paths["store_path"]).exists()


@pytest.mark.parametrize("check", [True, False])
def test_a_store_of_another_version_is_refused(world: World, check: bool) -> None:
    with store.open_store(world.paths["store_path"]).transaction() as connection:
        connection.execute("PRAGMA user_version=7")
    for refused in (world.alloc(check=check, user="alice"), world.info(check=check)):
        assert "of version 7, this program reads 1" in refused["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_store_is_refused(world: World, check: bool) -> None:
    Path(world.paths["store_path"]).write_bytes(b"\xff" * 8192)
    for refused in (world.alloc(check=check, user="alice"), world.info(check=check)):
        assert "damaged" in refused["msg"]
