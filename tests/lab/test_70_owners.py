# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything has an owner: made in every way, killed at every moment, told once."""

from __future__ import annotations

import json
import shlex
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from door_lab import DOOR, EVENT_LOG, IMAGE
from labhost.guest import Lab
from owners_lab import OWNERS, VIEW, OwnersLab
from owners_ways import CONTRADICTED, PROJECT, WAYS

LISTED_SECONDS = 1.0
# The host's programs with their libraries, in an image that has none.
PROGRAMS = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"


@pytest.fixture(scope="module")
def made(lab: Lab) -> Iterator[OwnersLab]:
    """A host on which a container was made in each way."""
    found = OwnersLab(lab)
    found.sweep()
    found.prepare()
    found.make_all()
    yield found
    found.sweep()


# --- whose each is --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(made: OwnersLab) -> dict[str, Any]:
    """What is published once all are made."""
    return made.read(OWNERS)


@pytest.fixture(scope="module")
def view(made: OwnersLab) -> dict[str, dict[str, Any]]:
    """The rows of containers.json by name."""
    found = made.read(VIEW)
    assert found["schema"] == 1
    return {row["name"]: row for row in found["containers"]}


@pytest.fixture(scope="module")
def boxes(made: OwnersLab) -> dict[str, dict[str, Any]]:
    """The engine's word of each, by name."""
    return {way.name: made.inspect(way.name) for way in WAYS.values()}


@pytest.mark.parametrize("name", WAYS)
def test_what_is_published_of_each_way_of_making_it(
    made: OwnersLab, published: dict[str, Any], boxes: dict[str, dict[str, Any]], name: str
) -> None:
    way = WAYS[name]
    box = boxes[way.name]
    created = datetime.fromisoformat(box["Created"][:19]).replace(tzinfo=timezone.utc)
    assert published["containers"][box["Id"][:12]] == {
        "owner": way.owner,
        "owner_uid": made.uids[way.owner] if way.owner else None,
        "name": way.name,
        "ds01_managed": way.managed,
        "interface": way.interface,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "detection_method": way.method,
    }


def test_the_published_document_is_complete_and_was_whole_at_every_read(
    made: OwnersLab, published: dict[str, Any]
) -> None:
    assert made.witness["faults"] == []
    assert made.witness["reads"] > len(WAYS)
    assert "dana" in published["admins"]
    assert published["service_users"] == ["ds01-dashboard"]
    there = {box["id"][:12] for box in made.witness["containers"]}
    assert set(published["containers"]) == there
    modes = made.lab.run(f"stat -c '%a %U:%G' {OWNERS} {VIEW}").stdout.splitlines()
    assert modes == ["644 root:root"] * 2
    # Whoever holds the lock reads in peace; the daemon has it only while it publishes.
    made.lab.run(f"flock -w 10 {OWNERS.removesuffix('json')}lock true")


def test_each_is_listed_soon_after_the_engine_told_of_it(
    made: OwnersLab, boxes: dict[str, dict[str, Any]]
) -> None:
    late = {}
    for way in WAYS.values():
        short = boxes[way.name]["Id"][:12]
        # Evidence in its processes is there when it runs, all other when it is made.
        told = "start" if way.method == "process" else "create"
        moment = min(
            event["timeNano"] / 1e9
            for event in made.witness["events"]
            if event["Actor"]["ID"].startswith(short) and event["Action"] == told
        )
        rightly = [
            when
            for when, owner, method in made.witness["seen"].get(short, ())
            if (owner, method) == (way.owner, way.method)
        ]
        late[way.name] = (rightly[0] if rightly else float("inf")) - moment
    # How late a program was that wanted nothing but to wake up: the guest is emulated, and other
    # things run beside it. The figures are for whoever reads the log.
    stall = made.witness["stall"]
    print({name: round(seconds, 2) for name, seconds in late.items()}, f"stall {stall:.2f}")
    print(f"median {statistics.median(late.values()):.2f} s, budget {LISTED_SECONDS:g} s")
    assert max(late.values()) <= 5 * LISTED_SECONDS, (stall, late)


