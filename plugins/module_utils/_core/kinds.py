# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of values that a limit can have: how each is written, read, shown and refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import units


@dataclass(frozen=True)
class Kind:
    """How a value is written, read and shown.

    :param parse: text to value; raises :class:`units.UnitError`.
    :param show: value to text for people.
    :param wanted: the right spelling in words.
    :param pattern: the spelling as an ECMA 262 regular expression, for the JSON Schema.
    :param types: what a value of it is in JSON.
    """

    name: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    wanted: str
    pattern: str
    is_list: bool = False
    types: tuple[type, ...] = (int,)

    def holds(self, value: Any) -> bool:
        """Whether a value, read back from JSON, can be of this kind."""
        if self.is_list:
            return isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
        # In Python true is a 1; in a limit it is not.
        if not isinstance(value, self.types) or isinstance(value, bool) != (bool in self.types):
            return False
        return not isinstance(value, float) or math.isfinite(value)


def _worded(pattern: str, wanted: str) -> Callable[[str], str]:
    """A parser of texts that match a pattern as they are."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        word = text.strip()
        if compiled.search(word) is None:
            raise units.UnitError(f"{units.quoted(text)} is not {wanted}")
        return word

    return parse


def _mount(text: str) -> str:
    path, _unused, mode = text.strip().rpartition(":")
    steps = path.split("/")[1:]
    if (
        mode not in ("ro", "rw")
        or not path.startswith("/")
        or ".." in steps
        or not path.isprintable()
    ):
        raise units.UnitError(
            f"{units.quoted(text)} is not an absolute path with :ro or :rw, as in /data:ro"
        )
    return f"/{'/'.join(step for step in steps if step not in ('', '.'))}:{mode}"


def _ports(text: str) -> str:
    match = re.fullmatch(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?", text.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise units.UnitError(f"{units.quoted(text)} is not a port or a range such as 8000-8999")
    return f"{first}-{last}" if match and match[2] else str(first)


_VISIBILITY = r"^(own|all)$"
_MODE = r"^(observe|enforce)$"
_NAMESPACE = r"^(network|ipc|pid|uts)$"
_DEVICE = r"^/dev/[A-Za-z0-9_.:/-]+$"
_CAPABILITY = r"^(CAP_)?[A-Z][A-Z_]*$"
_WHOLE = r"(0|[1-9][0-9]{0,18})"

SIZE = Kind(
    "size",
    units.parse_size,
    units.show_size,
    "a size such as 512m or 32g",
    f"^{units.SIZE.pattern}$",
)
RATE = Kind(
    "rate",
    units.parse_rate,
    units.show_rate,
    "bytes per second such as 100M",
    f"^{units.RATE.pattern}$",
)
PERCENT = Kind(
    "percent",
    units.parse_percent,
    lambda v: f"{units.show_number(v)}%",
    "per cent of one CPU such as 400%",
    f"^{units.PERCENT.pattern}$",
    types=(int, float),
)
DURATION = Kind(
    "duration",
    units.parse_duration,
    units.show_duration,
    "a duration such as 48h",
    f"^({units.DURATION_PART.pattern})+$",
)
COUNT = Kind("count", units.parse_count, str, "a whole number", f"^{_WHOLE}$")
NUMBER = Kind(
    "number",
    units.parse_number,
    units.show_number,
    "a number such as 4 or 0.5",
    r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$",
    types=(int, float),
)
BOOL = Kind(
    "bool",
    units.parse_bool,
    lambda v: "true" if v else "false",
    "true or false",
    r"^([tT]rue|[fF]alse|[yY]es|[nN]o|[oO]n|[oO]ff|TRUE|FALSE|YES|NO|ON|OFF)$",
    types=(bool,),
)
VISIBILITY = Kind(
    "visibility", _worded(_VISIBILITY, "own or all"), str, "own or all", _VISIBILITY, types=(str,)
)
MODE = Kind(
    "mode", _worded(_MODE, "observe or enforce"), str, "observe or enforce", _MODE, types=(str,)
)
NAMESPACES = Kind(
    "namespaces",
    _worded(_NAMESPACE, "one of network, ipc, pid, uts"),
    str,
    "a list of network, ipc, pid, uts",
    _NAMESPACE,
    is_list=True,
)
DEVICES = Kind(
    "devices",
    _worded(_DEVICE, "a device node such as /dev/fuse"),
    str,
    "a list of device nodes such as /dev/fuse",
    _DEVICE,
    is_list=True,
)
CAPABILITIES = Kind(
    "capabilities",
    _worded(_CAPABILITY, "a capability such as SYS_PTRACE"),
    str,
    "a list of capabilities such as SYS_PTRACE",
    _CAPABILITY,
    is_list=True,
)
MOUNTS = Kind(
    "mounts",
    _mount,
    str,
    "a list of paths with :ro or :rw",
    r"^/(?!(.*/)?\.\.(/|:(ro|rw)$)).*:(ro|rw)$",
    is_list=True,
)
PORTS = Kind(
    "ports",
    _ports,
    str,
    "a list of ports or ranges",
    r"^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$",
    is_list=True,
)
