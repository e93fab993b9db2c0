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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .durable import replace_file
from .errors import Ds01Error
from .kernel import FILES, differing, kernel_value, over_use
from .keys import Key
from .limits import Limits, Settings, from_json
from .names import classify, slice_path
from .slices import MARKER, OUR_FILES, UNIT_DIR, Device, Site, assignments, properties

LIMITS_PATH = "/etc/ds01/limits.json"
LOCK_PATH = "/run/ds01/limits.lock"
_OUR_DIRS = re.compile(r"(ds01(-.*)?|user-([0-9]+)?)\.slice\.d")


class Cgroups(Protocol):
    """What is needed of the cgroup file system."""

    def read(self, path: str, names: Sequence[str]) -> dict[str, str]: ...
    def exists(self, path: str) -> bool: ...
    def slices(self) -> list[str]: ...


class Units(Protocol):
    """What is needed of systemd."""

    def loaded_slices(self) -> list[str]: ...
    def set_properties(self, unit: str, assignments: Sequence[str]) -> None: ...


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


def present_files(unit_dir: str = UNIT_DIR) -> dict[str, str]:
    """Our drop-ins as they are on the host, by path below the unit directory."""
    found: dict[str, str] = {}
    if not os.path.isdir(unit_dir):
        return found
    for folder in sorted(os.listdir(unit_dir)):
        if _OUR_DIRS.fullmatch(folder) and os.path.isdir(os.path.join(unit_dir, folder)):
            for name in sorted(os.listdir(os.path.join(unit_dir, folder))):
                if name in OUR_FILES:
                    text = Path(unit_dir, folder, name).read_text(
                        encoding="utf-8", errors="replace"
                    )
                    found[f"{folder}/{name}"] = text
    return found


