# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs about owners, with the book of owners.

People see what is their own, administrators see all. What somebody may not see is answered for as what
does not exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ds01.core.owners import CONTAINER, Record, SetBy
from ds01.daemon import protocol
from ds01.daemon.allowances import Directory
from ds01.daemon.owner_views import candidate, named, short, whole
from ds01.daemon.protocol import Request, RequestError
from ds01.daemon.server import Caller

VERBS = frozenset({"owners", "owner", "owner_set", "owner_unset", "owners_sync"})
ADMIN_VERBS = frozenset({"owner_set", "owner_unset", "owners_sync"})
# They ask the engine, so they must not hold up the others.
SLOW_VERBS = frozenset({"owners_sync"})
GONE_MAX = 2000
EARLIER_MAX = 20
READERS = 2
UID_MAX = 2**32 - 2
"""The highest user id; one more means nobody in setreuid(2)."""


class Book(Protocol):
    """What the desk wants of the book of owners."""

    def records(
        self, kind: str | None = None, gone: bool = False, uid: int | None = None
    ) -> list[Record]:
        """Things, with those that are gone or without; all, or one owner's."""

    def get(self, kind: str, thing_id: str) -> Record | None:
        """One thing by its full id."""

    def find(
        self, ref: str, gone: bool = True, uid: int | None = None, kind: str | None = None
    ) -> list[Record]:
        """Things that a full id, the beginning of one, or a name may mean."""

    def past(
        self, kind: str | None = None, uid: int | None = None, most: int = 1000
    ) -> tuple[list[Record], int]:
        """What is gone, the last first, and how many more there are."""

    def earlier(self, record: Record, most: int) -> list[Record]:
        """What had its name before it and is gone."""

    def set_owner(self, kind: str, thing_id: str, set_by: SetBy) -> bool:
        """Record an administrator's word; whether it is new."""

    def unset_owner(self, kind: str, thing_id: str, by: str) -> bool:
        """Take it back; False when there was none."""


@dataclass(frozen=True)
class Looked:
    """What was looked up for a request.

    :param found: the whole answer of a verb that only reads.
    :param by: the caller's name.
    :param uid: whose a thing shall be, as ``user``, where an administrator says so.
    """

    found: dict[str, Any] | None = None
    by: str = ""
    uid: int = -1
    user: str = ""


