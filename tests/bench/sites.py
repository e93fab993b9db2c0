# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sites of any size, the same in every run: limits files to measure with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How large a site is.

    :param users: members of its groups, evenly.
    :param overrides: of these users, those with an override.
    """

    users: int
    groups: int
    overrides: int

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.groups} groups, {self.overrides} overrides"


SMALL = Size(users=20, groups=3, overrides=3)
LARGE = Size(users=2000, groups=12, overrides=300)


def user(number: int) -> str:
    """A user's name; every fifth comes from a directory."""
    return f"u{number}@example.lan" if number % 5 == 0 else f"user{number}"


def limits_file(size: Size) -> str:
    """A limits file of that size with values that fit the lab host."""
    lines = [
        "default_group: group0",
        "total: {memory_max: 3g, tasks_max: 8000}",
        "defaults: {memory_max: 512m, cpu_weight: 100, io_read_bw_max: 100M, idle_timeout: 48h}",
        "groups:",
    ]
    for group in range(size.groups):
        members = ", ".join(user(n) for n in range(group, size.users, size.groups))
        lines += [
            f"  group{group}:",
            f"    members: [{members}]",
            f"    cpu_quota: {50 + group}%",
            f"    memory_high: {200 + group}m",
            f"    tasks_max: {100 + group}",
            f"    io_write_bw_max: {8 + group}M",
            "    max_runtime: 24h",
            f"    total: {{memory_max: {1024 + group}m}}",
        ]
    lines.append("user_overrides:")
    for number in range(size.overrides):
        lines += [
            f"  {user(number * size.users // size.overrides)}:",
            f"    tasks_max: {300 + number}",
            f"    memory_max: {600 + number}m",
            "    reason: thesis",
            "    expires: 2099-12-31",
        ]
    return "\n".join(lines) + "\n"
