# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``ds01 gpu`` and ``ds01 why``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ds01.core.leases import ANY, FULL, MIG

_MODULE = "ds01.cli.gpu"
Verb = Callable[[Any, str, str, str, argparse.ArgumentParser], argparse.ArgumentParser]


def add_gpu(nouns: Any, common: argparse.ArgumentParser, verb: Verb) -> None:
    """Add both nouns.

    :param verb: makes the parser of a verb.
    """
    about = "GPUs: who has which, asking for one, giving it back"
    noun = nouns.add_parser("gpu", help=about, description=about, parents=[common])
    noun.set_defaults(noun_parser=noun)
    verbs = noun.add_subparsers(metavar="VERB")
    status = verb(
        verbs,
        "status",
        "show each GPU: its state, who has it, since when and until when at the latest",
        f"{_MODULE}:status",
        common,
    )
    status.add_argument("--user", metavar="NAME", help="only what this user has and waits for")
    _add_request(verbs, common, verb)
    release = verb(
        verbs,
        "release",
        "give a lease back; its container must have stopped",
        f"{_MODULE}:release",
        common,
    )
    release.add_argument(
        "lease",
        nargs="?",
        metavar="LEASE",
        help="lease, container or GPU; may be left out by somebody who has one lease",
    )
    verb(verbs, "queue", "show who waits, in order", f"{_MODULE}:queue", common)
    drain = verb(
        verbs,
        "drain",
        "hand a GPU or MIG device out no more; who has it keeps it (administrators)",
        f"{_MODULE}:drain",
        common,
    )
    drain.add_argument("slot", metavar="SLOT", help="index such as 0 or 0:1, or UUID")
    drain.add_argument("--message", required=True, metavar="TEXT", help="why; everybody sees it")
    undrain = verb(verbs, "undrain", "hand it out again", f"{_MODULE}:undrain", common)
    undrain.add_argument("slot", metavar="SLOT", help="index such as 0 or 0:1, or UUID")
    verb(
        verbs,
        "reconcile",
        "compare leases with the engine's containers and the GPUs' processes now, instead of within "
        "a minute (administrators)",
        f"{_MODULE}:reconcile",
        common,
    )
    why = verb(
        nouns,
        "why",
        "say why a request waits or was refused, why a GPU is not to be had, why a container with a "
        "lease does not start, and whose a container is and why; without a subject, all of yours that "
        "waits or has a lease",
        "ds01.cli.why:run",
        common,
    )
    why.add_argument("subject", nargs="?", metavar="LEASE|SLOT|CONTAINER", help="what to explain")


def _add_request(verbs: Any, common: argparse.ArgumentParser, verb: Verb) -> None:
    parser = verb(
        verbs,
        "request",
        "lease GPUs, or wait in the queue for them; prints how a container gets them",
        f"{_MODULE}:request",
        common,
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many (default: 1)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--full", action="store_const", dest="kind", const=FULL, help="whole GPUs only"
    )
    kind.add_argument(
        "--mig", action="store_const", dest="kind", const=MIG, help="MIG devices only"
    )
    kind.add_argument(
        "--profile", dest="kind", metavar="P", help="MIG devices of one profile, such as 2g.10gb"
    )
    kind.add_argument(
        "--device",
        action="append",
        dest="devices",
        metavar="D",
        default=None,
        help="this GPU or MIG device, by index or UUID; may be given more than once",
    )
    parser.set_defaults(kind=ANY, devices=None)
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument(
        "--wait",
        action="store_true",
        default=True,
        help="wait in the queue when none is free (default); Ctrl-C leaves it",
    )
    wait.add_argument(
        "--no-wait", action="store_false", dest="wait", help="end at once when none is free"
    )
    parser.add_argument(
        "--timeout", metavar="TIME", help="wait no longer than this: 10m, 2h; the limit counts too"
    )
    parser.add_argument("--note", default="", metavar="TEXT", help="what it is for; shown in lists")
    parser.add_argument(
        "--renew",
        default="",
        metavar="LEASE",
        help="give a lease that has ended GPUs again, so that its container can start",
    )
    parser.add_argument("--user", metavar="NAME", help="for this user (administrators)")
