# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the command line gets limits from: the host's record, or a file."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any

from ds01.core.apply import LIMITS_PATH, read_applied
from ds01.core.errors import Ds01Error, InputError, Problem
from ds01.core.gather import HostPort, IoSettings, find_disks
from ds01.core.limits import Limits, from_json
from ds01.core.slices import Device


def now() -> datetime:
    """Local time with its offset, by which overrides expire."""
    return datetime.now().astimezone()


def applied(path: str = LIMITS_PATH) -> tuple[Limits, IoSettings]:
    """The limits that were applied last, and which disks their IO limits count for.

    :raises Ds01Error: none were, or the record is damaged.
    """
    found = read_applied(path)
    if found is None:
        raise Ds01Error(
            "no limits were applied to this host yet", path, "Run playbooks/site.yml for it"
        )
    limits, io = found
    return limits, IoSettings.from_json(io)


class AppliedLimits:
    """The limits in force, read anew when their file changes.

    :param path: ``limits.json``.
    """

    def __init__(self, path: str = LIMITS_PATH) -> None:
        self.path = path
        self._mark: tuple[int, int, int] | None = None
        self._limits: Limits | None = None

    def limits(self) -> Limits:
        """The limits.

        :raises Ds01Error: none were applied, or the record is damaged.
        """
        try:
            found = os.stat(self.path)
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            mark = None
        if self._limits is None or mark is None or mark != self._mark:
            self._limits = None
            self._limits, _io = applied(self.path)
            self._mark = mark
        return self._limits


def from_file(path: str) -> Limits:
    """Limits from a limits file (YAML) or from a host's record (``.json``).

    :raises InputError: the file is refused; every fault is in it.
    """
    try:
        return _from_record(path) if path.endswith(".json") else _from_yaml(path)
    except InputError:
        raise
    except Ds01Error as error:
        raise InputError([Problem("error", error.what, error.where, error.remedy)]) from error


def _from_yaml(path: str) -> Limits:
    from ds01.core.parse import parse
    from ds01.core.tree import Node
    from ds01.limits_yaml import read_tree

    return parse(read_tree(path, path, Node, Ds01Error), path)


def _from_record(path: str) -> Limits:
    try:
        with open(path, encoding="utf-8") as stream:
            data: Any = json.load(stream)
    except OSError as error:
        raise Ds01Error(
            f"cannot read the limits: {error.strerror}", path, "Check the path and its permissions"
        ) from error
    except ValueError as error:
        raise Ds01Error(f"not valid JSON: {error}", path, "Give a limits file") from error
    if not isinstance(data, dict):
        raise Ds01Error("not a record of limits", path, "Give a limits file")
    return from_json(data, path)


def devices(io: IoSettings, host: HostPort) -> list[Device]:
    """The disks that IO limits count for; those that cannot be found are left out."""
    disks, _reasons = find_disks(io, host)
    return [Device(disk.node, disk.number) for disk in disks.values()]


def present(path: str = LIMITS_PATH) -> bool:
    """Whether this machine is a host that limits were applied to."""
    return os.path.exists(path)
