# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the host's slices as the limits say: a plan without effects, then a short apply.

The order is: every new drop-in is written whole beside its place, then all are moved in, then the
loaded slices get their values live, then ``limits.json`` records what holds. If a step fails, the
drop-ins and the live values go back to what they were; if the process is killed, every file is
whole and the next run finishes the work.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from .dropins import Switch, present_files, refuse_foreign
from .durable import replace_file
from .errors import Ds01Error
from .kernel import FILES, differing, kernel_value, over_use, stale_devices
from .keys import Key
from .limits import Limits, Settings, from_json
from .names import UNATTRIBUTED_GROUP, classify, slice_path
from .slices import MARKER, UNIT_DIR, Device, Site, assignments, properties

LIMITS_PATH = "/etc/ds01/limits.json"
LOCK_PATH = "/run/ds01/limits.lock"


class Cgroups(Protocol):
    """What is needed of the cgroup file system."""

    def read(self, path: str, names: Sequence[str]) -> dict[str, str]: ...
    def exists(self, path: str) -> bool: ...
    def slices(self) -> list[str]: ...


class Units(Protocol):
    """What is needed of systemd."""

    def loaded_slices(self) -> list[str]: ...
    def set_properties(self, unit: str, assignments: Sequence[str]) -> None: ...
    def forget_leftovers(self, settings: Iterable[str]) -> None: ...


@dataclass(frozen=True)
class Live:
    """A loaded slice whose kernel values differ from the limits.

    :param wanted: ``Setting=value`` texts to set.
    :param former: the texts that bring the present values back.
    :param changes: ``(key, present, wanted)``.
    """

    unit: str
    wanted: tuple[str, ...]
    former: tuple[str, ...]
    changes: tuple[tuple[Key, Any, Any], ...]


@dataclass(frozen=True)
class Plan:
    """What an apply will do.

    :param write: drop-ins to write, by path below the unit directory.
    :param remove: drop-ins to remove.
    :param live: slices to set.
    :param warnings: what the admin should know first.
    """

    write: Mapping[str, str]
    remove: tuple[str, ...]
    live: tuple[Live, ...]
    warnings: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Nothing to do on the host."""
        return not (self.write or self.remove or self.live)


def read_applied(path: str = LIMITS_PATH) -> tuple[Limits, dict[str, Any]] | None:
    """The limits that were applied last, and the IO settings with them; None on a new host.

    :raises Ds01Error: the record is damaged or of another version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise Ds01Error(
            f"cannot read the applied limits: {error}",
            path,
            "Run site.yml again as root; it writes the file anew",
        ) from error
    if not isinstance(data, dict):
        raise Ds01Error("the applied limits are damaged", path, "Run site.yml again")
    return from_json(data, path), data.get("io") or {}


def former_groups(files: Mapping[str, str]) -> frozenset[str]:
    """Groups that have a drop-in of ours on the host: only their slices may be set back."""
    names = (folder.partition("/")[0].removesuffix(".slice.d") for folder in files)
    return frozenset(name.split("-")[1] for name in names if name.startswith("ds01-"))


def _live(
    site: Site, unit: str, settings: Settings, raw: Mapping[str, str], unsupported: frozenset[str]
) -> Live | None:
    changes = differing(settings, raw, site.devices, unsupported)
    if not changes:
        return None
    wanted: list[str] = []
    former: list[str] = []
    for key, _unused, _unused in changes:
        setting = settings.get(key.name)
        wanted += assignments(key, setting.value if setting else None, site.devices)
        wanted += _let_go(key, raw, site.devices)
        former += _former(key, raw, site.devices)
    return Live(unit, tuple(wanted), tuple(former), tuple(changes))


def _let_go(key: Key, raw: Mapping[str, str], devices: Sequence[Device]) -> list[str]:
    """Take a limit off the disks that it does not count for any more."""
    stale = stale_devices(key, raw, devices)
    # systemd clears its own list only; a disk that it has forgotten has to be named.
    return [f"{key.setting}=/dev/block/{number} infinity" for number in stale]


