# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers by a full look at the engine: what differs from the records, and what must have happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .owner_draft import Draft, in_state, with_facts, with_name
from .owner_events import CREATE, DESTROY, DIE, RUNNING, START
from .owner_lookout import OwnerWorld, Seen
from .owners import CONTAINER, ContainerFacts, Record


def differences(known: Mapping[str, Record], listed: Sequence[Seen]) -> dict[str, str]:
    """Containers that are not as they are recorded: what they are now, by id; empty: gone."""
    found = {one.facts.id: one.facts for one in listed}
    differing = {one: "" for one, record in known.items() if one not in found}
    for one, facts in found.items():
        record = known.get(one)
        if record is None or (record.state, record.name) != (facts.state, facts.name):
            differing[one] = f"{facts.state} {facts.name}"
    return differing


class Compare:
    """Makes the draft's containers what the engine shows.

    :param patience: seconds that all inspections together are waited for.
    :ivar unfinished: containers whose inspection did not come back in time.
    """

    def __init__(
        self, world: OwnerWorld, draft: Draft, known: Mapping[str, Record], patience: float
    ) -> None:
        self._world = world
        self._patience = patience
        self._draft = draft
        self._known = known
        self.unfinished: set[str] = set()

    def go(
        self, listed: Sequence[Seen], changed: Mapping[str, str], at: float, deep: bool
    ) -> dict[str, Seen]:
        """Compare all.

        :param changed: ids of containers that may be taken for other than recorded; others that differ
            are about to be told of by an event.
        :param deep: inspect all, not only those of which too little is known.
        :returns: what was inspected.
        """
        wanted = [one.facts.id for one in listed if deep or self._must_look(one, changed)]
        looked = self._world.look(wanted, self._patience) if wanted else {}
        self.unfinished = {one for one in wanted if one not in looked}
        there = set()
        for one in listed:
            there.add(one.facts.id)
            seen = looked.get(one.facts.id) or one
            self._there(seen, one, one.facts.id in changed, at)
        for gone in set(self._known) - there:
            if gone in changed:
                self._gone(gone, at)
        return {one: seen for one, seen in looked.items() if seen is not None}

    def _must_look(self, one: Seen, changed: Mapping[str, str]) -> bool:
        record = self._known.get(one.facts.id)
        if record is None or record.facts is None:
            return True
        return one.facts.id in changed and record.state != one.facts.state

    def _there(self, seen: Seen, listed: Seen, changed: bool, at: float) -> None:
        record = self._draft.get(CONTAINER, listed.facts.id)
        state, name = listed.facts.state, listed.facts.name
        if record is None or not record.state or record.facts is None or record.gone is not None:
            if changed or (record is not None and not record.state):
                self._new(record, seen, listed.facts, at)
                return
            if record is None or record.facts is not None:
                return
        before = record.state
        if seen.whole or record.facts is None:
            record = with_facts(record, seen.facts)
        if changed and record.name != name:
            self._draft.tell(record, "rename", at, name, **_renamed(record))
            record = with_name(record, name)
        if changed and before != state:
            self._passed(record, seen, before, state, at)
            record = in_state(record, state)
        elif record.state in RUNNING:
            record = self._inside(record)
        self._draft.put(record, at)

    def _inside(self, record: Record) -> Record:
        """Who runs in it may have changed since it was started."""
        if record.facts is None:
            return record
        cgroup, uids = self._world.inside(record.id, record.facts.cgroup_parent)
        return replace(record, facts=replace(record.facts, cgroup=cgroup, uids=uids))

    def _new(self, record: Record | None, seen: Seen, listed: ContainerFacts, at: float) -> None:
        """One that no event told of."""
        state, name = listed.state, listed.name
        is_known = record is not None and record.state != "" and record.gone is None
        blank = (
            replace(record, gone=None) if record is not None else Record(CONTAINER, seen.facts.id)
        )
        blank = with_facts(replace(blank, state=""), seen.facts)
        made = with_name(in_state(blank, state), name)
        self._draft.put(made, at)
        if is_known or (record is not None and record.gone is not None):
            return
        self._draft.tell(made, CREATE, made.created, seen_by="sync")
        # What happened after the list was made will be told by events.
        if state != "created" and seen.started:
            self._draft.tell(made, START, min(seen.started, at), seen_by="sync")
            self._paused_or_died(made, seen, state, at)

    def _passed(self, record: Record, seen: Seen, before: str, state: str, at: float) -> None:
        """What must have happened for a container to come from one state into another.

        :param at: when it was seen in the latter; the inspection is newer.
        """
        if state in RUNNING and before not in RUNNING:
            self._draft.tell(record, START, min(seen.started or at, at), seen_by="sync")
            if state == "paused":
                self._draft.tell(record, "pause", at, seen_by="sync")
        elif state in RUNNING:
            pair = {"paused": "pause", "running": "unpause"}
            if state in pair and "paused" in (before, state):
                self._draft.tell(record, pair[state], at, seen_by="sync")
        elif before in RUNNING:
            self._paused_or_died(record, seen, state, at)
        elif before == "created" and state == "exited":
            self._draft.tell(record, START, min(seen.started or at, at), seen_by="sync")
            self._paused_or_died(record, seen, state, at)

    def _paused_or_died(self, record: Record, seen: Seen, state: str, at: float) -> None:
        if state == "paused":
            self._draft.tell(record, "pause", at, seen_by="sync")
        elif state not in RUNNING:
            more: dict[str, Any] = {"exit_code": seen.exit_code} if seen.whole else {}
            self._draft.tell(record, DIE, min(seen.finished or at, at), seen_by="sync", **more)

    def _gone(self, container: str, at: float) -> None:
        record = self._draft.get(CONTAINER, container)
        if record is None or record.gone is not None:
            return
        if not record.state:
            # The gateway recorded it, and no event of it came.
            self._draft.tell(record, CREATE, min(record.created, at), seen_by="sync")
        elif record.state in RUNNING:
            self._draft.tell(record, DIE, at, seen_by="sync")
        record = replace(in_state(record, "removed"), gone=at)
        self._draft.put(record, at)
        self._draft.tell(record, DESTROY, at, seen_by="sync")


def _renamed(record: Record) -> dict[str, str]:
    return {"seen_by": "sync", "old_name": record.name}
