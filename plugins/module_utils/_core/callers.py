# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks something of the engine: the kernel's word on a peer, judged. Pure.

A peer's cgroup is looked at before its user id, since root in a container has uid 0 as well:

========================================================  ============================================
where the peer is                                          who it is
========================================================  ============================================
a service, a login, init                                   its uid
below ``user@<uid>.service``                               that uid, whatever is run there
``docker-<id>.scope`` in a slice of ds01                   whom the container is recorded to be of,
                                                           whatever slice it is and whatever its uid
the same without a record, in a user's slice               the owner of the slice, whatever its uid
anywhere else: builds, other containers, machines          nobody: refused
========================================================  ============================================

What lies below ``user@<uid>.service`` is that user's own making: rootless engines, and scopes that he
may name as he likes (``systemd-run --user --unit=docker-<somebody's container>``), so no name there
says anything. Its user ids are the user's own and his subordinate ones (subuid(5)). Uid 0 there is
refused: what a sudo in such a scope does can be done in a login, and a build that was given a raw path
for its cgroup could stand there as root.

A container never has an administrator's rights, not even one in an administrator's slice. Its slice is
chosen by whoever creates it; so where an administrator has said whose it is, or a gateway has written down
who made it, that counts and not the slice. (What root made counts for whom the slice tells: root chose it.)
A container without such a record, from before or made past the door, is the slice's owner's; one that
somebody asked for from within such a container only if it is in his slice. While
somebody else makes a container in that slice, and its id is not known yet, it is nobody's for a moment:
it could be that one, started by its name. For the same reason the marks that BuildKit leaves in a path
(``buildkit`` as a part, or a part that ends in ``:<id>``) are refused everywhere: it makes cgroups at
any path that a build asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from .caller_place import IN_SLICE, ON_HOST, Place, Refusal, place_of
from .limits import Limits, account_key, group_of, of_user

__all__ = [
    "ENFORCE",
    "OBSERVE",
    "ROOT_NAME",
    "Accounts",
    "Caller",
    "Missing",
    "PeerFacts",
    "Place",
    "Records",
    "Refusal",
    "host_uid",
    "is_admin",
    "local_uid",
    "place_of",
    "subordinate_owner",
    "who",
]

OBSERVE = "observe"
ENFORCE = "enforce"
MODE_KEY = "gateway_mode"
ROOT_NAME = "root"

_NOT_ROOT = "Leave it (exit) and use sudo in an ordinary login, as over ssh"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    :param uid: key of everything that is kept for him.
    :param name: for display and for limits; the uid in digits where no account is known.
    :param group: his group of the limits.
    :param mode: ``observe`` or ``enforce``.
    :param admin: root of the host, or a member of the administrators' Unix group; never in a
        container.
    :param container: id of the container that he asks from; empty on the host.
    :param known: an account is known for the uid.
    """

    uid: int
    name: str
    group: str
    mode: str
    admin: bool = False
    container: str = ""
    known: bool = True


@dataclass(frozen=True)
class Missing:
    """The account that has to be asked for: of a uid, or of a name where ``uid`` is negative."""

    uid: int = -1
    name: str = ""


class PeerFacts(Protocol):
    """What the kernel says of the process at the other end of a socket."""

    @property
    def uid(self) -> int:
        """Its effective user id."""

    @property
    def groups(self) -> frozenset[int]:
        """Its groups."""

    @property
    def cgroup(self) -> str:
        """Its cgroup's path."""


Ranges = tuple[tuple[int, int, int], ...]
"""Subordinate user ids: first, how many, whose (subuid(5))."""


def subordinate_owner(uid: int, ranges: Ranges) -> int:
    """Whose subordinate a user id is; negative when nobody's, or several users'."""
    owners = {owner for first, count, owner in ranges if first <= uid < first + count}
    return owners.pop() if len(owners) == 1 else -1


def host_uid(peer: PeerFacts, place: Place, ranges: Ranges = ()) -> int | Refusal:
    """Whose a peer on the host is. The caller has seen that it is in no container of a slice."""
    if place.manager in (-1, peer.uid):
        if peer.uid == 0 and (place.contained or not place.unit):
            what = "it is root in a group of processes below a service, as containers are"
            return Refusal(what, ON_HOST, "identity.root")
        return peer.uid
    if peer.uid and any(
        owner == place.manager and first <= peer.uid < first + count
        for first, count, owner in ranges
    ):
        return place.manager
    who = "root" if peer.uid == 0 else f"user {peer.uid}"
    what = f"it runs as {who} among the processes of user {place.manager}'s own service manager"
    return Refusal(what, _NOT_ROOT, "identity.manager")


def local_uid(peer: PeerFacts) -> int | Refusal:
    """Whose a peer is, for a service that answers on the host alone (ds01d)."""
    place = place_of(peer.cgroup)
    if isinstance(place, Refusal):
        return place
    if place.owner:
        return Refusal("it runs in a container", ON_HOST, "identity.container")
    return host_uid(peer, place)


def is_admin(peer: PeerFacts, admin_gid: int | None) -> bool:
    """Whether a peer that :func:`local_uid` lets in acts for everybody."""
    place = place_of(peer.cgroup)
    plain = isinstance(place, Place) and not place.contained
    return plain and (peer.uid == 0 or (admin_gid is not None and admin_gid in peer.groups))


class Records(Protocol):
    """Whose containers are for certain."""

    def owner(self, container: str) -> int | None:
        """The uid of a container's owner; None where none but root is recorded."""

    def claimed(self, container: str) -> int | None:
        """The uid of whoever asked for it from a container whose own record is none of these."""

    def doubted(self, slice_name: str, uid: int) -> bool:
        """Whether somebody else than ``uid`` makes a container in that slice just now."""


class NoRecords:
    """Nothing is recorded."""

    def owner(self, container: str) -> int | None:
        """Nobody."""
        return None

    def claimed(self, container: str) -> int | None:
        """Nobody."""
        return None

    def doubted(self, slice_name: str, uid: int) -> bool:
        """Never."""
        return False


@dataclass(frozen=True)
class Accounts:
    """What is known of people, without asking anybody.

    :param names: of uids; one name each.
    :param uids: by :func:`~.limits.account_key` of names, second names too.
    :param member_of: numbers of the groups of a uid, for those who ask from a container.
    :param groups: names of the groups that matter (limits, administrators), by number.
    :param groups_unsure: some of these have no number yet, since the directory has not answered.
    :param admin_group: Unix group of the administrators; empty: root alone.
    :param limits: None where none are in force.
    :param records: of containers; another answer each time.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    uids: Mapping[str, int] = field(default_factory=dict)
    member_of: Mapping[int, frozenset[int]] = field(default_factory=dict)
    groups: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    groups_unsure: bool = False
    subordinates: Ranges = ()
    admin_group: str = ""
    limits: Limits | None = None
    records: Records = field(default_factory=NoRecords)


def who(
    peer: PeerFacts, accounts: Accounts, now: datetime, final: bool = False
) -> Caller | Refusal | Missing:
    """Who asks.

    :param now: local time with its offset, by which overrides end.
    :param final: nobody more can be asked: a uid without an account is a stranger under the strictest
        rules, a container's owner without one is refused.
    """
    place = place_of(peer.cgroup)
    if isinstance(place, Refusal):
        made_by = accounts.records.owner(place.container) if place.container else None
        return place if made_by is None else _in_container(made_by, place, accounts, now, final)
    if place.owner:
        return _owner(place, accounts, now, final)
    uid = host_uid(peer, place, accounts.subordinates)
    if isinstance(uid, Refusal):
        return uid
    if uid == 0:
        return Caller(0, ROOT_NAME, _group(accounts, ROOT_NAME, ()), OBSERVE, admin=True)
    name = accounts.names.get(uid)
    if name is None and place.manager < 0:
        owner = subordinate_owner(uid, accounts.subordinates)
        if owner > 0:
            # Else each user had as many names as subordinate ids, and as many shares of the door.
            uid, name = owner, accounts.names.get(owner)
    if name is None:
        return _stranger(uid, accounts) if final else Missing(uid)
    unix = _names_of(peer.groups, accounts)
    own = peer.uid == uid and not place.contained
    if own and accounts.admin_group and accounts.admin_group in unix:
        group = _group(accounts, name, unix)
        return Caller(uid, name, group, _mode(accounts, name, group, now, OBSERVE), admin=True)
    return _user(uid, name, unix, accounts, now)


def _owner(
    place: Place, accounts: Accounts, now: datetime, final: bool
) -> Caller | Refusal | Missing:
    """The owner of the container that a peer is in, in a user's slice."""
    made_by = accounts.records.owner(place.container)
    if made_by is not None:
        return _in_container(made_by, place, accounts, now, final)
    uid = accounts.uids.get(account_key(place.owner))
    if uid is None:
        if not final:
            return Missing(name=place.owner)
        shown = ascii(place.owner)
        what = f"it runs in a container in the slice of {shown}, and no such account is known"
        return Refusal(what, IN_SLICE, "identity.owner")
    if uid == 0:
        what = "it runs in a container in the slice of root, and no container is root"
        return Refusal(what, IN_SLICE, "identity.owner")
    claimed = accounts.records.claimed(place.container)
    if claimed not in (None, uid):
        what = (
            f"it runs in a container in the slice of {place.owner}, which somebody else asked for"
        )
        return Refusal(what, IN_SLICE, "identity.unsure")
    if accounts.records.doubted(place.slice, uid):
        what = "somebody else makes a container in that slice just now, and it could be this one"
        return Refusal(what, "Try again in a moment", "identity.making")
    return _in_container(uid, place, accounts, now, final)


def _in_container(
    uid: int, place: Place | Refusal, accounts: Accounts, now: datetime, final: bool
) -> Caller | Refusal | Missing:
    """The owner of a container, by his uid."""
    # Limits follow the account that the host names for the uid.
    name = accounts.names.get(uid, place.owner if isinstance(place, Place) else "")
    gids = accounts.member_of.get(uid)
    recorded = accounts.records.owner(place.container) is not None
    if (gids is None or (recorded and uid not in accounts.names)) and not final:
        return Missing(uid)
    if recorded and uid not in accounts.names:
        what = f"it runs in a container of user {uid}, and no such account is known"
        return Refusal(what, ON_HOST, "identity.owner")
    unix = _names_of(gids or frozenset(), accounts)
    return _user(uid, name, unix, accounts, now, place.container, unsure=gids is None)


def _user(
    uid: int,
    name: str,
    unix: tuple[str, ...],
    accounts: Accounts,
    now: datetime,
    container: str = "",
    unsure: bool = False,
) -> Caller:
    group = _group(accounts, name, unix)
    mode = _mode(accounts, name, group, now, ENFORCE)
    limits = accounts.limits
    if (unsure or accounts.groups_unsure) and not (
        limits and account_key(name) in limits.group_by_member
    ):
        mode = ENFORCE
    return Caller(uid, name, group, mode, container=container)


def _stranger(uid: int, accounts: Accounts) -> Caller:
    group = accounts.limits.default_group if accounts.limits else ""
    return Caller(uid, str(uid), group, ENFORCE, known=False)


def _names_of(gids: frozenset[int], accounts: Accounts) -> tuple[str, ...]:
    found = accounts.groups
    return tuple(name for gid in gids if gid in found for name in found[gid])


def _group(accounts: Accounts, name: str, unix: tuple[str, ...]) -> str:
    return group_of(accounts.limits, name, unix)[0] if accounts.limits else ""


def _mode(accounts: Accounts, name: str, group: str, now: datetime, without: str) -> str:
    """:param without: the mode where no limits are in force."""
    if accounts.limits is None:
        return without
    mode = of_user(accounts.limits, name, group, now)[MODE_KEY].value
    return OBSERVE if mode == OBSERVE else ENFORCE
