# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the installation itself: what is in force, whole, and able to run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from ds01.core.errors import Ds01Error
from ds01.core.release_files import faults, look
from ds01.doctor.finding import Finding, Severity
from ds01.release_info import Release, this_release

# What the command needs from outside the standard library, and the parts that must import.
# The gateway among it: a release that cannot open the door must not come into force.
NEEDED = (
    "yaml",
    "ds01.limits_yaml",
    "ds01.core.parse",
    "ds01.core.slices",
    "ds01.host.cgroupfs",
    "ds01.gateway.main",
    "ds01.pump.main",
)
AGAIN = "Run playbooks/site.yml again"


def check_self(release: Release | None = None) -> Iterator[Finding]:
    """Whether the release that this code is part of is whole and imports what it needs."""
    mine = release or this_release()
    if mine.name:
        for fault in faults(str(mine.directory)):
            yield _error(
                "release", fault, str(mine.directory), f"{AGAIN}: it makes the release anew"
            )
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever goes wrong there is the finding
            what = f"{name} cannot be imported: {error}"
            yield _error(
                "release", what, str(mine.directory), f"{AGAIN}: it makes the release anew"
            )


def check_release_links(
    root: str = "/opt/ds01",
    command: str = "/usr/local/bin/ds01",
) -> Iterator[Finding]:
    """Whether the links lead to a complete release."""
    try:
        found = look(root, {command: ""})
    except Ds01Error as error:
        yield _error("release", error.what, error.where, "Run as root")
        return
    current = os.path.join(root, "current")
    if found.current is None:
        yield _error("release", "no release is in force", current, AGAIN)
    elif found.current not in (*found.sound, *found.damaged):
        what = f"the link leads to {found.current}, which is no release here"
        yield _error("release", what, current, f"{AGAIN}, or playbooks/rollback_runtime.yml")
    if found.links[command] != os.path.join(current, "bin/ds01"):
        what = "the command on everybody's path is not the runtime in force"
        yield _error("release", what, command, AGAIN)
    if found.leftovers:
        yield Finding(
            Severity.WARNING,
            "release",
            f"an installation was interrupted and left {', '.join(found.leftovers)}",
            root,
            f"{AGAIN}: it clears up",
        )
    this = this_release()
    if this.name and found.current and Path(root, found.current).resolve() != this.directory:
        what = f"this command is of release {this.name}, in force is {found.current}"
        yield Finding(Severity.NOTICE, "release", what, current, "Call /usr/local/bin/ds01")


def _error(check: str, what: str, where: str, remedy: str) -> Finding:
    return Finding(Severity.ERROR, check, what, where, remedy)
