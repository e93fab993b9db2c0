# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of limits on a host with running containers, and ways to break the run that makes it."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.host.accounts import HostAccount
from fakes import FakeHost

OLD = """\
default_group: student
total: {memory_max: 100g}
groups:
  student: {memory_max: 8g, tasks_max: 512, io_write_bw_max: 8M}
  guest: {members: [visitor], memory_max: 1g, cpu_quota: 50%}
user_overrides:
  alice: {tasks_max: 1024}
  bob: {memory_max: 16g}
"""
NEW = """\
default_group: student
total: {memory_max: 120g}
groups:
  student: {memory_max: 6g, tasks_max: 512, cpu_weight: 50}
  researcher: {memory_max: 64g}
user_overrides:
  alice: {tasks_max: 2048, cpu_quota: 200%}
"""
RUNNING = (
    "ds01-student-alice.slice",
    "ds01-student-bob.slice",
    "ds01-student-zoe.slice",
    "ds01-guest-visitor.slice",
    "ds01-unattributed.slice",
    "user-1001.slice",
    "user-0.slice",
)
ACCOUNTS = {"alice": HostAccount("alice", 1001, ()), "bob": HostAccount("bob", 1002, ())}
REFUSED, UNHURT, CRASHED = 7, 8, 9


def old_host(top: Path) -> FakeHost:
    """A host on which the old limits are in force and containers run."""
    host = FakeHost(top, ACCOUNTS)
    host.systemd.start(*RUNNING)
    host.apply(OLD)
    return host


def state(host: FakeHost) -> dict[str, Any]:
    """Everything that limits somebody: the drop-ins, the kernel, and the record."""
    kernel = {
        unit: host.systemd.kernel(unit)
        for unit in host.systemd.contexts
        if host.systemd.folder(unit).is_dir()
    }
    return {"files": host.files(), "kernel": kernel, "record": Path(host.paths.limits).read_text()}


def new_state(top: Path) -> dict[str, Any]:
    """What an unbroken run leads to."""
    host = old_host(top)
    host.apply(NEW)
    return state(host)


def in_child(action: Callable[[], Any]) -> int:
    """Run something in a process of its own; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(action() or 0)
        except Ds01Error:
            os._exit(REFUSED)
        except BaseException:
            traceback.print_exc()
            os._exit(CRASHED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
