# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of owners: whether they are published, up to date, and known."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.core.events import parse_timestamp
from ds01.core.owner_publish import FOLDER, OWNERS, OWNERS_FOLDER
from ds01.core.owner_settings import OwnerSettings, read_settings
from ds01.core.store import Store, open_store
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine
from ds01.words import duration

CHECK = "owners"
PUBLISHED = f"{FOLDER}/{OWNERS_FOLDER}/{OWNERS}"
RESTART = "Run systemctl restart ds01d.service; if it stays so, read journalctl -u ds01d.service"
SETTLED_SECONDS = 60.0
"""So long after a start of the daemon or of the engine nothing is said of what is late."""
_NAMED_MAX = 5


@dataclass(frozen=True)
class OwnerFacts:
    """What the checks look at.

    :param owners: the helper daemon's list of containers; raises :class:`Ds01Error`.
    :param store: the state store; root only.
    :param engine_events: what the engine remembers of containers between two times (seconds of the wall
        clock), as it tells it; raises what the machine's ``engine_errors`` names.
    :param daemon_up: seconds since the helper daemon's start; None where it does not run.
    :param engine_up: likewise the engine's.
    :param clock: seconds of the wall clock.
    """

    owners: Callable[[], Mapping[str, Any]]
    store: Callable[[], Store]
    engine_events: Callable[[float, float], Sequence[Mapping[str, Any]]]
    daemon_up: Callable[[], float | None]
    engine_up: Callable[[], float | None]
    settings: Callable[[], OwnerSettings] = OwnerSettings
    published: str = PUBLISHED
    clock: Callable[[], float] = time.time


def check_owners(machine: Machine) -> Iterator[Finding]:
    """Whether programs and people find the owners of all containers.

    :raises Ds01Error: the settings cannot be read.
    """
    facts = machine.owners
    if facts is None:
        return
    if os.geteuid() != 0:
        what = "owners of containers were not looked at: only root may"
        yield Finding(Severity.NOTICE, CHECK, what, "ds01 owners list", "Run as root")
        return
    yield from _published(facts)
    if facts.daemon_up() is None:
        return  # the check of the helper daemon says so
    try:
        found = facts.owners()
    except Ds01Error:
        return  # likewise
    # While the engine is away nothing can be compared, which the check of the engine says.
    if found.get("fault") and _settled(facts):
        what = f"the records of owners may be behind: {found['fault']}"
        yield Finding(Severity.WARNING, CHECK, what, "ds01d.service", RESTART)
    yield from _doubtful(found["things"])


def _published(facts: OwnerFacts) -> Iterator[Finding]:
    """The file that programs read: there, whole, of now. Without the engine nothing can be new."""
    if not _settled(facts):
        return
    try:
        with open(facts.published, encoding="utf-8") as stream:
            written = parse_timestamp(str(json.load(stream)["updated_at"])).timestamp()
    except FileNotFoundError:
        what = "the owners of containers are not published: the file is missing"
        yield Finding(Severity.ERROR, CHECK, what, facts.published, RESTART)
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"the published owners of containers cannot be read ({type(error).__name__})"
        remedy = f"Remove the file. {RESTART}"
        yield Finding(Severity.ERROR, CHECK, what, facts.published, remedy)
        return
    every = facts.settings().sync_seconds
    age = facts.clock() - written
    if age > 2 * every + SETTLED_SECONDS:
        what = (
            f"the published owners of containers are {duration(age)} old, and are to be compared with "
            f"the engine every {duration(every)}"
        )
        yield Finding(Severity.WARNING, CHECK, what, facts.published, RESTART)


def _settled(facts: OwnerFacts) -> bool:
    """Whether daemon and engine are there for long enough to have met."""
    ups = (facts.daemon_up(), facts.engine_up())
    return all(up is not None and up >= SETTLED_SECONDS for up in ups)


def _doubtful(things: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    unknown = [thing for thing in things if thing["owner"] is None]
    if unknown:
        what = f"nobody is known for {_names(unknown)}"
        remedy = "See ds01 owners list --unknown; say whose one is: ds01 owners set CONTAINER USER"
        yield Finding(Severity.NOTICE, CHECK, what, "ds01 owners", remedy)
    against = [thing for thing in things if thing["contradictions"]]
    if against:
        what = f"something speaks for another owner than the one who is known for {_names(against)}"
        remedy = f"See ds01 owners show {against[0]['short_id']}"
        yield Finding(Severity.NOTICE, CHECK, what, "ds01 owners", remedy)


def _names(things: Sequence[Mapping[str, Any]]) -> str:
    """``2 containers (a, b)``."""
    shown = [str(thing["name"] or thing["short_id"]) for thing in things[:_NAMED_MAX]]
    more = f", {len(things) - _NAMED_MAX} more" if len(things) > _NAMED_MAX else ""
    return f"{len(things)} container{'s' if len(things) > 1 else ''} ({', '.join(shown)}{more})"


# --- this host ------------------------------------------------------------------------------------


def this_host() -> OwnerFacts:
    """Those of the host that this runs on."""
    from ds01 import client
    from ds01.host.engine import find_socket
    from ds01.host.engine_events import events
    from ds01.host.engine_gpu import engine_since
    from ds01.host.systemd import run_command

    def remembered(since: float, until: float) -> list[Mapping[str, Any]]:
        found = events(find_socket(), since, until=until)
        return [event for event in found if event is not None]

    def daemon_up() -> float | None:
        ask = [
            "systemctl",
            "show",
            "ds01d.service",
            "--property=ActiveState,ActiveEnterTimestampMonotonic",
        ]
        lines = run_command(ask).stdout.splitlines()
        told = dict(line.partition("=")[::2] for line in lines)
        since = told.get("ActiveEnterTimestampMonotonic", "")
        if told.get("ActiveState") != "active" or not since.isdigit():
            return None
        return time.clock_gettime(time.CLOCK_MONOTONIC) - int(since) / 1e6

    def engine_up() -> float | None:
        since = engine_since()
        return None if since is None else time.time() - since

    return OwnerFacts(
        lambda: client.ask("owners"),
        open_store,
        remembered,
        daemon_up,
        engine_up,
        read_settings,
    )
