# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever becomes of the engine's events, a full look leaves what one from nothing would have found."""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ds01.core.owner_intents import Intent
from ds01.core.owners import CONTAINER, Mount, Record, SetBy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from owner_engine import FakeWorld, Place

LABELS: tuple[dict[str, str], ...] = (
    {},
    {"ds01.user": "alice"},
    {"ds01.user": "bob"},
    {"ds01.user": "nobodyknows"},
)
MOUNTS: tuple[tuple[Mount, ...], ...] = (
    (),
    (Mount("/home/alice/proj"),),
    (Mount("/home/bob/data", True), Mount("/scratch/bob")),
)
NAMES = ("train", "train._.1002", "web")
STEPS = ("create", "create_at_door", "start", "die", "pause", "rename", "update", "destroy", "word")
TROUBLE = ("deliver", "lose", "repeat", "shuffle", "crash", "look")

TOLD = {
    "create": "created",
    "start": "started",
    "die": "died",
    "pause": "paused",
    "unpause": "unpaused",
    "rename": "renamed",
    "update": "updated",
    "destroy": "destroyed",
}
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""A story commits some hundred times, and no power fails in it."""


class Story:
    """A world in which things happen, and somebody who keeps records of them.

    :param kept: events that were delivered at least once, as the engine sent them.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = FakeWorld()
        self.world.file("/home/alice/proj", 1001)
        self.world.file("/home/bob/data", 1002)
        self.world.file("/scratch/bob", 1002)
        self.place = Place(folder / "one", self.world)
        self.waiting: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.lost: list[dict[str, Any]] = []
        self.number = 0

    def happen(self, what: str) -> None:
        boxes = list(self.world.boxes)
        before = len(self.world.sent)
        one = self.chance.choice(boxes) if boxes else ""
        self.number += 1
        if what == "create":
            self._create()
        elif what == "create_at_door":
            self._create_at_door()
        elif one:
            self._change(what, one)
        self.waiting += self.world.sent[before:]

    def _create(self) -> str:
        return self.world.create(
            f"{self.chance.choice(NAMES)}{self.number}",
            self.chance.choice(LABELS),
            self.chance.choice(MOUNTS),
            volumes=self.chance.choice(((), (f"v{self.number}",))),
            uids=self.chance.choice(((), (0,), (1001,))),
        )

    def _create_at_door(self) -> None:
        token = f"t{self.number}"
        intent = Intent(token, CONTAINER, 1003, "carol", self.world.clock, gateway="g")
        self.place.book().reserve(intent)
        self.place.book().bind(token, self._create())

    def _change(self, what: str, one: str) -> None:
        state = self.world.boxes[one].state
        if what == "start" and state in ("created", "exited"):
            self.world.start(one)
        elif what == "die" and state == "running":
            self.world.die(one, self.chance.choice((0, 137)))
        elif what == "pause" and state in ("running", "paused"):
            (self.world.pause_box if state == "running" else self.world.unpause)(one)
        elif what == "rename":
            self.world.rename(one, f"{self.chance.choice(NAMES)}{self.number}")
        elif what == "update":
            self.world.update(one, self.chance.choice(("no", "always")))
        elif what == "destroy" and state != "running":
            self.world.destroy(one)
        elif what == "word" and self.place.book().get(CONTAINER, one) is not None:
            word = SetBy(1002, "bob", "dana", self.world.clock)
            if self.chance.random() < 0.5:
                self.place.book().set_owner(CONTAINER, one, word)
            else:
                self.place.book().unset_owner(CONTAINER, one, "dana")

    def befall(self, what: str) -> None:
        if what == "lose" and self.waiting:
            self.lost.append(self.waiting.pop(self.chance.randrange(len(self.waiting))))
        elif what == "shuffle":
            self.chance.shuffle(self.waiting)
        elif what == "repeat" and self.heard:
            self.place.sync.heard(self.chance.sample(self.heard, min(3, len(self.heard))))
        elif what == "crash":
            self.place.anew(self._dies_somewhere())
            self._deliver()
            self.place.anew()
            # The engine sends again what happened since the cursor, and a little more.
            cursor = int(self.place.book().cursor() or 0)
            again = [one for one in self.heard if one["timeNano"] >= cursor - 5_000_000]
            self.place.sync.heard(again)
        elif what == "look":
            self.place.sync.sync()
        elif what == "deliver":
            self._deliver()

    def _dies_somewhere(self) -> Callable[[str], None]:
        step = self.chance.choice(("locked", "decided", "committed", "event_appended"))

        def fault(name: str) -> None:
            if name == step:
                raise KeyboardInterrupt

        return fault

    def _deliver(self) -> None:
        count = self.chance.randint(0, len(self.waiting))
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        self.heard += batch
        try:
            self.place.sync.heard(batch)
        except KeyboardInterrupt:
            return

    def from_nothing(self, folder: Path) -> dict[tuple[str, str], Record]:
        """What one full look at the same world makes of the makers' and administrators' words alone."""
        other = Place(folder, self.world)
        for record in self.place.records().values():
            if record.made is not None:
                other.book().record(record.kind, record.id, record.made, name=record.name)
        other.sync.sync()
        for record in self.place.records().values():
            if record.set_by is not None:
                other.book().set_owner(record.kind, record.id, record.set_by)
        other.sync.commits_seen()
        found = other.records()
        other.close()
        return found


