# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ds01d on a real socket with a real store: who may do what, waiting, and input meant to hurt."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ds01.core.sightings import SeenContainer
from ds01.daemon import protocol, server
from ds01.daemon.desk import BURST, SECONDS_EACH, Pace
from ds01.door_refusals import write_refusals

from .helper_daemon import UIDS, Helper, read_lines


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    found = Helper(tmp_path)
    yield found
    found.close()


@pytest.fixture
def running(helper: Helper) -> Iterator[Helper]:
    with helper.running():
        yield helper


def eventually(fact: Callable[[], Any], seconds: float = 20) -> Any:
    """What a fact gives once it is one."""
    until = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)
    return found


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def waiting(sock: socket.socket) -> dict[str, Any]:
    """The first waiting line."""
    found = read_lines(sock, "waiting")
    assert "waiting" in found[0], found
    return dict(found[0]["waiting"])


def fill(helper: Helper) -> list[dict[str, Any]]:
    """Both GPUs are taken, by alice and bob."""
    return [helper.ask("request", user)["granted"] for user in ("alice", "bob")]


# --- asking and giving back -----------------------------------------------------------------------


def test_a_granted_lease_says_how_to_use_it_and_has_its_file(running: Helper) -> None:
    lease = running.ask("request", "alice", note="thesis")["granted"]
    assert lease["state"] == "reserved" and lease["user"] == "alice"
    assert [slot["slot"] for slot in lease["slots"]] == ["0"]
    assert (running.directory / "cdi" / f"ds01-{lease['id']}.json").exists()
    status = running.ask("status", "alice")
    assert [row["state"] for row in status["slots"]] == ["reserved", "free"]
    assert status["leases"][0]["id"] == lease["id"]


def test_other_peoples_lease_ids_are_shown_to_nobody_but_administrators(running: Helper) -> None:
    lease = running.ask("request", "alice")["granted"]
    for verb in ("status", "queue", "why"):
        assert lease["id"] not in json.dumps(running.ask(verb, "bob"))
    assert lease["id"] in json.dumps(running.ask("status", "dana"))
    views = [(running.directory / "state" / name).read_text() for name in VIEWS]
    assert not any(lease["id"] in view for view in views)


VIEWS = ("gpu-allocations.json", "gpu-state.json")


def test_views_are_published_for_everybody_and_follow_the_book(running: Helper) -> None:
    running.ask("request", "alice")
    path = running.directory / "state" / "gpu-state.json"

    def holder() -> Any:
        return json.loads(path.read_text()).get("gpu_0")

    assert eventually(holder)["user"] == "alice"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_lease_is_given_back_by_its_owner_without_naming_it(running: Helper) -> None:
    lease = running.ask("request", "alice")["granted"]
    assert running.ask("release", "alice")["released"]["id"] == lease["id"]
    eventually(lambda: running.ask("status")["slots"][0]["state"] == "free")
    assert running.ask("release", "alice")["error"]["code"] == protocol.NOT_FOUND


def test_nobody_gives_back_what_is_anothers(running: Helper) -> None:
    lease = running.ask("request", "alice")["granted"]
    for subject in (lease["id"], "0"):
        error = running.ask("release", "bob", lease=subject)["error"]
        assert error["code"] == protocol.NOT_FOUND
    assert running.ask("status")["slots"][0]["state"] == "reserved"
    assert "released" in running.ask("release", "dana", lease="0")


def test_a_running_container_keeps_its_lease(running: Helper) -> None:
    lease = running.ask("request", "alice")["granted"]
    running.world.seen = [SeenContainer("c" * 64, "train", "running", leases=(lease["id"],))]
    error = running.ask("release", "alice")["error"]
    assert error["code"] == protocol.REFUSED and error["rule"] == "running"
    assert "train" in error["what"]