class OwnerDesk:
    """The verbs.

    :param sync: compares the book with the engine now; returns what was done.
    :param directory: accounts.
    :param fault: why the records may be behind; empty when they are not.
    :param clock: seconds of the wall clock.
    """

    def __init__(
        self,
        book: Book,
        sync: Callable[[], dict[str, Any]],
        directory: Directory,
        fault: Callable[[], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.book = book
        self._sync = sync
        self._directory = directory
        self._fault = fault
        self._clock = clock
        self._readers = asyncio.Semaphore(READERS)

    # --- before the worker --------------------------------------------------------------------------

    async def prepare(self, request: Request, caller: Caller) -> Looked:
        """Who it is about; of verbs that only read the answer: a long list holds up no lease.

        :raises Ds01Error: the caller may not, somebody is not known, or the store cannot be read.
        """
        verb = request.verb
        if verb in ADMIN_VERBS and not caller.admin:
            what = f"{_COMMANDS[verb]} is for administrators"
            raise RequestError(protocol.NOT_ALLOWED, what, "ds01d", "Ask one of them", "admin")
        if verb in ("owners", "owner"):
            read = self._list if verb == "owners" else self._show
            async with self._readers:
                loop = asyncio.get_running_loop()
                return Looked(await loop.run_in_executor(None, read, request, caller))
        if verb == "owners_sync":
            return Looked()
        by = (await self._directory.account(caller.uid)).name
        if verb == "owner_unset":
            return Looked(by=by)
        uid, user = await self._person(request.fields["user"])
        return Looked(None, by, uid, user)

    async def _person(self, text: str) -> tuple[int, str]:
        """An account by its name, or a uid: digits are a name first, as in chown(1)."""
        try:
            found = await self._directory.account(text)
            return found.uid, found.name
        except RequestError as error:
            if error.code != protocol.NOT_ALLOWED:
                raise
            unknown = error
        if not (text.isascii() and text.isdigit() and int(text) <= UID_MAX):
            remedy = "Name the account as getent passwd does, or give a user id"
            raise RequestError(protocol.NOT_FOUND, unknown.what, "USER", remedy)
        try:
            found = await self._directory.account(int(text))
        except RequestError as error:
            if error.code != protocol.NOT_ALLOWED:
                raise
            return int(text), text  # an account that is gone still owns what it left
        return found.uid, found.name

    # --- in the worker ------------------------------------------------------------------------------

    def answer(self, request: Request, caller: Caller, looked: Looked) -> dict[str, Any]:
        """The answer.

        :raises Ds01Error: it is refused, or the store cannot be used.
        """
        if looked.found is not None:
            return looked.found
        if request.verb == "owners_sync":
            return {"sync": self._sync()}
        if request.verb == "owner_set":
            return self._set(request, caller, looked)
        return self._unset(request, caller, looked)

    @staticmethod
    def visible(record: Record, caller: Caller) -> bool:
        """Whether a caller may know of a thing."""
        return caller.admin or (record.owner.known and record.owner.uid == caller.uid)

    def meant(self, ref: str, caller: Caller, kind: str = "", gone: bool = True) -> list[Record]:
        """What a caller may mean, of what that caller may see."""
        found = self.book.find(ref, gone, None if caller.admin else caller.uid, kind or None)
        return [record for record in found if self.visible(record, caller)]

    def containers(self, ref: str, caller: Caller) -> list[Record]:
        """Containers that a caller may mean; those that are gone only where none is there."""
        found = self.meant(ref, caller, CONTAINER)
        return found if found and found[0].gone is None else found[:1]

    def _list(self, request: Request, caller: Caller) -> dict[str, Any]:
        """What is there in the order in which it was made, then what is gone, the last first."""
        kind = request.get("kind", CONTAINER)
        wanted = (None if kind == "all" else kind, None if caller.admin else caller.uid)
        found, left_out = self.book.records(wanted[0], uid=wanted[1]), 0
        if request.get("gone", False):
            past, left_out = self.book.past(*wanted, GONE_MAX)
            found += past
        user = request.get("user", "")
        shown = [r for r in found if self.visible(r, caller) and (not user or _is_of(r, user))]
        if request.get("unknown", False):
            shown = [r for r in shown if not r.owner.known]
        return {
            "now": self._clock(),
            "admin": caller.admin,
            "fault": self._fault() if caller.admin else "",
            "things": [short(record) for record in shown],
            "left_out": left_out,
        }

    def _show(self, request: Request, caller: Caller) -> dict[str, Any]:
        ref = request.fields["ref"]
        found = self.meant(ref, caller, request.get("kind", ""))
        record = _one(found)
        if record is None:
            return self._candidates(ref, found, caller)
        earlier = self.book.earlier(record, EARLIER_MAX) if record.name else []
        return {
            "now": self._clock(),
            "thing": whole(record),
            "earlier": [short(one) for one in earlier if self.visible(one, caller)],
        }

    def _set(self, request: Request, caller: Caller, looked: Looked) -> dict[str, Any]:
        found, record = self._present(request, caller)
        if record is None:
            return found
        said = SetBy(looked.uid, looked.user, looked.by, self._clock(), request.get("reason", ""))
        changed = self.book.set_owner(record.kind, record.id, said)
        return {"changed": changed, "thing": whole(self._again(record))}

    def _unset(self, request: Request, caller: Caller, looked: Looked) -> dict[str, Any]:
        found, record = self._present(request, caller)
        if record is None:
            return found
        changed = self.book.unset_owner(record.kind, record.id, looked.by)
        # What else is known is weighed anew a moment later, so nothing is said of it yet.
        return {"changed": changed, "thing": named(record)}

    def _present(self, request: Request, caller: Caller) -> tuple[dict[str, Any], Record | None]:
        """The thing that a word is about, or the answer that says which could be meant."""
        ref = request.fields["ref"]
        found = self.meant(ref, caller, request.get("kind", CONTAINER), gone=False)
        if len(found) == 1:
            return {}, found[0]
        return self._candidates(ref, found, caller), None

    def _again(self, record: Record) -> Record:
        """The same after a change."""
        return self.book.get(record.kind, record.id) or record

    @staticmethod
    def _candidates(ref: str, found: Sequence[Record], caller: Caller) -> dict[str, Any]:
        """Which things could be meant.

        :raises RequestError: none could.
        """
        if found:
            return {"candidates": [candidate(record) for record in found]}
        whose = "" if caller.admin else " of yours"
        what = f"nothing{whose} is known by the name or id {ref[:80]!r}"
        remedy = "See ds01 owners list --kind all --all"
        if caller.admin:
            remedy += "; what is newer than the last look: ds01 owners sync"
        raise RequestError(protocol.NOT_FOUND, what, "owners", remedy)


_COMMANDS = {
    "owner_set": "ds01 owners set",
    "owner_unset": "ds01 owners unset",
    "owners_sync": "ds01 owners sync",
}


def _is_of(record: Record, user: str) -> bool:
    """Whether a thing is a user's, who is named by name or uid."""
    owner = record.owner
    return owner.known and (owner.user == user or str(owner.uid) == user)


def _one(found: Sequence[Record]) -> Record | None:
    """The one that is meant; None where it is not clear.

    Of several that are gone and had one name the last is meant: the others are its history.
    """
    if len(found) == 1:
        return found[0]
    if not found or any(r.gone is None or _alike(r) != _alike(found[0]) for r in found):
        return None
    return max(found, key=lambda record: (record.gone, record.created))


def _alike(record: Record) -> tuple[str, str]:
    return record.kind, record.name
