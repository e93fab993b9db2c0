# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases on disk: looking at them, and carrying out a plan of ``release``.

Each step leaves a state from which the next run can finish (rename(2) and symlink(2) are
atomic; what is renamed was flushed with fsync(2) before).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from .durable import remove, replace_file, replace_link
from .release import Found, Plan, ReleaseError, is_release_name, plan_install, plan_rollback
from .release_build import Payload, Tools, build, self_check

_LOCK_WAIT_SECONDS = 120


def look(root: str, links: Mapping[str, str]) -> Found:
    """What is under ``root`` (and at the paths of ``links``) now.

    :raises ReleaseError: the directory cannot be read.
    """
    try:
        entries = sorted(os.listdir(root))
    except FileNotFoundError:
        entries = []
    except OSError as error:
        raise ReleaseError(f"the releases cannot be read: {error.strerror}", root) from error
    sound: list[str] = []
    damaged: list[str] = []
    for entry in entries:
        if is_release_name(entry) and os.path.isdir(os.path.join(root, entry)):
            (damaged if faults(os.path.join(root, entry)) else sound).append(entry)
    return Found(
        current=_link_target(os.path.join(root, "current")),
        sound=tuple(sound),
        damaged=tuple(damaged),
        history=_read_history(root),
        leftovers=tuple(entry for entry in entries if entry.startswith(".") and entry != ".lock"),
        links={path: _link_target(path) for path in links},
    )


def faults(release: str) -> list[str]:
    """How the files of a release differ from what was made; empty when they do not.

    :param release: the directory of the release.
    """
    try:
        with open(os.path.join(release, "release.json"), encoding="utf-8") as stream:
            made = json.load(stream)["files"].items()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ["release.json is missing or damaged"]
    found = []
    for path, digest in made:
        try:
            with open(os.path.join(release, path), "rb") as stream:
                if hashlib.sha256(stream.read()).hexdigest() != digest:
                    found.append(f"{path} was changed")
        except OSError:
            found.append(f"{path} is missing")
    if not os.access(os.path.join(release, "venv/bin/python3"), os.X_OK):
        found.append("venv/bin/python3 leads to no interpreter")
    return found


def install(
    root: str, name: str, links: Mapping[str, str], keep: int, payload: Payload, tools: Tools
) -> tuple[Found, Plan]:
    """Put the release ``name`` in force; what was found and what was done.

    :param payload: what to make it from where it is missing.
    :raises ReleaseError: a step failed; the release that was in force still is.
    """
    with _change(root):
        found = look(root, links)
        plan = plan_install(found, name, links, keep)
        apply(plan, payload, root, tools, found.sound)
    return found, plan


def roll_back(root: str, tools: Tools) -> tuple[Found, Plan]:
    """Put the release before the current one in force; what was found and what was done.

    :raises ReleaseError: there is none, or it fails its own check.
    """
    with _change(root):
        found = look(root, {})
        plan = plan_rollback(found)
        apply(plan, None, root, tools)
    return found, plan


@contextmanager
def _change(root: str) -> Iterator[None]:
    """Under the lock, with the umask of a public program, errors of the system as ours."""
    old_mask = os.umask(0o022)
    try:
        os.makedirs(root, mode=0o755, exist_ok=True)
        with _locked(root):
            yield
    except OSError as error:
        raise ReleaseError(
            f"the release was not put in force: {error.strerror or error}",
            str(error.filename or root),
            "Look at the file system, then run again",
        ) from error
    finally:
        os.umask(old_mask)


def apply(
    plan: Plan, payload: Payload | None, root: str, tools: Tools, sound: Sequence[str] = ()
) -> None:
    """Carry out a plan; killed anywhere, the next look, plan and apply finish the work.

    :param payload: what to build from; needed when the plan builds.
    :param sound: releases that are as they were made.
    """
    tools.on_step("clean")
    for entry in plan.leftovers:
        remove(os.path.join(root, entry))
    if plan.build is not None:
        if payload is None:
            raise ReleaseError(f"{plan.build} is not there and nothing was given to make it", root)
        build(plan.build, payload, root, tools, sound)
    if plan.switch_to is not None:
        tools.on_step("check")
        self_check(os.path.join(root, plan.switch_to), tools.run)
    if plan.history is not None:
        tools.on_step("history")
        replace_file(os.path.join(root, "history"), "".join(f"{n}\n" for n in plan.history))
    if plan.switch_to is not None:
        tools.on_step("switch")
        replace_link(os.path.join(root, "current"), plan.switch_to, os.path.join(root, ".current"))
    tools.on_step("links")
    for path, target in plan.links.items():
        _set_link(path, target)
    tools.on_step("prune")
    for entry in plan.remove:
        aside = os.path.join(root, f".old-{entry}")
        os.rename(os.path.join(root, entry), aside)
        remove(aside)


@contextmanager
def _locked(root: str) -> Iterator[None]:
    """One run at a time; the lock goes with the process that holds it."""
    descriptor = os.open(os.path.join(root, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ReleaseError(
                        "another run is changing the releases", root, "Wait for it to end"
                    ) from None
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _read_history(root: str) -> tuple[str, ...]:
    try:
        with open(os.path.join(root, "history"), encoding="utf-8") as stream:
            return tuple(line.strip() for line in stream if is_release_name(line.strip()))
    except (OSError, UnicodeDecodeError):
        return ()


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _set_link(path: str, target: str) -> None:
    """A link outside the root; a file of somebody else's in its place is not overwritten."""
    if os.path.lexists(path) and not os.path.islink(path):
        raise ReleaseError(
            "a file that is not ours stands where the link to the runtime goes",
            path,
            "Move it away and run again",
        )
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    work = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.ds01")
    replace_link(path, target, work)
