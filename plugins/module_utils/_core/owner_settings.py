# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of ownership, ``/etc/ds01/owners.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import Ds01Error

OWNER_SETTINGS_PATH = "/etc/ds01/owners.json"
SCHEMA = 1
REMEDY = "Correct it in the inventory and run site.yml again"


@dataclass(frozen=True)
class OwnerSettings:
    """How owners are found and published on this host.

    :param admin_group: Unix group whose members are published as ``admins`` and may set owners; empty:
        root alone.
    :param service_users: accounts that stand for a service and for no person, published as such.
    :param history_seconds: how long the record of a thing that is gone is kept.
    :param sync_seconds: after which all records are compared with the engine at the latest.
    """

    admin_group: str = ""
    service_users: tuple[str, ...] = ()
    history_seconds: float = 90 * 86400.0
    sync_seconds: float = 300.0

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {"schema": SCHEMA, **asdict(self), "service_users": list(self.service_users)}


_SECONDS = {"history_seconds": (3600, 20 * 366 * 86400), "sync_seconds": (10, 86400)}


def settings_from(data: Any, where: str = OWNER_SETTINGS_PATH) -> OwnerSettings:
    """Settings from the file's content.

    :raises Ds01Error: another schema, an unknown key, or a value that cannot be one.
    """
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        raise Ds01Error(f"this is no owner settings file of schema {SCHEMA}", where, REMEDY)
    values = {key: value for key, value in data.items() if key not in ("_managed", "schema")}
    unknown = sorted(set(values) - {field.name for field in fields(OwnerSettings)}, key=str)
    if unknown:
        raise Ds01Error(f"unknown setting {unknown[0]!r}", where, REMEDY)
    for key, value in values.items():
        fault = _fault(key, value)
        if fault:
            raise Ds01Error(f"{key} is {_shown(value)}, {fault}", where, REMEDY)
    return OwnerSettings(**{**values, "service_users": tuple(values.get("service_users", ()))})


def read_settings(path: str = OWNER_SETTINGS_PATH) -> OwnerSettings:
    """The host's settings; the defaults where there is no file.

    :raises Ds01Error: the file cannot be read or is damaged.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return settings_from(json.load(stream), path)
    except FileNotFoundError:
        return OwnerSettings()
    except (OSError, ValueError, RecursionError) as error:
        raise Ds01Error(f"the owner settings cannot be read: {error}", path, REMEDY) from error


def _fault(key: str, value: Any) -> str:
    """Why a value cannot be one of its key; empty when it can."""
    if key == "admin_group":
        return "" if value == "" or _is_name(value) else "not the name of a Unix group"
    if key == "service_users":
        if not isinstance(value, (list, tuple)):
            return "not a list of account names"
        wrong = [name for name in value if not _is_name(name)]
        if wrong:
            return f"of which {_shown(wrong[0])} is not the name of an account"
        twice = sorted({name for name in value if list(value).count(name) > 1})
        return f"which names {twice[0]} twice" if twice else ""
    low, high = _SECONDS[key]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    good = is_number and math.isfinite(value) and low <= value <= high
    return "" if good else f"not a number of seconds from {low} to {high}"


def _is_name(value: Any) -> bool:
    """Whether passwd(5) or group(5) could hold it; names of a directory have spaces and any letters."""
    return (
        isinstance(value, str)
        and value != ""
        and value.isprintable()
        and value == value.strip()
        and ":" not in value
    )


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
