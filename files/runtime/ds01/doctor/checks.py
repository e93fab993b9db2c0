# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of checks, and running them all whatever one of them meets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ds01.core.errors import Ds01Error
from ds01.doctor.engine import check_daemon_json, check_engine
from ds01.doctor.event_log import check_event_log, check_silence
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.gateway import check_door, check_observed
from ds01.doctor.gpu import check_daemon, check_leases
from ds01.doctor.limits import (
    check_capabilities,
    check_drop_ins,
    check_ended_overrides,
    check_foreign,
    check_kernel,
)
from ds01.doctor.machine import Machine, this_machine
from ds01.doctor.owners import check_owners
from ds01.doctor.release import check_release_links, check_self

Check = Callable[[Machine], Iterable[Finding]]


def _release(machine: Machine) -> Iterable[Finding]:
    yield from check_release_links(machine.places.release_root, machine.places.command)
    yield from check_self()


CHECKS: tuple[tuple[str, Check], ...] = (
    ("release", _release),
    ("drop-ins", check_drop_ins),
    ("kernel", check_kernel),
    ("overrides", check_ended_overrides),
    ("foreign drop-ins", check_foreign),
    ("capabilities", check_capabilities),
    ("daemon.json", check_daemon_json),
    ("engine", check_engine),
    ("door", check_door),
    ("observed users", check_observed),
    ("helper daemon", check_daemon),
    ("GPU leases", check_leases),
    ("owners", check_owners),
    ("event log", check_event_log),
    ("silence", check_silence),
)


def run_checks(
    machine: Machine | None = None, checks: Sequence[tuple[str, Check]] = CHECKS
) -> tuple[list[Finding], list[str]]:
    """Run each check; what one cannot read is its finding, and the others go on.

    Two checks that stumble over one cause report it once.

    :returns: the findings, and the names of the checks.
    """
    host = machine or this_machine()
    findings: list[Finding] = []
    seen: set[tuple[str, str]] = set()
    for name, check in checks:
        try:
            findings += check(host)
        except Ds01Error as error:
            if (error.what, error.where) not in seen:
                seen.add((error.what, error.where))
                found = Finding(Severity.ERROR, name, error.what, error.where, error.remedy)
                findings.append(found)
        except Exception as error:  # one check that breaks must not hide what the others find
            what = f"the check could not be made: {type(error).__name__}: {error}"
            findings.append(Finding(Severity.ERROR, name, what, name, "Run as root"))
    return findings, [name for name, _check in checks]