def test_a_user_asks_only_for_himself_and_an_administrator_for_anybody(running: Helper) -> None:
    error = running.ask("request", "alice", user="bob")["error"]
    assert error["code"] == protocol.NOT_ALLOWED and "alice cannot ask for bob" in error["what"]
    assert running.ask("request", "alice", user="alice")["granted"]["user"] == "alice"
    assert running.ask("request", "dana", user="bob")["granted"]["user"] == "bob"
    assert running.ask("request", "root", user="nobodyknows")["error"]["code"] == "not_allowed"


def test_draining_is_for_administrators(running: Helper) -> None:
    for verb in ("drain", "undrain", "reconcile"):
        fields = {} if verb == "reconcile" else {"slot": "0"}
        assert running.ask(verb, "alice", **fields)["error"]["code"] == protocol.NOT_ALLOWED
    assert running.ask("drain", "dana", slot="0", message="new fan")["changed"] is True
    assert running.ask("drain", "root", slot="0", message="new fan")["changed"] is False
    row = running.ask("status", "alice")["slots"][0]
    assert row["state"] == "drained" and "new fan" in row["text"]
    assert running.ask("request", "alice")["granted"]["slots"][0]["slot"] == "1"
    assert running.ask("undrain", "dana", slot="0")["changed"] is True


def test_a_limit_refuses_with_its_name_and_place(running: Helper) -> None:
    running.ask("request", "alice")
    error = running.ask("request", "alice")["error"]
    assert error["code"] == protocol.REFUSED and error["rule"] == "max_gpu_equivalents"
    assert "limits.yml:3" in error["where"]
    last = running.ask("why", "alice")["reasons"][-1]
    assert last["subject"] == "last refusal" and "limit is 1" in last["why"]


def test_why_tells_of_the_last_refusal_at_the_door(running: Helper) -> None:
    path = str(running.directory / "refusals.json")
    assert running.ask("why", "alice")["reasons"] == []
    row = {"what": "no such thing", "where": "unknown", "remedy": "Do that", "timestamp": "T1"}
    write_refusals({UIDS["alice"]: row}, path)
    reason = {
        "subject": "last refusal at the door",
        "why": "no such thing (rule unknown, T1)",
        "remedy": "Do that",
        "timestamp": "T1",
    }
    assert running.ask("why", "alice")["reasons"] == [reason]
    assert running.ask("why", "bob")["reasons"] == []
    write_refusals({UIDS["alice"]: {**row, "what": "another"}}, path)
    assert "another" in running.ask("why", "alice")["reasons"][0]["why"]
    Path(path).write_text("{")
    assert running.ask("why", "alice")["reasons"] == []


def test_who_does_not_wait_is_told_that_nothing_is_free(running: Helper) -> None:
    fill(running)
    error = running.ask("request", "carol", wait=False)["error"]
    assert error["code"] == protocol.NO_GPU
    assert running.ask("queue")["queue"] == []


def test_an_account_that_the_host_does_not_know_gets_nothing(running: Helper) -> None:
    error = running.ask("request", "stranger")["error"]
    assert error["code"] == protocol.NOT_ALLOWED and "4242" in error["what"]


def test_a_directory_that_hangs_stops_nobody_who_needs_none(helper: Helper) -> None:
    helper.hung_directory = True
    with helper.running():
        error = helper.ask("request", "alice")["error"]
        assert error["code"] == protocol.HOST and "directory" in error["what"]
        assert "slots" in helper.ask("status", "alice")


# --- waiting --------------------------------------------------------------------------------------


def test_a_waiter_is_served_when_another_process_frees_a_gpu(running: Helper) -> None:
    leases = fill(running)
    with running.dial("carol") as sock:
        sock.sendall(line(verb="request"))
        place = waiting(sock)
        assert (place["position"], place["of"]) == (1, 1) and place["reason"]
        book = running.book()
        book.release(leases[0]["id"], "admin", running.world)
        granted = read_lines(sock, "granted")[-1]["granted"]
    assert granted["user"] == "carol" and granted["slots"] == leases[0]["slots"]
    assert granted["id"] == place["ticket"]


