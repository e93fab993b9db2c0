"""The lab host as tests drive it: commands as its users, reboots, power cuts."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass

from . import ssh, vm
from .settings import Settings


@dataclass(frozen=True)
class Done:
    """A command that ran in the guest."""

    command: str
    rc: int
    stdout: str
    stderr: str


class CommandFailed(AssertionError):
    """A command that had to succeed did not; the message holds what it printed."""


class Lab:
    """A lab host that is up."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def run(
        self, command: str, as_user: str = "root", check: bool = True, timeout: float = 120.0
    ) -> Done:
        """Run a shell command line in the guest.

        :param as_user: the account to log in as; each has the lab's key.
        :param timeout: seconds.
        :raises CommandFailed: it failed and ``check`` is set, or it took too long.
        """
        try:
            done = ssh.run(self.settings, command, as_user, timeout)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{as_user}: {command}\nnot done after {timeout} s") from error
        if check and done.returncode:
            raise CommandFailed(
                f"{as_user}: {command}\nexit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return Done(command, done.returncode, done.stdout, done.stderr)

    def reboot(self) -> None:
        """Restart the guest in order and wait until it answers again."""
        vm.reboot(self.settings)

    def power_cut(self) -> None:
        """Take the power away, then boot the same disk again."""
        vm.cut_power(self.settings)
        vm.up(self.settings)

    def journal(self, *units: str, lines: int = 40) -> str:
        """The end of what units wrote, for the message of a failing test."""
        chosen = " ".join(f"--unit={shlex.quote(unit)}" for unit in units)
        command = f"journalctl --no-pager --boot --lines={lines} {chosen}"
        return self.run(command, check=False).stdout

    def journal_of_failed_units(self) -> str:
        """What every failed unit wrote, with its name; empty when none failed."""
        listing = self.run("systemctl --failed --no-legend --plain", check=False).stdout
        names = [line.split()[0] for line in listing.splitlines() if line.strip()]
        return "\n".join(f"--- {name}\n{self.journal(name)}" for name in names)
