# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd by systemctl(1): which slices are loaded, and limits set live."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence

RUNTIME_DROP_INS = "/run/systemd/system.control"
Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


class SystemdError(Exception):
    """systemctl refused; the message is its own."""


def run_command(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with no shell, no input and a fixed locale."""
    return subprocess.run(
        list(argv),
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        timeout=60,
    )


class Systemd:
    """The system manager.

    :param runner: runs a command; a fake in tests.
    :param control: where ``set-property --runtime`` leaves its files.
    """

    def __init__(self, runner: Runner = run_command, control: str = RUNTIME_DROP_INS) -> None:
        self.runner = runner
        self.control = control

    def running(self) -> bool:
        """Whether systemd is the host's init, as sd_booted(3) asks."""
        return os.path.isdir("/run/systemd/system")

    def loaded_slices(self) -> list[str]:
        """Unit names of the slices of ds01 and of logins that systemd has in memory."""
        done = self.runner(
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "--type=slice"]
        )
        if done.returncode:
            raise SystemdError(done.stderr.strip() or "systemctl list-units failed")
        names = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
        return [n for n in names if n == "ds01.slice" or n.startswith(("ds01-", "user-"))]

    def set_properties(self, unit: str, assignments: Sequence[str]) -> None:
        """Make settings live in a loaded unit's cgroup at once, without a daemon-reload.

        The value that lasts is the drop-in's below /etc. What systemctl leaves below /run would
        count for a later life of the unit with a limit that may be gone by then, so it is removed.

        :raises SystemdError: systemd refused a setting.
        """
        done = self.runner(["systemctl", "set-property", "--runtime", unit, *assignments])
        if done.returncode:
            raise SystemdError(f"{unit}: {done.stderr.strip() or 'systemctl set-property failed'}")
        self.forget(unit, {text.partition("=")[0] for text in assignments})

    def forget(self, unit: str, settings: Iterable[str]) -> None:
        """Remove what ``set-property --runtime`` left of some settings of a unit."""
        folder = os.path.join(self.control, f"{unit}.d")
        for name in settings:
            try:
                os.unlink(os.path.join(folder, f"50-{name}.conf"))
            except FileNotFoundError:
                continue
        try:
            os.rmdir(folder)
        except OSError:
            return

    def leftovers(self) -> list[str]:
        """Slices of ours with runtime settings that a killed run or another hand left behind."""
        try:
            entries = os.listdir(self.control)
        except OSError:
            return []
        units = [name.removesuffix(".d") for name in entries if name.endswith(".slice.d")]
        return sorted(u for u in units if u == "ds01.slice" or u.startswith(("ds01-", "user-")))

    def forget_leftovers(self, settings: Iterable[str]) -> None:
        """Remove what is left of some settings of every slice of ours.

        Values in force stay; only a later life of the slice would have read these files.
        """
        names = tuple(settings)
        for unit in self.leftovers():
            self.forget(unit, names)
