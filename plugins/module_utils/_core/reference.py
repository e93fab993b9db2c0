# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits file described for editors: a JSON Schema (draft 2020-12) made from the table of keys.

A schema sees one value at a time, as YAML 1.2 types it. It knows names, spellings and bounds of
plain numbers; what contradicts something else is for ``ds01 limits check``.
"""

from __future__ import annotations

from typing import Any

from .keys import ALIASES, KEYS, SLICE_KEYS, TABLE, Alias, Key
from .kinds import NUMBER, Kind
from .names import GROUP_NAME, GROUP_NAME_MAX, RESERVED_GROUPS
from .parse import TOP

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A kind's values that YAML reads as something else than text, by the kind's name.
_PLAIN_TYPES = {
    "size": "integer",
    "rate": "integer",
    "count": "integer",
    "number": "number",
    "bool": "boolean",
    "ports": "integer",
}
# The same rule as names.user_name_fault, as an ECMA 262 regular expression.
_ACCOUNT = r"^[^\s:/]([^:/\u0000-\u001f]*[^\s:/])?$"
_MONTH_DAY = "(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?(Z|[+-][0-9]{2}:[0-9]{2})?"
_EXPIRES = rf"^[0-9]{{4}}-{_MONTH_DAY}([T ]{_TIME})?$"
_HOURS = NUMBER.pattern
_SECONDS_PER_HOUR = 3600
_SLICE_NAMES = tuple(key.name for key in SLICE_KEYS)

Schema = dict[str, Any]

SECTIONS = {
    "default_group": "The group of every user who is in no other group. Must be there.",
    "defaults": "What a user of any group may have, unless the group or an override says otherwise.",
    "total": "What everybody together may have (ds01.slice). Slice limits only.",
    "login": "What login shells may have, beside the default group's values. Slice limits only.",
    "unattributed": "What containers without an owner share, beside the defaults. Slice limits only.",
    "groups": "Groups of users by name: what each user of the group may have.",
    "user_overrides": "What single users have beside their group; the rest of the group stays.",
}


def about(key: Key) -> str:
    """One sentence on a key: what it does, how it is written, its default, who enforces it."""
    default = show_default(key)
    waiting = "Not enforced yet; comes with: " if key.pending else "Enforced by: "
    return f"{key.about}. {key.kind.wanted}; default {default}. {waiting}{key.enforced_by}."


def show_default(key: Key) -> str:
    """A key's built-in value for people."""
    if key.default is None:
        return key.show(None)
    if isinstance(key.default, tuple):
        return key.show([key.kind.parse(text) for text in key.default])
    return key.show(key.kind.parse(key.default))


def _single(kind: Kind) -> Schema:
    plain = _PLAIN_TYPES.get(kind.name)
    types = ["string", plain] if plain else ["string"]
    bounds = {"minimum": 1, "maximum": 65535} if kind.name == "ports" else {}
    return {"type": types, "pattern": kind.pattern, **bounds}


def value_schema(key: Key) -> Schema:
    """The schema of one key's value.

    Numbers that YAML reads as numbers are held to the key's bounds, in its base unit.
    """
    schema = _single(key.kind)
    if key.kind.is_list:
        # An empty list may be written as null, as everywhere in YAML.
        return {"description": about(key), "type": ["array", "null"], "items": schema}
    if key.nullable:
        schema["type"].append("null")
    if _PLAIN_TYPES.get(key.kind.name) in ("integer", "number"):
        schema["minimum"] = _plain(key.minimum)
        if key.maximum is not None:
            schema["maximum"] = _plain(key.maximum)
    return {"description": about(key), **schema}


def _plain(number: float) -> float:
    whole = int(number)
    return whole if whole == number else number


def alias_schema(name: str, alias: Alias) -> Schema:
    """The schema of an old spelling: the new key's value, or its number of hours.

    :param name: the old spelling.
    """
    says = f"Old spelling of {alias.key}"
    words: Schema = {"deprecated": True, "deprecationMessage": f"{says}; rename it"}
    if not alias.suffix:
        return {"description": f"{says}.", **words, "$ref": f"#/$defs/{alias.key}"}
    hours = _plain(KEYS[alias.key].minimum / _SECONDS_PER_HOUR)
    return {
        "description": f"{says}, as a number of hours without a unit.",
        **words,
        "type": ["number", "string", "null"],
        "minimum": hours,
        "pattern": _HOURS,
    }