@pytest.mark.parametrize("name", WAYS)
def test_the_view_says_what_speaks_for_it(
    view: dict[str, dict[str, Any]], boxes: dict[str, dict[str, Any]], name: str
) -> None:
    way, row = WAYS[name], view[WAYS[name].name]
    assert row["id"] == boxes[way.name]["Id"]
    assert row["state"] == boxes[way.name]["State"]["Status"]
    confidence = "certain" if way.method == "gateway" else "weak" if way.owner else "none"
    found = (row["owner"], row["method"], row["confidence"], row["interface"])
    assert found == (way.owner, way.method, confidence, way.interface)
    assert row["container_type"] == way.kind
    assert row["managed"] is way.managed
    assert row["leases"] == 0
    if way.owner:
        assert way.owner in str(row["evidence"][0])
    named = CONTRADICTED.get(way.name)
    assert bool(row["contradictions"]) is bool(named)
    assert not named or named in row["contradictions"][0]


def test_a_contradiction_is_an_event_and_told_once(
    made: OwnersLab, boxes: dict[str, dict[str, Any]]
) -> None:
    shorts = {boxes[name]["Id"][:12]: name for name in CONTRADICTED}
    told = [
        shorts[event["details"]["id"]]
        for event in made.events("--type", "owner.contradiction")
        if event["details"]["id"] in shorts
    ]
    assert sorted(told) == sorted(CONTRADICTED)


# --- asking ---------------------------------------------------------------------------------------


def _names(found: dict[str, Any]) -> set[str]:
    return {thing["name"] for thing in found["things"]}


def test_people_see_what_is_theirs_and_root_sees_all(made: OwnersLab) -> None:
    mine = {way.name for way in WAYS.values() if way.owner == "alice"}
    found = made.asked("owners", "list", as_user="alice")
    assert mine <= _names(found)
    assert {thing["owner"] for thing in found["things"]} == {"alice"}
    assert {way.name for way in WAYS.values()} <= _names(made.asked("owners", "list"))
    unknown = _names(made.asked("owners", "list", "--unknown"))
    assert {"own-root", "own-laptop"} <= unknown
    assert not unknown & {way.name for way in WAYS.values() if way.owner}
    bobs = made.asked("owners", "list", "--user", "bob", as_user="dana")
    assert {way.name for way in WAYS.values() if way.owner == "bob"} <= _names(bobs)


def test_the_reason_is_told_in_words(made: OwnersLab) -> None:
    said = made.ds01("owners", "show", "own-mount", as_user="alice").stdout
    assert "alice, because" in said
    assert PROJECT in said
    assert "weak" in said
    nobody = made.ds01("owners", "show", "own-root").stdout
    assert "unknown" in nobody
    forged = made.ds01("owners", "show", "own-forged").stdout
    assert "bob" in forged
    # What is somebody else's is answered for as what is not there.
    refused = made.ds01("owners", "show", "own-mount", as_user="carol", check=False)
    assert (refused.rc, refused.stdout) == (5, "") or "nothing of yours" in refused.stderr


def test_why_answers_for_a_container(made: OwnersLab) -> None:
    said = made.ds01("why", "own-run", as_user="alice").stdout
    assert "own-run" in said
    assert "alice" in said
    assert made.ds01("why", "own-mount").stdout.count("/home/alice")


# --- lifecycle ------------------------------------------------------------------------------------


