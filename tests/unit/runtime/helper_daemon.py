# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running ``ds01d`` for tests: real sockets, a real store, and a host that a test moves."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ds01 import limits_source
from ds01.core.apply import write_record
from ds01.core.book import Book
from ds01.core.book_clock import host_clock
from ds01.core.errors import Ds01Error
from ds01.core.gpus import Inventory, inventory
from ds01.core.lease_files import LeaseFiles
from ds01.core.limits import to_json
from ds01.core.sightings import SeenContainer, SeenProcess
from ds01.core.store import migrate, open_store
from ds01.daemon.allowances import Directory
from ds01.daemon.ear import Recorder
from ds01.daemon.parts import Parts, Places
from ds01.daemon.published import publisher
from ds01.daemon.service import Daemon
from ds01.daemon.systemd import Notifier
from ds01.daemon.tracker import Tracker
from ds01.host.accounts import HostAccount
from ds01.host.peer import Peer
from soak.gpus import gpu, reading, vendor_spec

LIMITS = """\
default_group: student
defaults:
  max_gpu_equivalents: 1
  max_mig_instances: 1
  max_gpus_per_container: 1
  gpu_hold_after_stop: 15m
  gpu_wait_timeout: 30m
  max_runtime: 1h
  allow_full_gpu: true
groups:
  student:
    members: [alice, bob]
  researcher:
    members: [carol]
    max_gpu_equivalents: 2
    max_gpus_per_container: 2
    priority: 50
"""
UIDS = {"root": 0, "alice": 1001, "bob": 1002, "carol": 1003, "dana": 1004}
ADMIN_GID = 900


def account(name: str) -> HostAccount | None:
    return HostAccount(name, UIDS[name], (name,)) if name in UIDS else None


def account_by_uid(uid: int) -> HostAccount | None:
    names = [name for name, number in UIDS.items() if number == uid]
    return account(names[0]) if names else None


class FakeWorld:
    """The host: two whole GPUs; containers and events as a test puts them."""

    def __init__(self, gpus: int = 2) -> None:
        self.reading: Mapping[str, Any] = reading([gpu(index) for index in range(gpus)])
        self.seen: list[SeenContainer] | None = []
        self.started: list[str] = []
        self.since: float | None = None
        self.start_error: Ds01Error | None = None
        self.hang = threading.Event()
        self.hang.set()

    def gpus(self) -> Mapping[str, Any]:
        self.hang.wait()
        return self.reading

    def containers(self) -> Sequence[SeenContainer]:
        if self.seen is None:
            raise Ds01Error("the engine does not answer", "/run/docker.sock")
        return list(self.seen)

    def processes(self, found: Inventory) -> Sequence[SeenProcess]:
        return []

    def containers_of(self, lease_id: str) -> Sequence[SeenContainer]:
        return [one for one in self.containers() if lease_id in one.leases]

    def engine_since(self) -> float | None:
        return self.since

    def start(self, container: str) -> None:
        if self.start_error:
            raise self.start_error
        self.started.append(container)

    def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
        return iter(())


