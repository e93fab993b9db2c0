# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with an engine and records of owners, for the modules of owners to run on."""

from __future__ import annotations

import http.server
import json
import socketserver
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from modules import plugin, run

shell = plugin("module_utils._owner_shell")
logic = plugin("module_utils._container_owner")
store = plugin("module_utils._core.store")
owner_book = plugin("module_utils._core.owner_book")
owners = plugin("module_utils._core.owners")
accounts = plugin("module_utils._host.accounts")
owner_accounts = plugin("module_utils._host.owner_accounts")
paths = plugin("module_utils._host.paths")

UIDS = {"alice": 1001, "bob": 1002, "dana": 1004, "h.baker@hertie-school.lan": 70001}
SECOND_NAMES = {"alice-too": "alice"}


class Engine(socketserver.ThreadingUnixStreamServer):
    """The engine on its socket.

    :ivar containers: inspections by id; None: it does not answer.
    """

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.containers: dict[str, dict[str, Any]] | None = {}
        self.volumes: list[dict[str, Any]] = []
        super().__init__(path, EngineHandler)

    def answer(self, target: str) -> tuple[int, Any]:
        """A status and its JSON."""
        parts = urlsplit(target)
        if self.containers is None:
            return 500, {"message": "the engine is being restarted"}
        if parts.path == "/containers/json":
            filters = json.loads(parse_qs(parts.query).get("filters", ["{}"])[0])
            ids = filters.get("id")
            return 200, [
                {"Id": key, "Names": [one["Name"]], "State": one["State"]["Status"]}
                for key, one in self.containers.items()
                if ids is None or key in ids
            ]
        if parts.path == "/volumes":
            return 200, {"Volumes": self.volumes}
        if parts.path in ("/networks", "/images/json"):
            return 200, []
        name = unquote(parts.path).removeprefix("/containers/").removesuffix("/json")
        for key, one in self.containers.items():
            if name in (key, one["Name"][1:]):
                return 200, one
        return 404, {"message": f"no such container: {name}"}


class EngineHandler(http.server.BaseHTTPRequestHandler):
    """The engine's API, as far as it is read."""

    server: Engine

    def do_GET(self) -> None:
        status, value = self.server.answer(self.path)
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class World:
    """A host. Its engine knows what :meth:`container` made."""

    def __init__(self, top: Path, engine: Engine) -> None:
        self.top, self.engine = top, engine
        self.reads = {
            "store_path": str(top / "state.db"),
            "settings_path": str(top / "owners.json"),
            "publish_dir": str(top / "published"),
            "engine_socket": str(engine.server_address),
        }
        self.places = {
            **self.reads,
            "event_log": str(top / "events.jsonl"),
        }
        store.migrate(self.reads["store_path"])

    def container(self, name: str, number: str = "c", **labels: str) -> str:
        """Make one as root does, past the door; its id."""
        key = (number * 64)[:64]
        made = {
            "Id": key,
            "Name": f"/{name}",
            "Created": "2026-11-22T12:00:00.5Z",
            "State": {"Status": "exited", "Pid": 0, "ExitCode": 0},
            "HostConfig": {"RestartPolicy": {"Name": "no"}},
            "Config": {"Labels": labels, "Image": "lab/base"},
            "Mounts": [],
        }
        assert self.engine.containers is not None
        self.engine.containers[key] = made
        return key

    def remove(self, key: str) -> None:
        """Delete it at the engine."""
        assert self.engine.containers is not None
        del self.engine.containers[key]

    def made(self, key: str, user: str, name: str = "") -> None:
        """The gateway recorded who made it."""
        said = owners.Made(UIDS[user], user, 1795348800.0, "Docker-Client/26.1.5 (linux)")
        self.book().record(owners.CONTAINER, key, said, name=name)

    def book(self, source: str = "test") -> Any:
        """The records, as a program opens them."""
        opened = store.open_store(self.reads["store_path"])
        return owner_book.OwnerBook(opened, self.places["event_log"], source)

    def owner(self, check: bool = False, **params: Any) -> dict[str, Any]:
        """Run ds01_container_owner."""
        return run("ds01_container_owner", {**self.places, **params}, check=check)

    def info(self, check: bool = False, **params: Any) -> dict[str, Any]:
        """Run ds01_container_owner_info."""
        return run("ds01_container_owner_info", {**self.reads, **params}, check=check)

    def published(self) -> dict[str, Any]:
        """The file of owners; nothing where there is none."""
        path = self.top / "published/opa/container-owners.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def events(self, kind: str = "owner.") -> list[dict[str, Any]]:
        """Events of a type and below."""
        path = Path(self.places["event_log"])
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [event for event in found if event["event_type"].startswith(kind)]

    def state(self) -> Any:
        """All that a run may change."""
        with store.open_store(self.reads["store_path"]).reading() as connection:
            tables = ("things", "intents", "outbox", "told", "meta")
            rows = {t: connection.execute(f"SELECT * FROM {t}").fetchall() for t in tables}
        files = {
            str(path): path.read_bytes()
            for path in sorted(self.top.rglob("*"))
            if path.is_file() and not path.name.startswith("state.")
        }
        return rows, files
