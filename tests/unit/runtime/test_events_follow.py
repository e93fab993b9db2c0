# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who follows the event log sees each event once, whatever logrotate(8) does between two looks."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ds01.core.event_follow import Follower, follow_events
from ds01.core.event_reading import iter_events
from ds01.core.events import Event, EventError, append, encode, parse_timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parents[3]


def line(number: int, event_type: str = "test.one", user: str | None = None) -> bytes:
    return encode(Event(event_type, "test", user, {"n": number, "pad": "x" * (number % 90)}))


class Log:
    """A log, its writers, and a logrotate that can be stopped after each of its steps."""

    def __init__(self, folder: Path, compress: bool = True) -> None:
        self.path = folder / "events.jsonl"
        self.written: list[int] = []
        self._compress = compress
        self._half: tuple[int, bytes] | None = None
        self._late: int | None = None
        self._rotation: Iterator[None] = iter(())

    def write(self) -> None:
        """One event, as every writer does it."""
        self.finish()
        self.written.append(len(self.written))
        append(str(self.path), Event("test.one", "test", None, {"n": self.written[-1]}))

    def half(self) -> None:
        """The first part of an event; its writer is at work."""
        if self._half is None and self._late is None:
            number = len(self.written)
            self.written.append(number)
            data = line(number)
            self._late = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            os.write(self._late, data[:20])
            self._half = number, data[20:]

    def opened(self) -> None:
        """A writer has opened the log and has not written yet."""
        if self._late is None:
            self._late = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def finish(self) -> None:
        """Who is at work writes (the rest)."""
        if self._late is None:
            return
        if self._half:
            os.write(self._late, self._half[1])
        else:
            self.written.append(len(self.written))
            os.write(self._late, line(self.written[-1]))
        os.close(self._late)
        self._late, self._half = None, None

    def step(self) -> bool:
        """One step of a rotation; False at its end."""
        for _unused in self._rotation:
            return True
        self._rotation = self._rotate()
        return False

    def rotate(self) -> None:
        """A whole rotation."""
        while self.step():
            pass
        while self.step():
            pass

    def _rotate(self) -> Iterator[None]:
        if not self.path.exists() or not self.path.stat().st_size:
            return  # notifempty
        first = self._part(1)
        if self._compress and first.exists():
            # Nobody writes for a week to what was rotated a week ago.
            self.finish()
            packed = gzip.compress(first.read_bytes())
            target = self._part(1, ".gz")
            target.write_bytes(packed[: len(packed) // 2])
            yield
            target.write_bytes(packed)
            found = first.stat()
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            yield
            first.unlink()
            yield
        for number in range(30, 0, -1):
            for suffix in ("", ".gz"):
                if self._part(number, suffix).exists():
                    self._part(number, suffix).rename(self._part(number + 1, suffix))
                    yield
        self.path.rename(first)
        yield
        if not self.path.exists():
            self.path.touch()

    def _part(self, number: int, suffix: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{suffix}")


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    with contextlib.ExitStack() as stack:

        def begin(path: Path, **options: Any) -> Follower:
            return stack.enter_context(contextlib.closing(Follower(str(path), **options)))

        yield begin


def numbers(found: Iterator[dict[str, Any]]) -> list[int]:
    return [event["details"]["n"] for event in found]


STEPS = ("write", "half", "opened", "finish", "step", "rotate", "look")


@settings(max_examples=400, deadline=None)
@given(
    before=st.lists(st.sampled_from(STEPS[:-1]), max_size=8),
    steps=st.lists(st.sampled_from(STEPS), max_size=40),
    whole=st.booleans(),
    compress=st.booleans(),
)
def test_each_event_is_seen_once_whenever_the_log_is_rotated(
    before: Sequence[str], steps: Sequence[str], whole: bool, compress: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder), compress)
        for step in before:
            getattr(log, step)()
        # Who begins at the end sees what is written from then on, one that is half written included.
        already = len(log.written) - (log._half is not None)
        bad: list[str] = []
        follower = Follower(
            str(log.path), whole=whole, on_bad_line=lambda path, _number: bad.append(path)
        )
        seen: list[int] = []
        for step in steps:
            if step == "look":
                seen += numbers(follower.news())
            else:
                getattr(log, step)()
        log.finish()
        seen += numbers(follower.news())
        log.rotate()
        log.write()
        seen += numbers(follower.news())
        follower.close()
        wanted = log.written if whole else log.written[already:]
        assert sorted(seen) == wanted
        assert not bad
        assert sorted(numbers(iter_events(str(log.path)))) == log.written


@pytest.mark.parametrize("steps_before_look", range(12))
def test_a_look_after_any_step_of_two_rotations_loses_and_doubles_nothing(
    tmp_path: Path, steps_before_look: int, follow: Callable[..., Follower]
) -> None:
    log = Log(tmp_path)
    log.write()
    log.rotate()
    log.write()
    follower = follow(log.path)
    log.write()
    seen: list[int] = []
    for number in range(24):
        log.step()
        if number == steps_before_look:
            seen += numbers(follower.news())
        if number % 5 == 0:
            log.write()
    assert seen + numbers(follower.news()) == log.written[2:]


@pytest.mark.parametrize("steps", range(16))
def test_reading_in_the_middle_of_a_rotation_finds_every_event_once(
    tmp_path: Path, steps: int
) -> None:
    log = Log(tmp_path)
    for _round in range(3):
        log.write()
        log.rotate()
    log.write()
    for _step in range(steps):
        log.step()
    assert numbers(iter_events(str(log.path))) == log.written


def test_a_rotation_while_the_log_is_read_changes_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for _round in range(3):
        log.write()
        log.rotate()
    log.write()
    reading = iter_events(str(log.path))
    first = next(reading)["details"]["n"]
    log.rotate()
    log.rotate()
    assert [first, *numbers(reading)] == log.written


def test_what_a_writer_puts_into_the_moved_file_is_seen(
    tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    log = Log(tmp_path)
    log.write()
    follower = follow(log.path)
    log.opened()
    log.rotate()
    assert numbers(follower.news()) == []
    log.finish()
    assert numbers(follower.news()) == [1]


def test_a_half_written_line_is_waited_for(tmp_path: Path, follow: Callable[..., Follower]) -> None:
    log = Log(tmp_path)
    log.half()
    follower = follow(log.path)
    assert numbers(follower.news()) == []
    log.finish()
    assert numbers(follower.news()) == [0]


def test_lines_that_are_no_event_are_told_and_passed_over(
    tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(0))
    bad: list[str] = []
    follower = follow(path, on_bad_line=lambda where, _number: bad.append(where))
    with path.open("ab") as stream:
        stream.write(b"[1]\n\n{cut by a full disk\n" + line(1))
    assert numbers(follower.news()) == [1]
    assert bad == [str(path)] * 2


def test_a_log_that_is_emptied_or_removed_by_hand_is_followed_on(
    tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    path = str(tmp_path / "events.jsonl")
    log = Log(tmp_path)
    log.write()
    log.rotate()
    for _number in range(3):
        log.write()
    follower = follow(Path(path))
    os.truncate(path, 0)
    log.write()
    assert numbers(follower.news()) == [4]
    os.unlink(path)
    assert numbers(follower.news()) == []
    log.write()
    assert numbers(follower.news()) == [5]


def test_a_log_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, follow: Callable[..., Follower]
) -> None:
    path = tmp_path / "log" / "events.jsonl"
    follower = follow(path)
    assert numbers(follower.news()) == []
    append(str(path), Event("test.one", "test", None, {"n": 7}))
    assert numbers(follower.news()) == [7]


def test_filters_hold_for_what_is_there_and_for_what_comes(tmp_path: Path) -> None:
    path = str(tmp_path / "events.jsonl")

    def put(number: int, event_type: str, user: str, day: int) -> None:
        moment = parse_timestamp(f"2026-11-{day:02d}")
        append(path, Event(event_type, "test", user, {"n": number}, moment))

    put(0, "container.died", "alice", 10)
    put(1, "container.died", "alice", 20)
    put(2, "gpu.granted", "alice", 20)
    more = iter([(3, "owner.changed", "alice", 21), (4, "containers.x", "alice", 21)])

    def wait() -> bool:
        following = next(more, None)
        if following:
            put(*following)
            put(following[0] + 10, following[1], "bob", 21)
        return following is not None

    found = follow_events(
        path,
        wait=wait,
        user="alice",
        type_prefix=("container", "owner.changed"),
        since=parse_timestamp("2026-11-15"),
    )
    assert numbers(found) == [1, 3]


def test_a_log_that_may_not_be_read_says_who_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(EventError, match="Run as root or as a member of the group adm"):
        Follower(str(tmp_path / "events.jsonl"))


# --- the command ---------------------------------------------------------------------------------


class Command:
    """``ds01 events --follow`` in a process of its own, its output read line by line."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "files/runtime")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ds01", "events", "--follow", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def line(self) -> str:
        return self.out.readline()

    def end(self) -> tuple[int, str]:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.out.close()
        assert self.process.stderr is not None
        with self.process.stderr as errors:
            err = errors.read()
        return self.process.wait(30), err


def test_each_event_goes_out_at_once_through_a_pipe_and_ctrl_c_is_a_good_end(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path)
    log.write()
    command = Command("--log", str(log.path), "--json", "--since", "1d")
    assert json.loads(command.line())["details"]["n"] == 0
    for number in range(1, 6):
        log.write()
        assert json.loads(command.line())["details"]["n"] == number
        log.rotate()
    assert command.end() == (0, "")


def test_a_reader_who_goes_away_ends_it_though_nothing_comes(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write()
    command = Command("--log", str(log.path), "--since", "1d")
    assert "test.one" in command.line()
    command.out.close()
    assert command.process.wait(10) == 141
    assert command.end() == (141, "")


def test_waiting_costs_next_to_nothing_while_the_log_beside_it_is_busy(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write()
    command = Command("--log", str(log.path), "--since", "1d")
    command.line()
    busy = threading.Event()

    def write() -> None:
        with (tmp_path / "access.jsonl").open("ab", buffering=0) as stream:
            while not busy.wait(0.001):
                stream.write(b"{}\n")

    other = threading.Thread(target=write)
    other.start()
    before = _cpu(command.process.pid)
    time.sleep(2)
    used = _cpu(command.process.pid) - before
    busy.set()
    other.join()
    assert used < 0.2, f"{used} s of the processor in 2 s"
    assert command.end()[0] == 0


def _cpu(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
