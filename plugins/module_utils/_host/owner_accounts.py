# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts with their homes: the host's own file first, then the name service, which may hang.

Source: passwd(5), getpwnam(3). A directory need not enumerate, so that accounts in another spelling are
looked for among those that the host has heard of: its own, those asked for before, and logins.
"""

from __future__ import annotations

import pwd
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from . import local_accounts

SECONDS = 2.0
FRESH_SECONDS = 600.0
ABSENT_SECONDS = 60.0
SILENT_SECONDS = 10.0
STALE_SECONDS = 24 * 3600.0
"""A directory that is out of reach often says no: so long it takes nobody's name away."""
_THREADS = 8
_KEPT = 20000


class HomeAccount(NamedTuple):
    """An account; fields as in the domain's ``Account``."""

    uid: int
    name: str
    home: str


Key = tuple[str, "int | str"]


def ask(key: Key) -> HomeAccount | None:
    """The account of a uid or name by the name service; None when there is none. It may hang."""
    kind, value = key
    try:
        found = pwd.getpwuid(int(value)) if kind == "uid" else pwd.getpwnam(str(value))
    except (KeyError, ValueError, OverflowError):
        return None
    return HomeAccount(found.pw_uid, found.pw_name, found.pw_dir)


class OwnerAccounts:
    """The host's accounts, as ownership asks for them.

    An answer is fresh for some minutes, and an older one serves while the directory is silent.

    :param passwd: the host's own file.
    :param logins: where logind writes who has logged in.
    :param question: asks the name service (for tests).
    :param seconds: how long an answer is waited for.
    """

    def __init__(
        self,
        passwd: str = local_accounts.PASSWD_PATH,
        logins: str = local_accounts.LOGINS_PATH,
        question: Callable[[Key], HomeAccount | None] = ask,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._passwd, self._logins = passwd, logins
        self._question = question
        self._seconds = seconds
        self._clock = clock
        self._mark: local_accounts.Mark | None = None
        self._ids: dict[int, HomeAccount] = {}
        self._names: dict[str, HomeAccount] = {}
        self._asked: dict[Key, tuple[float, HomeAccount | None]] = {}
        self._changed = threading.Condition()
        self._met: dict[Key, tuple[float, HomeAccount]] = {}
        self._begun: set[Key] = set()
        self._silent_until = -1.0
        self._unsure = False

    def by_uid(self, uid: int) -> HomeAccount | None:
        """The account of a uid; None when there is none, or nobody can tell."""
        self._reread()
        return self._ids.get(uid) or self._from_directory(("uid", uid))

    def by_name(self, name: str) -> HomeAccount | None:
        """The account of a name; None when there is none, or nobody can tell."""
        self._reread()
        return self._names.get(name) or self._from_directory(("name", name))

    def like(self, name: str) -> tuple[HomeAccount, ...]:
        """Known accounts that have the same name before or behind a domain."""
        self._reread()
        short = _short(name)
        with self._changed:
            met = [found for _at, found in self._asked.values() if found is not None]
        known = {found.uid: found for found in [*self._logged_in(), *met, *self._ids.values()]}
        return tuple(found for _uid, found in sorted(known.items()) if _short(found.name) == short)

    def unsure(self) -> bool:
        """Whether anything that was asked since the last call got no answer."""
        found, self._unsure = self._unsure, False
        return found

    def _logged_in(self) -> list[HomeAccount]:
        try:
            found = local_accounts.logins(self._logins)
        except OSError:
            return []
        return [HomeAccount(uid, name, "") for uid, name in found.items()]

    def _reread(self) -> None:
        mark = local_accounts.mark(self._passwd)
        if mark == self._mark and self._ids:
            return
        try:
            rows = local_accounts.people(self._passwd)
        except OSError:
            return
        ids: dict[int, HomeAccount] = {}
        names: dict[str, HomeAccount] = {}
        for uid, name, home in rows:
            ids.setdefault(uid, HomeAccount(uid, name, home))
            names.setdefault(name, HomeAccount(uid, name, home))
        # Of two accounts with one uid it is the first that counts, under either name.
        self._names = {name: ids[found.uid] for name, found in names.items()}
        self._ids, self._mark = ids, mark

    def _from_directory(self, key: Key) -> HomeAccount | None:
        now = self._clock()
        with self._changed:
            known = self._asked.get(key)
            if known is not None:
                age = FRESH_SECONDS if known[1] is not None else ABSENT_SECONDS
                if now - known[0] < age:
                    return known[1]
            self._begin(key)
            end = now + self._seconds
            silent = now < self._silent_until
            while key in self._begun and not silent:
                left = end - self._clock()
                if left <= 0 or not self._changed.wait(left):
                    break
            answered = self._asked.get(key)
            if answered is not None and answered is not known:
                return answered[1]
            if not silent:
                self._silent_until = self._clock() + SILENT_SECONDS
            if known is None or known[1] is None:
                self._unsure = True
            return None if known is None else known[1]

    def _begin(self, key: Key) -> None:
        if key in self._begun or len(self._begun) >= _THREADS:
            return
        self._begun.add(key)
        threading.Thread(target=self._run, args=(key,), name="owner-accounts", daemon=True).start()

    def _run(self, key: Key) -> None:
        found: HomeAccount | None = None
        try:
            found = self._question(key)
        except OSError:
            with self._changed:
                self._begun.discard(key)
                self._changed.notify_all()
            return
        with self._changed:
            if len(self._asked) >= _KEPT:
                self._asked.clear()
                self._met.clear()
            self._begun.discard(key)
            now = self._clock()
            if found is not None:
                self._met[key] = (now, found)
            elif key in self._met and now - self._met[key][0] < STALE_SECONDS:
                found = self._met[key][1]
            self._asked[key] = (now, found)
            self._silent_until = -1.0
            self._changed.notify_all()


def _short(name: str) -> str:
    domain, slash, short = name.partition("\\")
    if not slash:
        short, at, domain = name.rpartition("@")
        short = short if at else name
    return (short or domain or name).lower()
