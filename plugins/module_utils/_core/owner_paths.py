# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a path of the host is. Pure; what the file system says comes in.

The owner of a path is the person whose it is, or, where it is root's or has been deleted, the one in
whose home it lies (the engine makes missing directories as root). Links that somebody else laid on the
way make a path say nothing: who may make a link could point it at anybody.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter

from .owner_accounts import Directory, Named
from .owner_words import shown
from .owners import ContainerFacts, PathFacts

LOCAL_FOLDER = "devcontainer.local_folder"
WORKING_DIR = "com.docker.compose.project.working_dir"
PATH_MAX = 4096
"""Bytes of the longest path that the kernel takes (limits.h)."""
MOUNTS_MAX = 100
"""Of a container's mounts so many are looked at."""
LEVELS_MAX = 8
"""A home lies at most so deep."""
_NO_HOMES = frozenset({"", "/", "/nonexistent", "/dev/null"})


@dataclass(frozen=True)
class Place:
    """Whose a path is.

    :param home: it lies in that account's home.
    :param owned: it is the account's own; otherwise root's or deleted, in the account's home.
    """

    path: str
    named: Named
    home: bool
    owned: bool

    @property
    def words(self) -> str:
        """Such as ``is alice's``."""
        name = self.named.words
        return f"is {name}'s" if self.owned else f"lies in {name}'s home"


@dataclass(frozen=True)
class Silent:
    """Why a path says nothing.

    :param unreachable: it could not be looked at, and may say something later.
    :param words: empty where there is nothing worth telling.
    """

    words: str = ""
    unreachable: bool = False


def host_path(text: str) -> str:
    """A path as the engine reads it, which takes ``..`` away without a look at links; empty when the
    text is no absolute path of a Linux host."""
    if not text.startswith("/") or "\0" in text:
        return ""
    try:
        if len(text.encode(errors="surrogateescape")) > PATH_MAX:
            return ""
    except UnicodeEncodeError:
        return ""
    return "/" + posixpath.normpath(text).lstrip("/")


def folder_path(text: str) -> str:
    r"""The same of a path that a client wrote, perhaps on another machine: ``//wsl$/…`` is Windows'."""
    return "" if text.startswith("//") else host_path(text)


def sources_of(facts: ContainerFacts) -> dict[str, bool]:
    """Paths of the host in a container, and whether each is there for reading only.

    Of more than :data:`MOUNTS_MAX` those that it may write are taken first.
    """
    sources: dict[str, bool] = {}
    for mount in facts.mounts:
        path = host_path(mount.source)
        if path:
            sources[path] = sources.get(path, True) and mount.read_only
    writable_first = sorted(sources.items(), key=itemgetter(1, 0))
    return dict(writable_first[:MOUNTS_MAX])


def parents_of(path: str) -> list[str]:
    """The directories above a path that may be homes, the deepest first."""
    names = path.strip("/").split("/")[:-1]
    levels = range(min(len(names), LEVELS_MAX), 0, -1)
    return ["/" + "/".join(names[:level]) for level in levels]


def paths_of(facts: ContainerFacts) -> tuple[str, ...]:
    """What :func:`.owner_decide.decide` wants to know of the file system: absolute, each once."""
    wanted = set(sources_of(facts))
    for key in (LOCAL_FOLDER, WORKING_DIR):
        wanted.add(folder_path(facts.labels.get(key, "")))
    wanted.discard("")
    for path in tuple(wanted):
        wanted.update(parents_of(path))
    return tuple(sorted(wanted))


def place_of(
    path: str, paths: Mapping[str, PathFacts], directory: Directory, *, must_exist: bool
) -> Place | Silent:
    """Whose a path is.

    :param path: as :func:`host_path` gives it.
    :param must_exist: what has been deleted, or never was on this host, says nothing.
    """
    seen = paths.get(path)
    if seen is None or not seen.reachable:
        return Silent(f"{shown(path)} could not be looked at", unreachable=True)
    if seen.uid is None and must_exist:
        return Silent(f"{shown(path)} is not found on this host")
    if any(link not in (0, seen.uid) for link in seen.links):
        return Silent(f"{shown(path)} leads over a link that somebody else may have laid")
    account = directory.person(seen.uid)
    if account is not None:
        named = Named(account.uid, account.name, exists=True)
        return Place(path, named, _in_home(path, account.home), owned=True)
    return _around(path, seen, paths, directory)


def _around(
    path: str, seen: PathFacts, paths: Mapping[str, PathFacts], directory: Directory
) -> Place | Silent:
    """In whose home a path lies that is no person's: the nearest person's on the way up, or nobody's."""
    above = [seen.above]
    for parent in parents_of(path):
        facts = paths.get(parent)
        if facts is not None and not facts.reachable:
            return Silent(f"{shown(parent)} could not be looked at", unreachable=True)
        above.append(None if facts is None else facts.uid)
    for uid in above:
        account = directory.person(uid)
        if account is None:
            continue
        if not _in_home(path, account.home):
            break
        named = Named(account.uid, account.name, exists=True)
        return Place(path, named, home=True, owned=False)
    return Silent()


def _in_home(path: str, home: str) -> bool:
    """Whether a path is a home or lies in it; homes of accounts that have none hold nothing."""
    home = host_path(home)
    return home not in _NO_HOMES and (path == home or path.startswith(f"{home}/"))
