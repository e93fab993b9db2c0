# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``ds01``: nouns and verbs, exit codes, and errors in one line.

Each verb lives in a module of its own that is imported when it is called: an interactive command
must not pay for the others.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from ds01.cli.gpu_parser import add_gpu
from ds01.cli.output import EXIT_MEANINGS, Exit, Output, printable
from ds01.cli.owners_parser import add_owners
from ds01.core.errors import Ds01Error, InputError

EVENTS_LOG = "/var/log/ds01/events.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; no exception leaves.

    :param argv: the arguments after the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    output = Output("--json" in arguments)
    try:
        return _run(arguments, output)
    except InputError as error:
        return _fail(output, error, Exit.INPUT)
    except Ds01Error as error:
        return _fail(output, error, getattr(error, "exit_code", Exit.HOST))
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # the last resort: users see a line, not a traceback
        if os.environ.get("DS01_TRACEBACK"):
            raise
        if isinstance(error, OSError) or type(error).__module__.startswith("ds01.host."):
            return _fail(output, Ds01Error(str(error), remedy="Try it as root"), Exit.HOST)
        what = f"ds01 itself has a fault: {type(error).__name__}: {error}"
        remedy = "Please report it, with the traceback that DS01_TRACEBACK=1 shows"
        return _fail(output, Ds01Error(what, remedy=remedy), Exit.BUG)


def _run(arguments: list[str], output: Output) -> int:
    parser = build_parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as ending:  # --help, --version and usage errors have spoken already
        return ending.code if isinstance(ending.code, int) else Exit.USAGE
    if options.version:
        return _version(output)
    if options.handler is None:
        options.noun_parser.print_help(sys.stderr)
        return Exit.USAGE
    module, function = options.handler.split(":")
    status = getattr(importlib.import_module(module), function)(options, output)
    sys.stdout.flush()
    return int(status)


def _fail(output: Output, error: Ds01Error, code: int) -> int:
    problems = [p.as_dict() for p in error.problems] if isinstance(error, InputError) else []
    if output.as_json:
        output.json({"error": error.as_dict(), "problems": problems})
    else:
        for line in str(error).splitlines():
            print(f"ds01: {printable(line)}", file=sys.stderr)
    return int(code)


def _version(output: Output) -> int:
    from ds01.release_info import this_release

    release = this_release()
    if output.as_json:
        output.json({"version": release.version, "release": release.name or None})
    else:
        output.line(f"ds01 {release.version} ({release.name or 'checkout'})")
    return Exit.OK


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    codes = "\n".join(f"  {code.value:>3}  {text}" for code, text in EXIT_MEANINGS.items())
    parser = argparse.ArgumentParser(
        prog="ds01",
        description="Who may use how much of this server, and whether it is so.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document as output"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document as output")
    parser.add_argument("--version", action="store_true", help="show version and release")
    parser.set_defaults(handler=None, noun_parser=parser)
    nouns = parser.add_subparsers(metavar="COMMAND")
    _add_limits(nouns, common)
    add_gpu(nouns, common, _verb)
    add_owners(nouns, common, _verb)
    _add_doctor(nouns, common)
    _add_events(nouns, common)
    # What ds01d.service calls. No command for people: without a help text it is not listed.
    daemon = nouns.add_parser("daemon", description="The helper daemon; systemd starts it.")
    daemon.set_defaults(handler="ds01.daemon.main:run")
    return parser


def _verb(
    nouns: Any, name: str, about: str, handler: str, common: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """A parser that calls ``module:function`` with the options and the output."""
    parser: argparse.ArgumentParser = nouns.add_parser(
        name, help=about, description=about, parents=[common], allow_abbrev=False
    )
    parser.set_defaults(handler=handler)
    return parser


def _add_limits(nouns: Any, common: argparse.ArgumentParser) -> None:
    about = "the limits: who has which, from where; checking and comparing files"
    noun = nouns.add_parser("limits", help=about, description=about, parents=[common])
    noun.set_defaults(noun_parser=noun)
    verbs = noun.add_subparsers(metavar="VERB")
    module = "ds01.cli.limits"
    show = _verb(
        verbs,
        "show",
        "show a user's limits, where each comes from, and what the kernel says now; "
        "without a user root sees the groups, everybody else himself",
        f"{module}:show",
        common,
    )
    show.add_argument(
        "user", nargs="?", metavar="USER", help='account name, or "all" for the groups'
    )
    _limits_file(show)
    check = _verb(verbs, "check", "check a limits file", f"{module}:check", common)
    check.add_argument("file", metavar="FILE", help="limits file (YAML)")
    check.add_argument(
        "--host", action="store_true", help="check also what this host has and can enforce"
    )
    diff = _verb(
        verbs,
        "diff",
        "show what changes from one limits file to another, for whom, and who would be over",
        f"{module}:diff",
        common,
    )
    diff.add_argument("old", metavar="OLD", help="limits file (YAML), or a host's limits.json")
    diff.add_argument("new", metavar="NEW", help="limits file (YAML), or a host's limits.json")
    _verb(
        verbs,
        "apply",
        "make the stored limits so once more; ends overrides that have expired (root)",
        f"{module}:apply",
        common,
    )


def _limits_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", metavar="FILE", default=None, help="read this limits file, not the host's limits"
    )


def _add_doctor(nouns: Any, common: argparse.ArgumentParser) -> None:
    doctor = _verb(
        nouns,
        "doctor",
        "check whether the host still is as it was made; each finding says what to do",
        "ds01.cli.doctor:run",
        common,
    )
    doctor.add_argument(
        "--self", action="store_true", dest="only_self", help="check this installation alone"
    )


def _add_events(nouns: Any, common: argparse.ArgumentParser) -> None:
    events = _verb(nouns, "events", "show the event log", "ds01.cli.events:run", common)
    events.add_argument("--user", metavar="NAME", help="only events about this user")
    events.add_argument(
        "--type",
        action="append",
        dest="types",
        metavar="PREFIX",
        help="only this type and those below it; may be given more than once",
    )
    events.add_argument(
        "--since",
        metavar="WHEN",
        help="only since: 2026-11-21, 2026-11-21T18:00Z, or 2h, 30m, 7d ago",
    )
    events.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="go on with what comes, from now or from --since on, until Ctrl-C",
    )
    events.add_argument("--log", metavar="FILE", default=EVENTS_LOG, help=argparse.SUPPRESS)
