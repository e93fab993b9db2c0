# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners in words and tables. No I/O but the output's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ds01.cli.output import Output
from ds01.words import duration

Cell = str | tuple[str, str]
Thing = Mapping[str, Any]

METHOD_WORDS: Mapping[str, str] = {
    "admin": "an administrator's word",
    "gateway": "made through the door",
    "ds01_label": "label ds01.user",
    "aime_label": "label aime.mlc",
    "container_name": "its name",
    "devcontainer": "dev container's folder",
    "mount_path": "what it mounts",
    "compose_dir": "compose directory",
    "cgroup": "its slice",
    "process": "its processes",
    "with_container": "its container's owner",
    "unknown": "",
}
_STATE_COLOURS = {"running": "green", "dead": "red"}


def named(thing: Thing) -> str:
    """``container train (1234567890ab)``."""
    name, short_id = thing["name"], thing["short_id"]
    if not name or name == short_id:
        return f"{thing['kind']} {short_id}"
    return f"{thing['kind']} {name} ({short_id})"


def candidate_words(thing: Thing) -> str:
    """One of several that could be meant."""
    whose = f"{thing['owner']}'s" if thing["owner"] else "nobody known's"
    gone = ", gone" if thing["gone"] else ""
    return f"could be the {named(thing)}, {whose}{gone}"


# --- list -----------------------------------------------------------------------------------------


def show_list(found: Mapping[str, Any], kind: str, nothing: str, output: Output) -> None:
    """``owners list`` for people."""
    things, now = found["things"], found["now"]
    if found["fault"]:
        output.line(("!", "red"), f" this may not be all, or be of before: {found['fault']}")
    if not things:
        output.line(nothing)
        return
    columns: list[tuple[str, Callable[[Thing], Cell]]] = [
        ("OWNER", _owner),
        ("KIND", lambda thing: thing["kind"]),
        ("NAME" if kind == "all" else kind.upper(), _name),
        ("ID", lambda thing: thing["short_id"] if thing["name"] not in ("", thing["id"]) else ""),
        ("STATE", lambda thing: _state(thing, now)),
        ("INTERFACE", _known("interface")),
        ("TYPE", _known("type")),
        ("GPUS", lambda thing: str(thing["leases"] or "")),
        ("MADE", lambda thing: _ago(thing["created"], now)),
        ("HOW THAT IS KNOWN", _how),
    ]
    rows = [[cell(thing) for _title, cell in columns] for thing in things]
    # What no row has says nothing; the kind is said already where it was asked for.
    kept = [
        number
        for number, (title, _cell) in enumerate(columns)
        if any(_text(row[number]) for row in rows) and (title != "KIND" or kind == "all")
    ]
    output.table(
        [columns[number][0] for number in kept], [[row[number] for number in kept] for row in rows]
    )
    _show_against(things, output)
    if found["left_out"]:
        words = f"{found['left_out']} that were gone earlier are left out: ds01 owners show NAME"
        output.line((words, "dim"))


def _show_against(things: Iterable[Thing], output: Output) -> None:
    for thing in things:
        for words in thing["contradictions"]:
            name = thing["name"] or thing["short_id"]
            output.line(("!", "red"), f" {name}: {words}")


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _owner(thing: Thing) -> Cell:
    if thing["owner"] is None:
        return "unknown", "red"
    return thing["owner"], "" if thing["confidence"] == "certain" else "yellow"


def _name(thing: Thing) -> Cell:
    if thing["kind"] == "exec" and thing["parent"]:
        return f"{thing['short_id'][:12]} in {thing['parent'][:12]}"
    return str(thing["name"] or thing["short_id"])


def _known(key: str) -> Callable[[Thing], Cell]:
    return lambda thing: "" if thing[key] == "unknown" else str(thing[key])


def _state(thing: Thing, now: float) -> Cell:
    if thing["gone"] is not None:
        return f"gone {duration(now - thing['gone'])} ago", "dim"
    return thing["state"], _STATE_COLOURS.get(thing["state"], "")


def _ago(moment: float, now: float) -> str:
    return f"{duration(now - moment)} ago" if moment else ""


