# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a uid to what its user may lease: accounts by the name service, limits by the host's record.

A directory service may hang. So accounts are asked for in threads that may be left behind, and kept
for a while; what was known before is taken while the directory does not answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from ds01 import limits_source
from ds01.core.leases import Allowance, allowance
from ds01.core.limits import group_of, of_user
from ds01.daemon.protocol import HOST, NOT_ALLOWED, RequestError
from ds01.host import accounts
from ds01.host.accounts import HostAccount
from ds01.threads import Bounded, Hung

LOOK_UP_SECONDS = 5.0
FRESH_SECONDS = 60.0
STALE_SECONDS = 24 * 3600.0
_LOOK_UPS = 8
_KEPT = 4096


class Directory:
    """Accounts, for the event loop.

    :param by_uid: asks the name service; may hang.
    :param by_name: likewise.
    """

    def __init__(
        self,
        by_uid: Callable[[int], HostAccount | None] = accounts.by_uid,
        by_name: Callable[[str], HostAccount | None] = accounts.find,
        seconds: float = LOOK_UP_SECONDS,
    ) -> None:
        self._by_uid = by_uid
        self._by_name = by_name
        self._seconds = seconds
        self._threads = Bounded("directory", _LOOK_UPS)
        self._kept: dict[int | str, tuple[float, HostAccount]] = {}

    async def account(self, who: int | str) -> HostAccount:
        """The account of a uid or a name.

        :raises RequestError: there is none, or the directory does not answer.
        """
        now = time.monotonic()
        kept = self._kept.get(who)
        if kept and now - kept[0] < FRESH_SECONDS:
            return kept[1]
        try:
            found = await self._ask(who)
        except (Hung, asyncio.TimeoutError) as error:
            if kept and now - kept[0] < STALE_SECONDS:
                return kept[1]
            what = "the directory of accounts does not answer"
            remedy = "Try again later; administrators: getent passwd"
            raise RequestError(HOST, what, str(who), remedy) from error
        if found is None:
            self._kept.pop(who, None)
            what = f"this host knows no user {str(who)[:80]!r}"
            raise RequestError(NOT_ALLOWED, what, "user", "Name the account as getent passwd does")
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[who] = (now, found)
        return found

    async def _ask(self, who: int | str) -> HostAccount | None:
        def look_up() -> HostAccount | None:
            if isinstance(who, int):
                return self._by_uid(who)
            named = self._by_name(who)
            # Limits follow the account that the host names for the uid: a second name of it must
            # not be a way to other limits.
            return (self._by_uid(named.uid) or named) if named else None

        future = asyncio.wrap_future(self._threads.submit(look_up))
        return await asyncio.wait_for(asyncio.shield(future), self._seconds)


class LimitsFile(limits_source.AppliedLimits):
    """The limits in force, and what they let an account lease."""

    def allowance(self, account: HostAccount) -> Allowance:
        """What an account may lease now.

        :raises Ds01Error: as :meth:`limits`.
        """
        limits = self.limits()
        group, _why = group_of(limits, account.name, account.groups)
        now: datetime = limits_source.now()
        return allowance(
            account.uid, account.name, group, of_user(limits, account.name, group, now)
        )