def test_records_and_leases_follow_a_container_to_its_end(made: OwnersLab) -> None:
    since = made.now()
    lease = made.asked("gpu", "request", "--no-wait", as_user="alice")["granted"]["id"]
    made.lab.run(
        f"docker run -d --name own-lease --network none --device ds01.local/lease={lease} "
        f"{IMAGE} sleep 3600",
        as_user="alice",
    )
    short = made.inspect("own-lease")["Id"][:12]
    made.until(
        "it is published as running", lambda: made.row("own-lease").get("state") == "running"
    )
    assert made.row("own-lease")["leases"] == 1
    assert lease not in made.lab.run(f"cat {VIEW} {OWNERS}").stdout
    # Bound with the answer to its creation, by the gateway.
    assert made.lease(lease)["container"] == "own-lease"

    made.lab.run("docker rename own-lease own-renamed; docker stop -t 0 own-renamed", "alice")
    made.until("its new name and end", lambda: made.row("own-renamed").get("state") == "exited")
    assert made.read(OWNERS)["containers"][short]["name"] == "own-renamed"
    made.until("the lease's new name", lambda: made.lease(lease)["container"] == "own-renamed")
    made.until("the lease is held", lambda: made.lease(lease)["state"] == "held")

    made.lab.run("docker rm own-renamed", as_user="alice")
    made.until("it is gone", lambda: short not in made.read(OWNERS)["containers"])
    made.until("the lease has ended", lambda: not made.lease(lease), 30)
    thing = made.asked("owners", "show", short, as_user="alice")["thing"]
    assert (thing["owner"], thing["name"], thing["method"]) == ("alice", "own-renamed", "gateway")
    assert thing["gone"] is not None
    assert "own-renamed" in _names(made.asked("owners", "list", "--all", as_user="alice"))
    assert "own-renamed" not in _names(made.asked("owners", "list", as_user="alice"))
    told = [
        event["event_type"]
        for event in made.events("--since", since, "--type", "container", "--user", "alice")
        if event["details"]["id"] == short
    ]
    # A stop without patience kills twice, with TERM first; all else is told once.
    assert all(told.count(one) == 1 for one in set(told) - {"container.killed"}), told
    words = ("created", "started", "renamed", "killed", "died", "stopped", "destroyed")
    assert set(told) == {f"container.{word}" for word in words}


def test_volumes_networks_images_and_execs_have_owners(made: OwnersLab) -> None:
    made.lab.run(
        "docker volume create own-vol; docker network create own-net; "
        "docker commit own-run own-commit:1; docker tag own-commit:1 own-tag:1; "
        "docker export own-run | docker import - own-import:1; "
        f"docker create --name own-vols --network none -v /data {IMAGE} true; docker exec own-run true",
        as_user="alice",
    )
    # Made already: who asks for it once more is not its owner.
    made.lab.run("docker volume create own-vol", as_user="bob")
    # An image that the engine has never seen, in an archive.
    made.lab.run(
        "d=$(mktemp -d); cd $d; echo $$ > f; tar c f | docker import - own-load:1; "
        "docker save own-load:1 > own-load.tar; docker rmi own-load:1; docker load -i own-load.tar",
        as_user="bob",
    )
    box = made.inspect("own-run")["Id"]
    volume = made.inspect("own-vols")["Mounts"][0]["Name"]

    def owners() -> dict[tuple[str, str], str]:
        things = made.asked("owners", "list", "--kind", "all")["things"]
        found = {(row["kind"], row["name"] or row["id"]): row["owner"] for row in things}
        return found | {("exec of", row["parent"]): row["owner"] for row in things if row["parent"]}

    wanted = {
        ("volume", "own-vol"): "alice",
        ("network", "own-net"): "alice",
        ("image", "own-commit:1"): "alice",
        ("image", "own-import:1"): "alice",
        ("image", "own-load:1"): "bob",
        ("volume", volume): "alice",
        ("exec of", box): "alice",
    }
    made.until("they are listed", lambda: set(wanted) <= set(owners()), 20)
    found = owners()
    assert {key: found[key] for key in wanted} == wanted


def test_what_a_container_makes_is_its_makers_whatever_slice_he_chose(made: OwnersLab) -> None:
    body = shlex.quote(json.dumps({"Image": IMAGE, "Cmd": ["true"]}))
    ask = (
        f"/usr/bin/curl -sf --unix-socket {DOOR} -H Content-Type:application/json -d {body} "
        "http://d/containers/create?name=own-nested"
    )
    made.lab.run(
        "docker run --rm --name own-within --network none --cgroup-parent ds01-student-bob.slice "
        f"-v {DOOR}:{DOOR} {PROGRAMS} {IMAGE} {ask}",
        as_user="alice",
    )
    made.until("it is published", lambda: made.row("own-nested"))
    row = made.row("own-nested")
    assert (row["owner"], row["method"]) == ("alice", "gateway"), row


