# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which account a name or a number means. Pure; the accounts come in through their port.

A name means the account of that very name, else the only one that has it in another spelling of its
domain: ``h.baker``, ``h.baker@hertie-school.lan`` and ``HERTIE-SCHOOL\\h.baker`` are one. Where
several could be meant, nobody is. A number that no account has for a name is a user id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .owner_words import listed, shown
from .owners import Account, AccountsPort

FIRST_PERSON = 1000
"""Below are root and the system's own accounts (login.defs(5), UID_MIN)."""
UID_MAX = 2**32 - 2
# nobody, and -1 and -2 in 16 and in 32 bits. Directories number people above 65536.
_NOBODY = frozenset({65534, 65535, 2**32 - 2, 2**32 - 1})
NAME_MAX = 256
"""Longer than any account's name (useradd(8): 256 characters at most)."""
# int() and isdigit() take digits of any script, signs and underscores.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
# What passwd(5) cannot hold.
_NO_NAME = re.compile(r"[:/]")
# Windows keeps 15 characters of a domain's first part for its short name.
_SHORT_DOMAIN = 15


@dataclass(frozen=True)
class Named:
    """Who is meant by a name or number.

    :param uid: None where no account has the name.
    :param user: the account's name; what was named, where there is none.
    :param exists: the host has such an account.
    """

    uid: int | None
    user: str
    exists: bool

    @property
    def person(self) -> bool:
        """Whether it is an account of a person, not root's, a service's or nobody's."""
        return self.exists and self.uid is not None and is_person(self.uid)

    @property
    def words(self) -> str:
        """The name, and whether there is no such account."""
        if self.exists:
            return shown(self.user)
        return f"{shown(self.user)} (no such account, or no longer)"


def is_person(uid: int) -> bool:
    """Whether a user id can be a person's."""
    return FIRST_PERSON <= uid <= UID_MAX and uid not in _NOBODY


def number(text: str) -> int | None:
    """A user id from its decimal digits; None when it is written otherwise or none can be so large."""
    if _NUMBER.fullmatch(text) is None:
        return None
    uid = int(text)
    return uid if uid <= UID_MAX else None


def is_name(text: str) -> bool:
    """Whether a text could be an account's name, so that a directory may be asked for it."""
    return (
        0 < len(text) <= NAME_MAX
        and text == text.strip()
        and text.isprintable()
        and _NO_NAME.search(text) is None
    )


def parts_of(name: str) -> tuple[str, str]:
    """A name's short form and its domain, in small letters where there is one; empty where none is."""
    domain, slash, short = name.partition("\\")
    if not slash:
        short, _at, domain = name.rpartition("@")
        if not _at:
            return name, ""
    if not short or not domain:
        return name, ""
    return short.lower(), domain.lower()


def same_spelling(one: str, other: str) -> bool:
    r"""Whether two names can be one account's in two spellings of its domain.

    ``SCHOOL\x`` is taken for ``x@school.lan``, as Windows shortens domains; without any domain the
    short name must be the very same.
    """
    (short, domain), (short2, domain2) = parts_of(one), parts_of(other)
    if not domain and not domain2:
        return short == short2
    if short.lower() != short2.lower():
        return False
    if not domain or not domain2 or domain == domain2:
        return True
    if ("." in domain) == ("." in domain2):
        return False
    first, first2 = (d.partition(".")[0][:_SHORT_DOMAIN] for d in (domain, domain2))
    return first == first2


def same_person(one: Named, other: Named) -> bool:
    """Whether two findings mean one person: by user id, by name only where there is no id.

    A name without an account may be another spelling of one that its directory does not enumerate.
    """
    if one.uid is not None and other.uid is not None:
        return one.uid == other.uid
    return same_spelling(one.user, other.user)


@dataclass
class Directory:
    """Accounts, each asked for once while one decision is made."""

    accounts: AccountsPort
    _ids: dict[int, Account | None] = field(default_factory=dict)
    _names: dict[str, Named | str] = field(default_factory=dict)

    def account(self, uid: int) -> Account | None:
        """The account of a user id, if there is one."""
        if not 0 <= uid <= UID_MAX:
            return None
        if uid not in self._ids:
            self._ids[uid] = self.accounts.by_uid(uid)
        return self._ids[uid]

    def person(self, uid: int | None) -> Account | None:
        """The account of a user id, if it is a person's."""
        return self.account(uid) if uid is not None and is_person(uid) else None

    def of_uid(self, uid: int, called: str = "") -> Named:
        """Who has a user id.

        :param called: the name that it had once, for where there is no account any more.
        """
        account = self.account(uid)
        if account is None:
            return Named(uid, called if is_name(called) else str(uid), exists=False)
        return Named(account.uid, account.name, exists=True)

    def of_number(self, text: str) -> Named | str:
        """Who has the user id that a text gives in digits; in words why nobody can."""
        uid = number(text)
        return f"{shown(text)}, which is no user id" if uid is None else self.of_uid(uid)

    def of_name(self, text: str) -> Named | str:
        """Who is meant by a name; in words why nobody can be."""
        if not is_name(text):
            return f"{shown(text)}, which is no account's name"
        if text not in self._names:
            self._names[text] = self._look_up(text)
        return self._names[text]

    def _look_up(self, text: str) -> Named | str:
        account = self.accounts.by_name(text)
        if account is not None:
            return Named(account.uid, account.name, exists=True)
        if text.isascii() and text.isdigit():
            return self.of_number(text)
        alike = {a.uid: a for a in self.accounts.like(text) if same_spelling(text, a.name)}
        if len(alike) > 1:
            several = listed(sorted(shown(a.name) for a in alike.values()))
            return f"{shown(text)}, who may be any of {several}"
        for account in alike.values():
            return Named(account.uid, account.name, exists=True)
        return Named(None, text, exists=False)
