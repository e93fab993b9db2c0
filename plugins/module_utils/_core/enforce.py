# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the limits on a host: plan, apply under the lock, record, tell.

The module ``ds01_slices`` and ``ds01 limits apply`` (the timer that ends expired overrides) are
both shells over this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import events
from .apply import (
    LIMITS_PATH,
    LOCK_PATH,
    Live,
    Plan,
    execute,
    locked,
    make_plan,
    read_applied,
    render_record,
    still_differing,
)
from .dropins import present_files, sweep
from .errors import Ds01Error
from .gather import Gathered, HostPort, IoSettings
from .keys import SLICE_KEYS
from .limits import Limits, to_json
from .slices import UNIT_DIR, shown_limits


@dataclass(frozen=True)
class Paths:
    """Where things are on the host; tests point elsewhere."""

    units: str = UNIT_DIR
    limits: str = LIMITS_PATH
    lock: str = LOCK_PATH
    events: str = events.EVENTS_PATH


@dataclass(frozen=True)
class Outcome:
    """What a run will do or has done.

    :param before: every limit in force before, one line each.
    :param after: the same after.
    :param total_files: our drop-ins on the host after the run.
    :param recorded: limits.json has to be written (it changes with a line number too).
    """

    plan: Plan
    before: tuple[str, ...]
    after: tuple[str, ...]
    files_before: Mapping[str, str]
    total_files: int
    recorded: bool
    warnings: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Something on the host changes."""
        return self.recorded or not self.plan.empty

    def live_rows(self) -> list[dict[str, Any]]:
        """The slices set live, for a result."""
        return [{"unit": change.unit, "changes": _words(change)} for change in self.plan.live]

    def diff(self) -> list[dict[str, str]]:
        """Before and after in Ansible's form: first the limits in words, then each drop-in."""
        rows = []
        if self.before != self.after:
            rows.append(_diff("limits in force", "\n".join(self.before), "\n".join(self.after)))
        for path in sorted({*self.plan.write, *self.plan.remove}):
            rows.append(_diff(path, self.files_before.get(path, ""), self.plan.write.get(path, "")))
        live = [(f"{c.unit}: {line}") for c in self.plan.live for line in _words(c)]
        if live:
            rows.append(
                _diff(
                    "kernel, live",
                    "\n".join(line.split(" -> ")[0] for line in live),
                    "\n".join(
                        f"{line.split(': ')[0]}: {line.split(': ')[1]}: {line.split(' -> ')[1]}"
                        for line in live
                    ),
                )
            )
        if self.plan.warnings:
            rows.append(_diff("warnings", "", "\n".join(self.plan.warnings)))
        return rows


def _diff(header: str, before: str, after: str) -> dict[str, str]:
    def ended(text: str) -> str:
        return text if not text or text.endswith("\n") else text + "\n"

    return {
        "before_header": header,
        "after_header": header,
        "before": ended(before),
        "after": ended(after),
    }


def _words(change: Live) -> list[str]:
    return [
        f"{key.name}: {key.show(has)} -> {key.show(wanted)}" for key, has, wanted in change.changes
    ]


def _record(limits: Limits, io: IoSettings) -> dict[str, Any]:
    return {**to_json(limits), "io": io.to_json()}


def _formerly(path: str) -> tuple[Limits | None, list[str]]:
    """The limits applied last. A damaged record does not stop the run that writes it anew."""
    try:
        former = read_applied(path)
    except Ds01Error as error:
        return None, [f"{error.where}: {error.what}; the record is written anew"]
    return (former[0] if former else None), []


def _plan(found: Gathered, host: HostPort, former: Limits | None, units: str, stale: bool) -> Plan:
    """The plan; what an adapter complains of becomes one message.

    :param stale: limits.json does not say what shall be, so a run is due or was broken off.
    """
    try:
        return make_plan(
            found.site, host.cgroups, host.systemd, found.unsupported, former, units, stale
        )
    except Ds01Error:
        raise
    except Exception as error:  # the adapters have errors of their own
        raise Ds01Error(
            f"the host's slices cannot be read: {error}",
            units,
            "Nothing was changed; see whether systemd answers (systemctl status) and run again",
        ) from error


def look(found: Gathered, io: IoSettings, host: HostPort, paths: Paths) -> Outcome:
    """What a run would do. No effects.

    :raises Ds01Error: the host's files are somebody else's, or systemd does not answer.
    """
    former, damage = _formerly(paths.limits)
    site = found.site
    path, text = Path(paths.limits), render_record(_record(site.limits, io))
    recorded = not path.is_file() or path.read_bytes() != text.encode()
    plan = _plan(found, host, former, paths.units, recorded)
    before = tuple(shown_limits(replace(site, limits=former))) if former else ()
    present = present_files(paths.units)
    total = len({*present, *plan.write} - {*plan.remove})
    warnings = (*damage, *plan.warnings)
    return Outcome(plan, before, tuple(shown_limits(site)), present, total, recorded, warnings)


def enforce(
    found: Gathered,
    io: IoSettings,
    host: HostPort,
    source: str,
    paths: Paths | None = None,
    fault: Callable[[str], None] = lambda step: None,
) -> Outcome:
    """Make the host so, and record it.

    :param source: who runs it, for the event log.
    :raises Ds01Error: refused, or failed and taken back.
    """
    where = paths or Paths()
    found.refuse_errors()
    with locked(where.lock):
        host.systemd.forget_leftovers(key.setting for key in SLICE_KEYS)
        outcome = look(found, io, host, where)
        if not outcome.changed:
            sweep(where.units)
            return outcome
        record = _record(found.site.limits, io)
        execute(outcome.plan, host.systemd, record, where.units, where.limits, fault)
        late = still_differing(outcome.plan, found.site, host.cgroups, found.unsupported)
        late += _tell(outcome, source, where.events)
        return replace(outcome, warnings=(*outcome.warnings, *late))


def _tell(outcome: Outcome, source: str, path: str) -> list[str]:
    """Write the events of a run; a log that cannot be written is a warning, the limits hold."""
    try:
        for event in _events(outcome, source):
            events.append(path, event)
    except Ds01Error as error:
        return [f"the change is in force, but not in the event log: {error}"]
    return []


def _events(outcome: Outcome, source: str) -> Iterator[events.Event]:
    before, after = set(outcome.before), set(outcome.after)
    subjects: dict[str, dict[str, list[str]]] = {}
    for side, lines in (("before", outcome.before), ("after", outcome.after)):
        for line in lines:
            if (line in before) != (line in after):
                who, _unused, limit = line.partition(": ")
                subjects.setdefault(who, {"before": [], "after": []})[side].append(limit)
    for who, details in subjects.items():
        user = who.removeprefix("user ").removesuffix(" (expired, ignored)")
        yield events.Event(
            "limits.changed",
            source,
            user if who.startswith("user ") else None,
            {"who": who, **details},
        )
    plan = outcome.plan
    yield events.Event(
        "limits.applied",
        source,
        None,
        {
            "written": sorted(plan.write),
            "removed": sorted(plan.remove),
            "live": [change.unit for change in plan.live],
            "warnings": list(plan.warnings),
        },
    )
