# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is known of a thing to its owner. Pure.

An administrator's word comes first, then the gateway's record, then what speaks for somebody in the
container itself, in the order of :data:`.owners.METHODS`. Nothing is remembered: the same
facts give the same owner, whatever was concluded before, so that no lost or repeated event can lead
anywhere else than a full sync does.

The gateway's record is certain also of what was asked from within a container: whose that is it tells by
its own record of that one (:mod:`.callers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .owner_accounts import Directory, Named, is_name, same_person, same_spelling
from .owner_paths import paths_of
from .owner_strategies import STRATEGIES, Finding, Look
from .owner_words import clean, day, shown
from .owners import (
    ADMIN,
    CERTAIN,
    DS01_LABEL,
    GATEWAY,
    METHODS,
    NONE,
    WITH_CONTAINER,
    AccountsPort,
    ContainerFacts,
    Evidence,
    Made,
    Owner,
    PathFacts,
    SetBy,
)

# What a container itself shows.
SIGNS = tuple(method for method in METHODS if method not in (ADMIN, GATEWAY))

# The engine's builder makes a container of an image's id for each step, under a name that the engine gives.
_STEP_IMAGE = re.compile(r"(sha256:)?[0-9a-f]{12,64}\Z")
_GIVEN_NAME = re.compile(r"[a-z]+_[a-z]+\d*\Z")
STEP = (
    "it looks like a step of a build, in which the file that is built says everything: labels, user and "
    "slice; so none of it counts"
)

__all__ = ["decide", "decide_thing", "keep", "paths_of"]


def decide(
    facts: ContainerFacts,
    made: Made | None,
    set_by: SetBy | None,
    accounts: AccountsPort,
    paths: Mapping[str, PathFacts],
) -> Owner:
    """Whose a container is.

    :param paths: what the file system says of :func:`.owner_paths.paths_of`; a path that is not in it
        counts as one that could not be looked at.
    """
    directory = Directory(accounts)
    if made is None and set_by is None and may_be_step(facts):
        return _conclude([], [(DS01_LABEL, STEP)], set())
    look = Look(facts, directory, paths)
    for strategy in STRATEGIES:
        strategy(look)
    found = _certain(made, set_by, directory) + look.found
    return _conclude(found, look.notes, look.unseen)


def may_be_step(facts: ContainerFacts) -> bool:
    """Whether the engine may have made a container itself, for a step of a build.

    No request for it came through the door, and all that it shows is in the Dockerfile.
    """
    own = (facts.mounts, facts.volumes, facts.tty, facts.stdin, facts.leases)
    named = _STEP_IMAGE.match(facts.image) and _GIVEN_NAME.match(facts.name)
    return bool(named and not any(own) and facts.restart_policy in ("", "no"))


def decide_thing(
    made: Made | None,
    set_by: SetBy | None,
    accounts: AccountsPort,
    container_owner: Owner | None = None,
) -> Owner:
    """Whose an image, a volume, a network or an exec is.

    :param container_owner: owner of the container that the engine made the thing together with.
    """
    directory = Directory(accounts)
    found = _certain(made, set_by, directory)
    if container_owner is not None and container_owner.known:
        uid, user = container_owner.uid, container_owner.user
        named = Named(None, user, exists=False) if uid is None else directory.of_uid(uid, user)
        reason = f"it was made together with {named.words}'s container"
        confidence = container_owner.confidence
        caveat = "" if confidence == CERTAIN else "whose that is, is known no better"
        found.append(Finding(WITH_CONTAINER, named, reason, caveat, confidence))
    return _conclude(found, [], set())


def keep(before: Owner | None, now: Owner) -> Owner:
    """What holds after a new look: the former conclusion, if the new one could not see everything and
    the former was found by no lesser method.

    A former word of an administrator or of the gateway is never kept so: both are always at hand.
    """
    if before is None or not now.incomplete or before.method not in SIGNS:
        return now
    no_less = not now.known or METHODS.index(before.method) <= METHODS.index(now.method)
    return before if no_less else now


def _certain(made: Made | None, set_by: SetBy | None, directory: Directory) -> list[Finding]:
    found = []
    if set_by is not None:
        named = directory.of_uid(set_by.uid, called=set_by.user)
        when = f" on {day(set_by.at)}" if day(set_by.at) else ""
        once = _once(set_by.user, named)
        why = f" ({clean(set_by.reason)})" if set_by.reason else ""
        reason = f"{shown(set_by.by)}, an administrator, said{when} that it is {named.words}'s{once}{why}"
        found.append(Finding(ADMIN, named, reason, confidence=CERTAIN))
    if made is not None:
        named = directory.of_uid(made.uid, called=made.user)
        inside = (
            f", from within the container {shown(made.container[:12])}" if made.container else ""
        )
        mended = ", as was found after the gateway had died meanwhile" if made.mended else ""
        kept = ", as the published files told when the store was lost" if made.restored else ""
        once = _once(made.user, named)
        reason = f"the gateway saw {named.words} make it{once}{inside}{mended}{kept}"
        found.append(Finding(GATEWAY, named, reason, confidence=CERTAIN))
    return found


def _once(called: str, named: Named) -> str:
    """That an account had another name when it was written down: renamed since, or its number reused."""
    if not is_name(called) or called == str(named.uid) or same_spelling(called, named.user):
        return ""
    return f" (then called {shown(called)})"


def _rank(finding: Finding) -> int:
    """The sort of a finding, the best first.

    Who is no person of this host (root, a service, an account that is gone) comes after who is one:
    to name such is how a container would be made nobody's.
    """
    if finding.confidence == CERTAIN:
        return 0
    if finding.quiet:
        return 3
    return 1 if finding.named.person else 2


def _order(finding: Finding) -> tuple[int, int]:
    known = finding.method in METHODS
    return _rank(finding), METHODS.index(finding.method) if known else len(METHODS)


def _conclude(
    found: Iterable[Finding], notes: Iterable[tuple[str, str]], unseen: set[str]
) -> Owner:
    ordered = sorted(found, key=_order)
    silent = tuple(Evidence(method, None, "", NONE, words) for method, words in notes)
    if not ordered:
        return Owner(evidence=silent, incomplete=bool(unseen))
    first = ordered[0]
    against = tuple(
        item.reason
        for item in ordered
        if not item.quiet and not same_person(item.named, first.named)
    )
    # What could not be seen matters only where it could have decided, or decided otherwise.
    missed = any(_order(first) >= (1, METHODS.index(method)) for method in unseen)
    return Owner(
        first.named.uid,
        first.named.user,
        first.method,
        first.confidence,
        tuple(item.evidence for item in ordered) + silent,
        against,
        missed,
    )
