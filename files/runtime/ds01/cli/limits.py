# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 limits``: show, check, diff, apply."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Iterable
from dataclasses import asdict

from ds01 import limits_source as source
from ds01.cli.output import Exit, Output
from ds01.core.errors import InputError, Problem
from ds01.core.gather import gather
from ds01.core.limits import Limits, of_group
from ds01.host.host import Host
from ds01.limits_diff import compare, pending_keys
from ds01.limits_view import Row, SliceView, UserView, view_user

_GROUP_COLUMNS = (
    "cpu_quota",
    "memory_max",
    "tasks_max",
    "max_gpu_equivalents",
    "max_mig_instances",
)
_LEVEL_COLOURS = {"error": "red", "warning": "yellow", "notice": "dim"}


def show(options: argparse.Namespace, output: Output) -> int:
    """``limits show [USER]``."""
    host = Host()
    if options.file:
        limits, disks = source.from_file(options.file), []
    else:
        limits, io = source.applied()
        disks = source.devices(io, host)
    user = options.user
    if user is None and os.geteuid() != 0:
        # Somebody without root asks about himself; the groups are one word more away.
        user = pwd.getpwuid(os.geteuid()).pw_name
    if user is None or user == "all":
        _show_groups(limits, output)
        return Exit.OK
    view = view_user(limits, user, host, disks, source.now())
    if output.as_json:
        output.json(view.as_dict())
    else:
        _show_user(view, output)
    return Exit.OK


def _show_groups(limits: Limits, output: Output) -> None:
    now = source.now()
    if output.as_json:
        groups = {
            name: {
                "members": group.members,
                "unix_groups": group.unix_groups,
                "limits": {k: asdict(s) for k, s in of_group(limits, name).items()},
                "total": {k: asdict(s) for k, s in group.total.items()},
            }
            for name, group in limits.groups.items()
        }
        overrides = {
            name: {**asdict(override), "expired": override.expired(now)}
            for name, override in limits.overrides.items()
        }
        output.json(
            {
                "source": limits.source,
                "default_group": limits.default_group,
                "groups": groups,
                "overrides": overrides,
            }
        )
        return
    rows = []
    for name, group in limits.groups.items():
        settings = of_group(limits, name)
        default = " (default)" if name == limits.default_group else ""
        who = [*group.members, *(f"@{unix}" for unix in group.unix_groups)]
        values = [settings[column].shown for column in _GROUP_COLUMNS]
        rows.append([name + default, *values, _few(who)])
    output.line(f"Limits of each user, from {limits.source}")
    output.table(("GROUP", *_GROUP_COLUMNS, "MEMBERS"), rows)
    if limits.overrides:
        output.line()
        output.table(
            ("USER", "OVERRIDES", "UNTIL", "REASON"),
            (
                (
                    name,
                    ", ".join(f"{s.key} {s.shown}" for s in override.settings.values()),
                    f"{override.expires or '-'}{' (ended)' if override.expired(now) else ''}",
                    override.reason or "-",
                )
                for name, override in limits.overrides.items()
            ),
        )
    _tell_pending(limits, output)


