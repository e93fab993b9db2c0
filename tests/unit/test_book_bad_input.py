# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody should give the lease book: absurd requests, full disks, damaged and foreign stores."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ds01.core import store
from ds01.core.book import Book
from ds01.core.errors import Ds01Error
from ds01.core.leases import Ask, Refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_book import CAROL, DANA, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def leased(book: Book) -> list[str]:
    """Slots that are taken."""
    return [uuid for lease in book.snapshot().leases if lease.holding for uuid in lease.slots]


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "rule"),
    [
        (Ask(0), "count"),
        (Ask(-1), "count"),
        (Ask(True), "count"),
        (Ask(2.5), "count"),  # type: ignore[arg-type]
        (Ask("2"), "count"),  # type: ignore[arg-type]
        (Ask(1025), "count"),
        (Ask(10**30), "count"),
        (Ask(13), "slots"),
        (Ask(kind="h100"), "kind"),
        (Ask(kind="1g.5gb; drop table leases"), "kind"),
        (Ask(kind="7g.40gb"), "slots"),
        (Ask(devices=("GPU-00000000-0000-0000-0000-000000000000",)), "devices"),
        (Ask(devices=("0", "0")), "devices"),
        (Ask(devices=("0", "GPU-00000000")), "devices"),
        (Ask(devices=("2",)), "devices"),
        (Ask(devices=("../../etc/passwd",)), "devices"),
        (Ask(devices=("",)), "devices"),
        (Ask(note="x" * 201), "note"),
        (Ask(note="\x1b[2J"), "note"),
    ],
)
def test_an_absurd_request_is_refused_by_a_named_rule_and_takes_nothing(
    desk: Desk, ask: Ask, rule: str
) -> None:
    with pytest.raises(Refused) as refusal:
        desk.book.request(ask, DANA)
    assert refusal.value.rule == rule and refusal.value.what
    assert leased(desk.book) == [] and desk.book.snapshot().queue == ()
    assert desk.events("gpu.refused")[0]["details"]["rule"] == rule


def test_an_unknown_device_is_named_with_those_that_there_are(desk: Desk) -> None:
    with pytest.raises(Refused, match=r"no GPU or MIG device 'GPU-gone'.*It has 0, 1, 2:0"):
        desk.book.request(Ask(devices=("GPU-gone",)), DANA)


@pytest.mark.parametrize("lease", ["nobody", "../state", "", "l" * 65, "a b", "ä"])
def test_a_lease_that_does_not_exist_is_neither_bound_nor_released(desk: Desk, lease: str) -> None:
    with pytest.raises(Refused, match="there is no lease"):
        desk.book.bind(lease, "c1")
    with pytest.raises(Refused, match="there is no lease"):
        desk.book.release(lease, "carol", desk.engine)
    desk.book.container_gone(lease, "c1")  # an event of a container that is none of ours
    assert desk.events("gpu.bound") == []


# --- a full disk ----------------------------------------------------------------------------------


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process can grow: write(2) fails, as setrlimit(2) has it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_nothing_can_be_written_nothing_is_granted_and_the_book_goes_on_after(
    desk: Desk,
) -> None:
    with no_room(), pytest.raises(store.StoreFull, match="nothing was changed"):
        desk.book.request(Ask(), CAROL)
    assert leased(desk.book) == [] and desk.files.present() == []
    granted = desk.granted(desk.book.request(Ask(), CAROL).granted)
    assert desk.files.present() == [granted.id]


def test_a_full_store_grants_nothing_and_serves_again_when_there_is_room(desk: Desk) -> None:
    """SQLite's own SQLITE_FULL: the store may have no page more."""
    connection = desk.book.store.connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(store.StoreFull, match="full") as full:
        for _turn in range(200):
            desk.book.request(Ask(note="n" * 200), DANA)
    assert "df" in full.value.remedy
    before = leased(desk.book)
    assert sorted(desk.files.present()) == sorted(x.id for x in desk.book.snapshot().leases)
    connection.execute("PRAGMA max_page_count=100000")
    desk.book.settle()
    assert leased(desk.book)[: len(before)] == before


