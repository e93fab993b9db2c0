# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images, volumes and networks: by the engine's events, and by looking at all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from .errors import Ds01Error
from .owner_book import OwnerBook
from .owner_draft import Draft
from .owner_events import CREATE, DESTROY, Heard, of_event
from .owner_intents import EARLY_SECONDS, Intent
from .owner_lookout import OwnerWorld, Thing
from .owners import CONTAINER, IMAGE, VOLUME, Record

WITH_SECONDS = 10.0
"""The engine makes a container's volumes in the moments after its own creation time."""
LATE_SECONDS = 2.0
"""The engine tells of an image about when its answer ends."""
_ENDS = frozenset({DESTROY, "delete"})


class Things:
    """Takes down what is heard or seen of images, volumes and networks."""

    def __init__(self, book: OwnerBook, world: OwnerWorld, draft: Draft) -> None:
        self._book = book
        self._world = world
        self._draft = draft

    # --- events -------------------------------------------------------------------------------------

    def step(self, event: Heard) -> None:
        """What happened to one of them."""
        record = self._draft.get(event.kind, event.id)
        more = of_event(event)
        if event.action in _ENDS:
            record = record or Record(event.kind, event.id, event.attributes.get("name", ""))
            if record.gone is None:
                record = replace(record, gone=event.at)
                self._draft.put(record, event.at)
            self._draft.tell(record, event.action, event.at, **more)
            return
        thing = self._look(event)
        record = self._met(thing, event.at)
        if event.kind == IMAGE:
            self._claim_image(thing, event)
            record = self._draft.get(IMAGE, thing.id) or record
        self._draft.tell(record, event.action, event.at, **more)

    def _look(self, event: Heard) -> Thing:
        """What the event tells of, and of an image all its names."""
        name = event.attributes.get("name", event.id)
        if event.kind == IMAGE:
            with contextlib.suppress(Ds01Error):
                found = self._world.thing(IMAGE, event.id)
                if found is not None:
                    return found
        return Thing(event.kind, event.id, name, created=event.at)

    def _met(self, thing: Thing, at: float) -> Record:
        """A thing that is there."""
        record = self._draft.get(thing.kind, thing.id)
        if record is None or (record.gone is not None and record.gone <= at):
            # What comes again under an old id is another one.
            record = Record(thing.kind, thing.id, thing.name, created=thing.created or at)
        elif record.gone is None:
            record = replace(record, name=thing.name, created=record.created or thing.created)
        if thing.kind != IMAGE or thing.id.startswith("sha256:"):
            self._draft.put(record, at)
        return record

    # --- volumes that are made with a container -----------------------------------------------------

    def settle(self) -> None:
        """Find the containers that volumes were made with."""
        users: dict[str, list[Record]] = {}
        for container in self._draft.touched(CONTAINER):
            for name in container.facts.volumes if container.facts is not None else ():
                users.setdefault(name, []).append(container)
        for name, containers in users.items():
            volume = self._draft.get(VOLUME, name)
            if volume is None or volume.gone is not None or volume.parent:
                continue
            maker = maker_of(volume, containers)
            if maker is not None:
                self._draft.put(replace(volume, parent=maker.id))

    # --- images -------------------------------------------------------------------------------------

    def _claim_image(self, thing: Thing, event: Heard) -> None:
        """Whose request an image came of: one that names it, else the only one that was under way."""
        record = self._draft.get(IMAGE, thing.id)
        if record is None or record.made is not None:
            return
        names = {*thing.names, thing.name, event.attributes.get("name", "")}
        intent = only_maker(self._book.intents(IMAGE), names, event.at)
        if intent is None or not self._book.claim_mended(intent.token, thing.id, thing.name):
            return
        found = self._book.get(IMAGE, thing.id)
        if found is not None:
            self._draft.put(replace(record, made=found.made, set_by=found.set_by))

    # --- all of them --------------------------------------------------------------------------------

    def compare(
        self, kind: str, found: Sequence[Thing], changed: Collection[str], at: float
    ) -> None:
        """Make the records what is there.

        :param changed: ids of things of which no event will tell; others that are new or gone are about
            to be told of.
        :param at: when it was looked at, seconds of the wall clock.
        """
        there = {thing.id: thing for thing in found}
        for thing_id in changed:
            if thing_id not in there:
                self._gone(kind, thing_id, at)
        for thing in found:
            record = self._draft.get(kind, thing.id)
            is_new = record is None or record.gone is not None
            if is_new and thing.id not in changed:
                continue
            record = self._met(thing, at)
            if is_new and kind == IMAGE:
                # A build of nobody else's may have made it.
                self._claim_image(
                    thing, Heard(int(thing.created * 1e9), IMAGE, CREATE, thing.id, {})
                )
            elif is_new:
                self._draft.tell(record, CREATE, record.created, seen_by="sync")

    def _gone(self, kind: str, thing_id: str, at: float) -> None:
        record = self._draft.get(kind, thing_id)
        if record is not None and record.gone is None:
            record = replace(record, gone=at)
            self._draft.put(record, at)
            end = "delete" if kind == IMAGE else DESTROY
            self._draft.tell(record, end, at, seen_by="sync")


def changes(known: Iterable[Record], found: Iterable[Thing]) -> set[str]:
    """Ids of things that came or went since they were recorded."""
    return {one.id for one in known} ^ {one.id for one in found}


def maker_of(volume: Record, containers: Iterable[Record]) -> Record | None:
    """The container that the engine made a volume together with, if it was made so.

    The first container that has it, when the volume came into being in the moments after that one's
    own creation: who names a volume that is there already has not made it.
    """
    first = min(containers, key=lambda one: (one.created, one.id), default=None)
    if first is None:
        return None
    # The engine cuts a volume's time to whole seconds.
    early = int(first.created) <= volume.created
    return first if early and volume.created <= first.created + WITH_SECONDS else None


def only_maker(intents: Iterable[Intent], names: set[str], at: float) -> Intent | None:
    """The request that an image came of; None where it may be one of several users'.

    :param names: references of the image.
    :param at: when the engine told of it, seconds of the wall clock.
    """
    ours = [
        one
        for one in intents
        if one.at - EARLY_SECONDS <= at and (one.ended is None or at <= one.ended + LATE_SECONDS)
    ]
    plain = {reference(name) for name in names if name}
    named = [one for one in ours if one.name and reference(one.name) in plain]
    candidates = named or [one for one in ours if not one.name]
    if len({one.uid for one in candidates}) != 1:
        return None
    return candidates[-1]


def reference(name: str) -> str:
    """An image's reference in one spelling: ``docker.io/library/x:latest`` is ``x``."""
    for prefix in ("docker.io/library/", "index.docker.io/library/", "docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name.removesuffix(":latest") if "@" not in name else name
