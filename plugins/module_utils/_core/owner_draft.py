# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is about to be written of the engine's things: changes of one batch, before they are committed.

First all that was heard or seen is taken down, then whose each thing is is concluded, and only then the
events are made: so each names the owner who is known at the end of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .events import Event
from .owner_decide import decide, decide_thing, keep, paths_of
from .owner_events import RUNNING, owner_events, told
from .owner_intents import Intent
from .owner_lookout import OwnerWorld
from .owner_origin import origin
from .owners import CONTAINER, GATEWAY, VOLUME, ContainerFacts, Owner, Record

Key = tuple[str, str]


@dataclass(frozen=True)
class _Told:
    key: Key
    action: str
    at: float
    name: str
    more: dict[str, Any]


class Draft:
    """Changes of one batch.

    :param known: a thing as it is recorded, by kind and id.
    :param source: the program's name in events.
    :param patience: seconds that paths which hang are waited for.
    :param held: containers that an intent of the gateway's may have made, by id: nothing that anybody
        could have written counts for them yet.
    :ivar incomplete: containers of which not all could be looked at in that time.
    """

    def __init__(
        self,
        world: OwnerWorld,
        known: Callable[[str, str], Record | None],
        source: str,
        patience: float,
        held: Mapping[str, Intent],
    ) -> None:
        self._world = world
        self.held = dict(held)
        self._patience = patience
        self.incomplete: set[str] = set()
        self._known = known
        self._source = source
        self._before: dict[Key, Record | None] = {}
        self._now: dict[Key, Record] = {}
        self._told: list[_Told] = []

    def get(self, kind: str, thing_id: str) -> Record | None:
        """A thing as this batch leaves it."""
        key = (kind, thing_id)
        if key not in self._before:
            self._before[key] = self._known(kind, thing_id)
        return self._now.get(key, self._before[key])

    def put(self, record: Record, at: float | None = None) -> None:
        """A thing is otherwise now.

        :param at: when that was so, seconds of the wall clock; where nothing new was seen of it, not
            given.
        """
        self.get(record.kind, record.id)
        self._now[record.kind, record.id] = record if at is None else replace(record, updated=at)

    def tell(self, record: Record, action: str, at: float, name: str = "", **more: Any) -> None:
        """Something happened to a thing.

        :param name: what it was called then; its name at the end of the batch if not given.
        """
        self._told.append(_Told((record.kind, record.id), action, at, name, more))

    def touched(self, kind: str) -> list[Record]:
        """Things of a kind that this batch changes."""
        return [record for record in self._now.values() if record.kind == kind]

    def refresh(self, read: Callable[[str, str], Record | None]) -> bool:
        """Take what was recorded of new things in between; whether anything was.

        :param read: a thing as it is recorded now.
        """
        news = False
        for record in list(self._now.values()):
            if record.made is None and self._before[record.kind, record.id] is None:
                found = read(record.kind, record.id)
                if found is not None and found.made is not None:
                    self.put(replace(record, made=found.made, set_by=found.set_by))
                    news = True
        return news

    def conclude(self, anew: bool = False) -> None:
        """Whose the changed things are.

        :param anew: also of those that are gone; else they stay whose they were.
        """
        for record in self.touched(CONTAINER):
            if record.facts is not None and (anew or record.gone is None or self._is_news(record)):
                record = self._inside(record, record.facts)
                self.put(self._container(record, record.facts or ContainerFacts(record.id, "")))
        for record in self.touched(CONTAINER):
            self._touch_volumes(record)
        for record in list(self._now.values()):
            if record.kind != CONTAINER and record.gone is None:
                self.put(self._thing(record))

    def _touch_volumes(self, container: Record) -> None:
        """A volume that was made with a container goes with it, to another owner too."""
        before = self._before[container.kind, container.id]
        if container.facts is None or (before is not None and before.owner == container.owner):
            return
        for name in container.facts.volumes:
            volume = self.get(VOLUME, name)
            if volume is not None and volume.parent == container.id and volume.gone is None:
                self.put(volume)

    def _inside(self, record: Record, facts: ContainerFacts) -> Record:
        """One that runs is looked at in the kernel's books."""
        if record.state not in RUNNING or facts.cgroup or record.gone is not None:
            return record
        cgroup, uids = self._world.inside(record.id, facts.cgroup_parent)
        return replace(record, facts=replace(facts, cgroup=cgroup, uids=uids))

    def _container(self, record: Record, facts: ContainerFacts) -> Record:
        wanted = paths_of(facts)
        paths = self._world.paths(wanted, self._patience) if wanted else {}
        if record.id in self.held and record.made is None and record.set_by is None:
            return replace(record, owner=Owner(incomplete=True), origin=origin(facts, None))
        accounts = self._world.accounts
        accounts.unsure()
        owner = decide(facts, record.made, record.set_by, accounts, paths)
        if accounts.unsure():
            owner = replace(owner, incomplete=True)
        if owner.incomplete:
            self.incomplete.add(record.id)
        owner = keep(self._former(record), owner)
        return replace(record, owner=owner, origin=origin(facts, record.made))

    def _is_news(self, record: Record) -> bool:
        """Whether nobody has concluded yet from what decides it."""
        before = self._before[record.kind, record.id]
        if before is None or before.facts is None:
            return True
        return (before.made, before.set_by) != (record.made, record.set_by)

    def _former(self, record: Record) -> Owner | None:
        """What was concluded before; nothing where nobody has looked at it yet."""
        before = self._before[record.kind, record.id]
        return before.owner if before is not None and before.facts is not None else None

    def _thing(self, record: Record) -> Record:
        with_container = None
        if record.kind == VOLUME and record.parent:
            container = self.get(CONTAINER, record.parent)
            with_container = container.owner if container is not None else None
        accounts = self._world.accounts
        owner = decide_thing(record.made, record.set_by, accounts, with_container)
        return replace(record, owner=owner)

    def changes(self) -> list[Record]:
        """What is otherwise than it was recorded."""
        return [record for key, record in self._now.items() if not same(self._before[key], record)]

    def events(self) -> list[Event]:
        """What happened, and what was concluded anew."""
        events = []
        for one in self._told:
            record = self._now.get(one.key) or self._before[one.key]
            if record is not None:
                shown = self._with_user(replace(record, name=one.name or record.name))
                events.append(told(shown, one.action, one.at, self._source, **one.more))
        now = self._world.now()
        for key, record in self._now.items():
            before = self._before[key]
            if before is not None and before.facts is None and record.kind == CONTAINER:
                before = None if before.made is None else replace(record, owner=before.owner)
            if record.gone is None or self._is_news(record):
                events += owner_events(before, record, now, self._source)
        return events

    def _with_user(self, record: Record) -> Record:
        """What is held is told of with the name of who most likely made it."""
        intent = self.held.get(record.id)
        if intent is None or record.owner.known:
            return record
        return replace(record, owner=Owner(intent.uid, intent.user, GATEWAY))


def same(before: Record | None, now: Record) -> bool:
    """Whether a thing is as it was, whenever that was looked at."""
    return before is not None and replace(before, updated=now.updated) == now


def with_facts(record: Record, facts: ContainerFacts) -> Record:
    """A container of which more is known; what changes with its life stays as it was heard of."""
    old = record.facts
    if record.state:
        facts = replace(facts, state=record.state, name=record.name)
    if old is not None:
        facts = replace(facts, cgroup=old.cgroup, uids=old.uids)
    created = facts.created or record.created
    return replace(record, facts=facts, name=facts.name, created=created)


def with_name(record: Record, name: str) -> Record:
    """A container of another name."""
    facts = replace(record.facts, name=name) if record.facts is not None else None
    return replace(record, name=name, facts=facts) if name else record


def in_state(record: Record, state: str) -> Record:
    """A container in a state of the engine; where it runs is looked for when it is concluded."""
    facts = record.facts
    if facts is not None:
        facts = replace(facts, state=state)
        if state not in RUNNING or record.state not in RUNNING:
            facts = replace(facts, cgroup="", uids=())
    return replace(record, state=state, facts=facts)
