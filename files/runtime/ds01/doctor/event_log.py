# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the event log: there, private, writable, rotating."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine

AGAIN = "Run playbooks/site.yml --tags runtime"
# Rotation ends a week early at 50 MB by default; a site may allow more, hardly this much.
LARGE_BYTES = 1 << 30
FREE_BYTES_MINIMUM = 16 << 20


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
