# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what ds01 says of containers by what an independent witness has seen of them. Pure.

Nothing of the code under test is used here. The witness is ``witness_on_host.py``; containers say in
their labels whose they have to be found (``lives_on_host.py``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

EVENTS = {
    "create": "container.created",
    "start": "container.started",
    "restart": "container.restarted",
    "pause": "container.paused",
    "unpause": "container.unpaused",
    "kill": "container.killed",
    "stop": "container.stopped",
    "die": "container.died",
    "oom": "container.out_of_memory",
    "rename": "container.renamed",
    "update": "container.updated",
    "destroy": "container.destroyed",
}
"""The engine's word, and ours."""

ONCE = ("container.created", "container.destroyed")
OURS = frozenset(EVENTS.values())
SHORT = 12
EXPECTED_OWNER = "expect.owner"
EXPECTED_METHOD = "expect.method"
DOOR = "gateway"


@dataclass(frozen=True)
class Kill:
    """A service that was ended by SIGKILL; seconds of the wall clock.

    :param ready: when the next one served.
    """

    unit: str
    began: float
    ready: float


@dataclass
class Case:
    """All that is known of a run.

    :param witness: the document of ``witness_on_host.py``.
    :param told: the lines of the event log.
    :param published: ``container-owners.json`` at the end.
    :param view: ``containers.json`` at the end.
    :param gone: ids of containers that the store remembers as gone, with owner and method.
    :param grace: seconds that a message may be under way, and that a service needs to listen again.
    """

    witness: Mapping[str, Any]
    told: Sequence[Mapping[str, Any]]
    published: Mapping[str, Any]
    view: Mapping[str, Any]
    gone: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    kills: Sequence[Kill] = ()
    grace: float = 1.0


@dataclass
class Verdict:
    """What a judge found.

    :param excused: events that died with the engine, of which nobody can know.
    """

    faults: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """For people."""
        counts = ", ".join(f"{name}: {number:,}" for name, number in sorted(self.counts.items()))
        lines = [counts, f"events that died with the engine: {len(self.excused)}"]
        lines += [f"  {text}" for text in self.excused[:20]]
        return "\n".join([*lines, *(f"FAULT: {text}" for text in self.faults)])


def judge(case: Case) -> Verdict:
    """What is wrong."""
    verdict = Verdict()
    ours = [one for one in case.told if one["event_type"] in OURS]
    verdict.counts["events of containers"] = len(ours)
    verdict.counts["by a sync"] = sum("seen_by" in one["details"] for one in ours)
    verdict.counts["events of the engine"] = sum(
        event["Action"] in EVENTS for event in case.witness["events"]
    )
    verdict.counts["reads of the published file"] = case.witness["reads"]
    expected = _expected(case.witness)
    verdict.counts["containers"] = len(expected)
    verdict.faults += [f"published: {text}" for text in case.witness["faults"]]
    verdict.faults += doubled(ours)
    _compare(case, ours, expected, verdict)
    verdict.faults += owners(ours, expected)
    verdict.faults += contradictions(case)
    verdict.faults += truth(case)
    verdict.faults += remembered(case, expected)
    return verdict


def _expected(witness: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Owner and method by short id, as labels say."""
    found = {}
    for event in witness["events"]:
        found[event["Actor"]["ID"][:SHORT]] = event["Actor"]["Attributes"]
    for box in witness["containers"]:
        found[box["id"][:SHORT]] = box["labels"]
    return {
        name: (labels[EXPECTED_OWNER], labels[EXPECTED_METHOD])
        for name, labels in found.items()
        if EXPECTED_OWNER in labels
    }


def _id(event: Mapping[str, Any]) -> str:
    return str(event["details"].get("id", ""))[:SHORT]


# --- events ---------------------------------------------------------------------------------------


def doubled(ours: Iterable[Mapping[str, Any]]) -> list[str]:
    """What was told twice."""
    numbers: Counter[str] = Counter()
    moments: Counter[tuple[str, str, str]] = Counter()
    once: Counter[tuple[str, str]] = Counter()
    for one in ours:
        numbers[str(one["details"].get("event_id", ""))] += 1
        moments[_id(one), one["event_type"], one["timestamp"]] += 1
        if one["event_type"] in ONCE:
            once[_id(one), one["event_type"]] += 1
    found = [f"event_id {name!r} {count} times" for name, count in numbers.items() if count > 1]
    found += [f"{' '.join(key)} {count} times" for key, count in moments.items() if count > 1]
    return found + [f"{' '.join(key)} {count} times" for key, count in once.items() if count > 1]


def _compare(
    case: Case,
    ours: Iterable[Mapping[str, Any]],
    expected: Mapping[str, tuple[str, str]],
    verdict: Verdict,
) -> None:
    """Ours against the witness's, by container and kind."""
    said: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in case.witness["events"]:
        if kind := EVENTS.get(event["Action"]):
            said[event["Actor"]["ID"][:SHORT], kind].append(event["timeNano"] / 1e9)
    told: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in ours:
        told[_id(one), one["event_type"]].append(one)
    for key in sorted({*said, *told}):
        name, kind = key
        missing = len(said[key]) - len(told[key])
        if missing > 0:
            words = f"{name} {kind}: the engine said {len(said[key])}, the log {len(told[key])}"
            lost = sum(_died_with_the_engine(case, when) for when in said[key])
            # Who made it through the door is on record before it is there, so that its beginning and
            # its end are told in any case, unless the door was killed as well.
            sure = kind in ONCE and expected.get(name, ("", ""))[1] == DOOR
            if missing <= lost and not (sure and not _door_was_down(case, name)):
                verdict.excused.append(words)
            else:
                verdict.faults.append(words)
        elif missing < 0:
            verdict.faults += _invented(case, key, said[key], told[key])


def unheard(kills: Sequence[Kill], grace: float) -> list[tuple[float, float]]:
    """Times of which nobody may know: the engine keeps what it said in its memory, for those who come later.

    That goes with it; and so is lost what it said since a daemon that was not back by then had been killed.
    """
    found = []
    for kill in kills:
        if kill.unit != "engine":
            continue
        start, before = kill.began - grace, 0.0
        while start != before:
            before = start
            for other in kills:
                last_heard = other.began - grace
                if other.unit == "daemon" and last_heard < start <= other.ready + grace:
                    start = last_heard
        found.append((start, kill.ready))
    return found


def _died_with_the_engine(case: Case, when: float) -> bool:
    return any(start <= when <= end for start, end in unheard(case.kills, case.grace))


def _door_was_down(case: Case, name: str) -> bool:
    """Whether the gateway was killed about when a container was made."""
    return any(
        kill.began - case.grace <= event["timeNano"] / 1e9 <= kill.ready
        for event in case.witness["events"]
        for kill in case.kills
        if event["Actor"]["ID"].startswith(name)
        and event["Action"] == "create"
        and kill.unit == "gateway"
    )


def _invented(
    case: Case, key: tuple[str, str], said: Sequence[float], told: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Events that the witness has not heard: only what a sync found, or the engine said at its end."""
    unknown = []
    left = list(said)
    for one in told:
        when = datetime.fromisoformat(one["timestamp"].replace("Z", "+00:00")).timestamp()
        near = [moment for moment in left if abs(moment - when) < 0.002]
        if near:
            left.remove(near[0])
        elif one["details"].get("seen_by") != "sync" and not _died_with_the_engine(case, when):
            unknown.append(
                f"{key[0]} {key[1]} at {one['timestamp']}: the engine said no such thing"
            )
    if not unknown and left:
        unknown.append(f"{key[0]} {key[1]}: told {len(told)} times, by the engine {len(said)}")
    return unknown


# --- owners ---------------------------------------------------------------------------------------


def owners(ours: Iterable[Mapping[str, Any]], expected: Mapping[str, tuple[str, str]]) -> list[str]:
    """Events that name somebody else; what nobody knows yet names nobody."""
    found = []
    for one in ours:
        if _id(one) in expected and one.get("user") not in (None, expected[_id(one)][0]):
            wanted = expected[_id(one)][0] or "nobody"
            found.append(f"{_id(one)} {one['event_type']}: {one['user']} in place of {wanted}")
    return found


def contradictions(case: Case) -> list[str]:
    """Containers that name somebody else, made through the door: one event each, no other ones."""
    wanted, known_of = set(), set()
    for event in case.witness["events"]:
        labels = event["Actor"]["Attributes"]
        if labels.get(EXPECTED_METHOD) == DOOR and "ds01.user" in labels:
            wanted.add(event["Actor"]["ID"][:SHORT])
            if not _died_with_the_engine(case, event["timeNano"] / 1e9):
                known_of.add(event["Actor"]["ID"][:SHORT])
    told = Counter(_id(one) for one in case.told if one["event_type"] == "owner.contradiction")
    found = [f"{name}: no owner.contradiction" for name in sorted(wanted & known_of - set(told))]
    found += [
        f"{name}: {count} of owner.contradiction" for name, count in told.items() if count > 1
    ]
    known = _expected(case.witness)
    return found + [
        f"{name}: owner.contradiction, of which its labels say nothing"
        for name in sorted(set(told) - wanted)
        if name in known
    ]


def truth(case: Case) -> list[str]:
    """Whether what is published at the end is what the engine has."""
    there = {box["id"][:SHORT]: box for box in case.witness["containers"]}
    entries = case.published["containers"]
    found = [
        f"{name} ({there[name]['name']}) is not published" for name in set(there) - set(entries)
    ]
    found += [f"{name} is published and not there" for name in set(entries) - set(there)]
    rows = {row["id"][:SHORT]: row for row in case.view["containers"]}
    found += [f"{name} is not in containers.json" for name in set(there) - set(rows)]
    found += [f"{name} is in containers.json and not there" for name in set(rows) - set(there)]
    for name in sorted(set(there) & set(entries) & set(rows)):
        box, entry, row = there[name], entries[name], rows[name]
        pairs = [
            ("name", entry["name"], box["name"]),
            ("name in containers.json", row["name"], box["name"]),
            ("state", row["state"], box["state"]),
        ]
        labels = box["labels"]
        if EXPECTED_OWNER in labels:
            pairs += [
                ("owner", entry["owner"] or "", labels[EXPECTED_OWNER]),
                ("method", entry["detection_method"], labels[EXPECTED_METHOD]),
                ("owner in containers.json", row["owner"] or "", labels[EXPECTED_OWNER]),
            ]
        found += [
            f"{name} ({box['name']}): {what} is {ours!r}, not {wanted!r}"
            for what, ours, wanted in pairs
            if ours != wanted
        ]
    return found


def remembered(case: Case, expected: Mapping[str, tuple[str, str]]) -> list[str]:
    """Whether containers that went are remembered with their owners."""
    there = {box["id"][:SHORT] for box in case.witness["containers"]}
    went = {
        event["Actor"]["ID"][:SHORT]: event["timeNano"] / 1e9
        for event in case.witness["events"]
        if event["Action"] == "destroy"
    }
    known = {name[:SHORT]: owner for name, owner in case.gone.items()}
    found = [f"{name} is there, and remembered as gone" for name in sorted(there & set(known))]
    for name in sorted(set(went) - there):
        wanted = expected.get(name)
        if wanted is None:
            continue
        if name not in known:
            lost = _died_with_the_engine(case, went[name])
            if not lost or (wanted[1] == DOOR and not _door_was_down(case, name)):
                found.append(f"{name} went, and nobody remembers it")
        elif known[name] != wanted:
            found.append(f"{name} is remembered as of {known[name]}, not {wanted}")
    return found
