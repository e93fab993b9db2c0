# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of owners against a model, with deaths at any step: nothing lost, nothing doubled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ds01.core.events import Event
from ds01.core.owner_book import FAULT_POINTS, OwnerBook
from ds01.core.owners import CONTAINER, Owner, SetBy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from owner_desk import OwnerDesk, intent, made, seen, weak

USERS = {1001: "alice", 1002: "bob"}
IDS = [f"{number:064x}" for number in range(4)]
POINTS = st.sampled_from([None, None, *FAULT_POINTS])
BEFORE_COMMIT = ("locked", "decided")


@dataclass(frozen=True)
class Known:
    """A container as the model has it; names of users, empty where there is none."""

    maker: str = ""
    word: str = ""
    found: str = ""
    state: str = ""
    gone: bool = False

    @property
    def owner(self) -> str:
        return self.word or self.maker or self.found


class OwnerMachine(RuleBasedStateMachine):
    """Whatever is done and whatever dies, the store and the log say what the model does."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.desk = OwnerDesk(Path(self.folder.name))
        self.known: dict[str, Known] = {}
        self.intents: dict[str, int] = {}
        self.told: list[tuple[str, str]] = []
        self.count = 0

    def teardown(self) -> None:
        self.desk.owners.apply([])
        logged = [
            (row["event_type"], row["details"]["id"])
            for row in self.desk.events()
            if row["event_type"].startswith(("owner.", "container."))
        ]
        assert logged == self.told
        marks = [row["details"]["event_id"] for row in self.desk.events()]
        assert len(set(marks)) == len(marks)
        self.folder.cleanup()

    def done(self, point: str | None, call: Callable[[OwnerBook], Any]) -> bool:
        """Do something in a process that dies at a step; whether it was done."""
        self.desk.hands.pass_(1)

        def fault(name: str) -> None:
            if name == point:
                raise KeyboardInterrupt

        try:
            call(self.desk.opened_owners(fault=fault))
        except KeyboardInterrupt:
            return point not in BEFORE_COMMIT
        return True

    @rule(uid=st.sampled_from(sorted(USERS)), point=POINTS)
    def reserve(self, uid: int, point: str | None) -> None:
        self.count += 1
        one = intent(f"t{self.count}", uid=uid, user=USERS[uid])
        if self.done(point, lambda book: book.reserve(one)):
            self.intents[one.token] = uid

    @rule(data=st.data(), point=POINTS, thing=st.sampled_from(IDS), mended=st.booleans())
    def bind(self, data: st.DataObject, point: str | None, thing: str, mended: bool) -> None:
        if not self.intents:
            return
        token = data.draw(st.sampled_from(sorted(self.intents)))

        def call(book: OwnerBook) -> None:
            if mended:
                book.claim_mended(token, thing, "web")
            else:
                book.bind(token, thing, "web")

        if self.done(point, call):
            before = self.known.get(thing, Known())
            maker = before.maker or USERS[self.intents.pop(token)]
            self.intents.pop(token, None)
            self.known[thing] = replace(before, maker=maker)

    @rule(data=st.data(), point=POINTS)
    def abandon(self, data: st.DataObject, point: str | None) -> None:
        if self.intents:
            token = data.draw(st.sampled_from(sorted(self.intents)))
            if self.done(point, lambda book: book.abandon(token)):
                del self.intents[token]

    @rule(thing=st.sampled_from(IDS), uid=st.sampled_from(sorted(USERS)), point=POINTS)
    def record(self, thing: str, uid: int, point: str | None) -> None:
        def call(book: OwnerBook) -> None:
            book.record(CONTAINER, thing, made(uid, USERS[uid]), name="web", durable=False)

        if self.done(point, call):
            before = self.known.get(thing, Known())
            self.known[thing] = replace(before, maker=before.maker or USERS[uid])

    @rule(
        thing=st.sampled_from(IDS),
        state=st.sampled_from(["running", "exited", ""]),
        current=st.booleans(),
        point=POINTS,
        again=st.booleans(),
    )
    def look(self, thing: str, state: str, current: bool, point: str | None, again: bool) -> None:
        """Somebody looks at a container, and concludes from what is recorded or from nothing."""
        self.count += 1
        wall = self.desk.hands.wall + 1
        before = self.known.get(thing, Known())
        row = self.desk.owners.get(CONTAINER, thing) if current else None
        change = seen(
            thing,
            owner=weak("dora", 1005),
            state=state,
            gone=None if state else wall,
            updated=wall,
            made=row.made if row else None,
            set_by=row.set_by if row else None,
        )
        if row is not None and row.owner.confidence == "certain":
            change = replace(change, owner=row.owner)
        at = datetime.fromtimestamp(wall, timezone.utc)
        event = Event("container.started", "ds01d", None, {"id": thing}, at)
        changed = Event("owner.changed", "ds01d", None, {"id": thing}, at)

        def call(book: OwnerBook) -> None:
            stale = book.apply([change], [event, changed], self.count)
            assert bool(stale) is bool(not current and (before.maker or before.word))

        if not self.done(point, call):
            return
        if again:
            self.desk.owners.apply([change], [event], self.count)
        fresh = current or not (before.maker or before.word)
        found = "dora" if fresh else before.found
        self.known[thing] = replace(before, found=found, state=state, gone=not state)
        self.told.append(("container.started", thing))
        if fresh:
            self.told.append(("owner.changed", thing))
        assert self.desk.owners.cursor() == self.count

    @rule(thing=st.sampled_from(IDS), word=st.sampled_from(["carol", "dana", ""]), point=POINTS)
    def say(self, thing: str, word: str, point: str | None) -> None:
        before = self.known.get(thing)
        if before is None:
            return
        by = SetBy(1003 if word == "carol" else 1004, word, "root", self.desk.hands.wall)

        def call(book: OwnerBook) -> None:
            if word:
                book.set_owner(CONTAINER, thing, by)
            else:
                book.unset_owner(CONTAINER, thing, "root")

        if self.done(point, call) and before.word != word:
            # Nobody has looked at it since; without a word or a maker nobody is known until then.
            self.known[thing] = replace(before, word=word, found="")
            self.told.append(("owner.set" if word else "owner.unset", thing[:12]))

    @invariant()
    def the_store_says_what_the_model_does(self) -> None:
        records = {one.id: one for one in self.desk.owners.records(gone=True)}
        assert set(records) == set(self.known)
        for thing, known in self.known.items():
            one = records[thing]
            assert one.owner.user == known.owner
            assert (one.made.user if one.made else "") == known.maker
            assert (one.set_by.user if one.set_by else "") == known.word
            assert (one.state, one.gone is not None) == (known.state, known.gone)
        assert {one.token: one.uid for one in self.desk.owners.intents()} == self.intents

    @invariant()
    def what_is_undecided_is_found(self) -> None:
        undecided = {one.id for one in self.desk.owners.undecided()}
        for one in self.desk.owners.records(gone=True):
            if one.id not in undecided and (one.made or one.set_by):
                assert one.owner != Owner()


TestOwnerMachine = OwnerMachine.TestCase
TestOwnerMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
