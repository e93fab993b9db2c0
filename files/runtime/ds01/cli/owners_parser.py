# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``ds01 owners``."""

from __future__ import annotations

import argparse
from typing import Any

from ds01.cli.gpu_parser import Verb
from ds01.core.owners import CONTAINER, KINDS

_MODULE = "ds01.cli.owners"
_REF = "name, id, or the beginning of an id"


def add_owners(nouns: Any, common: argparse.ArgumentParser, verb: Verb) -> None:
    """Add the noun.

    :param verb: makes the parser of a verb.
    """
    about = "containers, images, volumes and networks: whose each is, and how that is known"
    noun = nouns.add_parser("owners", help=about, description=about, parents=[common])
    noun.set_defaults(noun_parser=noun)
    verbs = noun.add_subparsers(metavar="VERB")
    _add_list(verbs, common, verb)
    show = verb(
        verbs,
        "show",
        "show whose a thing is, with everything that speaks for somebody, and who made it when",
        f"{_MODULE}:show",
        common,
    )
    show.add_argument("ref", metavar="REF", help=_REF)
    _kind(show, "only things of this kind", None)
    set_ = verb(
        verbs,
        "set",
        "say whose a container is; it counts more than all other evidence (administrators)",
        f"{_MODULE}:set_owner",
        common,
    )
    set_.add_argument("ref", metavar="CONTAINER", help=_REF)
    set_.add_argument("user", metavar="USER", help="account name, or a user id")
    set_.add_argument("--reason", default="", metavar="TEXT", help="why; kept with the record")
    _kind(set_, "a thing of another kind than a container", CONTAINER)
    unset = verb(
        verbs,
        "unset",
        "take an administrator's word back: what else is known decides again (administrators)",
        f"{_MODULE}:unset_owner",
        common,
    )
    unset.add_argument("ref", metavar="CONTAINER", help=_REF)
    _kind(unset, "a thing of another kind than a container", CONTAINER)
    verb(
        verbs,
        "sync",
        "compare all records with the engine now, instead of within minutes (administrators)",
        f"{_MODULE}:sync",
        common,
    )


def _add_list(verbs: Any, common: argparse.ArgumentParser, verb: Verb) -> None:
    parser = verb(
        verbs,
        "list",
        "list whose each container is and how that is known; administrators see all, everybody else "
        "what is their own",
        f"{_MODULE}:list_owners",
        common,
    )
    parser.add_argument("--user", metavar="NAME", help="only what is this user's (name or user id)")
    parser.add_argument(
        "--kind",
        choices=(*KINDS, "all"),
        default=CONTAINER,
        help="which things (default: container)",
    )
    parser.add_argument("--unknown", action="store_true", help="only what nobody is known for")
    parser.add_argument("--all", action="store_true", dest="gone", help="also what is gone")


def _kind(parser: argparse.ArgumentParser, about: str, default: str | None) -> None:
    parser.add_argument("--kind", choices=KINDS, default=default, help=about)
