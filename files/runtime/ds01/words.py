# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures in words, for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """For people, two units at most: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def memory(size: int) -> str:
    """Bytes as ``39.5 GiB``."""
    return f"{size / 2**30:.1f} GiB".replace(".0 ", " ")


def eta_words(seconds: float | None) -> str:
    """An estimate that says that it is one."""
    if seconds is None:
        return "no estimate of the time"
    return f"about {duration(seconds)} (an estimate)"
