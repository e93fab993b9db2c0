# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's accounts and files as ownership asks for them, made up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ds01.core.owner_decide import decide
from ds01.core.owner_paths import paths_of
from ds01.core.owners import (
    NONE,
    WEAK,
    Account,
    ContainerFacts,
    Made,
    Mount,
    Owner,
    PathFacts,
    SetBy,
)

ID = "4f" * 32
ROOT = Account(0, "root", "/root")
DAEMON = Account(1, "daemon", "/usr/sbin")
DASHBOARD = Account(998, "ds01-dashboard", "/nonexistent")
ALICE = Account(1001, "alice", "/home/alice")
BOB = Account(1002, "bob", "/home/bob")
CAROL = Account(1003, "carol", "/data/staff/carol")
DANA = Account(1004, "dana", "/home/dana")
BAKER = Account(1722830498, "h.baker@hertie-school.lan", "/home/h.baker@hertie-school.lan")
NOBODY = Account(65534, "nobody", "/nonexistent")
EVERYBODY = (ROOT, DAEMON, DASHBOARD, ALICE, BOB, CAROL, DANA, BAKER, NOBODY)

FILES = {
    "/": 0,
    "/home": 0,
    "/home/alice": 1001,
    "/home/alice/proj": 1001,
    "/home/alice/made-by-engine": 0,
    "/home/alice/of-a-container": 100999,
    "/home/bob": 1002,
    "/home/bob/proj": 1002,
    "/home/bob/dataset": 1002,
    "/home/bob/for-alice": 1001,
    "/home/bob/for-alice/by-root": 0,
    "/home/h.baker@hertie-school.lan": 1722830498,
    "/home/h.baker@hertie-school.lan/thesis": 1722830498,
    "/home/alicex": 0,
    "/home/alicex/of-alice": 1001,
    "/home/alicex/of-alice/root": 0,
    "/home/ghost": 1099,
    "/data": 0,
    "/data/staff": 0,
    "/data/staff/carol": 1003,
    "/data/staff/carol/out": 0,
    "/data/alice": 1001,
    "/data/alice/by-root": 0,
    "/data/bob": 1002,
    "/data/shared": 0,
    "/data/nobodys": 65534,
    "/srv": 0,
    "/srv/of-a-service": 998,
    "/var": 0,
    "/var/run": 0,
    "/var/run/docker.sock": 0,
    "/tmp": 0,
}


@dataclass
class Accounts:
    """Accounts of a host; ``like`` finds those with the same short name, as the adapter does.

    :param hidden: accounts that do not enumerate.
    """

    rows: Sequence[Account] = EVERYBODY
    hidden: Sequence[Account] = ()
    asked: list[object] = field(default_factory=list)

    def by_uid(self, uid: int) -> Account | None:
        self.asked.append(uid)
        return next((one for one in (*self.rows, *self.hidden) if one.uid == uid), None)

    def by_name(self, name: str) -> Account | None:
        self.asked.append(name)
        return next((one for one in (*self.rows, *self.hidden) if one.name == name), None)

    def like(self, name: str) -> tuple[Account, ...]:
        return tuple(one for one in self.rows if _short(one.name) == _short(name))


def _short(name: str) -> str:
    return name.rpartition("\\")[2].partition("@")[0].lower()


def look_at(
    wanted: Iterable[str],
    files: Mapping[str, int] | None = None,
    links: Mapping[str, tuple[int, ...]] | None = None,
    unreachable: Sequence[str] = (),
) -> dict[str, PathFacts]:
    """What a file system with some files says of paths.

    :param links: owners of links below a path.
    :param unreachable: what is hung, with all below.
    """
    there = FILES if files is None else files
    found = {}
    for path in wanted:
        steps = [path[:n] for n in range(1, len(path)) if path[n] == "/"] + [path]
        above = next((there[step] for step in ["/", *steps][::-1] if step in there), 0)
        laid = tuple(uid for top, ids in (links or {}).items() if top in steps for uid in ids)
        if any(step in unreachable for step in steps):
            found[path] = PathFacts(path, reachable=False)
        else:
            found[path] = PathFacts(path, there.get(path), laid, above)
    return found


def box(**known: Any) -> ContainerFacts:
    """A container; ``mounts`` may be given as texts, ``…:ro`` for reading only."""
    mounts = tuple(
        Mount(text.removesuffix(":ro"), text.endswith(":ro")) if isinstance(text, str) else text
        for text in known.pop("mounts", ())
    )
    name = known.pop("name", "box")
    return ContainerFacts(ID, name, mounts=mounts, **known)


def owner_of(
    facts: ContainerFacts,
    made: Made | None = None,
    set_by: SetBy | None = None,
    accounts: Accounts | None = None,
    **files: Any,
) -> Owner:
    """The owner of a container on the made-up host."""
    paths = look_at(paths_of(facts), **files)
    return decide(facts, made, set_by, accounts or Accounts(), paths)


def made_by(account: Account, **known: Any) -> Made:
    """The gateway's record."""
    return Made(account.uid, account.name, 1_760_000_000.0, **known)


def set_to(account: Account, reason: str = "") -> SetBy:
    """An administrator's word, of dana."""
    return SetBy(account.uid, account.name, "dana", 1_760_000_000.0, reason)


def found(owner: Owner) -> tuple[str, int | None, str, str]:
    """Method, user id, name and words of a weak owner, which its first evidence has to tell too."""
    assert owner.confidence == WEAK
    first = owner.evidence[0]
    assert (first.method, first.uid, first.user, first.confidence) == (
        owner.method,
        owner.uid,
        owner.user,
        owner.confidence,
    )
    return owner.method, owner.uid, owner.user, first.words


def silent(owner: Owner, *notes: str) -> None:
    """Nobody is known, and these notes are all that is said."""
    assert not owner.known
    assert (owner.uid, owner.user, owner.confidence) == (None, "", NONE)
    assert owner.contradictions == ()
    assert [item.words for item in owner.evidence] == list(notes)
    assert {item.confidence for item in owner.evidence} <= {NONE}


def brief(owner: Owner) -> tuple[str, str, str]:
    """Who, by which method, how sure."""
    return owner.user, owner.method, owner.confidence