def how_words(thing: Thing) -> str:
    """``what it mounts, weak``."""
    words = METHOD_WORDS.get(thing["method"], thing["method"])
    weak = ", weak" if thing["confidence"] == "weak" else ""
    return f"{words}{weak}"


def _how(thing: Thing) -> Cell:
    words = how_words(thing)
    if thing["contradictions"]:
        return f"{words}, contradicted", "red"
    return words, "yellow" if thing["confidence"] == "weak" else ""


# --- show -----------------------------------------------------------------------------------------


def show_one(found: Mapping[str, Any], output: Output) -> None:
    """``owners show`` for people."""
    thing, now = found["thing"], found["now"]
    output.line((named(thing), "bold"))
    for title, lines in _facts(thing, now):
        for number, words in enumerate(lines):
            cell = words if isinstance(words, tuple) else (words, "")
            output.line((f"  {title if not number else '':<11}", "dim"), cell)
    earlier = found["earlier"]
    for number, one in enumerate(earlier):
        words = f"{one['short_id']}, {_whose(one)}: {_span(one, now)}"
        output.line((f"  {'before it' if not number else '':<11}", "dim"), words)


def _facts(thing: Thing, now: float) -> Iterable[tuple[str, Sequence[Cell]]]:
    known = thing["owner"] is not None
    yield "owner", [(thing["summary"], "bold" if known else "red")]
    yield "known by", [how_words(thing)] if known else []
    yield "evidence", _evidence(thing)
    yield "against", [(words, "red") for words in thing["contradictions"]]
    yield "said", _said(thing["set_by"])
    yield "made", _made(thing, now)
    yield "interface", [_with(thing["interface"], thing["interface_words"])]
    yield "type", [_with(thing["type"], thing["type_words"])] if thing["state"] else []
    yield "image", [thing["image"]] if thing["image"] else []
    yield "in", [f"container {thing['parent'][:12]}"] if thing["parent"] else []
    yield "GPU leases", [str(thing["leases"])] if thing["leases"] else []
    yield "state", [_state(thing, now)] if thing["state"] or thing["gone"] is not None else []


def _evidence(thing: Thing) -> list[Cell]:
    lines: list[Cell] = []
    for number, one in enumerate(thing["evidence"]):
        decided = number == 0 and thing["owner"] is not None
        lines.append(f"{number + 1}. {one['words']}{' (this decided)' if decided else ''}")
    return lines


def _said(said: Mapping[str, Any] | None) -> list[Cell]:
    if said is None:
        return []
    why = f": {said['reason']}" if said["reason"] else ""
    return [f"{said['by']} set {said['user']} on {moment(said['at'])}{why}"]


def _made(thing: Thing, now: float) -> list[Cell]:
    made = thing["made"]
    when = f"{moment(thing['created'])} ({_ago(thing['created'], now)})" if thing["created"] else ""
    if made is None:
        return [f"{when}; not through the door, as far as is known"] if when else []
    admin = ", an administrator" if made["admin"] else ""
    client = f" by a client that calls itself {made['agent']}" if made["agent"] else ""
    inside = f", from within container {made['container'][:12]}" if made["container"] else ""
    return [
        f"{when or moment(made['at'])}, through the door, for {made['user']}{admin}{client}{inside}"
    ]


def _with(word: str, reason: str) -> str:
    return f"{word}: {reason}" if reason else word


def _whose(thing: Thing) -> str:
    return f"{thing['owner']}'s" if thing["owner"] else "nobody known's"


def _span(thing: Thing, now: float) -> str:
    made = f"made {_ago(thing['created'], now)}, " if thing["created"] else ""
    return f"{made}gone {_ago(thing['gone'] or now, now)}"


def moment(seconds: float) -> str:
    """A moment for people, in UTC; empty where there is no such one."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""


# --- sync -----------------------------------------------------------------------------------------


def show_sync(found: Mapping[str, Any], output: Output) -> None:
    """``owners sync`` for people."""
    words = "".join(f", {key}: {value}" for key, value in found.items() if isinstance(value, int))
    output.line(("Compared with all that the engine has", "green"), words)
    for kind, fault in found.get("faults", {}).items():
        output.line(("!", "red"), f" {kind}s could not be looked at: {fault}")
