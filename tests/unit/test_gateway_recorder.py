# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's writer: what waits for the disk, and what becomes of it when the disk does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_intents import Intent
from ds01.core.owners import CONTAINER, Made
from ds01.core.store import StoreFull, StoreMissing, StoreVersion
from ds01.gateway import recorder as module
from ds01.gateway.counters import Counters
from ds01.gateway.recorder import LateError, Recorder, own_identity

ID = "a" * 64


def intent(token: str = "i1") -> Intent:
    """Something that is asked for."""
    return Intent(token, CONTAINER, 2001, "alice", 1000.0, name="box")


class Book:
    """A book that does as it is told.

    :ivar told: what was done, in order.
    :ivar gate: nothing is done before it is open.
    :ivar faults: what is raised instead, by name.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.faults: dict[str, Exception] = {}
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        def do(*words: Any, **named: Any) -> None:
            self.begun.set()
            self.gate.wait(20)
            self.threads.add(threading.get_ident())
            if name in self.faults:
                raise self.faults[name]
            if name != "intents":
                self.told.append((name, *words))

        return do


@pytest.fixture
def book() -> Book:
    """The book behind the recorder."""
    return Book()


@pytest.fixture
def recorder(book: Book) -> Iterator[Recorder]:
    """A running one."""

    def open_book(_path: str, _events: str) -> OwnerBook:
        book.opened += 1
        return cast("OwnerBook", book)

    found = Recorder("/nowhere", "/nowhere", Counters(""), open_book)
    found.start()
    yield found
    book.gate.set()
    found.stop()


def wait(done: Any, seconds: float = 5.0) -> bool:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_all_is_done_in_order_and_in_one_thread(recorder: Recorder, book: Book) -> None:
    async def play() -> None:
        got = await recorder.reserve(2001, intent)
        await recorder.bind(got, ID, ("l1",))
        await recorder.record(CONTAINER, ID, Made(1, "x", 1.0))
        recorder.ended(1, "i2", 5.0)
        recorder.abandon(1, "i3")
        recorder.take_over(["i4"])

    asyncio.run(play())
    assert wait(lambda: len(book.told) == 6)
    assert [one[0] for one in book.told[:3]] == ["reserve", "bind", "record"]
    # Each user in turn, and each user's in order.
    assert [one[0] for one in book.told[3:]] == ["ended", "orphan", "abandon"]
    assert book.told[1][1:] == ("i1", ID, "box")
    assert book.told[4] == ("orphan", recorder.identity, frozenset({"i4"}))
    assert len(book.threads) == 1 and threading.get_ident() not in book.threads


def test_the_loop_waits_for_nobody(recorder: Recorder, book: Book) -> None:
    """A disk that hangs stops what waits for it, and nothing else."""

    async def play() -> float:
        book.gate.clear()
        task = asyncio.create_task(recorder.reserve(2001, intent))
        slowest = 0.0
        for _turn in range(50):
            begun = time.monotonic()
            await asyncio.sleep(0.002)
            slowest = max(slowest, time.monotonic() - begun)
        assert not task.done()
        book.gate.set()
        await task
        return slowest

    assert asyncio.run(play()) < 0.2


def test_more_than_can_wait_is_refused_at_once(
    recorder: Recorder, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 10)

    async def play() -> tuple[int, int]:
        book.gate.clear()
        tasks = [asyncio.create_task(recorder.reserve(2001, intent)) for _n in range(30)]
        await asyncio.sleep(0.1)
        refused = [one for one in tasks if one.done()]
        assert all(isinstance(one.exception(), LateError) for one in refused)
        assert recorder.waiting <= 10
        book.gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return len(refused), len([one for one in done if isinstance(one, Intent)])

    refused, done = asyncio.run(play())
    assert refused >= 19 and refused + done == 30


def test_one_users_flood_is_nobody_elses_wait(recorder: Recorder, book: Book) -> None:
    async def play() -> None:
        book.gate.clear()
        tasks = [
            asyncio.create_task(recorder.reserve(uid, lambda n=n, uid=uid: intent(f"{uid}-{n}")))  # type: ignore[misc]
            for uid, count in ((1, 50), (2, 2), (3, 2))
            for n in range(count)
        ]
        await asyncio.sleep(0.05)
        book.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(play())
    order = [one[1].token for one in book.told]
    assert max(order.index(token) for token in ("2-0", "2-1", "3-0", "3-1")) < 8
    assert [one for one in order if one.startswith("1-")] == [f"1-{n}" for n in range(50)]


def test_what_came_too_late_is_taken_back(
    recorder: Recorder, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)

    async def play() -> None:
        book.gate.clear()
        with pytest.raises(LateError, match="does not answer"):
            await recorder.reserve(2001, intent)

    asyncio.run(play())
    book.gate.set()
    assert wait(lambda: len(book.told) >= 2 or not recorder.waiting)
    names = [one[0] for one in book.told]
    assert names in ([], ["reserve", "abandon"])


def test_a_request_that_is_broken_off_is_taken_back(recorder: Recorder, book: Book) -> None:
    async def play() -> None:
        book.gate.clear()
        book.begun.clear()
        task = asyncio.create_task(recorder.reserve(2001, intent))
        while not book.begun.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
    book.gate.set()
    assert wait(lambda: [one[0] for one in book.told] == ["reserve", "abandon"])


def test_what_was_made_is_tried_again_until_it_is_written(
    recorder: Recorder, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    book.faults = {"bind": StoreFull("full", "", ""), "reserve": StoreFull("full", "", "")}

    async def play() -> None:
        with pytest.raises(StoreFull):
            await recorder.bind(intent(), ID)
        with pytest.raises(StoreFull):
            await recorder.reserve(2001, intent)

    asyncio.run(play())
    time.sleep(0.2)
    assert book.told == []
    book.faults.clear()
    assert wait(lambda: book.told == [("bind", "i1", ID, "box")])
    time.sleep(0.1)
    # Once; and what was only asked for is not tried again.
    assert len(book.told) == 1 and recorder.waiting == 0


def test_an_upgrade_of_the_store_is_waited_for(recorder: Recorder, book: Book) -> None:
    """The release in force is another one before the store is."""
    book.faults = {"reserve": StoreVersion("of version 1", "", "")}
    threading.Timer(0.5, book.faults.clear).start()

    async def play() -> float:
        begun = time.monotonic()
        await recorder.reserve(2001, intent)
        return time.monotonic() - begun

    assert 0.4 < asyncio.run(play()) < 3
    assert [one[0] for one in book.told] == ["reserve"]


def test_a_store_that_is_not_there_is_not_waited_for_long(recorder: Recorder, book: Book) -> None:
    book.faults = {"reserve": StoreMissing("there is none", "", "")}

    async def play() -> float:
        begun = time.monotonic()
        with pytest.raises(StoreMissing):
            await recorder.reserve(2001, intent)
        return time.monotonic() - begun

    assert 0.5 < asyncio.run(play()) < 4
    assert book.told == []


def test_a_bind_whose_intent_is_gone_is_a_record(recorder: Recorder, book: Book) -> None:
    book.faults = {"bind": Ds01Error("nothing is known of it", "", "")}
    asyncio.run(recorder.bind(intent(), ID))
    assert [one[:3] for one in book.told] == [("record", CONTAINER, ID)]


def test_an_error_that_nobody_thought_of_has_the_store_opened_anew(
    recorder: Recorder, book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wait(lambda: book.opened == 1)
    book.faults = {"reserve": ZeroDivisionError("what?")}

    async def play() -> None:
        with pytest.raises(Ds01Error, match="ZeroDivisionError"):
            await recorder.reserve(2001, intent)
        book.faults.clear()
        await recorder.reserve(2001, intent)

    asyncio.run(play())
    assert book.opened == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_same_complaint_is_made_once(
    recorder: Recorder, book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    book.faults = {"reserve": StoreFull("it is full", "", "")}

    async def play() -> None:
        for _time in range(20):
            with pytest.raises(StoreFull):
                await recorder.reserve(2001, intent)

    asyncio.run(play())
    assert capsys.readouterr().err.count("it is full") == 1


def test_what_waits_at_the_end_is_done(book: Book) -> None:
    found = Recorder("/nowhere", "", Counters(""), lambda _p, _e: cast("OwnerBook", book))
    found.start()
    book.gate.clear()
    for number in range(50):
        found.ended(1, f"i{number}", 1.0)
    threading.Timer(0.2, book.gate.set).start()
    found.stop()
    assert len(book.told) == 50


def test_without_a_store_nothing_is_recorded() -> None:
    found = Recorder("")
    found.start()
    found.ended(1, "i1", 1.0)
    assert not found.enabled and found.waiting == 0
    found.stop()


def test_each_process_has_a_name_of_its_own() -> None:
    assert own_identity() == own_identity() != own_identity(1)
    assert own_identity(2**22 + 1) != own_identity()
