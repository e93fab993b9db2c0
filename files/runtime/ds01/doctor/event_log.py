# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the event log: there, private, writable, rotating, and not silent while the engine is not."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

from ds01.core.errors import Ds01Error
from ds01.core.event_reading import Part, close_parts, numbered, open_parts
from ds01.core.events import parse_timestamp
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_events import Heard, heard
from ds01.core.owners import CONTAINER
from ds01.core.store import Store
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine
from ds01.doctor.owners import RESTART, SETTLED_SECONDS, OwnerFacts
from ds01.words import duration

AGAIN = "Run playbooks/site.yml --tags runtime"
# Rotation ends a week early at 50 MB by default; a site may allow more, hardly this much.
LARGE_BYTES = 1 << 30
FREE_BYTES_MINIMUM = 16 << 20
ON_ITS_WAY_SECONDS = 30.0
"""What the engine told so long ago is in the log."""
CATCHING_UP_SECONDS = 600.0
"""The same while the daemon has just started, and tells what happened before."""
SLACK_SECONDS = 5.0
"""What a full look found is told with the engine's times of it, which are a little before its events'."""
LOOK_AGAIN_SECONDS = 1.0
_DAY = 86400.0
_OF_CONTAINERS = b'"event_type":"container.'
_STAMP = b'{"timestamp":"'


def check_event_log(machine: Machine) -> Iterator[Finding]:
    """Whether events can be written, and only those who may read them."""
    path = machine.paths.events
    try:
        found = os.lstat(path)
        space = os.statvfs(path)
    except PermissionError:
        what = "the event log was not looked at: only root and its readers may"
        yield Finding(Severity.NOTICE, "event log", what, path, "Run as root")
        return
    except FileNotFoundError as error:
        if _just_rotated(path):
            return  # whoever writes first makes it anew
        what = f"the event log cannot be used: {error.strerror}"
        yield Finding(Severity.ERROR, "event log", what, path, AGAIN)
        return
    except OSError as error:
        what = f"the event log cannot be used: {error.strerror}"
        yield Finding(Severity.ERROR, "event log", what, path, AGAIN)
        return
    if not stat.S_ISREG(found.st_mode):
        what = "something that is no plain file stands in place of the event log"
        yield Finding(Severity.ERROR, "event log", what, path, f"Remove it. {AGAIN}")
        return
    if found.st_mode & 0o007:
        what = "every user can read the event log, which names people and what they ran"
        yield Finding(Severity.WARNING, "event log", what, path, "Run chmod o= on it")
    if os.geteuid() == 0 and not os.access(path, os.W_OK):
        what = "the event log cannot be written, so nothing is recorded"
        yield Finding(Severity.ERROR, "event log", what, path, "Look at mount and attributes")
    if space.f_bavail * space.f_frsize < FREE_BYTES_MINIMUM:
        what = "the file system of the event log is full, so nothing is recorded"
        yield Finding(Severity.ERROR, "event log", what, path, "Free some space there")
    yield from _rotation(machine, found.st_size)


def _rotation(machine: Machine, size: int) -> Iterator[Finding]:
    if not os.path.exists(machine.places.logrotate):
        what = "the event log is not rotated: its rotation is not configured"
        yield Finding(Severity.ERROR, "event log", what, machine.places.logrotate, AGAIN)
    elif machine.unit_state("logrotate.timer") != "active":
        what = "the event log is not rotated: logrotate's timer does not run"
        remedy = "Run systemctl enable --now logrotate.timer"
        yield Finding(Severity.WARNING, "event log", what, "logrotate.timer", remedy)
    if size > LARGE_BYTES:
        what = f"the event log is {size >> 20} MiB large: it is not rotated"
        remedy = "Read journalctl -u logrotate.service"
        yield Finding(Severity.WARNING, "event log", what, machine.paths.events, remedy)


def _just_rotated(path: str) -> bool:
    try:
        return time.time() - os.stat(f"{path}.1").st_ctime < SETTLED_SECONDS
    except OSError:
        return False


# --- silence --------------------------------------------------------------------------------------


