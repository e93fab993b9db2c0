# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs, leases and the queue in words and tables. No I/O but the output's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ds01.cli.output import Output
from ds01.words import duration, eta_words, memory

Cell = str | tuple[str, str]
_COLOURS = {
    "free": "green",
    "reserved": "yellow",
    "held": "yellow",
    "drained": "red",
    "foreign": "red",
    "undescribed": "red",
    "lost": "red",
    "gone": "red",
    "stale": "red",
}
_STATE_WORDS = {
    "bound": "in use",
    "foreign": "busy, no lease",
    "undescribed": "no CDI device",
}
_DRIVER_WORDS = {
    "ready": "ready",
    "driver_absent": "no GPU driver on this host",
    "driver_restarting": "the driver does not answer",
}


def slots_of(lease: Mapping[str, Any]) -> str:
    """``GPU 0:1 (2g.10gb), 0:2 (2g.10gb)``."""
    names = [f"{s['slot']} ({s['profile'] or 'whole GPU'})" for s in lease["slots"]]
    return f"GPU {', '.join(names)}" if names else "no GPU"


def show_status(found: Mapping[str, Any], output: Output) -> None:
    """``gpu status`` for people."""
    driver = found["driver"]
    ready = driver["state"] == "ready"
    words = _DRIVER_WORDS.get(driver["state"], driver["state"])
    if not ready:
        reason = f" ({driver['reason']})" if driver["reason"] else ""
        output.line(("!", "red"), f" {words}{reason}: nothing is handed out")
    now = found["now"]
    if found["slots"]:
        output.table(
            ("GPU", "PROFILE", "MEMORY", "STATE", "WHO", "CONTAINER", "SINCE", "UNTIL"),
            (_slot_row(slot, now) for slot in found["slots"]),
        )
    elif ready:
        output.line("This host has no GPU that could be leased.")
    for slot in found["slots"]:
        if slot["text"]:
            output.line((f"{slot['slot']}: {slot['text']}", "dim"))
    if found["users"]:
        output.line()
        output.table(
            ("USER", "GPU EQUIVALENTS", "MIG DEVICES", "WAITING"), map(_use, found["users"])
        )
    _show_own(found, output)
    if found["queue"]:
        output.line()
        output.line(f"{len(found['queue'])} in the queue: ds01 gpu queue")


def _slot_row(slot: Mapping[str, Any], now: float) -> Sequence[Cell]:
    state = slot["state"]
    return (
        slot["slot"],
        slot["profile"] or "whole GPU",
        memory(slot["memory"]),
        (_STATE_WORDS.get(state, state), _COLOURS.get(state, "")),
        (slot["user"] or "", "bold" if slot["mine"] else ""),
        slot["container"] or "",
        f"{duration(now - slot['since'])} ago" if slot["since"] else "",
        _until(slot, now),
    )


def _until(slot: Mapping[str, Any], now: float) -> str:
    if slot["until"] is None:
        return "no end" if slot["state"] in ("bound", "held") else ""
    return f"in {duration(slot['until'] - now)}"


def _use(user: Mapping[str, Any]) -> Sequence[Cell]:
    return (
        user["user"],
        _of(user["gpu_equivalents"], user["max_gpu_equivalents"]),
        _of(user["mig"], user["max_mig_instances"]),
        str(user["waiting"]) if user["waiting"] else "",
    )


def _of(value: float, most: float | None) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return text if most is None else f"{text} of {most:g}"


def _show_own(found: Mapping[str, Any], output: Output) -> None:
    own = [lease for lease in found["leases"] if lease["mine"]]
    if not own:
        return
    output.line()
    for lease in own:
        end = f", until in {duration(lease['until'] - found['now'])}" if lease["until"] else ""
        output.line(
            ("your lease", "bold"), f" {lease['id']}: {slots_of(lease)}, {lease['state']}{end}"
        )
        if lease["state"] == "reserved":
            output.line(f"  {usage(lease['id'])}")


def usage(lease: str) -> str:
    """How a container gets it."""
    return f"docker run --device ds01.local/lease={lease} IMAGE"


def show_granted(lease: Mapping[str, Any], output: Output) -> None:
    """What a request came to."""
    output.line(("Yours", "green"), f": {slots_of(lease)}")
    if lease["until"] is not None and lease["state"] == "reserved":
        left = duration(lease["until"] - time.time())
        output.line(f"Start a container with it within {left}, or it goes back:")
    elif lease["container"]:
        output.line(f"Its container can start again: docker start {lease['container']}")
        return
    output.line(f"  {usage(lease['id'])}")


def waiting_words(message: Mapping[str, Any]) -> str:
    """One line about a wait."""
    if "waiting" not in message:
        return "ds01d restarts; your place in the queue is kept ..."
    waiting = message["waiting"]
    place = f"waiting: {waiting['position']} of {waiting['of']} in the queue"
    return f"{place}, {eta_words(waiting['eta'])} - {waiting['reason']}"


def show_queue(found: Mapping[str, Any], output: Output) -> None:
    """``gpu queue`` for people."""
    if not found["queue"]:
        output.line("Nobody waits.")
        return
    output.table(
        ("", "WHO", "WANTS", "SINCE", "ESTIMATE", "GIVES UP", "WHY"),
        (_queue_row(row, found["now"]) for row in found["queue"]),
    )
    output.line(("The times are estimates: people stop earlier, or others come.", "dim"))


def _queue_row(row: Mapping[str, Any], now: float) -> Sequence[Cell]:
    eta = "unknown" if row["eta"] is None else f"about {duration(row['eta'])}"
    return (
        str(row["position"]),
        (row["user"], "bold" if row["mine"] else ""),
        wants(row),
        f"{duration(now - row['since'])} ago",
        eta,
        "never" if row["until"] is None else f"in {duration(row['until'] - now)}",
        row["reason"],
    )


def wants(row: Mapping[str, Any]) -> str:
    """``2 x full``, ``0:1``."""
    if row["devices"]:
        return ", ".join(row["devices"])
    return f"{row['count']} x {row['kind']}"


def show_reasons(reasons: Iterable[Mapping[str, Any]], output: Output) -> None:
    """``why`` for people."""
    for reason in reasons:
        output.line((reason["subject"], "bold"), f": {reason['why']}")
        if reason["remedy"]:
            output.line(f"  {reason['remedy']}")