class Helper:
    """A daemon in a thread of its own."""

    def __init__(self, directory: Path, gpus: int = 2) -> None:
        self.directory = directory
        self.world = FakeWorld(gpus)
        self.path = str(directory / "ds01d.sock")
        self.store_path = str(directory / "state" / "state.db")
        self.events_path = str(directory / "events.jsonl")
        (directory / "state").mkdir(exist_ok=True)
        (directory / "etc").mkdir(exist_ok=True)
        self.limits(LIMITS)
        settings = {"schema": 1, "admin_group": "ds01-admins", "reconcile_seconds": 3600}
        (directory / "etc" / "gpu.json").write_text(json.dumps(settings))
        migrate(self.store_path)
        # A new book hands nothing out before it has seen what runs.
        self.book().reconcile(inventory(self.world.reading), [], [])
        self._callers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.cgroup = "/user.slice/user-1001.slice/session-3.scope"
        self.daemon: Daemon | None = None
        self.hung_directory = False
        self.expected_status = 0
        self.tracker: Tracker | None = None
        self._listener: socket.socket | None = None

    def limits(self, text: str) -> None:
        source = self.directory / "limits.yml"
        source.write_text(text)
        record = {**to_json(limits_source.from_file(str(source))), "io": {}}
        write_record(record, str(self.directory / "etc" / "limits.json"))

    def who(self, _sock: socket.socket) -> Peer:
        """The kernel's word is the test's."""
        # Connections are accepted in the order in which they are made.
        user = self._callers.get_nowait()
        groups = frozenset({ADMIN_GID}) if user == "dana" else frozenset[int]()
        uid = UIDS.get(user, 4242)
        return Peer(1, uid, uid, groups, self.cgroup)

    def book(self, source: str = "test") -> Book:
        """The book as another process opens it."""
        spec = vendor_spec(inventory(self.world.reading), "/dev/slot-")
        files = LeaseFiles(lambda: spec, str(self.directory / "cdi"))
        return Book(
            open_store(self.store_path),
            files,
            host_clock,
            events_path=self.events_path,
            source=source,
            settle_seconds=0.05,
        )

    @contextmanager
    def running(self) -> Iterator[Daemon]:
        """The daemon serves; a second time in one test it has been restarted by systemd."""
        if self._listener is None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.path)
            self._listener.listen(128)
        ready, outcome = threading.Event(), dict[str, Any]()
        thread = threading.Thread(target=self._serve, args=(ready, outcome), daemon=True)
        thread.start()
        assert ready.wait(30), outcome
        try:
            yield outcome["daemon"]
        finally:
            # One that ended by itself has closed its loop.
            with suppress(RuntimeError):
                outcome["loop"].call_soon_threadsafe(outcome["daemon"].stop)
            thread.join(30)
            assert not thread.is_alive()
            assert outcome["status"] == self.expected_status

    def _serve(self, ready: threading.Event, outcome: dict[str, Any]) -> None:
        helper = self

        class Told(Notifier):
            def tell(self, **states: str | int) -> None:
                outcome.setdefault("told", []).append(states)
                if "READY" in states:
                    ready.set()

        def by_uid(uid: int) -> HostAccount | None:
            if helper.hung_directory:
                threading.Event().wait(60)
            return account_by_uid(uid)

        async def main() -> int:
            assert self._listener is not None
            parts = Parts(
                listener=self._listener.dup(),
                book=self.book("ds01d"),
                world=self.world,
                notifier=Told(""),
                places=Places(
                    limits=str(self.directory / "etc" / "limits.json"),
                    settings=str(self.directory / "etc" / "gpu.json"),
                    release=str(self.directory / "etc" / "current"),
                    refusals=str(self.directory / "refusals.json"),
                    publish=publisher(str(self.directory / "state")),
                ),
                directory=Directory(by_uid, account, seconds=0.2),
                who=self.who,
                group_id=lambda name: ADMIN_GID if name == "ds01-admins" else None,
                tracker=self.tracker or Recorder(),
                sync_owners=self.tracker.sync_now if self.tracker else dict,
            )
            daemon = Daemon(parts)
            outcome["daemon"], outcome["loop"] = daemon, asyncio.get_running_loop()
            try:
                return await daemon.run()
            finally:
                parts.listener.close()

        outcome["status"] = asyncio.run(main())

    def close(self) -> None:
        if self._listener:
            self._listener.close()

    # --- a client without our code ------------------------------------------------------------------

    def comes(self, caller: str) -> None:
        """The next connection, by whatever client, is this user's."""
        self._callers.put(caller)

    def dial(self, caller: str = "alice", timeout: float = 20) -> socket.socket:
        """A connection of this user."""
        self.comes(caller)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(self.path)
        return sock

    def say(self, data: bytes, caller: str = "alice") -> dict[str, Any]:
        """Send bytes; the last line of the answer."""
        with self.dial(caller) as sock:
            # Who is refused at the door is refused before he has spoken.
            with suppress(BrokenPipeError):
                sock.sendall(data)
            lines = read_lines(sock)
        assert lines, "no answer"
        return lines[-1]

    def ask(self, verb: str, caller: str = "alice", **fields: Any) -> dict[str, Any]:
        """A request in the right form."""
        return self.say(json.dumps({"verb": verb, **fields}).encode() + b"\n", caller)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Events."""
        path = Path(self.events_path)
        lines = path.read_text().splitlines() if path.exists() else []
        return [row for line in lines if (row := json.loads(line))["event_type"] == kind]


def read_lines(sock: socket.socket, until: str = "") -> list[dict[str, Any]]:
    """Lines until the end, or until one has this key."""
    data, lines = b"", list[dict[str, Any]]()
    while True:
        *whole, data = data.split(b"\n")
        lines += [json.loads(line) for line in whole]
        if until and any(until in line for line in lines):
            return lines
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            # The end of who refused us before he read what we said.
            return lines
        if not more:
            return lines
        data += more
