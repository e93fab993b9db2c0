# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delivery of the runtime: releases side by side, one link that says which is in force.

::

    /opt/ds01/0.1.0-3f2a…/   lib/ds01, venv, bin/ds01, man, release.json
    /opt/ds01/current        -> 0.1.0-3f2a…   (a symbolic link, replaced by rename(2))
    /opt/ds01/history        the releases that were in force, oldest first
    /opt/ds01/.…             work in progress; whatever is found here is thrown away

A release is made under a hidden name, flushed to disk and renamed: a directory with a
release's name is complete. The link moves last, after the release answered for itself in its
final place. So a run killed anywhere leaves the link on a complete release, and the next run
finishes the work.

This module plans, without touching anything; ``release_files`` looks and applies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import Ds01Error

ROOT = "/opt/ds01"
PYTHON_MINIMUM = (3, 10)
KEEP_DEFAULT = 3

_NAME = re.compile(r"\d+\.\d+\.\d+[0-9A-Za-z.+-]*-[0-9a-f]{12}\Z")
_VERSION = re.compile(r"\d+\.\d+\.\d+[0-9A-Za-z.+-]*\Z")


class ReleaseError(Ds01Error):
    """A release that cannot be made, checked or put in force; the old one stays."""


def release_name(version: str, payload_sha256: str, python: tuple[int, int]) -> str:
    """The directory name of a release: the collection's version and what it is made of.

    The host's Python is part of it: after an upgrade of the distribution the old virtual
    environment is of no use, and the same payload makes another release.

    :param version: the collection's version (semver.org).
    :param payload_sha256: SHA-256 of the uncompressed payload, in hex.
    :param python: major and minor version of the interpreter that will run it.
    :raises ReleaseError: the version cannot be part of a directory name, the Python is too old.
    """
    if not _VERSION.match(version):
        raise ReleaseError(
            f"{version!r} is not a version", "galaxy.yml", "Write it as 1.2.3 (semantic versioning)"
        )
    if python < PYTHON_MINIMUM:
        raise ReleaseError(
            "the runtime needs Python {}.{} or newer, not {}.{}".format(*PYTHON_MINIMUM, *python),
            "runtime_python",
            "Name a newer interpreter of this host",
        )
    made_of = f"{payload_sha256} python{python[0]}.{python[1]}"
    return f"{version}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"


def is_release_name(name: str) -> bool:
    """Whether a directory of that name holds a complete release (hidden ones never do)."""
    return _NAME.match(name) is not None


@dataclass(frozen=True)
class Found:
    """What is on the host.

    :param current: the release that the link names, complete or not; None without a link.
    :param sound: complete releases that are as they were made.
    :param damaged: directories with a release's name whose files differ from what was made.
    :param history: releases that were in force, oldest first.
    :param leftovers: hidden entries that an interrupted run left.
    :param links: for each wanted link, where it leads now (None: no link there).
    """

    current: str | None = None
    sound: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    links: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is to be done, in the order of the fields.

    :param leftovers: hidden entries to throw away.
    :param build: the release to make; None when it is there.
    :param switch_from: what is in force now.
    :param switch_to: the release to put in force; None when it is already.
    :param history: the history as it is to be; None to leave it.
    :param links: links to set (path → target).
    :param remove: releases to remove at the end.
    """

    leftovers: tuple[str, ...]
    build: str | None
    switch_from: str | None
    switch_to: str | None
    history: tuple[str, ...] | None
    links: Mapping[str, str]
    remove: tuple[str, ...]

    @property
    def release(self) -> str | None:
        """The release in force once the plan is carried out."""
        return self.switch_to or self.switch_from

    @property
    def changed(self) -> bool:
        """Whether the plan does anything."""
        return bool(
            self.leftovers
            or self.build
            or self.switch_to
            or self.history is not None
            or self.links
            or self.remove
        )

    def diff(self, found: Found) -> dict[str, Any]:
        """Before and after, as Ansible's ``--diff`` shows them."""
        links_after = {**found.links, **self.links}
        gone = {*self.remove, *self.leftovers}
        before = {*found.sound, *found.damaged, *found.leftovers}
        after = (before - gone) | ({self.build} if self.build else set())
        return {
            "before": {
                "current": found.current,
                "releases": sorted(before),
                "links": dict(found.links),
            },
            "after": {"current": self.release, "releases": sorted(after), "links": links_after},
        }


def plan_install(
    found: Found, name: str, links: Mapping[str, str], keep: int = KEEP_DEFAULT
) -> Plan:
    """Put the release ``name`` in force, making it first where it is missing or damaged.

    :param links: links outside the root that lead into the current release (path → target).
    :param keep: how many releases to keep, the present one included; at least 2, because
        without the one before there is nothing to roll back to.
    :raises ReleaseError: ``keep`` is below 2.
    """
    if keep < 2:
        raise ReleaseError(
            f"keeping {keep} release(s) leaves nothing to roll back to",
            "runtime_keep_releases",
            "Keep 2 or more",
        )
    present = [*found.sound, *found.damaged]
    past = [entry for entry in found.history if entry in present and entry != name]
    if found.current in present and found.current != name:
        # The release to come back to is the one in force now, also after a rollback
        # and where somebody set the link by hand.
        past = [*(entry for entry in past if entry != found.current), str(found.current)]
    in_force = found.current == name and name in found.sound and name in found.history
    # Nothing is switched, so nothing moves: a rolled back release stays where it was.
    kept = [n for n in found.history if n in present] if in_force else [*past, name]
    while len(kept) > keep:
        kept.remove(next(entry for entry in kept if entry != name))
    history = tuple(kept)
    remove = tuple(sorted(entry for entry in present if entry not in kept))
    return Plan(
        leftovers=found.leftovers,
        build=None if name in found.sound else name,
        switch_from=found.current,
        switch_to=None if found.current == name and name in found.sound else name,
        history=None if history == found.history else history,
        links={path: target for path, target in links.items() if found.links.get(path) != target},
        remove=remove,
    )


def plan_rollback(found: Found) -> Plan:
    """Put the release in force that was so before the current one.

    The history is left alone, so that a second rollback goes one further back, and an
    install of a newer payload goes forward again.

    :raises ReleaseError: there is no current release, or none before it that is whole.
    """
    if found.current is None:
        raise ReleaseError("no release is in force", ROOT, "Install one with playbooks/site.yml")
    before: Sequence[str] = found.history
    if found.current in before:
        before = before[: before.index(found.current)]
    usable = [entry for entry in before if entry in found.sound and entry != found.current]
    if not usable:
        raise ReleaseError(
            f"there is no release before {found.current} to roll back to",
            ROOT,
            "Run playbooks/site.yml from the collection version that you want",
        )
    return Plan(
        leftovers=found.leftovers,
        build=None,
        switch_from=found.current,
        switch_to=usable[-1],
        history=None,
        links={},
        remove=(),
    )
