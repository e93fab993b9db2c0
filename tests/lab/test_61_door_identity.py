# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever knocks at the door, by whatever way, is who the kernel says; the modes by person."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from door_lab import DOOR, DOOR_NAME, EVENT_LOG, IMAGE, STUDENT, DoorLab, until
from http_day import Conversation
from labhost.guest import Lab

BAKER = "h.baker@hertie-school.lan"
LIMITS = "/etc/ds01/limits.json"
BOBS = "ds01-student-bob.slice"
# The host's programs with their libraries, in an image that has none.
PROGRAMS = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"


@pytest.fixture(scope="module")
def door(lab: Lab) -> Iterator[DoorLab]:
    """The door that site.yml made, with the image at hand."""
    found = DoorLab(lab)
    found.prepare()
    found.sweep()
    yield found
    found.sweep()


def _curl(mark: str) -> str:
    """A command that leaves ``mark`` in the access log: it asks for a container of that name."""
    return f"/usr/bin/curl -s --unix-socket {DOOR} http://d/containers/{mark}/json"


def _who(door: DoorLab, mark: int, name: str) -> dict[str, object]:
    """The line of the access log that tells of the request with this name in its path."""
    found: list[dict[str, object]] = []

    def written() -> bool:
        lines = door.since(mark)
        found[:] = [line for line in lines if f"/{name}/" in line["details"].get("path", "")]
        return bool(found)

    until(written, 20, f"{name} in the access log")
    assert len(found) == 1
    return found[0]


def test_the_log_names_who_came_by_each_way(door: DoorLab) -> None:
    mark = door.mark()
    docker = "docker container inspect"
    door.lab.run(f"{docker} door-by-cli", as_user="alice", check=False)
    door.lab.run(f"{docker} door-by-baker", as_user=BAKER, check=False)
    door.lab.run(f"sudo -n {docker} door-by-sudo", as_user="dana", check=False)
    door.lab.run(f"su -c '{docker} door-by-su' bob", check=False)
    with door.forwarded("alice") as near, Conversation(near) as one:
        one.send("GET /containers/door-by-ssh-L/json HTTP/1.1\nHost: d")
        assert "404" in one.answer()[0]
    request = "GET /containers/door-by-dial/json HTTP/1.0\r\n\r\n"
    dial = f"printf %s {shlex.quote(request)} | docker system dial-stdio"
    assert "404 Not Found" in door.lab.run(dial, as_user="alice").stdout

    ways = {
        "cli": "alice",
        "baker": BAKER,
        "sudo": "root",
        "su": "bob",
        "ssh-L": "alice",
        "dial": "alice",
    }
    seen = {way: _who(door, mark, f"door-by-{way}") for way in ways}
    assert {way: line["user"] for way, line in seen.items()} == ways
    details = seen["cli"]["details"]
    assert isinstance(details, dict)
    assert details["uid"] == 1001
    assert (details["method"], details["route"], details["status"]) == (
        "GET",
        "container_inspect",
        404,
    )
    assert details["decision"] == "allow"
    assert details["ms"] > 0


def test_a_peer_in_a_container_is_its_owner_whatever_its_uid(door: DoorLab) -> None:
    mark = door.mark()
    within = f"--network none -v {DOOR}:{DOOR} {PROGRAMS} {IMAGE}"
    door.bare(f"docker run -d --name {DOOR_NAME}-in --cgroup-parent {STUDENT} {within} sleep 1000")
    door.bare(f"docker exec {DOOR_NAME}-in {_curl('door-in-root')}")
    # bob's uid, with the group that may connect, in alice's container
    group = door.bare("getent group docker").split(":")[2]
    door.bare(f"docker exec -u 1002:{group} {DOOR_NAME}-in {_curl('door-in-bob')}")
    for name in ("door-in-root", "door-in-bob"):
        line = _who(door, mark, name)
        assert line["user"] == "alice", line
        details = line["details"]
        assert isinstance(details, dict)
        assert len(details["container"]) == 12