def _few(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "-"


def _show_user(view: UserView, output: Output) -> None:
    output.line((view.user, "bold"), f"  group {view.group}, by {view.group_reason}")
    for notice in view.notices:
        output.line(("notice", "yellow"), f"  {notice}")
    _show_slice("Containers", view.containers, output)
    if view.login:
        _show_slice("Login shells", view.login, output)


def _show_slice(title: str, view: SliceView, output: Output) -> None:
    use = ", ".join(f"{name} {value}" for name, value in view.use.items())
    output.line()
    output.line((title, "bold"), f"  {view.unit}: {f'uses {use}' if view.active else 'not active'}")
    rows = [row for row in view.rows if row.of_interest]
    output.table(
        ("LIMIT", "VALUE", "KERNEL NOW", "FROM"),
        ((row.key, row.shown, _kernel_cell(row), row.origin) for row in rows),
    )
    unlimited = [row.key for row in view.rows if not row.of_interest]
    if unlimited:
        output.line((f"Without a limit: {', '.join(unlimited)}", "dim"))
    if any(row.agrees is False for row in rows):
        output.line(("!", "red"), " the kernel does not have what was applied: see ds01 doctor")


def _kernel_cell(row: Row) -> str:
    if row.pending:
        return f"not enforced yet ({row.pending})"
    return f"{'! ' if row.agrees is False else ''}{row.kernel}"


def check(options: argparse.Namespace, output: Output) -> int:
    """``limits check FILE``."""
    problems: list[Problem] = []
    limits = None
    try:
        limits = source.from_file(options.file)
        problems += limits.problems
        if options.host:
            _limits, io = source.applied()
            known = set(problems)
            found = gather(limits, io, Host(), source.now())
            problems += [problem for problem in found.problems if problem not in known]
    except InputError as error:
        problems += error.problems
    refused = any(problem.level == "error" for problem in problems)
    if output.as_json:
        pending = pending_keys(limits) if limits else []
        output.json(
            {
                "file": options.file,
                "accepted": not refused,
                "problems": [problem.as_dict() for problem in problems],
                "not_enforced_yet": pending,
            }
        )
    else:
        for problem in problems:
            output.line((problem.level, _LEVEL_COLOURS.get(problem.level, "dim")), f"  {problem}")
        if limits and not refused:
            count = f"{len(limits.groups)} groups, {len(limits.overrides)} overrides"
            output.line((f"{options.file} is accepted", "green"), f": {count}")
            _tell_pending(limits, output)
    return Exit.INPUT if refused else Exit.OK


def _tell_pending(limits: Limits, output: Output) -> None:
    pending = pending_keys(limits)
    if pending:
        output.line(("notice", "dim"), f"  not enforced yet: {', '.join(pending)}")


def diff(options: argparse.Namespace, output: Output) -> int:
    """``limits diff OLD NEW``."""
    old, new = source.from_file(options.old), source.from_file(options.new)
    found = compare(old, new, source.now(), Host())
    if output.as_json:
        output.json(found.as_dict())
        return Exit.FINDINGS if found.changes else Exit.OK
    for who in dict.fromkeys(change.who for change in found.changes):
        output.line((who, "bold"))
        for change in (c for c in found.changes if c.who == who):
            note = "  (not enforced yet)" if change.pending else ""
            output.line(
                f"  {change.key}: ",
                (change.before, "red"),
                " -> ",
                (change.after, "green"),
                f"  {change.origin}{note}",
            )
    if not found.changes:
        output.line("No limit changes.")
    for words in found.over:
        output.line(("over", "yellow"), f"  {words}")
    if not found.use_known:
        output.line(("Present use is not known here: run it on the host.", "dim"))
    return Exit.FINDINGS if found.changes else Exit.OK


def apply(_options: argparse.Namespace, output: Output) -> int:
    """``limits apply``: the stored limits once more; what an expired override gave ends."""
    from ds01.core.enforce import enforce

    limits, io = source.applied()
    host = Host()
    outcome = enforce(gather(limits, io, host, source.now()), io, host, "ds01 limits apply")
    if output.as_json:
        output.json(
            {
                "changed": outcome.changed,
                "written": sorted(outcome.plan.write),
                "removed": sorted(outcome.plan.remove),
                "live": outcome.live_rows(),
                "warnings": list(outcome.warnings),
            }
        )
        return Exit.OK
    _lines(output, "wrote", outcome.plan.write)
    _lines(output, "removed", outcome.plan.remove)
    for row in outcome.live_rows():
        _lines(output, f"set live in {row['unit']}", row["changes"])
    _lines(output, "warning", outcome.warnings)
    if not outcome.changed:
        output.line("Nothing to do: files and kernel are as the limits say.")
    return Exit.OK


def _lines(output: Output, what: str, items: Iterable[str]) -> None:
    for item in items:
        output.line(f"{what}: {item}")