def _former(key: Key, raw: Mapping[str, str], devices: Sequence[Device]) -> list[str]:
    if not key.cgroup.startswith("io.max"):
        return assignments(key, kernel_value(key, raw), devices)
    named = [
        *devices,
        *(Device(f"/dev/block/{number}", number) for number in stale_devices(key, raw, devices)),
    ]
    lines = [f"{key.setting}="]
    for device in named:
        value = kernel_value(key, raw, device)
        lines.append(f"{key.setting}={device.node} {'infinity' if value is None else value}")
    return lines


def _touches(unit: str, paths: Sequence[str]) -> bool:
    """Whether one of the drop-ins counts for a unit (systemd.unit(5), prefix drop-ins)."""
    stem = unit.removesuffix(".slice")
    folders = {path.partition("/")[0].removesuffix(".slice.d") for path in paths}
    return stem in folders or any(f.endswith("-") and stem.startswith(f) for f in folders)


def _asleep(unit: str, settings: Settings, site: Site, before: Site | None) -> Live:
    """A slice that is loaded but does not run: it keeps what it once read until it is told."""
    former = before.settings_of(unit) if before else None
    return Live(
        unit,
        tuple(properties(settings, site.devices)),
        tuple(properties(former or {}, site.devices)),
        (),
    )


def _ours(unit: str, site: Site, known: frozenset[str]) -> tuple[Settings | None, bool]:
    """What a slice shall have, None for somebody else's, and whether its group was removed."""
    role = classify(unit)
    kept = {*site.limits.groups, UNATTRIBUTED_GROUP}
    gone = role.kind in ("group", "user") and role.group not in kept
    return (None if gone and role.group not in known else site.settings_of(unit)), gone


def _live_changes(
    site: Site,
    before: Site | None,
    cgroups: Cgroups,
    units: Units,
    changed: Sequence[str],
    known: frozenset[str],
    unsupported: frozenset[str],
) -> tuple[list[Live], list[str]]:
    live: list[Live] = []
    warnings: list[str] = []
    for unit in sorted({*units.loaded_slices(), *cgroups.slices()}):
        settings, gone = _ours(unit, site, known)
        if settings is None:
            continue
        path = slice_path(unit)
        raw = cgroups.read(path, FILES) if cgroups.exists(path) else {}
        if not raw:
            if _touches(unit, changed):
                live.append(_asleep(unit, settings, site, before))
            continue
        change = _live(site, unit, settings, raw, unsupported)
        if change:
            live.append(change)
            warnings += [f"{unit} {words}" for words in over_use(settings, raw)]
        warnings += _moved_or_gone(site, unit, gone, raw)
    return live, warnings


def _moved_or_gone(site: Site, unit: str, gone: bool, raw: Mapping[str, str]) -> Iterator[str]:
    role = classify(unit)
    tasks = raw.get("pids.current", "0").strip()
    if gone and tasks not in ("", "0"):
        yield (
            f"{unit} still runs {tasks} tasks of a removed group, "
            "without limits of their own until they are started again"
        )
    elif role.kind == "user" and site.moved(role):
        yield (
            f"{role.user} is no longer in group {role.group}: what runs in {unit} stays "
            "there until it is created again"
        )


def make_plan(
    site: Site,
    cgroups: Cgroups,
    units: Units,
    unsupported: frozenset[str] = frozenset(),
    formerly: Limits | None = None,
    unit_dir: str = UNIT_DIR,
    unfinished: bool = False,
) -> Plan:
    """What must change so that files and kernel are as the limits say. Reads, changes nothing.

    :param formerly: the limits that were applied last; slices of groups that neither they nor a
        drop-in of ours knows are somebody else's and are left alone.
    :param unfinished: the last run may have been killed between its files and its live values.
    :raises Ds01Error: a file with one of our names is not ours.
    """
    wanted, present = site.files(), present_files(unit_dir)
    refuse_foreign(present, wanted, unit_dir)
    write = {path: text for path, text in wanted.items() if present.get(path) != text}
    remove = tuple(path for path in present if path not in wanted)
    known = former_groups(present) | frozenset(formerly.groups if formerly else ())
    changed = [*wanted, *remove] if unfinished else [*write, *remove]
    before = replace(site, limits=formerly) if formerly else None
    live, warnings = _live_changes(site, before, cgroups, units, changed, known, unsupported)
    return Plan(write, remove, tuple(live), (*site.notices(), *warnings))