def test_a_container_that_is_nobodys_is_refused_with_the_reason(door: DoorLab) -> None:
    mark = door.mark()
    within = f"--network none -v {DOOR}:{DOOR} {PROGRAMS} {IMAGE}"
    answer = door.bare(f"docker run --rm --name {DOOR_NAME}-out {within} {_curl('door-out')} -i")
    head, _unused, body = answer.partition("\n\n")
    assert head.startswith("HTTP/1.1 403 ")
    said = json.loads(body)["message"]
    assert "container" in said
    # Nothing of what he asks is looked at, so the log has no path.
    lines: list[dict[str, dict[str, object]]] = []

    def written() -> bool:
        lines[:] = [one for one in door.since(mark) if one["details"].get("decision") == "deny"]
        return bool(lines)

    until(written, 20, "the refusal in the access log")
    assert "user" not in lines[0]
    details = lines[0]["details"]
    assert (details["status"], details["rule"]) == (403, "identity.unattributed")
    assert "ds01-unattributed.slice/docker-" in str(details["cgroup"])


def test_a_scope_that_alice_names_as_bobs_container_is_alice(door: DoorLab) -> None:
    mark = door.mark()
    of_bob = door.bare(
        f"docker run -d --name {DOOR_NAME}-bob --network none --cgroup-parent {BOBS} {IMAGE} sleep 1000"
    ).strip()
    # A scope of another name than the one that runs; both look like an engine's.
    name = of_bob[:-4] + of_bob[-4:][::-1] if of_bob[-4:] != of_bob[-4:][::-1] else "0" * 64
    for number, scope in enumerate((of_bob, name)):
        door.lab.run(
            "XDG_RUNTIME_DIR=/run/user/1001 systemd-run --user --scope --quiet "
            f"--unit=docker-{scope}.scope {_curl(f'door-scope-{number}')}",
            as_user="alice",
        )
        line = _who(door, mark, f"door-scope-{number}")
        assert line["user"] == "alice", line


# --- modes ----------------------------------------------------------------------------------------


@contextmanager
def _mode(door: DoorLab, user: str, mode: str) -> Iterator[None]:
    """Give one user a mode in the limits in force, as an override of the inventory would."""
    before = door.lab.run(f"cat {LIMITS}").stdout
    limits = json.loads(before)
    limit = {
        "key": "gateway_mode",
        "path": f"user_overrides.{user}.gateway_mode",
        "value": mode,
        "where": "tests",
    }
    settings = {"gateway_mode": limit}
    override = {
        "user": user,
        "reason": "a test",
        "expires": "2099-12-31",
        "where": "tests",
        "settings": settings,
    }
    limits["overrides"][user] = override
    door.put(LIMITS, json.dumps(limits))
    try:
        yield
    finally:
        door.put(LIMITS, before)


def _refused(door: DoorLab, user: str, command: str) -> str:
    done = door.lab.run(command, as_user=user, check=False)
    return done.stderr if done.rc else ""


def test_enforced_an_endpoint_off_the_list_is_refused_in_plain_words(door: DoorLab) -> None:
    events = door.mark(EVENT_LOG)
    engines_own = "This node is not a swarm manager"
    assert engines_own in _refused(door, "alice", "docker node ls")
    would: list[dict[str, object]] = []

    def told() -> bool:
        would[:] = [
            line
            for line in door.since(events, EVENT_LOG)
            if line["event_type"] == "gateway.would_deny" and line.get("user") == "alice"
        ]
        return bool(would)

    until(told, 20, "gateway.would_deny in the event log")
    with _mode(door, "alice", "enforce"):
        until(
            lambda: engines_own not in _refused(door, "alice", "docker node ls"),
            20,
            "the gateway reads the limits anew",
        )
        said = _refused(door, "alice", "docker node ls")
        assert said.startswith("Error response from daemon: ds01: GET /nodes is not on the list")
        assert "gateway_mode: enforce for alice" in said
        assert "endpoint.unknown" in said
        assert len(said.strip().splitlines()) == 1
        # The ordinary goes on, others are as before, an admin passes.
        assert door.lab.run("docker ps", as_user="alice").rc == 0
        assert engines_own in _refused(door, "bob", "docker node ls")
        assert engines_own in _refused(door, "dana", "docker node ls")
        built = "printf 'FROM lab/base\\nENV A=b\\n' | docker build -q -t door/enforced -"
        assert "DOCKER_BUILDKIT=0" in _refused(door, "alice", built)
        assert (
            door.lab.run(
                built.replace("docker build", "DOCKER_BUILDKIT=0 docker build"), "alice"
            ).rc
            == 0
        )
