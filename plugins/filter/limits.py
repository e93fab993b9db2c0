# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain's functions for templates: the same rules as on the host, not a second copy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.ds01.infra.plugins.module_utils._core import errors, limits, names, units


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """The domain's complaint as Ansible's, without a traceback."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (errors.Ds01Error, units.UnitError) as error:
            raise AnsibleFilterError(str(error)) from error

    return call


def user_slice(user: str, group: str) -> str:
    """The slice of a user in a group.

    :raises Ds01Error: one of the names cannot be part of a slice's name.
    """
    fault = names.group_name_fault(group) or names.user_name_fault(user, group)
    if fault:
        raise errors.Ds01Error(fault, "user_slice", "Correct the name")
    return names.user_slice(group, user)


def effective_limits(
    checked: dict[str, Any], user: str, unix_groups: list[str] | None = None
) -> dict[str, Any]:
    """What a user may have, each value with where it comes from.

    :param checked: what the lookup ``ds01.infra.limits`` returned.
    :param unix_groups: the account's Unix groups.
    """
    site = limits.from_json(checked, "effective_limits")
    group, why = limits.group_of(site, user, unix_groups or ())
    settings = limits.of_user(site, user, group, datetime.now().astimezone())
    values = {
        name: {"value": s.value, "shown": s.shown, "from": s.origin} for name, s in settings.items()
    }
    return {
        "user": user,
        "group": group,
        "why": why,
        "slice": names.user_slice(group, user),
        "limits": values,
    }


class FilterModule:
    """The filters of ds01."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {
            "size_to_bytes": _told(units.parse_size),
            "duration_to_seconds": _told(units.parse_duration),
            "user_slice": _told(user_slice),
            "effective_limits": _told(effective_limits),
        }
