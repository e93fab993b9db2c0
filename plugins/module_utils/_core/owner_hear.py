# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers by the engine's events: what each says is taken down in a draft."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from .errors import Ds01Error
from .owner_book import OwnerBook
from .owner_draft import Draft, in_state, with_facts, with_name
from .owner_events import CREATE, DESTROY, Heard, of_event
from .owner_intents import Intent, fits
from .owner_lookout import OwnerWorld, Seen
from .owner_mend import may_have_made, near
from .owners import CONTAINER, NETWORK, VOLUME, ContainerFacts, Record

LOOK_SECONDS = 0.005
"""So long an inspection is waited for when the engine's list is there already."""
GATEWAY_SECONDS = 0.06
"""Between the engine's event and the gateway's commit lies the engine's answer."""
GATEWAY_PAUSE_SECONDS = 0.004


class Hearing:
    """One batch of events.

    :param is_gone: whether a container is known to be there no more, by its id.
    :ivar unfinished: containers whose inspection did not come back in time.
    """

    def __init__(
        self, book: OwnerBook, world: OwnerWorld, draft: Draft, is_gone: Callable[[str], bool]
    ) -> None:
        self._book = book
        self._world = world
        self._draft = draft
        self._is_gone = is_gone
        self._seen: dict[str, Seen] = {}
        self.unfinished: set[str] = set()

    def meet(self, events: Iterable[Heard]) -> None:
        """Look at the containers of which too little is known."""
        wanted: dict[str, Heard] = {}
        for event in events:
            if event.kind != CONTAINER or event.action == DESTROY or self._is_gone(event.id):
                continue
            record = self._draft.get(CONTAINER, event.id)
            if record is None or (record.gone is None and not record.state):
                wanted.setdefault(event.id, event)
            elif event.action == "update" and record.gone is None:
                self.unfinished.add(event.id)
        if wanted:
            self._look(list(wanted))
            for event in wanted.values():
                self._met(event)

    def _look(self, ids: Sequence[str]) -> None:
        """As much as can be had soon: a start that is under way makes an inspection wait, but no list."""
        answers = dict(self._world.look(ids, 0.0))
        listed: dict[str, Seen] = {}
        with contextlib.suppress(Ds01Error):  # its events tell enough until it answers
            listed = {seen.facts.id: seen for seen in self._world.listed(ids)}
        answers.update(self._world.look([one for one in ids if one not in answers], LOOK_SECONDS))
        self._seen = listed | {one: seen for one, seen in answers.items() if seen is not None}
        self.unfinished.update(one for one in ids if one not in answers)

    def _met(self, event: Heard) -> None:
        """A container that nobody has looked at before."""
        seen = self._seen.get(event.id)
        # It is gone again, or the engine is silent: the event itself tells something of it.
        facts = of_attributes(event) if seen is None else seen.facts
        before = self._draft.get(CONTAINER, event.id) or Record(CONTAINER, event.id)
        record = with_facts(replace(before, created=facts.created), facts)
        if event.action == CREATE:
            self._draft.put(record, event.at)
            return
        # Its creation was missed.
        record = in_state(record, facts.state or "created")
        self._draft.put(record, event.at)
        self._draft.tell(record, CREATE, facts.created, seen_by="sync")

    def step(self, event: Heard) -> None:
        """What happened to a container."""
        record = self._draft.get(CONTAINER, event.id)
        if self._is_gone(event.id) or (record is not None and record.gone is not None):
            return
        name = event.attributes.get("name", "")
        if event.action == DESTROY:
            if record is None or record.facts is None:
                blank = record or Record(CONTAINER, event.id)
                record = with_facts(blank, of_attributes(event))
            if not record.state:
                # Its creation was missed.
                at = min(record.created or event.at, event.at)
                self._draft.tell(record, CREATE, at, name, seen_by="sync")
            record = replace(in_state(record, "removed"), gone=event.at)
        elif record is None or (event.action == CREATE and record.state):
            return  # it was seen, and told of, before
        elif event.action == "rename":
            record = with_name(record, name)
        elif event.action == CREATE:
            record = with_name(in_state(record, event.state), name)
        elif event.state:
            record = in_state(record, event.state)
        self._draft.put(record, event.at)
        self._draft.tell(record, event.action, event.at, name, **of_event(event))

    # --- the gateway --------------------------------------------------------------------------------

    def wait_for_gateway(self, events: Iterable[Heard]) -> None:
        """Its record of what was just made comes with the engine's answer, a moment after the event.

        What its intents may have made and it did not record by then is held: what labels say of it
        counts only when it is known that no record will come.
        """
        made = {(one.kind, one.id) for one in events if one.action == CREATE}
        waiting = self._unclaimed(made)
        if not waiting:
            return
        intents = self._book.intents()
        about = [one for one in intents if one.ended is None and one.orphaned is None]
        waited = 0.0
        while waited < GATEWAY_SECONDS:
            if not any(self._may_be(one, record) for record in waiting for one in about):
                break
            self._world.pause(GATEWAY_PAUSE_SECONDS)
            waited += GATEWAY_PAUSE_SECONDS
            for record in waiting:
                found = self._book.get(record.kind, record.id)
                if found is not None and found.made is not None:
                    self._draft.put(replace(record, made=found.made, set_by=found.set_by))
            waiting = self._unclaimed(made)
        for record in waiting:
            makers = [one for one in intents if self._may_be(one, record)]
            if record.kind == CONTAINER and len({one.uid for one in makers}) == 1:
                self._draft.held[record.id] = makers[-1]

    def _unclaimed(self, made: set[tuple[str, str]]) -> list[Record]:
        found = [one for kind in (CONTAINER, VOLUME, NETWORK) for one in self._draft.touched(kind)]
        found = [one for one in found if one.made is None]
        return [one for one in found if (one.kind, one.id) in made]

    def _may_be(self, intent: Intent, record: Record) -> bool:
        if intent.kind != record.kind:
            return False
        seen = self._seen.get(record.id) if record.kind == CONTAINER else None
        if seen is not None and seen.whole:
            return fits(intent, record.created, seen.inspection)
        if record.kind == CONTAINER and record.facts is not None:
            return may_have_made(intent, record.facts)
        return near(intent, record.created) and intent.name == record.name


def of_attributes(event: Heard) -> ContainerFacts:
    """What an event of a container tells of it."""
    name, image = event.attributes.get("name", ""), event.attributes.get("image", "")
    return ContainerFacts(event.id, name, event.at, image=image, labels=event.labels)