def test_a_waiter_who_goes_away_leaves_the_queue(running: Helper) -> None:
    fill(running)
    with running.dial("carol") as sock:
        sock.sendall(line(verb="request"))
        waiting(sock)
        assert [row["user"] for row in running.ask("queue", "alice")["queue"]] == ["carol"]
    eventually(lambda: not running.ask("queue", "alice")["queue"])


def test_a_place_in_the_queue_outlives_the_daemon(helper: Helper) -> None:
    with helper.running():
        fill(helper)
        sock = helper.dial("carol")
        sock.sendall(line(verb="request"))
        place = waiting(sock)
    with sock:
        assert not any("error" in found for found in read_lines(sock))
    with helper.running(), helper.dial("carol") as again:
        again.sendall(line(verb="poll", ticket=place["ticket"]))
        second = waiting(again)
        assert second["ticket"] == place["ticket"] and second["since"] == pytest.approx(
            place["since"], abs=1
        )


def test_a_ticket_serves_its_owner_alone(running: Helper) -> None:
    fill(running)
    with running.dial("carol") as sock:
        sock.sendall(line(verb="request"))
        ticket = waiting(sock)["ticket"]
        assert running.ask("poll", "bob", ticket=ticket)["error"]["code"] == protocol.NOT_FOUND
        assert running.ask("cancel", "bob", ticket=ticket)["changed"] is False
        assert running.ask("request", "bob", ticket=ticket)["error"]["rule"] == "owner"
        assert running.ask("queue", "bob")["queue"][0]["ticket"] is None
        assert running.ask("cancel", "carol", ticket=ticket)["changed"] is True
        assert read_lines(sock)[-1]["error"]["code"] in (protocol.NO_GPU, protocol.NOT_FOUND)


def test_the_same_ticket_twice_is_one_request(running: Helper) -> None:
    ticket = "l0123456789abcdef"
    first = running.ask("request", "alice", ticket=ticket)["granted"]
    second = running.ask("request", "alice", ticket=ticket)["granted"]
    assert (second["id"], second["slots"]) == (first["id"], first["slots"])
    assert [row["state"] for row in running.ask("status")["slots"]] == ["reserved", "free"]


def test_those_who_wait_follow_changed_limits(running: Helper) -> None:
    fill(running)
    with running.dial("carol") as sock:
        sock.sendall(line(verb="request"))
        waiting(sock)
        from .helper_daemon import LIMITS

        running.limits(
            LIMITS.replace("    max_gpu_equivalents: 2\n", "    allow_full_gpu: false\n")
        )
        error = read_lines(sock, "error")[-1]["error"]
    assert error["rule"] == "allow_full_gpu", error


def test_a_container_that_has_to_run_gets_new_gpus_and_is_started(running: Helper) -> None:
    lease = running.ask("request", "alice")["granted"]["id"]
    book = running.book()
    book.bind(lease, "c" * 64, "train")
    book.container_stopped(lease, "c" * 64)
    stopped = SeenContainer(
        "c" * 64, "train", "exited", finished=time.time(), leases=(lease,), restart_policy="always"
    )
    running.world.seen = [stopped]
    book.release(lease, "alice", running.world)
    other = running.ask("request", "bob", devices=["0"])["granted"]
    running.world.since = time.time() + 60  # the engine has been restarted
    kinds = [row["kind"] for row in running.ask("reconcile", "root")["actions"]]
    assert "renew" in kinds
    eventually(lambda: running.world.started == ["c" * 64])
    (renewed,) = running.ask("status", "alice")["leases"]
    assert renewed["id"] == lease and renewed["slots"] != other["slots"]


# --- input meant to hurt --------------------------------------------------------------------------

