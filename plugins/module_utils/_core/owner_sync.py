# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the records of what the engine has in step with it: by its events, and by looking at all of it.

The daemon does it all the time, a module when it is asked to. What is recorded follows from what is there,
from who made it and from what administrators say, whatever was heard of it on the way: so events may come
twice, late or never, and the next full look mends what they missed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .errors import Ds01Error
from .owner_book import OwnerBook
from .owner_compare import Compare, differences
from .owner_draft import Draft, with_facts
from .owner_events import heard
from .owner_hear import Hearing
from .owner_intents import EARLY_SECONDS, LATE_SECONDS, Found, Intent, match
from .owner_lookout import OwnerWorld, Seen, Thing
from .owner_publish import Publisher
from .owner_settings import OwnerSettings
from .owner_things import Things
from .owners import CONTAINER, IMAGE, NETWORK, VOLUME, Record

FINISH_SECONDS = 0.02
_MARKS = 8192
_GONE = 8192
_ROUNDS = 5


class OwnerSync:
    """The records, in step with the engine.

    :param publisher: writes the published views; None: nothing is published.
    """

    def __init__(
        self,
        book: OwnerBook,
        world: OwnerWorld,
        publisher: Publisher | None = None,
        settings: OwnerSettings | None = None,
    ) -> None:
        self.book = book
        self.world = world
        self.publisher = publisher
        self.settings = settings or OwnerSettings()
        self.faults: dict[str, str] = {}
        """What could not be looked at, in words, by kind."""
        self._containers: dict[str, Record] | None = None
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._marks: OrderedDict[str, None] = OrderedDict()
        self._unfinished: set[str] = set()

    # --- what is known ------------------------------------------------------------------------------

    @property
    def containers(self) -> dict[str, Record]:
        """Containers that are there, by id, as they are recorded.

        :raises StoreError: they cannot be read.
        """
        if self._containers is None:
            self._containers = {one.id: one for one in self.book.records(CONTAINER)}
        return self._containers

    @property
    def unfinished(self) -> bool:
        """Whether inspections have not come back yet: :meth:`finish` asks again."""
        return bool(self._unfinished)

    def _known(self, kind: str, thing_id: str) -> Record | None:
        if kind == CONTAINER and thing_id in self.containers:
            return self.containers[thing_id]
        return self.book.get(kind, thing_id)

    def _draft(self) -> Draft:
        return Draft(self.world, self._known, self.book.source)

    # --- events ---------------------------------------------------------------------------------------

    def heard(self, raw: Iterable[Mapping[str, Any]]) -> bool:
        """Take events of the engine down, in the order in which they came; whether any was new.

        :raises Ds01Error: the store cannot be written; the events may be given again.
        """
        parsed = [one for one in map(heard, raw) if one is not None]
        events = list({one.mark: one for one in parsed if one.mark not in self._marks}.values())
        if not events:
            return False
        draft = self._draft()
        hearing = Hearing(self.book, self.world, draft, self._gone.__contains__)
        things = Things(self.book, self.world, draft)
        hearing.meet(events)
        for event in events:
            if event.kind == CONTAINER:
                hearing.step(event)
            else:
                things.step(event)
        hearing.wait_for_gateway(events)
        things.settle()
        self._unfinished |= hearing.unfinished
        self._commit(draft, max(one.nano for one in events))
        _remember(self._marks, (one.mark for one in events), _MARKS)
        return True

    def finish(self, seconds: float = FINISH_SECONDS) -> bool:
        """Ask again for inspections that did not come back in time; whether anything came of it.

        :raises Ds01Error: the store cannot be written.
        """
        waiting = [one for one in self._unfinished if one in self.containers]
        self._unfinished = set(waiting)
        if not waiting:
            return False
        answers = self.world.look(waiting, seconds)
        draft = self._draft()
        for one, seen in answers.items():
            self._unfinished.discard(one)
            if seen is not None:
                draft.put(with_facts(self.containers[one], seen.facts))
        Things(self.book, self.world, draft).settle()
        return self._commit(draft)

    def commits_seen(self) -> bool:
        """Conclude anew what the gateway or an administrator said something of; whether there was any.

        :raises Ds01Error: the store cannot be read or written.
        """
        stale = [(one.kind, one.id) for one in self.book.undecided()]
        return self._conclude_anew(stale) if stale else False

    def _conclude_anew(self, stale: Sequence[tuple[str, str]]) -> bool:
        changed = False
        for _round in range(_ROUNDS):
            draft = self._draft()
            for kind, thing_id in stale:
                found = self.book.get(kind, thing_id)
                if found is None:
                    continue
                if kind == CONTAINER:
                    self._refresh(found)
                draft.put(self._known(kind, thing_id) or found)
            again = self._write(draft, None, whole=True)
            changed = True
            if not again:
                break
            stale = [key for key in stale if key[1] in again]
        return changed

    def _refresh(self, found: Record) -> None:
        """What others wrote of a container joins what is known of it here."""
        known = self.containers.get(found.id)
        if found.gone is not None:
            self.containers.pop(found.id, None)
            return
        if known is not None and known.facts is not None:
            found = replace(known, made=found.made, set_by=found.set_by)
        self.containers[found.id] = found

    # --- writing --------------------------------------------------------------------------------------

    def _commit(self, draft: Draft, cursor: int | None = None) -> bool:
        """Conclude, write and remember; whether anything was written."""
        changed = bool(draft.changes()) or cursor is not None
        stale = self._write(draft, cursor)
        if stale:
            kinds = {one.id: one.kind for kind in _KINDS for one in draft.touched(kind)}
            self._conclude_anew([(kinds[one], one) for one in stale if one in kinds])
        return changed

    def _write(self, draft: Draft, cursor: int | None, whole: bool = False) -> list[str]:
        """Conclude and write; the ids of what somebody else has written to meanwhile.

        :param whole: also what is as it was, so that it counts as concluded.
        """
        draft.conclude()
        changes, events = draft.changes(), draft.events()
        written = [one for kind in _KINDS for one in draft.touched(kind)] if whole else changes
        if not written and not events and cursor is None:
            return []
        stale = self.book.apply([self._kept(one) for one in written], events, cursor)
        for one in changes:
            if one.kind != CONTAINER or one.id in stale:
                continue
            if one.gone is None:
                self.containers[one.id] = one
            else:
                self.containers.pop(one.id, None)
                _remember(self._gone, [one.id], _GONE)
        return stale

    def _kept(self, record: Record) -> Record:
        """Facts of which only some are known are not written: they are looked at again."""
        if record.kind == CONTAINER and record.id in self._unfinished and record.gone is None:
            return replace(record, facts=None)
        return record

    # --- all of it ------------------------------------------------------------------------------------

    def sync(self, settle: Callable[[], None] | None = None, deep: bool = False) -> None:
        """Compare all records with what is there.

        :param settle: lets events come that are on their way: what differs is looked at once more
            after it, and only what still does is taken for something that no event will tell of.
        :param deep: inspect all containers, not only those of which too little is known.
        :raises Ds01Error: the engine does not answer, or the store cannot be written.
        """
        self.faults = {}
        self._containers = None
        at = self.world.now()
        listed = self.world.listed()
        changed = differences(self.containers, listed)
        if changed and settle is not None:
            settle()
            at = self.world.now()
            listed = self.world.listed()
            again = differences(self.containers, listed)
            changed = {one: now for one, now in again.items() if changed.get(one) == now}
        draft = self._draft()
        compare = Compare(self.world, draft, self.containers)
        looked = compare.go(listed, changed, at, deep)
        self._unfinished = {one for one in self._unfinished if one not in looked}
        self._unfinished |= compare.unfinished
        self._match_orphans(draft, looked)
        things = Things(self.book, self.world, draft)
        for kind in (VOLUME, NETWORK, IMAGE):
            self._compare_things(things, kind, settle)
        things.settle()
        self._commit(draft)
        self.commits_seen()

    def _compare_things(self, things: Things, kind: str, settle: Callable[[], None] | None) -> None:
        try:
            at = self.world.now()
            found: Sequence[Thing] = self.world.things(kind)
        except Ds01Error as error:
            self.faults[kind] = str(error)
            return
        things.compare(kind, found, at)

    def _match_orphans(self, draft: Draft, looked: Mapping[str, Seen]) -> None:
        """Containers, volumes and networks that a gateway had asked for that died meanwhile."""
        orphans = [one for one in self.book.intents() if one.orphaned is not None]
        orphans = [one for one in orphans if one.kind != IMAGE]
        if not orphans:
            return
        found = [
            *self._found_containers([one for one in orphans if one.kind == CONTAINER], looked),
            *self._found_things([one for one in orphans if one.kind != CONTAINER]),
        ]
        for token, thing_id in match(orphans, found).claims.items():
            intent = next(one for one in orphans if one.token == token)
            self.book.claim_mended(token, thing_id, _name_of(found, thing_id))
            claimed = self.book.get(intent.kind, thing_id)
            record = draft.get(intent.kind, thing_id)
            if claimed is not None and record is not None:
                draft.put(replace(record, made=claimed.made, set_by=claimed.set_by))

    def _found_containers(
        self, orphans: Sequence[Intent], looked: Mapping[str, Seen]
    ) -> list[Found]:
        first = min((one.at for one in orphans), default=0.0) - EARLY_SECONDS
        last = max((one.at for one in orphans), default=0.0) + LATE_SECONDS
        near = [
            one
            for one in self.containers.values()
            if one.made is None and first <= one.created <= last and one.id not in looked
        ]
        more = self.world.look([one.id for one in near], FINISH_SECONDS * 100) if near else {}
        seen = [one for one in {**looked, **more}.values() if one is not None]
        return [
            Found(one.facts.id, one.facts.created, one.inspection)
            for one in seen
            if (self.containers.get(one.facts.id) or Record(CONTAINER, "")).made is None
        ]

    def _found_things(self, orphans: Sequence[Intent]) -> list[Found]:
        found = []
        for intent in orphans:
            try:
                thing = self.world.thing(intent.kind, intent.name)
            except Ds01Error:
                continue
            known = self.book.get(intent.kind, thing.id) if thing is not None else None
            if thing is not None and (known is None or known.made is None):
                found.append(Found(thing.id, thing.created, {"Name": thing.name}))
        return found

    # --- the views ------------------------------------------------------------------------------------

    def publish(self, full: bool = False) -> bool:
        """Write the published views; whether they say what the records do.

        :param full: after a full sync: see :meth:`.owner_publish.Publisher.publish`.
        :raises Ds01Error: they cannot be written, or the records not be read.
        """
        if self.publisher is None:
            return True
        admins = self.world.members(self.settings.admin_group)
        records = sorted(self.containers.values(), key=lambda one: (one.created, one.id))
        services = self.settings.service_users
        return self.publisher.publish(records, admins, services, full=full)


_KINDS = (CONTAINER, IMAGE, VOLUME, NETWORK)


def _remember(kept: OrderedDict[str, None], news: Iterable[str], most: int) -> None:
    for one in news:
        kept[one] = None
    while len(kept) > most:
        kept.popitem(last=False)


def _name_of(found: Sequence[Found], thing_id: str) -> str:
    one = next(one for one in found if one.id == thing_id)
    return str(one.inspection.get("Name") or "").lstrip("/")
