# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event log keeps whole lines, whatever is thrown at it, and reads back across rotation."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ds01.core.event_reading import iter_events
from ds01.core.events import (
    MAX_LINE_BYTES,
    Event,
    EventError,
    append,
    append_many,
    encode,
    format_timestamp,
    parse_timestamp,
)

MOMENT = datetime(2026, 11, 21, 23, 59, 59, 7_999, tzinfo=timezone.utc)


def _event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "event_type": "limits.applied",
        "source": "test",
        "user": "alice",
        "details": {},
        "timestamp": MOMENT,
    }
    return Event(**{**fields, **changes})


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_an_event_is_one_line_with_the_agreed_fields(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    append(str(log), _event(details={"group": "student", "memory_max": 8 << 30}))
    assert log.read_bytes().count(b"\n") == 1
    assert _lines(log) == [
        {
            "timestamp": "2026-11-21T23:59:59.007Z",
            "event_type": "limits.applied",
            "source": "test",
            "user": "alice",
            "details": {"group": "student", "memory_max": 8 << 30},
            "schema_version": 1,
        }
    ]


def test_an_event_about_nobody_has_no_user_field() -> None:
    assert "user" not in json.loads(encode(_event(user=None)))


def test_timestamps_are_utc_with_milliseconds_and_read_back() -> None:
    summer = timezone(timedelta(hours=2))
    text = format_timestamp(datetime(2026, 7, 1, 1, 30, tzinfo=summer))
    assert text == "2026-06-30T23:30:00.000Z"
    assert parse_timestamp(text) == datetime(2026, 6, 30, 23, 30, tzinfo=timezone.utc)
    assert parse_timestamp("2026-06-30") == datetime(2026, 6, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "bad", ["", "Limits", "limits applied", "limits.", ".limits", "a\n", "a" * 101]
)
def test_a_bad_event_type_is_refused(bad: str) -> None:
    with pytest.raises(EventError, match="is not an event type"):
        _event(event_type=bad)


def test_an_event_without_source_is_refused() -> None:
    with pytest.raises(EventError, match="needs a source"):
        _event(source="")


def test_line_breaks_control_characters_and_broken_utf8_never_reach_the_file() -> None:
    nasty = "a\nb\r\x00\x1b[31m\x7f\u2028\udcff\ud800é"
    line = encode(_event(user=nasty, details={nasty: nasty}))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in line[:-1])
    details = json.loads(line)["details"]
    (value,) = details.values()
    assert value.startswith("a\nb\r\x00\x1b[31m\x7f\u2028\\xff") or "\\ud800" in value
    value.encode("utf-8")  # no lone surrogate is left for a strict reader to refuse


@pytest.mark.parametrize(
    "details",
    [
        {"stderr": "x" * 100_000},
        {"stderr": "é" * 100_000},
        {"files": [f"/etc/systemd/system/{n}.conf" for n in range(5_000)]},
        {f"key{n}": "v" * 200 for n in range(3_000)},
        {"deep": {"a": [{"b": ["y" * 3000] * 50}] * 50}},
        {"k" * 90_000: 1},
        {"huge": 1 << 200_000},
    ],
    ids=["long", "long-escaped", "many", "many-keys", "deep", "long-key", "huge-number"],
)
def test_too_long_details_are_cut_with_a_mark_and_stay_json(details: dict[str, Any]) -> None:
    line = encode(_event(details=details))
    assert len(line) < MAX_LINE_BYTES
    read = json.loads(line)
    assert read["details"]["_truncated"] is True
    assert read["user"] == "alice"


def test_a_cut_string_says_how_much_is_missing() -> None:
    text = json.loads(encode(_event(details={"stderr": "x" * 10_000})))["details"]["stderr"]
    assert text == "x" * 1024 + "…[+8976]"


def test_details_just_below_the_limit_are_kept_whole() -> None:
    room = MAX_LINE_BYTES - 1 - len(encode(_event(details={"t": ""})))
    whole = encode(_event(details={"t": "x" * room}))
    assert len(whole) == MAX_LINE_BYTES - 1
    assert "_truncated" not in json.loads(whole)["details"]
    over = encode(_event(details={"t": "x" * (room + 1)}))
    assert json.loads(over)["details"]["_truncated"] is True


def test_a_user_name_of_any_length_leaves_a_whole_line() -> None:
    line = encode(_event(user="ü" * 100_000, source="s" * 256))
    assert len(line) < MAX_LINE_BYTES
    assert json.loads(line)["user"].endswith("]")


def test_values_json_does_not_know_are_written_as_text() -> None:
    details = {"nan": float("nan"), "path": Path("/x"), "set": {"b", "a"}, "raw": b"\xff", 3: None}
    read = json.loads(encode(_event(details=details)))["details"]
    assert read == {"nan": "nan", "path": "/x", "set": ["a", "b"], "raw": "b'\\xff'", "3": None}


def _write_many(path: str, writer: int, count: int) -> None:
    for number in range(count):
        text = chr(ord("a") + writer) * 3500
        append(path, Event("test.write", f"w{writer}", details={"n": number, "text": text}))


def test_writers_at_the_same_time_never_mix_their_lines(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write_many, args=(str(log), n, 150)) for n in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    events = _lines(log)
    assert len(events) == 4 * 150
    for n in range(4):
        assert [e["details"]["n"] for e in events if e["source"] == f"w{n}"] == list(range(150))