def test_an_admins_word_by_the_module(made: OwnersLab, tmp_path: Path) -> None:
    said = {"state": "set", "container": "own-root", "owner": "alice", "reason": "a test"}
    unsaid = {"state": "unset", "container": "own-root"}
    steps = {
        "checked": (said, {"check_mode": True, "diff": True}),
        "set": (said, {}),
        "set again": (said, {}),
        "unset": (unsaid, {}),
        "synced": ({"state": "synced"}, {}),
    }
    since = made.now()
    results = made.modules(tmp_path, "ds01_container_owner", steps)
    changed = {name: result["changed"] for name, result in results.items()}
    assert changed == {
        "checked": True,
        "set": True,
        "set again": False,
        "unset": True,
        "synced": False,
    }
    assert "alice" in str(results["checked"]["diff"])
    found = results["set again"]["container"]
    assert (found["owner"], found["method"], found["confidence"]) == ("alice", "admin", "certain")
    assert found["set_by"]["reason"] == "a test"
    told = [event["event_type"] for event in made.events("--since", since, "--type", "owner")]
    assert [told.count(f"owner.{word}") for word in ("set", "unset", "contradiction")] == [1, 1, 0]
    short = made.inspect("own-root")["Id"][:12]
    made.until("nobody's again", lambda: made.read(OWNERS)["containers"][short]["owner"] is None)


# --- the event log --------------------------------------------------------------------------------


def test_followed_events_go_on_over_a_rotation(made: OwnersLab) -> None:
    since = made.now()
    follower = made.door.popen("timeout 60 ds01 events --follow --json --type container", "root")
    try:
        made.until(
            "it follows", lambda: made.lab.run("pgrep -f 'events --foll[o]w'", check=False).rc == 0
        )
        time.sleep(2)
        for number in range(2):
            made.door.bare(f"docker rm -f $(docker create --name own-turn-{number} {IMAGE} true)")
            made.lab.run("logrotate -f /etc/logrotate.d/ds01")
        made.door.bare(f"docker create --name own-turn-last {IMAGE} true")
        heard = []
        assert follower.stdout is not None
        for line in follower.stdout:
            heard.append(json.loads(line))
            if heard[-1]["details"].get("name") == "own-turn-last":
                break
    finally:
        follower.kill()
        follower.communicate()
    turns = [one for one in heard if str(one["details"].get("name")).startswith("own-turn")]
    assert [(one["event_type"], one["details"]["name"]) for one in turns] == [
        ("container.created", "own-turn-0"),
        ("container.destroyed", "own-turn-0"),
        ("container.created", "own-turn-1"),
        ("container.destroyed", "own-turn-1"),
        ("container.created", "own-turn-last"),
    ]
    # What was followed is what is there to be read afterwards, in all parts.
    assert [
        one for one in made.events("--since", since, "--type", "container") if one in heard
    ] == [one for one in heard if one["timestamp"] >= since]


def test_a_silent_log_is_found_by_the_doctor(made: OwnersLab) -> None:
    assert made.doctor("event log") == []
    # It can be neither written nor replaced, by root either.
    made.lab.run(f"chattr +i {EVENT_LOG}")
    try:
        made.door.bare(f"docker create --name own-silent {IMAGE} true")
        found = made.doctor("event log")
        assert any("do not get into the event log" in what for what in found), found

        def silent() -> bool:
            return any("silent and the engine is not" in what for what in made.doctor("event log"))

        made.until("the doctor calls it silent", silent, 60)
    finally:
        made.lab.run(f"chattr -i {EVENT_LOG}")
    made.door.bare("docker rm own-silent")
    told = [("container.created", 1), ("container.destroyed", 1)]

    def caught_up() -> bool:
        names = Counter(
            event["event_type"]
            for event in made.events("--type", "container", "--since", "5m")
            if event["details"]["name"] == "own-silent"
        )
        return sorted(names.items()) == told

    made.until("both events are in the log", caught_up)
    assert made.doctor("event log") == []


# --- killed at random -----------------------------------------------------------------------------

LIVES = 20
"""Of 150 that the issue asks for; those are lived natively (tests/native), where one costs a tenth."""


def test_lives_with_engine_gateway_and_daemon_killed_at_random(made: OwnersLab) -> None:
    verdict, summary = made.live(LIVES)
    print(summary, verdict.text(), sep="\n")
    assert not verdict.faults, verdict.text()