def comparable(story: Story, records: dict[tuple[str, str], Record]) -> dict[Any, Record]:
    """All but volumes whose container is gone: that they were made with it nobody else can know."""
    there = story.world.boxes
    kept = story.place.records()
    return {
        key: plain(one)
        for key, one in records.items()
        if not (key in kept and kept[key].parent and kept[key].parent not in there)
    }


def plain(record: Record) -> Record:
    """Without what tells when it was looked at, or by which of its names it was first known."""
    return replace(record, updated=0.0, created=0.0 if record.kind != CONTAINER else record.created)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.one_of(st.sampled_from(STEPS), st.sampled_from(TROUBLE)), min_size=5, max_size=60),
    st.integers(0, 2**32),
)
def test_after_a_full_look_the_records_are_those_of_one_from_nothing(
    steps: list[str], seed: int
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        story = Story(Path(folder), seed)
        for step in steps:
            (story.happen if step in STEPS else story.befall)(step)
        story.place.sync.sync(deep=True)
        story.place.sync.commits_seen()
        mine = comparable(story, story.place.records())
        theirs = comparable(story, story.from_nothing(Path(folder, "two")))
        assert mine == theirs
        states = {one.facts.id: (one.state, one.facts.name) for one in story.world.boxes.values()}
        assert states == {
            key[1]: (one.state, one.name) for key, one in mine.items() if key[0] == CONTAINER
        }
        # Another look has nothing to say.
        count = len(story.place.events())
        story.place.sync.sync(deep=True)
        assert len(story.place.events()) == count
        story.place.close()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(st.sampled_from(STEPS), st.sampled_from(("deliver", "repeat", "crash"))),
        min_size=5,
        max_size=60,
    ),
    st.integers(0, 2**32),
)
def test_every_event_that_is_kept_is_told_once(steps: list[str], seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        story = Story(Path(folder), seed)
        for step in steps:
            (story.happen if step in STEPS else story.befall)(step)
        # What was under way when it died is sent again, and what nobody heard yet.
        story.place.anew()
        story.place.sync.heard([*story.heard, *story.waiting])
        told = Counter(
            (one["event_type"].partition(".")[2], one["details"]["id"])
            for one in story.place.events("container.")
        )
        sent = Counter(
            (TOLD[one["Action"]], one["Actor"]["ID"][:12])
            for one in story.world.sent
            if one["Type"] == "container"
        )
        assert told == sent
        story.place.close()
