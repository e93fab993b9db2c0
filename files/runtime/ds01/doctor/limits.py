# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the limits: drop-ins, kernel, foreign settings, overrides that have ended."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ds01.core.keys import SLICE_KEYS
from ds01.core.limits import Override
from ds01.core.names import classify
from ds01.core.slices import OUR_FILES, USER_FILE, USER_LOGIN_FILE
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine
from ds01.limits_diff import pending_keys

APPLY = "Run ds01 limits apply, or playbooks/site.yml"
_SLICE_DIR = re.compile(r"(ds01(-.*)?|user-([0-9]+)?)\.slice\.d")
_SETTINGS = frozenset(key.setting for key in SLICE_KEYS)
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z]+)\s*=", re.MULTILINE)


def check_drop_ins(machine: Machine) -> Iterator[Finding]:
    """Whether each drop-in is there, byte for byte, and no other of ours."""
    outcome = machine.outcome
    ended = {name for name, _override in _ended_in_force(machine)}
    for path in outcome.plan.write:
        state = "was changed" if path in outcome.files_before else "is missing"
        where = f"{machine.paths.units}/{path}"
        yield Finding(Severity.ERROR, "drop-ins", f"the drop-in {state}", where, APPLY)
    for path in outcome.plan.remove:
        if path not in ended:
            where = f"{machine.paths.units}/{path}"
            what = "the drop-in belongs to nothing in the limits"
            yield Finding(Severity.ERROR, "drop-ins", what, where, APPLY)
    if outcome.recorded and not outcome.plan.write and not outcome.plan.remove:
        what = "the record of the limits was changed by hand"
        yield Finding(Severity.WARNING, "drop-ins", what, machine.paths.limits, APPLY)


def check_kernel(machine: Machine) -> Iterator[Finding]:
    """Whether the kernel has, for each slice that is alive, what was applied."""
    for row in machine.outcome.live_rows():
        for change in row["changes"]:
            key, _unused, values = str(change).partition(": ")
            has, _unused, wanted = values.partition(" -> ")
            what = f"the kernel has {key} {has}, applied is {wanted}"
            yield Finding(Severity.ERROR, "kernel", what, row["unit"], APPLY)


def check_ended_overrides(machine: Machine) -> Iterator[Finding]:
    """Whether something that an override gave outlives its end."""
    timer = machine.unit_state("ds01-limits.timer")
    if timer != "active":
        what = f"the timer that ends expired overrides is {timer}"
        remedy = "Run systemctl enable --now ds01-limits.timer, or playbooks/site.yml"
        yield Finding(Severity.ERROR, "overrides", what, "ds01-limits.timer", remedy)
    if machine.unit_state("ds01-limits.service") == "failed":
        what = "the last run of the timer failed"
        remedy = "Read journalctl -u ds01-limits.service, mend the cause, and start it again"
        yield Finding(Severity.ERROR, "overrides", what, "ds01-limits.service", remedy)
    for path, override in _ended_in_force(machine):
        what = f"the override of {override.user} ended on {override.expires} and is still in force"
        where = f"{machine.paths.units}/{path}"
        yield Finding(Severity.ERROR, "overrides", what, where, APPLY)


def _ended_in_force(machine: Machine) -> list[tuple[str, Override]]:
    """Drop-ins to remove that belong to an override whose time is over."""
    site = machine.gathered.site
    ended = [o for o in site.limits.overrides.values() if o.expired(site.now)]
    found = []
    for path in machine.outcome.plan.remove:
        folder, _unused, file = path.partition("/")
        role = classify(folder.removesuffix(".d"))
        for override in ended:
            account = site.accounts.get(override.user)
            by_name = file == USER_FILE and role.user == (
                account.name if account else override.user
            )
            by_uid = file == USER_LOGIN_FILE and account is not None and role.uid == account.uid
            if by_name or by_uid:
                found.append((path, override))
    return found


def check_foreign(machine: Machine) -> Iterator[Finding]:
    """Whether drop-ins of others set what we set, in a place where theirs win."""
    for directory in machine.places.unit_dirs:
        for folder in _entries(directory):
            if not _SLICE_DIR.fullmatch(folder):
                continue
            for name in _entries(os.path.join(directory, folder)):
                path = os.path.join(directory, folder, name)
                mine = directory == machine.paths.units and name in OUR_FILES
                if name.endswith(".conf") and not mine:
                    yield from _foreign(path, name)


def _foreign(path: str, name: str) -> Iterator[Finding]:
    if name in OUR_FILES:
        what = "a drop-in with one of ds01's names stands in another directory and hides ours"
        yield Finding(Severity.ERROR, "foreign drop-ins", what, path, "Remove or rename it")
        return
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        what = f"a drop-in on our slices cannot be read: {error.strerror}"
        yield Finding(Severity.WARNING, "foreign drop-ins", what, path, "Run as root")
        return
    settings = sorted(_SETTINGS & set(_ASSIGNMENT.findall(text)))
    # Drop-ins count in the order of their names, whatever directory they are in.
    if settings and name > min(OUR_FILES):
        what = f"a drop-in of somebody else sets {', '.join(settings)}, and counts after ours"
        remedy = "Move its settings to the limits file, and remove it"
        yield Finding(Severity.ERROR, "foreign drop-ins", what, path, remedy)


def _entries(directory: str) -> Sequence[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return ()


def check_capabilities(machine: Machine) -> Iterator[Finding]:
    """What the host cannot enforce, and what the limits say that has no effect here."""
    levels = {"error": Severity.ERROR, "warning": Severity.WARNING}
    for problem in machine.gathered.problems:
        severity = levels.get(problem.level, Severity.NOTICE)
        where = problem.where or machine.paths.limits
        yield Finding(severity, "capabilities", problem.what, where, problem.remedy)
    for notice in machine.outcome.plan.warnings:
        where = machine.paths.limits
        yield Finding(Severity.NOTICE, "capabilities", notice, where, "Look whether that is meant")
    pending = pending_keys(machine.applied[0])
    if pending:
        what = f"limits that nothing enforces yet: {', '.join(pending)}"
        remedy = "Wait for the part that will, or take them out of the limits"
        yield Finding(Severity.NOTICE, "capabilities", what, machine.paths.limits, remedy)
