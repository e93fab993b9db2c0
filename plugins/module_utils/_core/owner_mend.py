# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that the gateway had asked for and never recorded: it, or the engine, died in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .errors import Ds01Error
from .owner_book import OwnerBook
from .owner_draft import Draft
from .owner_intents import EARLY_SECONDS, LATE_SECONDS, Found, Intent, fits, match
from .owner_lookout import OwnerWorld, Seen
from .owners import CONTAINER, NETWORK, VOLUME, ContainerFacts

LOOK_SECONDS = 2.0
ROUNDING_SECONDS = 1.0
"""The engine's list, and its volumes, have whole seconds."""
_TOLD = ("salt", "name", "image", "labels")
"""What an event tells of what was asked for."""


def mend(
    book: OwnerBook,
    world: OwnerWorld,
    draft: Draft,
    looked: Mapping[str, Seen],
    born: Mapping[str, str],
    strangers: Sequence[Seen] = (),
) -> int:
    """Claim them for who had asked for them; how many. In doubt they stay nobody's.

    :param draft: has all things that are there.
    :param looked: containers that have just been inspected.
    :param born: what containers were called at first, by id, as far as it was heard.
    :param strangers: containers that are there and not recorded yet.
    :raises StoreError: the book cannot be written.
    """
    lost = lost_intents(book)
    if not lost:
        return 0
    containers = [one for one in lost if one.kind == CONTAINER]
    unclaimed = [
        (record.id, record.created)
        for record in draft.touched(CONTAINER)
        if record.made is None and record.gone is None
    ]
    unclaimed += [(one.facts.id, one.facts.created) for one in strangers]
    found = _containers(containers, world, unclaimed, looked) if containers else []
    found = [_as_born(one, born) for one in found]
    claims = dict(match(containers, found).claims)
    claims.update(_gone(containers, found, book, born))
    for kind in (VOLUME, NETWORK):
        asked = [one for one in lost if one.kind == kind]
        claims.update(match(asked, _things(asked, world, draft)).claims if asked else {})
    by_token = {one.token: one for one in lost}
    for token, thing_id in claims.items():
        _claim(book, draft, by_token[token], thing_id)
    return len(claims)


def lost_intents(book: OwnerBook) -> list[Intent]:
    """What was asked for, and nobody will say what came of it.

    An image's intent is matched when the engine tells of the image.
    """
    lost = [one for one in book.intents() if one.orphaned is not None or one.ended is not None]
    return [one for one in lost if one.kind in (CONTAINER, VOLUME, NETWORK)]


def near(intent: Intent, created: float) -> bool:
    """Whether a thing came into being about when it was asked for."""
    first = intent.at - EARLY_SECONDS - ROUNDING_SECONDS
    return first <= created <= intent.at + LATE_SECONDS


def may_have_made(intent: Intent, facts: ContainerFacts) -> bool:
    """Whether a container that nobody can inspect any more, or not yet, can be what came of an intent:
    by its time, name, image and labels, which its events tell."""
    if intent.kind != CONTAINER or not near(intent, facts.created):
        return False
    told = {key: intent.fingerprint[key] for key in _TOLD if key in intent.fingerprint}
    shown = {"Name": facts.name, "Config": {"Image": facts.image, "Labels": dict(facts.labels)}}
    if not told:
        return not intent.name or intent.name.lstrip("/") == facts.name
    return fits(replace(intent, fingerprint=told, ended=None), max(facts.created, intent.at), shown)


def _as_born(found: Found, born: Mapping[str, str]) -> Found:
    """A container with the name that it was asked for with: it may have another one since."""
    name = born.get(found.id)
    return replace(found, inspection={**found.inspection, "Name": name}) if name else found


def _gone(
    lost: Sequence[Intent], there: Sequence[Found], book: OwnerBook, born: Mapping[str, str]
) -> dict[str, str]:
    """Claims on containers that are gone already, of what made none that is there."""
    lost = [
        one
        for one in lost
        if not any(fits(one, thing.created, thing.inspection) for thing in there)
    ]
    if not lost:
        return {}
    gone = [
        replace(record.facts, name=born.get(record.id, record.name))
        for record in book.records(CONTAINER, gone=True)
        if record.gone is not None and record.made is None and record.facts is not None
    ]
    pairs = [(one, facts.id) for one in lost for facts in gone if may_have_made(one, facts)]
    tokens = Counter(one.token for one, _id in pairs)
    things = Counter(thing_id for _one, thing_id in pairs)
    return {
        one.token: thing_id
        for one, thing_id in pairs
        if tokens[one.token] == 1 and things[thing_id] == 1
    }


def _claim(book: OwnerBook, draft: Draft, intent: Intent, thing_id: str) -> None:
    record = draft.get(intent.kind, thing_id)
    book.claim_mended(intent.token, thing_id, record.name if record is not None else intent.name)
    claimed = book.get(intent.kind, thing_id)
    if claimed is not None and record is not None:
        draft.put(replace(record, made=claimed.made, set_by=claimed.set_by))


def _containers(
    lost: Sequence[Intent],
    world: OwnerWorld,
    unclaimed: Sequence[tuple[str, float]],
    looked: Mapping[str, Seen],
) -> list[Found]:
    """All that nobody has claimed and that came into being about then.

    :param unclaimed: ids, and when they were created.
    """
    first = min(one.at for one in lost) - EARLY_SECONDS - ROUNDING_SECONDS
    last = max(one.at for one in lost) + LATE_SECONDS
    ids = [one for one, created in unclaimed if first <= created <= last]
    missing = [one for one in ids if one not in looked]
    answers = world.look(missing, LOOK_SECONDS) if missing else {}
    seen = {one: found for one, found in {**answers, **looked}.items() if found is not None}
    return [Found(one, seen[one].facts.created, seen[one].inspection) for one in ids if one in seen]


def _things(lost: Sequence[Intent], world: OwnerWorld, draft: Draft) -> list[Found]:
    found: dict[str, Found] = {}
    for intent in lost:
        try:
            thing = world.thing(intent.kind, intent.name) if intent.name else None
        except Ds01Error:
            continue
        if thing is None:
            continue
        record = draft.get(intent.kind, thing.id)
        if record is None or record.made is None:
            found[thing.id] = Found(thing.id, thing.created, {"Name": thing.name})
    return list(found.values())
