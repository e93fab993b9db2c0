# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine, a kernel, accounts and a file system that a test moves, for whoever keeps records of owners."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ds01.core.book_clock import Moment
from ds01.core.errors import Ds01Error
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_lookout import Seen, Thing
from ds01.core.owner_sync import OwnerSync
from ds01.core.owners import (
    IMAGE,
    NETWORK,
    VOLUME,
    Account,
    ContainerFacts,
    Mount,
    PathFacts,
    Record,
)
from ds01.core.store import migrate, open_store

START = 1_800_000_000.0
ACCOUNTS = {
    1001: Account(1001, "alice", "/home/alice"),
    1002: Account(1002, "bob", "/home/bob"),
    1003: Account(1003, "carol", "/srv/people/carol"),
}


class FakeAccounts:
    """alice, bob and carol, and a directory that may be silent."""

    def __init__(self) -> None:
        self.known = dict(ACCOUNTS)
        self.silent = False
        self._unsure = False

    def by_uid(self, uid: int) -> Account | None:
        self._unsure |= self.silent
        return None if self.silent else self.known.get(uid)

    def by_name(self, name: str) -> Account | None:
        self._unsure |= self.silent
        found = [one for one in self.known.values() if one.name == name]
        return found[0] if found and not self.silent else None

    def like(self, name: str) -> tuple[Account, ...]:
        return ()

    def unsure(self) -> bool:
        found, self._unsure = self._unsure, False
        return found


@dataclass
class Box:
    """A container of the engine."""

    facts: ContainerFacts
    started: float = 0.0
    finished: float = 0.0
    exit_code: int = 0
    uids: tuple[int, ...] = ()
    hangs: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return self.facts.state