def check_silence(machine: Machine) -> Iterator[Finding]:
    """Whether what the engine tells of containers gets into the log.

    :raises Ds01Error: the store or the log cannot be read.
    """
    facts = machine.owners
    if facts is None or os.geteuid() != 0:
        return
    store = facts.store()
    waiting = _waiting(store)
    if waiting:
        what = f"{waiting} event(s) are recorded and do not get into the event log"
        remedy = "Look at its file system, mode and attributes (lsattr); they follow with the next change"
        yield Finding(Severity.ERROR, "event log", what, machine.paths.events, remedy)
    try:
        newer = _not_in_log(machine, facts, store)
    except machine.engine_errors:
        return  # the check of the engine says so
    if newer:
        last = max(one.at for one in newer)
        ago = duration(facts.clock() - last)
        what = (
            f"the event log is silent and the engine is not: {len(newer)} event(s) of containers, the "
            f"last {ago} ago, are not in the log; {_how_far(store, last)}"
        )
        yield Finding(Severity.ERROR, "event log", what, machine.paths.events, RESTART)


def _waiting(store: Store) -> int:
    """Events that are committed and stay out of the log; those of this moment are on their way."""
    first, count = _outbox(store)
    if count:
        time.sleep(LOOK_AGAIN_SECONDS)
        again, count = _outbox(store)
        if again != first:
            return 0
    return count


def _outbox(store: Store) -> tuple[int | None, int]:
    with store.reading() as connection:
        first, count = connection.execute("SELECT min(seq), count(*) FROM outbox").fetchone()
    return first, int(count)


def _not_in_log(machine: Machine, facts: OwnerFacts, store: Store) -> list[Heard]:
    """Events of containers that the engine remembers and that are newer than all in the log."""
    now, up = facts.clock(), facts.daemon_up()
    began = _first_record(store)
    if began is None and up is not None:
        began = now - up
    if began is None:
        return []  # nobody has looked at containers here yet
    settled = up is None or up >= SETTLED_SECONDS
    until = now - (ON_ITS_WAY_SECONDS if settled else CATCHING_UP_SECONDS)
    events = map(heard, facts.engine_events(now - _DAY, until))
    found = [
        one
        for one in events
        if one is not None and one.kind == CONTAINER and began + SLACK_SECONDS < one.at <= until
    ]
    if not found:
        return []
    logged = newest_of_containers(machine.paths.events, max(one.at for one in found))
    return [one for one in found if logged is None or one.at > logged + SLACK_SECONDS]


def _first_record(store: Store) -> float | None:
    """Since when containers are recorded here; what was before is in no log."""
    with store.reading() as connection:
        (first,) = connection.execute("SELECT min(known) FROM things").fetchone()
    return None if first is None else float(first)


def _how_far(store: Store, last: float) -> str:
    cursor = OwnerBook(store).cursor()
    if cursor is not None and cursor / 1e9 >= last:
        return "ds01d has heard of them"
    return "ds01d has not heard of them"


def newest_of_containers(path: str, wanted: float) -> float | None:
    """The time of the newest event of a container in the log; None where there is none.

    :param wanted: seconds of the wall clock: parts that were last written before it are left out.
    :raises EventError: a part cannot be read.
    """
    parts = open_parts(path)
    try:
        for part in reversed(parts):
            if os.fstat(part.stream.fileno()).st_mtime < wanted - SLACK_SECONDS:
                return None
            newest = _newest(part)
            if newest is not None:
                return newest
    finally:
        close_parts(parts)
    return None


def _newest(part: Part) -> float | None:
    stamps = [
        line[len(_STAMP) : line.index(b'"', len(_STAMP))]
        for _number, line in numbered(part)
        if _OF_CONTAINERS in line and line.startswith(_STAMP)
    ]
    # All in one form and in UTC: they sort as texts.
    try:
        return parse_timestamp(max(stamps).decode()).timestamp() if stamps else None
    except ValueError as error:
        raise Ds01Error(f"an event has no time: {error}", part.path, "Look at that file") from error
