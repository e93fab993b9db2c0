# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, rates, durations, percentages and counts with their units: text to number and back.

Sizes follow Docker and systemd (``g``, ``GB`` and ``GiB`` all mean 1024 based); rates follow
systemd.resource-control(5), where ``IOReadBandwidthMax=5M`` is 1000 based. An explicit ``i``
(``MiB``) is 1024 based in both.
"""

from __future__ import annotations

import re
from decimal import Decimal

_PREFIX = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)(i?)(b?)", re.IGNORECASE)
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)(i?)(b?)(?:/s|ps)?", re.IGNORECASE)
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(w|d|h|min|m|sec|s)", re.IGNORECASE)
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "min": 60, "m": 60, "sec": 1, "s": 1}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class UnitError(ValueError):
    """A text is not of its kind. The message says which spelling is wanted."""


def _scaled(text: str, pattern: re.Pattern[str], base: int, wanted: str) -> int:
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not {wanted}")
    number, prefix, binary, _ = match.groups()
    exact = Decimal(number) * (1024 if binary else base) ** _PREFIX[prefix.lower()]
    if exact != exact.to_integral_value():
        raise UnitError(f"{text!r} is not a whole number of bytes")
    return int(exact)


def parse_size(text: str) -> int:
    """A size in bytes from ``32g``, ``512MiB``, ``1.5G`` or ``1048576`` (1024 based).

    :raises UnitError: the text is no size.
    """
    return _scaled(text, _SIZE, 1024, "a size such as 512m, 32g or 1.5T")


def parse_rate(text: str) -> int:
    """Bytes per second from ``100M``, ``5MB/s`` (1000 based) or ``64MiB`` (1024 based).

    :raises UnitError: the text is no rate.
    """
    return _scaled(text, _RATE, 1000, "a rate such as 100M (bytes per second) or 64MiB")


def parse_percent(text: str) -> float:
    """Percent of one CPU from ``400%`` (four CPUs).

    :raises UnitError: the per cent sign or the number is missing.
    """
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not a percentage of one CPU such as 400% (four CPUs)")
    return float(match.group(1))


def parse_duration(text: str) -> int:
    """Seconds from ``48h``, ``30m``, ``0.5h``, ``1d 12h`` or ``90s``.

    :raises UnitError: the text is no duration; a bare number has no unit and is refused.
    """
    rest, total = text.strip(), Decimal(0)
    if not rest:
        raise UnitError("an empty text is not a duration such as 48h, 30m or 7d")
    while rest:
        match = _DURATION_PART.match(rest)
        if match is None:
            raise UnitError(f"{text!r} is not a duration such as 48h, 30m or 7d")
        total += Decimal(match.group(1)) * _SECONDS[match.group(2).lower()]
        rest = rest[match.end() :].lstrip()
    if total != total.to_integral_value():
        raise UnitError(f"{text!r} is not a whole number of seconds")
    return int(total)


def parse_count(text: str) -> int:
    """A whole number.

    :raises UnitError: the text is none.
    """
    if _INTEGER.fullmatch(text.strip()) is None:
        raise UnitError(f"{text!r} is not a whole number")
    return int(text)


def parse_number(text: str) -> float:
    """A number, decimals allowed, without a unit.

    :raises UnitError: the text is none.
    """
    if _NUMBER.fullmatch(text.strip()) is None:
        raise UnitError(f"{text!r} is not a number such as 4 or 0.5")
    return float(text)


def parse_bool(text: str) -> bool:
    """``true`` or ``false`` (also yes/no, on/off).

    :raises UnitError: the text is neither.
    """
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UnitError(f"{text!r} is neither true nor false")


def _short(number: float, suffix: str) -> str:
    rounded = f"{number:.2f}".rstrip("0").rstrip(".")
    return f"{rounded} {suffix}"


def show_size(value: int) -> str:
    """Bytes for people: ``8 GiB``; exact multiples stay exact, the rest has two decimals."""
    for power, suffix in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return _short(value / 1024**power, suffix)
    return f"{value} B"


def show_rate(value: int) -> str:
    """Bytes per second for people: ``100 MB/s``."""
    for power, suffix in ((4, "TB/s"), (3, "GB/s"), (2, "MB/s"), (1, "kB/s")):
        if value >= 1000**power:
            return _short(value / 1000**power, suffix)
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
    return f"{value:g}" if value < 1e6 else str(int(value))