@contextmanager
def locked(path: str = LOCK_PATH) -> Iterator[None]:
    """One apply at a time; a second one waits.

    :raises Ds01Error: the lock cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Ds01Error(f"cannot lock: {error.strerror}", path, "Run it as root") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def execute(
    plan: Plan,
    units: Units,
    record: Mapping[str, Any],
    unit_dir: str = UNIT_DIR,
    limits_path: str = LIMITS_PATH,
    fault: Callable[[str], None] = lambda step: None,
) -> None:
    """Carry a plan out; the caller holds the lock.

    :param record: what ``limits.json`` shall say.
    :param fault: called with the name of each step, for tests that break it there.
    :raises Ds01Error: a step failed; drop-ins, live values and the record are what they were
        before, and the message says where they could not be.
    """
    files = Switch(unit_dir, plan.write, plan.remove)
    recorded = _bytes_of(limits_path)
    tried: list[Live] = []
    try:
        files.stage()
        fault("staged")
        files.move()
        fault("switched")
        for change in plan.live:
            tried.append(change)
            units.set_properties(change.unit, change.wanted)
            fault("live")
        write_record(record, limits_path)
        fault("recorded")
    except BaseException as error:
        stuck = _take_back(files, tried, units, limits_path, recorded)
        if not isinstance(error, Exception):
            raise
        raise _failure(error, stuck, unit_dir) from error


def _bytes_of(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _take_back(
    files: Switch, tried: Sequence[Live], units: Units, limits_path: str, recorded: bytes | None
) -> list[str]:
    """Undo a run as far as it goes: one thing that cannot be undone does not stop the rest.

    :returns: what could not be undone, in words.
    """
    stuck = files.back()
    for change in reversed(tried):
        try:
            if change.former:
                units.set_properties(change.unit, change.former)
        except Exception as error:  # whatever the adapter raises
            stuck.append(f"{change.unit}: {error}")
    try:
        if recorded is not None and _bytes_of(limits_path) != recorded:
            replace_file(limits_path, recorded, 0o644)
        elif recorded is None:
            Path(limits_path).unlink(missing_ok=True)
    except OSError as error:
        stuck.append(f"{limits_path}: {error.strerror}")
    return stuck


def _failure(error: Exception, stuck: Sequence[str], unit_dir: str) -> Ds01Error:
    if stuck:
        return Ds01Error(
            f"the limits could not be applied: {error}; and not taken back: {'; '.join(stuck)}",
            unit_dir,
            "Mend the cause and run site.yml again; until then the slices named here may have "
            "either the old or the new limits",
        )
    return Ds01Error(
        f"the limits could not be applied: {error}",
        unit_dir,
        "The old limits are in force again; mend the cause and run site.yml again",
    )


def write_record(record: Mapping[str, Any], path: str = LIMITS_PATH) -> None:
    """Write limits.json in one step, readable by everybody: limits are no secret."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, render_record(record), 0o644)


def render_record(record: Mapping[str, Any]) -> str:
    """The text of limits.json: stable, so that equal limits are equal files."""
    return (
        json.dumps({"_managed": MARKER.removeprefix("# "), **record}, indent=1, sort_keys=True)
        + "\n"
    )


def still_differing(
    plan: Plan, site: Site, cgroups: Cgroups, unsupported: frozenset[str]
) -> list[str]:
    """After an apply: limits that the kernel did not take, in words."""
    found = []
    for change in plan.live:
        raw = cgroups.read(slice_path(change.unit), FILES)
        settings = site.settings_of(change.unit)
        if not raw or settings is None:
            continue
        for key, has, wanted in differing(settings, raw, site.devices, unsupported):
            found.append(
                f"{change.unit}: the kernel has {key.name} {key.show(has)}, asked for {key.show(wanted)}"
            )
    return found