def test_a_new_log_is_not_readable_by_everyone(tmp_path: Path) -> None:
    log = tmp_path / "log" / "ds01" / "events.jsonl"
    old_mask = os.umask(0o077)
    try:
        append(str(log), _event())
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o750


def test_the_mode_an_admin_gave_the_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.touch()
    log.chmod(0o600)
    append(str(log), _event())
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_after_rotation_the_next_event_goes_to_the_new_file(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    append(str(log), _event(details={"n": 1}))
    log.rename(tmp_path / "events.jsonl.1")
    append(str(log), _event(details={"n": 2}))
    assert [e["details"]["n"] for e in _lines(log)] == [2]


def test_a_full_disk_is_said_clearly() -> None:
    with pytest.raises(EventError) as caught:
        append("/dev/full", _event())
    assert "No space left on device" in caught.value.what
    assert "Free space" in caught.value.remedy


def test_many_events_go_out_in_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "events.jsonl"
    log.write_bytes(b'{"cut')
    sizes: list[int] = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watched)
    append_many(str(log), (_event(details={"n": n, "x": "y" * 9000}) for n in range(100)))
    assert len(sizes) == 2
    assert [e["details"]["n"] for e in iter_events(str(log))] == list(range(100))
    assert all(len(line) < MAX_LINE_BYTES for line in log.read_bytes().splitlines(True))
    append_many(str(log), [])
    assert len(sizes) == 2


def test_a_disk_that_fills_up_tells_how_many_events_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "events.jsonl"
    write = os.write
    # The second write takes two lines and a half.
    sizes = [10**6, 500]
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: sizes.pop(0)]))
    events = [_event(details={"n": n, "x": "y" * 60}) for n in range(100)]
    line = len(encode(events[0]))
    with pytest.raises(EventError) as caught:
        append_many(str(log), events)
    kept = 64 + 500 // line
    assert caught.value.lost == 100 - kept
    monkeypatch.undo()
    append(str(log), _event(details={"n": 100}))
    assert [e["details"]["n"] for e in iter_events(str(log))] == [*range(kept), 100]


def test_a_line_cut_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_bytes(b'{"timestamp": "2026-11-')
    append(str(log), _event())
    bad: list[int] = []
    events = list(iter_events(str(log), on_bad_line=lambda _path, number: bad.append(number)))
    assert [e["event_type"] for e in events] == ["limits.applied"]
    assert bad == [1]


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "shadow"
    elsewhere.write_text("")
    (tmp_path / "events.jsonl").symlink_to(elsewhere)
    with pytest.raises(EventError, match="symbolic link stands in place of the log"):
        append(str(tmp_path / "events.jsonl"), _event())
    assert elsewhere.read_text() == ""


@pytest.fixture
def rotated(tmp_path: Path) -> str:
    """A log in three parts: .2.gz (oldest), .1 and the present file."""

    def line(hour: int, event_type: str, user: str | None) -> bytes:
        moment = datetime(2026, 11, 21, hour, tzinfo=timezone.utc)
        return encode(Event(event_type, "test", user, {"hour": hour}, moment))

    log = tmp_path / "events.jsonl"
    with gzip.open(tmp_path / "events.jsonl.2.gz", "wb") as stream:
        stream.write(line(1, "limits.applied", None) + line(2, "gpu.denied", "alice"))
    (tmp_path / "events.jsonl.1").write_bytes(line(3, "gpu.granted", "bob") + b"not json\n[]\n\n")
    log.write_bytes(line(4, "gpu.granted", "alice") + line(5, "gpus.lost", "alice"))
    (tmp_path / "events.jsonl.1.bak").write_bytes(line(9, "gpu.granted", "alice"))
    return str(log)


def _hours(log: str, **filters: Any) -> list[int]:
    return [event["details"]["hour"] for event in iter_events(log, **filters)]


def test_rotated_and_compressed_parts_are_read_oldest_first(rotated: str) -> None:
    assert _hours(rotated) == [1, 2, 3, 4, 5]


def test_events_are_filtered_by_user_type_and_time(rotated: str) -> None:
    assert _hours(rotated, user="alice") == [2, 4, 5]
    assert _hours(rotated, type_prefix="gpu") == [2, 3, 4]
    assert _hours(rotated, type_prefix="gpu.") == [2, 3, 4]
    assert _hours(rotated, type_prefix="gpu.granted", user="alice") == [4]
    assert _hours(rotated, since=parse_timestamp("2026-11-21T03:00:00Z")) == [3, 4, 5]


def test_lines_that_are_no_event_are_reported_and_passed_over(rotated: str) -> None:
    bad: list[tuple[str, int]] = []
    list(
        iter_events(rotated, on_bad_line=lambda path, number: bad.append((Path(path).name, number)))
    )
    assert bad == [("events.jsonl.1", 2), ("events.jsonl.1", 3)]


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert list(iter_events(str(tmp_path / "nowhere" / "events.jsonl"))) == []


def test_a_damaged_compressed_part_is_named(rotated: str) -> None:
    part = Path(rotated + ".2.gz")
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(EventError) as caught:
        list(iter_events(rotated))
    assert caught.value.where == str(part)
