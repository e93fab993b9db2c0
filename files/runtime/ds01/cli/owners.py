# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 owners``: whose things of the engine are, how that is known, and saying so by hand."""

from __future__ import annotations

import argparse
from typing import Any

from ds01.cli import owners_text as text
from ds01.cli.gpu import ask
from ds01.cli.output import Exit, Output
from ds01.core.errors import InputError, Problem

SYNCING = "ds01d is comparing its records with all that the engine has ..."


def list_owners(options: argparse.Namespace, output: Output) -> int:
    """``owners list``."""
    found = ask(
        "owners",
        user=options.user,
        kind=options.kind,
        unknown=options.unknown,
        gone=options.gone,
    )
    if output.as_json:
        output.json(found)
    else:
        text.show_list(found, options.kind, _nothing(options, found["admin"]), output)
    return Exit.OK


def _nothing(options: argparse.Namespace, admin: bool) -> str:
    """What to say of an empty list."""
    what = "things" if options.kind == "all" else f"{options.kind}s"
    if options.unknown:
        return f"Somebody is known for each of the {what} that you may see."
    if options.user:
        return f"No {what} of {options.user}'s are known that you may see."
    return f"No {what} are known." if admin else f"No {what} of yours are known."


def show(options: argparse.Namespace, output: Output) -> int:
    """``owners show``."""
    found = _of_one(ask("owner", ref=options.ref, kind=options.kind), options.ref)
    if output.as_json:
        output.json(found)
    else:
        text.show_one(found, output)
    return Exit.OK


def set_owner(options: argparse.Namespace, output: Output) -> int:
    """``owners set``."""
    found = ask(
        "owner_set",
        ref=options.ref,
        kind=options.kind,
        user=options.user,
        reason=options.reason,
    )
    found = _of_one(found, options.ref)
    if output.as_json:
        output.json(found)
        return Exit.OK
    thing = found["thing"]
    if not found["changed"]:
        output.line(f"{text.named(thing)} was set so already")
    output.line((text.named(thing), "bold"), f": {thing['summary']}")
    return Exit.OK


def unset_owner(options: argparse.Namespace, output: Output) -> int:
    """``owners unset``."""
    found = _of_one(ask("owner_unset", ref=options.ref, kind=options.kind), options.ref)
    thing = found["thing"]
    if output.as_json:
        output.json(found)
    elif found["changed"]:
        output.line(
            (text.named(thing), "bold"), ": the word is taken back; what else is known decides"
        )
        output.line(f"  See what that is: ds01 owners show {thing['short_id']}")
    else:
        output.line(f"{text.named(thing)} was not set by anybody")
    return Exit.OK


def sync(_options: argparse.Namespace, output: Output) -> int:
    """``owners sync``."""
    found = ask("owners_sync", SYNCING)
    if output.as_json:
        output.json(found)
    else:
        text.show_sync(found["sync"], output)
    return Exit.OK


def _of_one(found: dict[str, Any], ref: str) -> dict[str, Any]:
    """The answer about one thing.

    :raises InputError: several could be meant; each is listed.
    """
    candidates = found.get("candidates")
    if not candidates:
        return found
    remedy = "Name one by its id, or with --kind"
    problems = [Problem("error", text.candidate_words(one), ref, remedy) for one in candidates]
    raise InputError(problems)
