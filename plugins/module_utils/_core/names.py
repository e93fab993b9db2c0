# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of groups, users and slices.

The tree is ``ds01.slice`` / ``ds01-<group>.slice`` / ``ds01-<group>-<escaped user>.slice``.
systemd reads a dash in a slice's name as one step down (systemd.slice(5)), so a group name has no
dash and a user's dashes are escaped as systemd-escape(1) does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ROOT = "ds01.slice"
UNATTRIBUTED_GROUP = "unattributed"
UNATTRIBUTED = f"ds01-{UNATTRIBUTED_GROUP}.slice"
# Groups whose slices belong to ds01 itself: what has no owner, and builds that nobody signed.
RESERVED_GROUPS = frozenset({UNATTRIBUTED_GROUP, "build", "system"})
GROUP_NAME = re.compile(r"[a-z][a-z0-9_]*")
GROUP_NAME_MAX = 32
# Stands for any group where a user's name is checked before the group is known.
LONGEST_GROUP = "x" * GROUP_NAME_MAX
# systemd.unit(5): a unit's name is at most 255 characters, suffix included; its drop-in directory
# has two more (".d"), and a file system takes 255 bytes.
UNIT_NAME_MAX = 253
_PLAIN = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_.")
# What passwd(5) and PATH-like lists cannot hold.
_NO_NAME = re.compile(r"[:/]")
_LOGIN = re.compile(r"user-([0-9]+)\.slice")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def escape(text: str) -> str:
    r"""Escape a text for one part of a unit name, as systemd-escape(1) does.

    :param text: any text, bytes that are no UTF-8 as surrogates;
        ``h.baker@example.org`` becomes ``h.baker\x40example.org``.
    """
    parts = []
    for index, byte in enumerate(text.encode(errors="surrogateescape")):
        char = chr(byte)
        if char == "/":
            parts.append("-")
        elif char in _PLAIN and not (index == 0 and char == "."):
            parts.append(char)
        else:
            parts.append(f"\\x{byte:02x}")
    return "".join(parts)


def unescape(text: str) -> str:
    """The inverse of :func:`escape`; bytes that are no UTF-8 are kept as surrogates."""
    raw = bytearray()
    position = 0
    source = text.replace("-", "/")
    while position < len(source):
        match = _ESCAPED.match(source, position)
        if match:
            raw.append(int(match.group(1), 16))
            position = match.end()
        else:
            raw += source[position].encode()
            position += 1
    return raw.decode(errors="surrogateescape")


def group_slice(group: str) -> str:
    """The slice of a whole group."""
    return f"ds01-{group}.slice"


def user_slice(group: str, user: str) -> str:
    """The slice of one user in a group. The caller has checked both names."""
    return f"ds01-{group}-{escape(user)}.slice"


def login_slice(uid: int) -> str:
    """logind's slice of a user's login shells (user@.service(5))."""
    return f"user-{uid}.slice"


def slice_path(unit: str) -> str:
    """The cgroup of a slice below the cgroup root: ``ds01-a-b.slice`` lies in three levels.

    :param unit: a slice's unit name.
    """
    stem = unit.removesuffix(".slice")
    parts = stem.split("-")
    return "/".join("-".join(parts[: n + 1]) + ".slice" for n in range(len(parts)))


def group_name_fault(name: str) -> str:
    """Why a group's name would break the slice tree; empty when it would not."""
    if name in RESERVED_GROUPS:
        return f"the group name {name!r} is reserved for ds01's own slices"
    if GROUP_NAME.fullmatch(name) is None:
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        return (
            f"the group name {shown!a} would break the slice tree: it must start with a small "
            "letter and hold small letters, digits and underscores only"
        )
    if len(name) > GROUP_NAME_MAX:
        return f"the group name {name!r} is longer than {GROUP_NAME_MAX} characters"
    return ""


def user_name_fault(name: str, group: str) -> str:
    """Why a user's name cannot have a slice; empty when it can."""
    shown = ascii(name if len(name) <= 60 else f"{name[:57]}...")
    if "{{" in name or "{%" in name:
        return f"{shown} is not an account name: variables are not filled in here"
    # isprintable() refuses control characters, line separators and lone surrogates.
    if not name or name != name.strip() or not name.isprintable() or _NO_NAME.search(name):
        return f"{shown} is not an account name"
    if len(user_slice(group, name)) > UNIT_NAME_MAX:
        return f"the account name {shown} is too long for a unit name"
    return ""


@dataclass(frozen=True)
class SliceRole:
    """What a slice is for.

    :param kind: ``root``, ``group``, ``user``, ``login`` or ``other`` (not a level of ours).
    :param group: the group's name where there is one.
    :param user: the user's name for kind ``user``.
    :param uid: the user id for kind ``login``, else -1.
    """

    kind: str
    group: str = ""
    user: str = ""
    uid: int = -1


def classify(unit: str) -> SliceRole:
    """Read a slice's name back into what it stands for."""
    login = _LOGIN.fullmatch(unit)
    if login:
        return SliceRole("login", uid=int(login.group(1)))
    if unit == ROOT:
        return SliceRole("root")
    parts = unit.removesuffix(".slice").split("-")
    if parts[0] != "ds01" or len(parts) not in (2, 3) or not all(parts):
        return SliceRole("other")
    if len(parts) == 2:
        return SliceRole("group", group=parts[1])
    return SliceRole("user", group=parts[1], user=unescape(parts[2]))