class FakeWorld:
    """The host. Everything done to it makes the events that the engine would send, in :attr:`sent`.

    :ivar asked: what was asked of the engine, in order.
    """

    def __init__(self) -> None:
        self.accounts = FakeAccounts()
        self.clock = START
        self.boxes: dict[str, Box] = {}
        self.kept: dict[str, dict[str, Thing]] = {IMAGE: {}, VOLUME: {}, NETWORK: {}}
        self.sent: list[dict[str, Any]] = []
        self.files: dict[str, PathFacts] = {}
        self.asked: list[str] = []
        self.down = False
        self.on_pause: Callable[[], None] = lambda: None
        self._number = itertools.count(1)

    # --- what a test does ---------------------------------------------------------------------------

    def step(self, seconds: float = 0.01) -> float:
        self.clock = round(self.clock + seconds, 6)
        return self.clock

    def event(self, kind: str, action: str, identity: str, **attributes: str) -> dict[str, Any]:
        nano = int(self.step(0.001) * 1e6) * 1000 + 7
        actor = {"ID": identity, "Attributes": attributes}
        found = {"Type": kind, "Action": action, "Actor": actor, "timeNano": nano}
        self.sent.append(found)
        return found

    def _of(self, action: str, box: Box, **more: str) -> dict[str, Any]:
        facts = box.facts
        attributes = {**facts.labels, "image": facts.image, "name": facts.name, **more}
        return self.event("container", action, facts.id, **attributes)

    def create(
        self,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        mounts: Iterable[Mount] = (),
        volumes: Iterable[str] = (),
        image: str = "lab/base",
        uids: tuple[int, ...] = (),
        **more: Any,
    ) -> str:
        number = next(self._number)
        identity = f"{number:04x}" * 16
        created = self.step()
        for volume in volumes:
            if volume not in self.kept[VOLUME]:
                self.volume(volume)
        facts = ContainerFacts(
            id=identity,
            name=name or f"box{number}",
            created=created,
            state="created",
            image=image,
            labels=dict(labels or {}),
            mounts=tuple(mounts),
            volumes=tuple(volumes),
            **more,
        )
        self.boxes[identity] = Box(facts, uids=uids)
        self._of("create", self.boxes[identity])
        return identity

    def become(self, identity: str, state: str, action: str = "", **more: str) -> None:
        box = self.boxes[identity]
        box.facts = replace(box.facts, state=state)
        if action:
            self._of(action, box, **more)

    def start(self, identity: str) -> None:
        self.boxes[identity].started = self.step()
        self.become(identity, "running", "start")

    def die(self, identity: str, code: int = 0) -> None:
        self.boxes[identity].finished = self.step()
        self.boxes[identity].exit_code = code
        self.become(identity, "exited", "die", exitCode=str(code))

    def pause_box(self, identity: str) -> None:
        self.become(identity, "paused", "pause")

    def unpause(self, identity: str) -> None:
        self.become(identity, "running", "unpause")

    def rename(self, identity: str, name: str) -> None:
        box = self.boxes[identity]
        old, box.facts = box.facts.name, replace(box.facts, name=name)
        self._of("rename", box, oldName=f"/{old}")

    def update(self, identity: str, policy: str) -> None:
        box = self.boxes[identity]
        box.facts = replace(box.facts, restart_policy=policy)
        self._of("update", box)

    def destroy(self, identity: str) -> None:
        box = self.boxes.pop(identity)
        self._of("destroy", box)

    def volume(self, name: str) -> None:
        self.kept[VOLUME][name] = Thing(VOLUME, name, name, float(int(self.step())))
        self.event("volume", "create", name, driver="local")

    def image(self, reference: str, action: str = "tag") -> str:
        identity = f"sha256:{next(self._number):064x}"
        self.kept[IMAGE][identity] = Thing(IMAGE, identity, reference, self.step(), (reference,))
        self.event("image", action, identity, name=reference)
        return identity

    def remove(self, kind: str, identity: str) -> None:
        del self.kept[kind][identity]
        self.event(kind, "delete" if kind == IMAGE else "destroy", identity)

    def file(self, path: str, uid: int | None, **more: Any) -> None:
        self.files[path] = PathFacts(path, uid, **more)

    # --- the port -----------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock

    def pause(self, seconds: float) -> None:
        self.step(seconds)
        self.on_pause()

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise Ds01Error("the engine does not answer", "/run/docker.sock")

    def listed(self, ids: Sequence[str] = ()) -> list[Seen]:
        self._ask("list")
        return [
            Seen(replace(box.facts, tty=False, stdin=False, restart_policy=""), whole=False)
            for box in self.boxes.values()
            if not ids or box.facts.id in ids
        ]

    def look(self, ids: Sequence[str], seconds: float) -> dict[str, Seen | None]:
        found: dict[str, Seen | None] = {}
        for one in ids:
            self.asked.append(f"inspect {one[:4]}")
            box = self.boxes.get(one)
            if self.down or (box is not None and box.hangs):
                continue
            found[one] = None if box is None else self._seen(box)
        return found

    def _seen(self, box: Box) -> Seen:
        inspection = {"Name": f"/{box.facts.name}", **box.config}
        return Seen(box.facts, True, box.started, box.finished, box.exit_code, inspection)

    def inside(self, container: str, parent: str) -> tuple[str, tuple[int, ...]]:
        box = self.boxes.get(container)
        if box is None or box.state not in ("running", "paused", "restarting"):
            return "", ()
        return f"/{parent or 'system.slice'}/docker-{container}.scope", box.uids

    def things(self, kind: str) -> list[Thing]:
        self._ask(kind)
        return list(self.kept[kind].values())

    def thing(self, kind: str, identity: str) -> Thing | None:
        self._ask(f"{kind} {identity[:20]}")
        found = [one for one in self.kept[kind].values() if identity in (one.id, one.name)]
        return found[0] if found else None

    def paths(self, wanted: Iterable[str], seconds: float) -> dict[str, PathFacts]:
        return {path: self.files.get(path, PathFacts(path)) for path in wanted}

    def members(self, group: str) -> tuple[str, ...]:
        return ("dana",)


class Place:
    """A store with its event log, and the sync that keeps it; again after a crash."""

    def __init__(self, folder: Path, world: FakeWorld) -> None:
        self.folder = folder
        self.world = world
        folder.mkdir(parents=True, exist_ok=True)
        self.path = str(folder / "state.db")
        self.log = str(folder / "events.jsonl")
        migrate(self.path)
        self.store = open_store(self.path)
        self.sync = self.anew()

    def book(self, fault: Callable[[str], None] = lambda _name: None) -> OwnerBook:
        return OwnerBook(self.store, self.log, "ds01d", fault, self._moment)

    def _moment(self) -> Moment:
        return Moment("boot", self.world.clock, self.world.clock)

    def anew(self, fault: Callable[[str], None] = lambda _name: None) -> OwnerSync:
        """The program is started (again): nothing is remembered but what is in the store."""
        self.sync = OwnerSync(self.book(fault), self.world)
        return self.sync

    def events(self, prefix: str = "") -> list[dict[str, Any]]:
        path = Path(self.log)
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [one for one in found if one["event_type"].startswith(prefix)]

    def told(self, prefix: str = "container.") -> list[tuple[str, str, str | None]]:
        """Type, name and user of each event."""
        return [
            (one["event_type"], one["details"]["name"], one.get("user"))
            for one in self.events(prefix)
        ]

    def records(self) -> dict[tuple[str, str], Record]:
        return {(one.kind, one.id): one for one in self.book().records()}

    def close(self) -> None:
        self.store.close()
