# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What speaks for a container's owner, strategy by strategy. Pure.

Each strategy looks at one thing and names nobody, somebody, or (labels that differ) several. None of
them is more than weak: whoever made the container could have made it say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import names
from .owner_accounts import Directory, Named, same_person
from .owner_paths import (
    LOCAL_FOLDER,
    WORKING_DIR,
    Place,
    Silent,
    folder_path,
    place_of,
    sources_of,
)
from .owner_words import (
    FOLDER_CAVEAT,
    LABEL_CAVEAT,
    MOUNT_CAVEAT,
    NAME_CAVEAT,
    PROCESS_CAVEAT,
    READ_CAVEAT,
    SLICE_CAVEAT,
    listed,
    shown,
)
from .owners import (
    AIME_LABEL,
    CGROUP,
    COMPOSE_DIR,
    CONTAINER_NAME,
    DEVCONTAINER,
    DS01_LABEL,
    MOUNT_PATH,
    PROCESS,
    WEAK,
    ContainerFacts,
    Evidence,
    PathFacts,
)

USER_LABEL = "ds01.user"
UID_LABEL = "ds01.uid"
# Newer versions of AIME's tool write the first two; the last is of the system that ds01 replaces.
AIME_USER_LABELS = ("aime.mlc.USER", "aime.mlc", "aime.mlc.DS01_USER")
AIME_MARK = "._."
UNIT_MAX = 255
"""Characters of a unit's name, which are ASCII (systemd.unit(5))."""
NOTES_MAX = 4
"""Paths that say nothing are told of one by one up to here."""


@dataclass(frozen=True)
class Finding:
    """Somebody whom something speaks for.

    :param reason: what it is, in words that name somebody.
    :param caveat: who could have made it so; empty where only root could have.
    :param quiet: it is often somebody else's without any harm: it decides last, and contradicts nobody.
    """

    method: str
    named: Named
    reason: str
    caveat: str = ""
    confidence: str = WEAK
    quiet: bool = False

    @property
    def evidence(self) -> Evidence:
        """The same as it is kept and shown."""
        words = f"{self.reason}; {self.confidence}: {self.caveat}" if self.caveat else self.reason
        return Evidence(self.method, self.named.uid, self.named.user, self.confidence, words)


@dataclass
class Look:
    """One look at a container: what it is given, and what is found.

    :param notes: what was looked at and says nothing: method and words.
    :param unseen: methods that could not look at all they wanted.
    """

    facts: ContainerFacts
    directory: Directory
    paths: Mapping[str, PathFacts]
    found: list[Finding] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    unseen: set[str] = field(default_factory=set)

    def label(self, key: str) -> str:
        """A label's value; empty where there is none."""
        return self.facts.labels.get(key, "")


def ds01_label(look: Look) -> None:
    """The labels of ds01's own tools, ``ds01.user`` and ``ds01.uid``."""
    user, uid = look.label(USER_LABEL), look.label(UID_LABEL)
    by_name = look.directory.of_name(user) if user else ""
    by_uid = look.directory.of_number(uid) if uid else ""
    for label, named in ((USER_LABEL, by_name), (UID_LABEL, by_uid)):
        if named and isinstance(named, str):
            look.notes.append((DS01_LABEL, f"its label {label} names {named}"))
    one = by_name if isinstance(by_name, Named) else None
    two = by_uid if isinstance(by_uid, Named) else None
    if one and two and one.uid is None and not two.exists:
        # An account that is gone: the labels tell what it was called and what its number was.
        one = two = Named(two.uid, one.user, exists=False)
    if one and two and same_person(one, two):
        named = one if one.exists else two
        reason = f"its labels {USER_LABEL} and {UID_LABEL} name {named.words}"
        look.found.append(Finding(DS01_LABEL, named, reason, LABEL_CAVEAT))
        return
    for label, found in ((USER_LABEL, one), (UID_LABEL, two)):
        if found:
            _label(look, DS01_LABEL, label, found)


def aime_label(look: Look) -> None:
    """The labels of AIME's tool."""
    for label in AIME_USER_LABELS:
        value = look.label(label)
        if not value:
            continue
        named = look.directory.of_name(value)
        if isinstance(named, str):
            look.notes.append((AIME_LABEL, f"its label {label} names {named}"))
        elif not any(f.method == AIME_LABEL and same_person(f.named, named) for f in look.found):
            _label(look, AIME_LABEL, label, named)


def _label(look: Look, method: str, label: str, named: Named) -> None:
    reason = f"its label {label} names {named.words}"
    look.found.append(Finding(method, named, reason, LABEL_CAVEAT))