HOSTILE = {
    "no JSON": b"hello\n",
    "binary": bytes(range(256)).replace(b"\n", b"") + b"\n",
    "no UTF-8": b'{"verb": "ping", "x": "\xff"}\n',
    "a list": b"[1, 2]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "empty": b"\n",
    "two keys of one name": b'{"verb": "ping", "verb": "drain", "slot": "0"}\n',
    "no verb": b"{}\n",
    "an unknown verb": b'{"verb": "exec"}\n',
    "a verb that is no text": b'{"verb": ["ping"]}\n',
    "an unknown field": b'{"verb": "ping", "user": "root"}\n',
    "a field of the wrong kind": b'{"verb": "request", "count": "1"}\n',
    "truth as a count": b'{"verb": "request", "count": true}\n',
    "no number": b'{"verb": "request", "count": NaN}\n',
    "an endless number": b'{"verb": "request", "count": 1' + b"0" * 5000 + b"}\n",
    "an absurd count": b'{"verb": "request", "count": 1000000}\n',
    "a negative count": b'{"verb": "request", "count": -1}\n',
    "an unknown kind": b'{"verb": "request", "kind": "../../etc"}\n',
    "an unknown device": b'{"verb": "request", "devices": ["GPU-nothere"]}\n',
    "control characters": b'{"verb": "drain", "slot": "0", "message": "\\u001b[2J"}\n',
    "a path as ticket": b'{"verb": "poll", "ticket": "../../x"}\n',
    "deep nesting": b'{"verb": ' + b"[" * 30000 + b"]" * 30000 + b"}\n",
    "too long": b'{"verb": "' + b"x" * 70000 + b'"}\n',
    "a missing field": b'{"verb": "drain"}\n',
    "two objects": b'{"verb": "ping"} {"verb": "ping"}\n',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_input_meant_to_hurt_is_refused_with_an_error(running: Helper, data: bytes) -> None:
    error = running.say(data, "alice")["error"]
    assert error["code"] in (protocol.BAD_REQUEST, protocol.REFUSED, protocol.NOT_ALLOWED)
    assert error["what"]
    assert running.ask("ping", "alice") == {"pong": True}


def test_a_peer_that_says_nothing_is_told_so_and_let_go(
    running: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.1)
    with running.dial("alice") as sock:
        sock.sendall(b'{"verb": ')
        assert "no whole request" in read_lines(sock)[-1]["error"]["what"]


def test_peers_that_are_slow_or_dead_hold_up_nobody(running: Helper) -> None:
    silent = [running.dial("alice") for _n in range(20)]
    for sock in silent[:10]:
        sock.sendall(b'{"verb": "status"}\n')  # and never read
    for sock in silent[10:15]:
        sock.close()
    assert running.ask("ping", "bob") == {"pong": True}
    for sock in silent:
        sock.close()


def test_a_user_has_no_more_than_his_share_of_connections(
    running: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PER_USER", 3)
    held = [running.dial("alice") for _n in range(3)]
    error = eventually(lambda: running.ask("ping", "alice").get("error"))
    assert error["code"] == protocol.BUSY and "yours" in error["what"]
    assert running.ask("ping", "bob") == {"pong": True}
    for sock in held:
        sock.close()
    eventually(lambda: "pong" in running.ask("ping", "alice"))


def test_who_asks_in_a_loop_is_slowed_down_before_the_log_is_full_of_him() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for _turn in range(BURST):
        pace.take(1001)
    with pytest.raises(protocol.RequestError, match="in a short time"):
        pace.take(1001)
    pace.take(1002)
    now[0] += SECONDS_EACH
    pace.take(1001)
    with pytest.raises(protocol.RequestError):
        pace.take(1001)


def test_root_in_a_container_is_refused_whatever_its_uid(running: Helper) -> None:
    running.cgroup = (
        f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{'a' * 64}.scope"
    )
    error = running.ask("status", "root")["error"]
    assert error["code"] == protocol.NOT_ALLOWED and "container" in error["what"]
