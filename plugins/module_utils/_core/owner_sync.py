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
from dataclasses import dataclass, replace
from typing import Any

from .errors import Ds01Error
from .owner_book import OwnerBook
from .owner_compare import Compare, differences
from .owner_draft import Draft, with_facts
from .owner_events import CREATE, heard
from .owner_hear import Hearing
from .owner_intents import Intent
from .owner_lookout import OwnerWorld, Seen, Thing
from .owner_mend import lost_intents, mend
from .owner_publish import Publisher
from .owner_settings import OwnerSettings
from .owner_things import Things, changes
from .owners import CONTAINER, IMAGE, NETWORK, VOLUME, Record

EVENT_SECONDS = 0.1
"""So long one event's paths hold up all others; what they say later is concluded later."""
SYNC_SECONDS = 5.0
HELD_SECONDS = 10.0
"""A gateway that died has begun anew by then, and what it had asked for was found."""
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
        self._incomplete: set[str] = set()
        self._born: OrderedDict[str, str] = OrderedDict()
        self._held: dict[str, tuple[float, Intent]] = {}

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
        """Whether not all could be looked at in time: :meth:`finish` looks again."""
        return bool(self._unfinished or self._incomplete or self._held)

    def _known(self, kind: str, thing_id: str) -> Record | None:
        if kind == CONTAINER and thing_id in self.containers:
            return self.containers[thing_id]
        return self.book.get(kind, thing_id)

    def _draft(self, patience: float = EVENT_SECONDS) -> Draft:
        held = {one: intent for one, (_until, intent) in self._held.items()}
        return Draft(self.world, self._known, self.book.source, patience, held)

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
        for event in events:
            if (event.kind, event.action) == (CONTAINER, CREATE):
                self._born[event.id] = event.attributes.get("name", "")
            elif (event.kind, event.action) == (CONTAINER, "rename"):
                self._born.setdefault(event.id, event.attributes.get("oldName", "").lstrip("/"))
        while len(self._born) > _GONE:
            self._born.popitem(last=False)
        until = self.world.now() + HELD_SECONDS
        for one, intent in draft.held.items():
            self._held.setdefault(one, (until, intent))
        self._commit(draft, max(one.nano for one in events))
        _remember(self._marks, (one.mark for one in events), _MARKS)
        return True

    def finish(self) -> bool:
        """Look again at what did not answer in time; whether anything came of it.

        :raises Ds01Error: the store cannot be written.
        """
        self._unfinished.intersection_update(self.containers)
        self._incomplete.intersection_update(self.containers)
        answers = self.world.look(sorted(self._unfinished), 0.0) if self._unfinished else {}
        free = self._let_go()
        draft = self._draft()
        for one in {*self._incomplete, *free} & set(self.containers):
            draft.put(self.containers[one])
        for one, seen in answers.items():
            self._unfinished.discard(one)
            if seen is not None:
                draft.put(with_facts(self.containers[one], seen.facts))
        Things(self.book, self.world, draft).settle()
        return self._commit(draft)

    def _let_go(self, all_of_them: bool = False) -> list[str]:
        """Containers of which no record of the gateway's is to be expected any more."""
        if not self._held:
            return []
        now, tokens = self.world.now(), {one.token for one in self.book.intents()}
        free = [
            one
            for one, (until, intent) in self._held.items()
            if all_of_them or now >= until or intent.token not in tokens
        ]
        for one in free:
            del self._held[one]
        return free

    def commits_seen(self) -> bool:
        """Conclude anew what the gateway or an administrator said something of; whether there was any.

        :raises Ds01Error: the store cannot be read or written.
        """
        stale = [(one.kind, one.id) for one in self.book.undecided()]
        return self._conclude_anew(stale) if stale else False

    def lost(self) -> frozenset[str]:
        """Tokens of what was asked for and is recorded nowhere: the next full look finds what came of it.

        :raises StoreError: they cannot be read.
        """
        return frozenset(one.token for one in lost_intents(self.book))

    def mend(self) -> bool:
        """Find at once what came of :meth:`lost` requests; whether anything was.

        :raises Ds01Error: the engine does not answer, or the store cannot be written.
        """
        draft = self._draft()
        strangers = []
        for seen in self.world.listed():
            record = self._known(CONTAINER, seen.facts.id)
            if record is None:
                strangers.append(seen)
            elif record.gone is None:
                draft.put(record)
        if not mend(self.book, self.world, draft, {}, self._born, strangers):
            return False
        self._commit(draft)
        self.commits_seen()
        return True

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
        draft.conclude(anew=whole)
        with self.book.store.locked():
            # What the gateway has recorded since is heeded now: the events name who made it.
            if draft.refresh(self.book.get):
                draft.conclude(anew=whole)
            self._incomplete -= {one.id for one in draft.touched(CONTAINER)}
            self._incomplete |= draft.incomplete
            changed, events = draft.changes(), draft.events()
            written = [one for kind in _KINDS for one in draft.touched(kind)] if whole else changed
            if not written and not events and cursor is None:
                return []
            stale = self.book.apply([self._kept(one) for one in written], events, cursor)
        for one in changed:
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

    def sync(
        self,
        settle: Callable[[], None] | None = None,
        deep: bool = False,
        patience: float = SYNC_SECONDS,
    ) -> None:
        """Compare all records with what is there.

        :param settle: lets events come that are on their way: what differs is looked at once more
            after it, and only what still does is taken for something that no event will tell of.
        :param deep: inspect all containers, not only those of which too little is known.
        :param patience: seconds that inspections and paths which hang are waited for.
        :raises Ds01Error: the engine does not answer, or the store cannot be written.
        """
        self._containers = None
        view, changed = self._view()
        if settle is not None and any(changed.values()):
            settle()
            view, again = self._view()
            changed = {
                kind: {one: now for one, now in found.items() if changed[kind].get(one) == now}
                for kind, found in again.items()
            }
        draft = self._draft(patience)
        compare = Compare(self.world, draft, self.containers, patience)
        looked = compare.go(view.listed, changed[CONTAINER], view.at, deep)
        self._unfinished = {one for one in self._unfinished if one not in looked}
        self._unfinished |= compare.unfinished
        things = Things(self.book, self.world, draft)
        for kind, found in view.things.items():
            things.compare(kind, found, changed[kind], view.at)
        mend(self.book, self.world, draft, looked, self._born)
        things.settle()
        self._commit(draft)
        self.commits_seen()

    def _view(self) -> tuple[_View, dict[str, dict[str, str]]]:
        """What is there, and what of it is otherwise than recorded, by kind."""
        self.faults = {}
        view = _View(self.world.now(), self.world.listed(), {})
        changed = {CONTAINER: differences(self.containers, view.listed)}
        for kind in (VOLUME, NETWORK, IMAGE):
            changed[kind] = {}
            try:
                view.things[kind] = self.world.things(kind)
            except Ds01Error as error:
                self.faults[kind] = str(error)
                continue
            there = {thing.id for thing in view.things[kind]}
            differing = changes(self.book.records(kind), view.things[kind])
            changed[kind] = {one: "there" if one in there else "" for one in differing}
        return view, changed

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


@dataclass(frozen=True)
class _View:
    """What is there, at one time."""

    at: float
    listed: Sequence[Seen]
    things: dict[str, Sequence[Thing]]


def _remember(kept: OrderedDict[str, None], news: Iterable[str], most: int) -> None:
    for one in news:
        kept[one] = None
    while len(kept) > most:
        kept.popitem(last=False)
