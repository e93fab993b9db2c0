# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, rates, durations, percentages and counts with their units: text to number and back.

Sizes follow Docker and systemd (``g``, ``GB`` and ``GiB`` all mean 1024 based); rates follow
systemd.resource-control(5), where ``IOReadBandwidthMax=5M`` is 1000 based. An explicit ``i``
(``MiB``) is 1024 based in both. What could be read in two ways is refused: ``010`` (octal in
YAML 1.1), ``100Mb`` of a rate (bits or bytes), ``5M`` of a duration (months in systemd.time(7)).
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER_TEXT = r"(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,9})?"
_PREFIX = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
# No re.IGNORECASE: by Unicode's rules it reads the long s as "s" and the Kelvin sign as "k".
SIZE = re.compile(rf"({_NUMBER_TEXT})[ \t]*(?:([kKmMgGtTpP])([iI]?))?([bB]?)")
RATE = re.compile(rf"({_NUMBER_TEXT})[ \t]*(?:([kKmMgGtTpP])([iI]?))?(B?)(?:/s)?")
PERCENT = re.compile(r"((?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,2})?)[ \t]*%")
DURATION_PART = re.compile(rf"({_NUMBER_TEXT})[ \t]*(w|d|h|min|m|sec|s)(?![a-zA-Z])[ \t]*")
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "min": 60, "m": 60, "sec": 1, "s": 1}
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?")
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
# Far above any host, far below what systemd and the kernel take (64 bits).
MAX_BYTES = 1024**6
MAX_SECONDS = 100 * 366 * 86400


class UnitError(ValueError):
    """A text is not of its kind. The message says which spelling is wanted."""


def quoted(text: str) -> str:
    """A text for a message: escaped, and not longer than a line."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _scaled(text: str, pattern: re.Pattern[str], base: int, wanted: str) -> int:
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{quoted(text)} is not {wanted}")
    number, prefix, binary, _unused = match.groups()
    exact = Fraction(number) * (1024 if binary else base) ** _PREFIX[(prefix or "").lower()]
    if exact.denominator != 1:
        raise UnitError(f"{quoted(text)} is not a whole number of bytes")
    if exact > MAX_BYTES:
        raise UnitError(f"{quoted(text)} is more than any host has")
    return int(exact)


def parse_size(text: str) -> int:
    """A size in bytes from ``32g``, ``512MiB``, ``1.5G`` or ``1048576`` (1024 based).

    :raises UnitError: the text is no size.
    """
    return _scaled(text, SIZE, 1024, "a size such as 512m, 32g or 1.5T")


def parse_rate(text: str) -> int:
    """Bytes per second from ``100M``, ``5MB/s`` (1000 based) or ``64MiB`` (1024 based).

    :raises UnitError: the text is no rate; ``b`` could mean bits and is refused.
    """
    return _scaled(text, RATE, 1000, "a rate in bytes per second such as 100M, 100MB/s or 64MiB")


def parse_percent(text: str) -> float:
    """Percent of one CPU from ``400%`` (four CPUs), two decimals at most.

    systemd ignores a CPUQuota with three decimals, and with it the limit.

    :raises UnitError: the per cent sign or the number is missing.
    """
    match = PERCENT.fullmatch(text.strip())
    if match is None:
        raise UnitError(
            f"{quoted(text)} is not a percentage of one CPU such as 400% (four CPUs) or 12.5%"
        )
    return float(match.group(1))


def parse_duration(text: str) -> int:
    """Seconds from ``48h``, ``30m``, ``0.5h``, ``1d 12h`` or ``90s``.

    :raises UnitError: the text is no duration; a bare number has no unit and is refused.
    """
    rest, total = text.strip(), Fraction(0)
    if not rest:
        raise UnitError("an empty text is not a duration such as 48h, 30m or 7d")
    position = 0
    while position < len(rest):
        match = DURATION_PART.match(rest, position)
        if match is None:
            raise UnitError(f"{quoted(text)} is not a duration such as 48h, 30m or 7d")
        total += Fraction(match.group(1)) * _SECONDS[match.group(2)]
        position = match.end()
    if total.denominator != 1:
        raise UnitError(f"{quoted(text)} is not a whole number of seconds")
    if total > MAX_SECONDS:
        raise UnitError(f"{quoted(text)} is more than 100 years; write null for never")
    return int(total)


def parse_count(text: str) -> int:
    """A whole number in plain digits.

    :raises UnitError: the text is none.
    """
    if _INTEGER.fullmatch(text.strip()) is None:
        raise UnitError(f"{quoted(text)} is not a whole number in plain digits")
    return int(text)


def parse_number(text: str) -> float:
    """A number, decimals allowed, without a unit.

    :raises UnitError: the text is none.
    """
    if _NUMBER.fullmatch(text.strip()) is None:
        raise UnitError(f"{quoted(text)} is not a number such as 4 or 0.5")
    return float(text)


def parse_bool(text: str) -> bool:
    """``true`` or ``false`` (also yes/no, on/off).

    :raises UnitError: the text is neither.
    """
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UnitError(f"{quoted(text)} is neither true nor false")


def plain_number(value: float) -> str:
    """A number as systemd and JSON read it: no exponent, no needless decimals."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _short(value: int, unit: int, suffix: str) -> str:
    rounded = f"{value / unit:.2f}".rstrip("0").rstrip(".")
    # Two different limits must not look the same in a diff.
    exact = "" if Fraction(rounded) * unit == value else f" ({value} B)"
    return f"{rounded} {suffix}{exact}"


def show_size(value: int) -> str:
    """Bytes for people: ``8 GiB``; where two decimals do not say it all, the bytes too."""
    for power, suffix in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return _short(value, 1024**power, suffix)
    return f"{value} B"


def show_rate(value: int) -> str:
    """Bytes per second for people: ``100 MB/s``."""
    for power, suffix in ((4, "TB/s"), (3, "GB/s"), (2, "MB/s"), (1, "kB/s")):
        if value >= 1000**power:
            return _short(value, 1000**power, suffix)
    return f"{value} B/s"


def show_duration(value: int) -> str:
    """Seconds for people: ``1d 12h``."""
    parts = []
    for name in ("d", "h", "min", "s"):
        count, value = divmod(value, _SECONDS[name])
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts) or "0s"


def show_number(value: float) -> str:
    """A number without a needless decimal point."""
    return plain_number(value)
