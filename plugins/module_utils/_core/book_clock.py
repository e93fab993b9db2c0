# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book's clock: seconds that only go forward, whatever is done to the wall clock.

Within one boot it runs with CLOCK_BOOTTIME (clock_gettime(2)), which nobody can set and which counts
suspended time too. Across a boot it goes on by what the wall clock says has passed, and by nothing
when the wall clock was put back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Moment:
    """The host's clocks at one moment.

    :param boot_id: changes with each boot (random(4)).
    :param boottime: seconds since boot, suspended time included.
    :param wall: seconds since the epoch.
    """

    boot_id: str
    boottime: float
    wall: float


Clock = Callable[[], Moment]


def host_clock() -> Moment:
    """This host's clocks now."""
    with open(BOOT_ID, encoding="ascii") as stream:
        boot_id = stream.read().strip()
    return Moment(boot_id, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


@dataclass(frozen=True)
class Anchor:
    """Where the book's clock stood at the last commit.

    :param book: the book's time then.
    """

    boot_id: str
    boottime: float
    wall: float
    book: float

    def as_text(self) -> str:
        """For the store."""
        return json.dumps(asdict(self))


def anchor_from(text: str) -> Anchor:
    """The inverse of :meth:`Anchor.as_text`.

    :raises ValueError, TypeError: the text is no anchor.
    """
    return Anchor(**json.loads(text))


def tick(anchor: Anchor | None, moment: Moment) -> Anchor:
    """The book's clock now.

    :param anchor: where it stood; None for a new book, which starts at the wall clock's time.
    """
    if anchor is None:
        return Anchor(moment.boot_id, moment.boottime, moment.wall, moment.wall)
    if anchor.boot_id == moment.boot_id:
        passed = moment.boottime - anchor.boottime
    else:
        passed = moment.wall - anchor.wall
    return Anchor(moment.boot_id, moment.boottime, moment.wall, anchor.book + max(0.0, passed))