def test_a_bind_that_cannot_be_written_leaves_the_reservation(desk: Desk) -> None:
    granted = desk.granted(desk.book.request(Ask(), CAROL).granted)
    with no_room(), pytest.raises(store.StoreFull):
        desk.book.bind(granted.id, "c1", "box")
    assert desk.book.lease(granted.id) == granted
    assert desk.book.bind(granted.id, "c1", "box").state == "bound"


# --- stores that are none -------------------------------------------------------------------------


def closed(desk: Desk) -> Path:
    """The store's file, everything in it."""
    desk.book.store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    desk.book.store.close()
    return Path(desk.path)


def test_a_missing_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(store.StoreMissing, match=r"no state store.*site\.yml"):
        store.open_store(str(tmp_path / "state.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [0, 1, store.VERSION + 1, 999])
def test_a_store_of_another_version_is_refused_and_left_alone(desk: Desk, version: int) -> None:
    path = closed(desk)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={version}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(store.StoreVersion, match=f"of version {version}"):
        store.open_store(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, os.urandom(8192), b"{}\n"])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    with pytest.raises(store.StoreCorrupt, match="damaged"):
        store.open_store(str(path))


def test_a_truncated_store_is_found(desk: Desk) -> None:
    desk.book.request(Ask(), CAROL)
    path = closed(desk)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(store.StoreCorrupt):
        store.check(str(path))


def test_a_store_without_a_table_is_found(desk: Desk) -> None:
    path = closed(desk)
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE taken")
    database.close()
    with pytest.raises(store.StoreCorrupt, match="no such table"):
        desk.opened().request(Ask(), CAROL)


def test_a_damaged_store_is_put_aside_whole(desk: Desk) -> None:
    path = closed(desk)
    path.write_bytes(b"garbage" + path.read_bytes()[7:])
    with pytest.raises(store.StoreCorrupt):
        desk.opened()
    moved = store.move_aside(str(path), "corrupt-1")
    assert moved == [f"{path}.corrupt-1"] and not path.exists()
    assert store.migrate(str(path)) is True
    book = desk.opened()
    book.look(desk.found)
    book.reconcile(desk.found, [], [])
    assert book.request(Ask(), CAROL).granted is not None


DAMAGE = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64)),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with leases and a queue, and its folder."""
    desk = Desk(tmp_path_factory.mktemp("template"))
    for _turn in range(14):
        desk.book.request(Ask(note="a note"), DANA)
    return closed(desk)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE)
def test_whatever_is_damaged_the_errors_are_ours(template: Path, damage: list[Any]) -> None:
    """Some damage goes unnoticed; none ends in an exception that no shell knows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        shutil.copy(template, path)
        content = bytearray(path.read_bytes())
        for place, some in damage:
            start = int(place * (len(content) - len(some)))
            content[start : start + len(some)] = some
        path.write_bytes(content)
        for use in USES:
            with suppress(Ds01Error):
                use(path)


def _with_book(path: Path, act: Any) -> None:
    whole = Desk(Path(tempfile.mkdtemp(dir=path.parent)))
    book = Book(
        store.open_store(str(path)), whole.files, whole.hands, whole.settings, str(whole.log)
    )
    try:
        act(book, whole)
    finally:
        book.store.close()
        whole.book.store.close()


USES = (
    lambda path: store.check(str(path)),
    lambda path: _with_book(path, lambda book, _desk: book.snapshot()),
    lambda path: _with_book(path, lambda book, _desk: book.request(Ask(), CAROL)),
    lambda path: _with_book(path, lambda book, desk: book.reconcile(desk.found, [], [])),
    lambda path: _with_book(path, lambda book, desk: book.finish(desk.engine)),
    lambda path: store.migrate(str(path)),
)