def container_name(look: Look) -> None:
    """AIME's names, ``NAME._.UID``: always a user id, never a name of digits."""
    _front, mark, back = look.facts.name.rpartition(AIME_MARK)
    if not mark:
        return
    named = look.directory.of_number(back)
    if isinstance(named, str):
        look.notes.append((CONTAINER_NAME, f"its name ends in {named}"))
        return
    who = named.words if named.exists else "nobody (no such account, or no longer)"
    reason = f"its name ends in {AIME_MARK}{back}, the user id of {who}"
    look.found.append(Finding(CONTAINER_NAME, named, reason, NAME_CAVEAT))


def devcontainer(look: Look) -> None:
    """The folder that a dev container was opened in, where it is one of this host."""
    _folder(look, DEVCONTAINER, LOCAL_FOLDER, "the folder of its dev container")


def compose_dir(look: Look) -> None:
    """The directory of a compose project, where it is one of this host."""
    _folder(look, COMPOSE_DIR, WORKING_DIR, "the directory of its compose project")


def _folder(look: Look, method: str, label: str, what: str) -> None:
    text = look.label(label)
    if not text:
        return
    path = folder_path(text)
    if not path:
        look.notes.append((method, f"{shown(text)}, {what}, is no path of this host"))
        return
    place = place_of(path, look.paths, look.directory, must_exist=True)
    if isinstance(place, Silent):
        _silent(look, method, place)
        return
    reason = f"{shown(path)}, {what}, {place.words}"
    look.found.append(Finding(method, place.named, reason, FOLDER_CAVEAT))


def _silent(look: Look, method: str, place: Silent) -> None:
    if place.unreachable:
        look.unseen.add(method)
    told = sum(1 for by, _words in look.notes if by == method)
    if place.words and told < NOTES_MAX:
        look.notes.append((method, place.words if told < NOTES_MAX - 1 else "and so on"))


def mount_path(look: Look) -> None:
    """Paths of the host in the container, by who really owns them.

    What it may write says more than what it may only read, and a home more than a place elsewhere. The
    best sort that there is decides, if it names one person alone.
    """
    sorts: dict[tuple[bool, bool], list[Place]] = {}
    for path, read_only in sources_of(look.facts).items():
        place = place_of(path, look.paths, look.directory, must_exist=False)
        if isinstance(place, Silent):
            _silent(look, MOUNT_PATH, place)
        else:
            sorts.setdefault((read_only, not place.home), []).append(place)
    if not sorts:
        return
    (read_only, _elsewhere), places = min(sorts.items())
    people = {place.named.uid: place.named for place in places}
    if len(people) > 1:
        several = listed(sorted(f"{named.words}'s" for named in people.values()))
        look.notes.append((MOUNT_PATH, f"it mounts what is {several} alike"))
        return
    first = places[0]
    more = f" (and {len(places) - 1} more like it)" if len(places) > 1 else ""
    how = " for reading" if read_only else ""
    reason = f"{shown(first.path)}, which it mounts{how}, {first.words}{more}"
    caveat = READ_CAVEAT if read_only else MOUNT_CAVEAT
    look.found.append(Finding(MOUNT_PATH, first.named, reason, caveat, quiet=read_only))


def cgroup(look: Look) -> None:
    """The user's slice that it runs in, or was to be put into."""
    running = look.facts.cgroup
    unit = _slice_of(running or look.facts.cgroup_parent)
    if len(unit) > UNIT_MAX or not unit.isascii():
        return
    role = names.classify(unit)
    if role.kind != "user" or role.group in names.RESERVED_GROUPS:
        return
    named = look.directory.of_name(role.user)
    if isinstance(named, str):
        look.notes.append((CGROUP, f"its slice names {named}"))
        return
    how = "it runs in" if running else "it was to run in"
    reason = f"{how} {shown(unit)}, the slice of {named.words}"
    look.found.append(Finding(CGROUP, named, reason, SLICE_CAVEAT))


def _slice_of(cgroup_path: str) -> str:
    """The deepest slice of a cgroup's path, in its place of the tree; a slice's bare name is one too."""
    parts = cgroup_path.strip("/").split("/")
    if len(parts) == 1:
        return parts[0] if parts[0].endswith(".slice") else ""
    slices = [part for part in parts if part.endswith(".slice")]
    if not slices or parts[: len(slices)] != names.slice_path(slices[-1]).split("/"):
        return ""
    return slices[-1]


def process(look: Look) -> None:
    """The account that all its processes run as, root's left out."""
    uids = {uid for uid in look.facts.uids if uid != 0}
    account = look.directory.person(min(uids)) if len(uids) == 1 else None
    if account is None:
        return
    named = Named(account.uid, account.name, exists=True)
    reason = f"its processes run with the user id of {named.words}"
    look.found.append(Finding(PROCESS, named, reason, PROCESS_CAVEAT, quiet=True))


STRATEGIES: tuple[Callable[[Look], None], ...] = (
    ds01_label,
    aime_label,
    container_name,
    devcontainer,
    mount_path,
    compose_dir,
    cgroup,
    process,
)
"""Which of them decides is up to the order of :data:`.owners.METHODS`; notes come in this one."""