def _block(keys: dict[str, Key], description: str, **extra: Schema) -> Schema:
    """A mapping that holds these keys, their old spellings, the extra ones, and nothing else."""
    properties: dict[str, Schema] = {name: {"$ref": f"#/$defs/{name}"} for name in keys}
    properties.update(
        {name: {"$ref": f"#/$defs/{name}"} for name, alias in ALIASES.items() if alias.key in keys}
    )
    properties.update(extra)
    return {
        "description": description,
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    }


def _names(description: str, pattern: str, **more: bool) -> Schema:
    """A list of account or group names; a numeric name may stand without quotes."""
    items = {"type": ["string", "integer"], "pattern": pattern}
    return {"description": description, "type": ["array", "null"], "items": items, **more}


def _aggregate() -> Schema:
    keys = {name: KEYS[name] for name in (*_SLICE_NAMES, "max_gpu_equivalents")}
    block = _block(keys, "Block of the existing installation; move its keys one level up.")
    return {**block, "deprecated": True, "deprecationMessage": "Move its keys one level up"}


def _group() -> Schema:
    return _block(
        KEYS,
        "What each user of this group may have.",
        members=_names("Account names; a user is in one group.", _ACCOUNT, uniqueItems=True),
        unix_groups=_names("Unix groups (local, AD, LDAP) whose members belong here.", r"\S"),
        total={
            "description": "What the whole group together may have. Slice limits only.",
            "$ref": "#/$defs/shared",
        },
        aggregate={"$ref": "#/$defs/aggregate"},
    )


def _override() -> Schema:
    return _block(
        KEYS,
        "What this user has beside the group.",
        reason={"description": "Why; for people.", "type": ["string", "number", "null"]},
        expires={
            "description": "The last day (2027-01-31, included) or moment (2027-01-31T18:00).",
            "type": ["string", "null"],
            "pattern": _EXPIRES,
        },
        aggregate={"$ref": "#/$defs/aggregate"},
    )


def _section(name: str) -> Schema:
    description = SECTIONS[name]
    if name == "default_group":
        return {
            "description": description,
            "type": "string",
            "pattern": f"^{GROUP_NAME.pattern}$",
        }
    if name == "groups":
        return {
            "description": description,
            "type": "object",
            "minProperties": 1,
            "propertyNames": {
                "pattern": f"^{GROUP_NAME.pattern}$",
                "maxLength": GROUP_NAME_MAX,
                "not": {"enum": sorted(RESERVED_GROUPS)},
            },
            "additionalProperties": {"$ref": "#/$defs/group"},
        }
    if name == "user_overrides":
        return {
            "description": description,
            "type": ["object", "null"],
            "propertyNames": {"pattern": _ACCOUNT},
            "additionalProperties": {"$ref": "#/$defs/override"},
        }
    block = "user" if name == "defaults" else "shared"
    return {"description": description, "$ref": f"#/$defs/{block}"}


def schema() -> Schema:
    """The JSON Schema of the limits file."""
    slices = {name: KEYS[name] for name in _SLICE_NAMES}
    definitions: Schema = {key.name: value_schema(key) for key in TABLE}
    definitions.update({name: alias_schema(name, alias) for name, alias in ALIASES.items()})
    definitions.update(
        user=_block(KEYS, "What one user may have.", aggregate={"$ref": "#/$defs/aggregate"}),
        shared=_block(slices, "What several users share."),
        aggregate=_aggregate(),
        group=_group(),
        override=_override(),
    )
    return {
        "$schema": DIALECT,
        "title": "ds01 limits",
        "description": "The limits of a site. Made from the table of keys; do not edit.",
        "type": "object",
        "required": ["default_group", "groups"],
        "additionalProperties": False,
        "properties": {name: _section(name) for name in TOP},
        "$defs": definitions,
    }