def read_applied(path: str = LIMITS_PATH) -> tuple[Limits, dict[str, Any]] | None:
    """The limits that were applied last, and the IO settings with them; None on a new host.

    :raises Ds01Error: the record is damaged or of another version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
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
    for key, _, _ in changes:
        setting = settings.get(key.name)
        wanted += assignments(key, setting.value if setting else None, site.devices)
        former += _former(key, raw, site.devices)
    return Live(unit, tuple(wanted), tuple(former), tuple(changes))


def _former(key: Key, raw: Mapping[str, str], devices: Sequence[Device]) -> list[str]:
    if not key.cgroup.startswith("io.max"):
        return assignments(key, kernel_value(key, raw), devices)
    lines = [f"{key.setting}="]
    for device in devices:
        value = kernel_value(key, raw, device)
        if value is not None:
            lines.append(f"{key.setting}={device.node} {value}")
    return lines


def _touches(unit: str, paths: Sequence[str]) -> bool:
    """Whether one of the drop-ins counts for a unit (systemd.unit(5), prefix drop-ins)."""
    stem = unit.removesuffix(".slice")
    folders = {path.partition("/")[0].removesuffix(".slice.d") for path in paths}
    return stem in folders or any(f.endswith("-") and stem.startswith(f) for f in folders)


def _live_changes(
    site: Site,
    cgroups: Cgroups,
    units: Units,
    changed: Sequence[str],
    known: frozenset[str],
    unsupported: frozenset[str],
) -> tuple[list[Live], list[str]]:
    live: list[Live] = []
    warnings: list[str] = []
    for unit in sorted({*units.loaded_slices(), *cgroups.slices()}):
        role = classify(unit)
        settings = site.settings_of(unit)
        gone = role.kind in ("group", "user") and role.group not in site.limits.groups
        if settings is None or (gone and role.group not in known):
            continue
        path = slice_path(unit)
        if not cgroups.exists(path):
            # Loaded but not running: it keeps what it once read until somebody tells it.
            if _touches(unit, changed):
                live.append(Live(unit, tuple(properties(settings, site.devices)), (), ()))
            continue
        raw = cgroups.read(path, FILES)
        change = _live(site, unit, settings, raw, unsupported)
        if change:
            live.append(change)
            warnings += [f"{unit} {words}" for words in over_use(settings, raw)]
        if gone and int(raw.get("pids.current", "0") or 0):
            warnings.append(
                f"{unit} still runs {raw['pids.current'].strip()} tasks of a removed group, "
                "without limits of their own until they are started again"
            )
        elif role.kind == "user" and site.moved(role):
            warnings.append(
                f"{role.user} is no longer in group {role.group}: what runs in {unit} stays "
                "there until it is created again"
            )
    return live, warnings


def make_plan(
    site: Site,
    cgroups: Cgroups,
    units: Units,
    unsupported: frozenset[str] = frozenset(),
    formerly: Limits | None = None,
    unit_dir: str = UNIT_DIR,
) -> Plan:
    """What must change so that files and kernel are as the limits say. Reads, changes nothing.

    :param formerly: the limits that were applied last; slices of groups that neither they nor a
        drop-in of ours knows are somebody else's and are left alone.
    :raises Ds01Error: a file with one of our names is not ours.
    """
    wanted, present = site.files(), present_files(unit_dir)
    for path, text in present.items():
        if MARKER not in text and text != wanted.get(path):
            raise Ds01Error(
                "a file with ds01's name was not written by ds01",
                f"{unit_dir}/{path}",
                "Rename it (it may sort before 60-) or remove it, then run again",
            )
    write = {path: text for path, text in wanted.items() if present.get(path) != text}
    remove = tuple(path for path in present if path not in wanted)
    live, warnings = _live_changes(
        site,
        cgroups,
        units,
        [*write, *remove],
        former_groups(present) | frozenset(formerly.groups if formerly else ()),
        unsupported,
    )
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


class _Files:
    """The drop-ins of one apply: staged, moved in, and back again when something fails."""

    def __init__(self, unit_dir: str, plan: Plan) -> None:
        self.root = Path(unit_dir)
        self.plan = plan
        self.before: dict[str, str | None] = {}
        self.staged: list[Path] = []

    def stage(self) -> None:
        """Write all new texts beside their places, under names that systemd does not load."""
        for left in self.root.glob("*.slice.d/.*-ds01-*.conf.new"):
            left.unlink()
        for path, text in self.plan.write.items():
            target = self.root / path
            target.parent.mkdir(mode=0o755, exist_ok=True)
            aside = target.parent / f".{target.name}.new"
            self.staged.append(aside)
            aside.write_text(text, encoding="utf-8")
            aside.chmod(0o644)
        os.sync()

    def switch(self) -> None:
        """Move the staged texts in and the removed ones out."""
        for path in (*self.plan.write, *self.plan.remove):
            target = self.root / path
            self.before[path] = target.read_text(encoding="utf-8") if target.exists() else None
        for path in self.plan.write:
            target = self.root / path
            os.replace(target.parent / f".{target.name}.new", target)
        for path in self.plan.remove:
            (self.root / path).unlink(missing_ok=True)
            self._tidy(self.root / path)
        os.sync()

    def back(self) -> None:
        """Put the former drop-ins back."""
        for aside in self.staged:
            aside.unlink(missing_ok=True)
        for path, text in self.before.items():
            target = self.root / path
            if text is None:
                target.unlink(missing_ok=True)
            else:
                target.parent.mkdir(mode=0o755, exist_ok=True)
                replace_file(str(target), text)
                target.chmod(0o644)
        for path in self.plan.write:
            self._tidy(self.root / path)

    @staticmethod
    def _tidy(path: Path) -> None:
        try:
            path.parent.rmdir()
        except OSError:
            return


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
    :raises Ds01Error: a step failed; drop-ins and live values are what they were before.
    """
    files = _Files(unit_dir, plan)
    done: list[Live] = []
    try:
        files.stage()
        fault("staged")
        files.switch()
        fault("switched")
        for change in plan.live:
            units.set_properties(change.unit, change.wanted)
            done.append(change)
            fault("live")
        write_record(record, limits_path)
        fault("recorded")
    except Exception as error:
        files.back()
        for change in reversed(done):
            if change.former:
                units.set_properties(change.unit, change.former)
        raise Ds01Error(
            f"the limits could not be applied: {error}",
            unit_dir,
            "The old limits are in force again; mend the cause and run site.yml again",
        ) from error


def write_record(record: Mapping[str, Any], path: str = LIMITS_PATH) -> None:
    """Write limits.json in one step, readable by everybody: limits are no secret."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, render_record(record))
    os.chmod(path, 0o644)


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
