# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a peer to a caller, with no directory look-up while anybody waits for an answer.

A table (:mod:`.people_known`) is kept up in the background and answers in a dictionary's time. Only who
is in none of its sources is asked for, in a thread of his own, and only he waits, two seconds at most:
then he is a stranger under the strictest rules until the directory tells otherwise. What is known is
taken for fresh for a minute and then asked for again while the old answer serves; a directory that
says no, or nothing, takes nobody's name away, since one that is out of reach says no as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ds01 import limits_source
from ds01.core.apply import LIMITS_PATH
from ds01.core.callers import Accounts, Caller, Missing, Refusal, who
from ds01.core.errors import Ds01Error
from ds01.core.gateway_settings import GATEWAY_SETTINGS_PATH, GatewaySettings, read_settings
from ds01.core.limits import Limits, account_key, expiry
from ds01.core.names import ROOT
from ds01.gateway.owned import Owned
from ds01.gateway.people_known import (
    FRESH_SECONDS,
    RECORD_PATH,
    Files,
    Known,
    boot_clock,
    load,
    save,
    wanted_groups,
    wanted_names,
)
from ds01.gateway.slow import Slow, heed
from ds01.host import local_accounts
from ds01.host.local_accounts import Account, Mark
from ds01.host.peer import Peer
from ds01.threads import Hung

NOBODY = -1
WAIT_SECONDS = 2.0
TICK_SECONDS = 1.0
SAVE_SECONDS = 10.0
ABSENT_SECONDS = 60.0
HUNG_SECONDS = 10.0
NAME_SECONDS = 3600.0
_LOOK_UPS = 8
_BATCH = 50
# After so long a look in the background is given up for hung, and another one is begun.
_BATCH_SECONDS = 30.0
_KEPT = 4096
_CONTAINERS = f"/{ROOT}/"
_Found = Caller | Refusal
# Never given as long as who() keeps its word.
_UNTOLD = Refusal("nobody can tell whose it is", "Tell the administrators")


@dataclass(frozen=True)
class Places:
    """Where things are.

    :param record: whom the name service told of; empty: nothing is kept.
    """

    limits: str = LIMITS_PATH
    settings: str = GATEWAY_SETTINGS_PATH
    record: str = RECORD_PATH
    files: Files = field(default_factory=Files)


@dataclass(frozen=True)
class NameService:
    """The calls that may hang."""

    uid: Callable[[int], Account | None] = local_accounts.ask_uid
    name: Callable[[str], Account | None] = local_accounts.ask_name
    group: Callable[[str], int | None] = local_accounts.ask_group


