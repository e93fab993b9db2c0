# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many lines of the access log each user may fill in a minute.

A client in a loop makes thousands of requests a second, and would fill the disk before logrotate(8) comes
by. Beyond a user's share requests are counted instead, and a line a minute says how many. What only reads
has a share of its own, so that a flood of it cannot hide what changes something.
"""

from __future__ import annotations

from collections.abc import Iterator

READS_EACH_MINUTE = 600
OTHERS_EACH_MINUTE = 3000
MINUTE = 60.0
_USERS_MAX = 4096

Share = tuple[int, str, bool]
"""A uid, the name to show, and whether it is the share for what only reads."""


class LineShares:
    """Counts lines by user. For one thread."""

    def __init__(self) -> None:
        self._taken: dict[Share, tuple[float, int]] = {}
        self._left_out: dict[Share, int] = {}

    def take(self, uid: int, name: str, reads: bool, now: float) -> bool:
        """Whether a line may be written.

        :param now: seconds, monotonic.
        """
        share = (uid, name, reads)
        end, taken = self._taken.get(share, (now + MINUTE, 0))
        if now >= end:
            end, taken = now + MINUTE, 0
        if taken >= (READS_EACH_MINUTE if reads else OTHERS_EACH_MINUTE):
            self._left_out[share] = self._left_out.get(share, 0) + 1
            return False
        if share not in self._taken and len(self._taken) >= _USERS_MAX:
            self._left_out[share] = self._left_out.get(share, 0) + 1
            return False
        self._taken[share] = (end, taken + 1)
        return True

    def ended(self, now: float, all_of_them: bool = False) -> Iterator[tuple[Share, int]]:
        """Shares whose minute is over, with how many lines were left out of each.

        :param all_of_them: also those whose minute goes on: at the end of the program.
        """
        over = [share for share, (end, _taken) in self._taken.items() if now >= end or all_of_them]
        for share in over:
            del self._taken[share]
        for share in [s for s in self._left_out if s not in self._taken]:
            yield share, self._left_out.pop(share)
