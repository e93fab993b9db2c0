# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From limits to a site: what the host adds, and what it cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from .apply import Cgroups, Units
from .capabilities import HostFacts, host_problems, unsupported_keys
from .checks import Capacity, check_host, check_users
from .errors import InputError, Problem
from .limits import Limits, expired_overrides
from .slices import Account, Device, Site


class CgroupFacts(Cgroups, Protocol):
    """The cgroup file system, with what the preflight asks of it."""

    def unified(self) -> bool: ...
    def controllers(self) -> frozenset[str]: ...
    def has_io_cost(self) -> bool: ...
    def io_cost_devices(self) -> frozenset[str]: ...
    def capacity(self) -> tuple[int, int, int]: ...


class SystemdFacts(Units, Protocol):
    """systemd, with what the preflight asks of it."""

    def running(self) -> bool: ...


class HostPort(Protocol):
    """The host's adapters."""

    @property
    def cgroups(self) -> CgroupFacts: ...
    @property
    def systemd(self) -> SystemdFacts: ...
    def find_account(self, name: str) -> Any: ...
    def disk(self, node_or_path: str, is_node: bool) -> tuple[Any, str]: ...
    def io_paths(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Gathered:
    """A site with the host's word on it.

    :param problems: errors and warnings of the host against the limits; expired overrides too.
    :param unsupported: keys that the host cannot enforce.
    """

    site: Site
    facts: HostFacts
    problems: tuple[Problem, ...]
    unsupported: frozenset[str]

    @property
    def warnings(self) -> list[str]:
        """Everything that is no error, in words."""
        return [str(problem) for problem in self.problems if problem.level != "error"]

    def refuse_errors(self) -> None:
        """Stop here when the host cannot hold the limits.

        :raises InputError: with every error found.
        """
        if any(problem.level == "error" for problem in self.problems):
            raise InputError(self.problems)


@dataclass(frozen=True)
class IoSettings:
    """Which disks IO limits count for.

    :param devices: nodes given by the inventory; with any of them the paths are not looked at.
    :param paths: paths whose disks count; none: where the engine's data and the homes live now.
    """

    devices: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> IoSettings:
        """From limits.json or a module's parameters."""
        return cls(tuple(data.get("devices") or ()), tuple(data.get("paths") or ()))

    def to_json(self) -> dict[str, list[str]]:
        """For limits.json."""
        return {"devices": list(self.devices), "paths": list(self.paths)}


def find_disks(io: IoSettings, host: HostPort) -> tuple[dict[str, Any], list[str]]:
    """The disks that IO limits count for, by ``major:minor``, and why a path has none."""
    paths = io.paths or host.io_paths()
    named = [(node, True) for node in io.devices] or [(path, False) for path in paths]
    found: dict[str, Any] = {}
    reasons: list[str] = []
    for name, is_node in named:
        disk, reason = host.disk(name, is_node)
        if disk is None:
            reasons.append(reason)
        else:
            found[disk.number] = disk
    return found, reasons


def _accounts(names: Sequence[str], host: HostPort) -> dict[str, Account]:
    found = {}
    for name in names:
        account = host.find_account(name)
        if account is not None:
            found[name] = Account(account.name, account.uid, tuple(account.groups))
    return found


def _twins(site: Site) -> Iterator[Problem]:
    """Two overrides of one account (a short and a long directory name): which one counts?"""
    first: dict[int, str] = {}
    for name, account in site.accounts.items():
        if site.limits.overrides[name].expired(site.now):
            continue
        other = first.setdefault(account.uid, name)
        if other != name:
            yield Problem(
                "error",
                f"user_overrides.{other} and user_overrides.{name} are one account on this host "
                f"({account.name}, uid {account.uid})",
                site.limits.overrides[name].where,
                "Keep one of them",
            )


def gather(limits: Limits, io: IoSettings, host: HostPort, now: datetime) -> Gathered:
    """Ask the host for what the limits need of it. Reads only.

    :param now: local time with its offset.
    """
    disks, reasons = find_disks(io, host)
    devices = tuple(Device(disk.node, disk.number) for disk in disks.values())
    cgroups = host.cgroups
    facts = HostFacts(
        systemd=host.systemd.running(),
        unified=cgroups.unified(),
        controllers=cgroups.controllers(),
        io_cost=cgroups.has_io_cost(),
        io_cost_devices=cgroups.io_cost_devices(),
        devices=devices,
        schedulers=tuple((disk.node, disk.scheduler) for disk in disks.values()),
        no_disk=tuple(reasons),
    )
    capacity = Capacity(*cgroups.capacity())
    site = Site(limits, _accounts(list(limits.overrides), host), devices, now)
    problems = [
        *limits.problems,
        *host_problems(limits, facts),
        *check_host(limits, capacity, now),
        *check_users(limits, {name: site.group_of(name) for name in site.accounts}, now),
        *_twins(site),
        *expired_overrides(limits, now),
    ]
    if io.devices and reasons:
        problems += [
            Problem(
                "error",
                f"slices_io_devices names a disk that is not there: {reason}",
                "inventory",
                "Correct the node, or leave the list empty to have it found",
            )
            for reason in reasons
        ]
    return Gathered(site, facts, tuple(problems), unsupported_keys(facts))