class People:
    """Who is who.

    :param now: local time with its offset, by which overrides end.
    :param on_settings: told of other settings, in the thread of the tables.
    :param owned: whose the containers are.
    """

    def __init__(
        self,
        places: Places = Places(),
        names: NameService = NameService(),
        clock: Callable[[], float] = boot_clock,
        now: Callable[[], datetime] = limits_source.now,
        on_settings: Callable[[GatewaySettings], None] | None = None,
        wait_seconds: float = WAIT_SECONDS,
        owned: Owned | None = None,
    ) -> None:
        self.settings = GatewaySettings()
        self.faults: dict[str, str] = {}
        self._places, self._names, self._clock, self._now = places, names, clock, now
        self._on_settings = on_settings
        self._wait = wait_seconds
        self.owned = owned or Owned("")
        self._limits_file = limits_source.AppliedLimits(places.limits)
        self._limits: Limits | None = None
        self._settings_mark: Mark | None = (0, 0, 0)
        self._lock = threading.RLock()
        self._known = Known(places.files, clock)
        # Both are replaced together, never changed apart: an answer is kept with the table it is of.
        self._table: tuple[Accounts, dict[Any, _Found]] = (Accounts(), {})
        self._made = clock()
        self._saved = -SAVE_SECONDS
        self._next_end: datetime | None = None
        self._threads = Slow("directory", _LOOK_UPS, each=1, seconds=wait_seconds)
        self._background = Slow("directory", 2, each=2)
        self._asking: dict[Missing, Future[None]] = {}
        self._silent: dict[Missing, float] = {}
        self._due: set[int] = set()
        self._names_tried: dict[str, float] = {}
        self._batch: Future[None] | None = None
        self._batch_since = 0.0
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="people", daemon=True)

    def start(self) -> None:
        """Read what the host's own files say, and look after it from now on."""
        with self._lock:
            if self._places.record:
                load(self._known, self._places.record)
            self._known.reread()
            self._reread_settings()
            self._reread_owned()
            self._publish()
        self._keeper.start()

    def stop(self) -> None:
        """End, and write down who was met."""
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join(TICK_SECONDS * 3)
        self._save()

    def caller(self, peer: Peer) -> Caller | Refusal | None:
        """Who a peer is; None: the account has to be asked for, see :meth:`wait_for`."""
        found = self._table[1].get(peer[1:])
        return found if found is not None else self._decide(peer)

    def share_of(self, peer: Peer) -> tuple[int, Refusal | None]:
        """Whose share of the door a connection takes, before anything is asked on it.

        Subordinate ids count to their user, and root in a container takes nothing of root's.

        :returns: a uid, negative for the share of those whose uid is not known yet; and why they
            are refused, if so.
        """
        found = self.caller(peer)
        if isinstance(found, Caller):
            return found.uid, None
        if found is not None:
            return NOBODY, found
        missing = who(peer, self._table[0], self._now())
        return (missing.uid if isinstance(missing, Missing) else NOBODY), None

    async def wait_for(self, peer: Peer) -> Caller | Refusal:
        """Who a peer is, waiting at most two seconds for the directory."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait
        # A name leads to a uid, a uid to its groups; there is nothing more to ask for.
        for _step in range(3):
            found = self._decide(peer)
            if found is not None:
                return found
            missing = who(peer, self._table[0], self._now())
            if not isinstance(missing, Missing):
                return missing
            asked = asyncio.wrap_future(self._begin(missing))
            done, _pending = await asyncio.wait([asked], timeout=max(0.0, end - loop.time()))
            asked.add_done_callback(heed)
            if not done or asked.exception() is not None:
                # Others of this user need not wait for what he has waited for.
                self._is_silent(missing, HUNG_SECONDS)
        answer = who(peer, self._table[0], self._now(), final=True)
        return answer if not isinstance(answer, Missing) else _UNTOLD

    def status(self) -> dict[str, Any]:
        """For the counters: how the tables stand."""
        accounts = self._table[0]
        return {
            "accounts": len(accounts.names),
            "looking_up": len(self._asking),
            "unanswered": len(self._silent),
            "limits_in_force": accounts.limits is not None,
            "faults": dict(self.faults),
        }

    def _decide(self, peer: Peer) -> Caller | Refusal | None:
        accounts, kept = self._table
        found = who(peer, accounts, self._now())
        if isinstance(found, Missing):
            again = self._silent.get(found)
            if again is None:
                return None
            if self._clock() >= again:
                self._is_silent(found, HUNG_SECONDS)
                self._begin(found)
            answer = who(peer, accounts, self._now(), final=True)
            return _UNTOLD if isinstance(answer, Missing) else answer
        if isinstance(found, Caller) and found.uid and not self._known.is_fresh(found.uid):
            self._due.add(found.uid)
        if len(kept) >= _KEPT:
            kept.clear()
        if not peer.cgroup.startswith(_CONTAINERS):
            # Whose a container is may be another answer the next time.
            kept[peer[1:]] = found
        return found

    def _is_silent(self, missing: Missing, seconds: float) -> None:
        """Let nobody wait for an answer for a while."""
        with self._lock:
            if len(self._silent) >= _KEPT:
                self._silent.clear()
            self._silent[missing] = self._clock() + seconds

    def _begin(self, missing: Missing) -> Future[None]:
        """Ask the directory; whoever asks the same meanwhile gets the same answer."""
        with self._lock:
            future = self._asking.get(missing)
            if future is None:
                future = self._threads.begin(missing, lambda: self._ask(missing))
                if not future.done():
                    self._asking[missing] = future
                    future.add_done_callback(lambda _done: self._asked(missing))
        return future

    def _asked(self, missing: Missing) -> None:
        with self._lock:
            self._asking.pop(missing, None)

    def _ask(self, missing: Missing) -> None:
        by_uid = missing.uid >= 0
        account = self._names.uid(missing.uid) if by_uid else self._names.name(missing.name)
        with self._lock:
            if account is None:
                self._is_silent(missing, ABSENT_SECONDS)
                return
            self._silent.pop(missing, None)
            if self._known.meet(account, "" if by_uid else missing.name):
                self._publish()

    def _publish(self) -> None:
        """Make the table anew; the caller has the lock."""
        accounts = self._known.accounts(self._limits, self.settings.admin_group)
        self._table = (replace(accounts, records=self.owned), {})
        self._made = self._clock()

    def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                self._tick()
            except Exception as error:  # the tables of before go on serving
                self.faults["people"] = f"{type(error).__name__}: {error}"
            else:
                self.faults.pop("people", None)
            self._stop.wait(TICK_SECONDS)

    def _tick(self) -> None:
        self._reread_owned()
        with self._lock:
            changed = self._known.reread()
            changed |= self._reread_settings()
            # Now and then all answers are made anew, so that those still asked for are asked about.
            changed |= self._clock() - self._made >= FRESH_SECONDS
            changed |= self._next_end is not None and self._now() > self._next_end
            if changed:
                self._publish()
                self._next_end = self._end_of_override()
        self._look_up()
        if self._known.dirty and self._clock() - self._saved >= SAVE_SECONDS:
            self._save()

    def _reread_owned(self) -> None:
        try:
            self.owned.reread()
        except Ds01Error as error:
            self.faults["owners"] = str(error)
        else:
            self.faults.pop("owners", None)

    def _reread_settings(self) -> bool:
        """Limits and settings; whether they are others than before."""
        mark = local_accounts.mark(self._places.settings)
        changed = mark != self._settings_mark
        if changed:
            self._settings_mark = mark
            try:
                self.settings = read_settings(self._places.settings)
            except Ds01Error as error:
                self.faults["settings"] = str(error)
            else:
                self.faults.pop("settings", None)
                if self._on_settings is not None:
                    self._on_settings(self.settings)
        try:
            limits = self._limits_file.limits()
        except Ds01Error as error:
            self.faults["limits"] = f"{error}: until then everybody is under the strictest rules"
            limits = None
        else:
            self.faults.pop("limits", None)
        if limits is not self._limits:
            self._limits = limits
            self._next_end = self._end_of_override()
            changed = True
        return changed

    def _end_of_override(self) -> datetime | None:
        if self._limits is None:
            return None
        now = self._now()
        overrides = self._limits.overrides.values()
        ends = [expiry(override.expires, now) for override in overrides if override.expires]
        return min((end for end in ends if end >= now), default=None)

    def _look_up(self) -> None:
        """Have the directory asked about what is wanted and what is old, a batch at a time."""
        now = self._clock()
        hangs = self._batch is not None and not self._batch.done()
        if hangs and now - self._batch_since < _BATCH_SECONDS:
            return
        accounts = self._table[0]
        groups = [
            name
            for name in wanted_groups(self._limits, self.settings.admin_group)
            if not self._known.group_is_fresh(name)
        ]
        with self._lock:
            uids = [self._due.pop() for _n in range(min(len(self._due), _BATCH))]
        names = [
            name
            for name in wanted_names(self._limits)
            if account_key(name) not in accounts.uids
            and now - self._names_tried.get(name, -NAME_SECONDS) >= NAME_SECONDS
        ][:_BATCH]
        if not (groups or uids or names):
            return
        self._names_tried.update(dict.fromkeys(names, now))
        self._batch_since = now
        self._batch = self._background.begin("", lambda: self._ask_batch(groups, uids, names))
        if self._batch.done() and isinstance(self._batch.exception(), Hung):
            self.faults["directory"] = "the directory of accounts does not answer"

    def _ask_batch(self, groups: list[str], uids: list[int], names: list[str]) -> None:
        news = False
        for group in groups:
            gid = self._names.group(group)
            with self._lock:
                # No answer of a directory out of reach takes a number away.
                old = self._known.group_ids.get(group, (None, 0.0))[0]
                self._known.group_ids[group] = (old if gid is None else gid, self._clock())
                self._known.dirty = news = True
        for account, spelled in self._answers(uids, names):
            with self._lock:
                news |= self._known.meet(account, spelled)
        self.faults.pop("directory", None)
        if news:
            with self._lock:
                self._publish()

    def _answers(self, uids: list[int], names: list[str]) -> list[tuple[Account, str]]:
        found = [(self._names.uid(uid), "") for uid in uids]
        found += [(self._names.name(name), name) for name in names]
        return [(account, spelled) for account, spelled in found if account is not None]

    def _save(self) -> None:
        if not self._places.record:
            return
        with self._lock:
            self._known.dirty = False
            self._saved = self._clock()
        try:
            save(self._known, self._places.record)
        except OSError as error:
            self.faults["record"] = f"{self._places.record} cannot be written: {error.strerror}"
        else:
            self.faults.pop("record", None)
