# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with GPUs, an engine and a lease book, for the modules of the book to run on."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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


def lease_files(world: World) -> list[str]:
    folder = world.top / "cdi"
    return sorted(os.listdir(folder)) if folder.is_dir() else []
