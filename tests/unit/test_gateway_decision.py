# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may ask what, and what is said to whom may not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
from ds01.core import routes
from ds01.core.gateway_decision import (
    ALLOW,
    API_TOO_NEW,
    API_TOO_OLD,
    BUILD_OPAQUE,
    DENY,
    ENDPOINT_METHOD,
    ENDPOINT_UNKNOWN,
    RULES,
    UPGRADE_REFUSED,
    WOULD_DENY,
    Verdict,
    cap_version_body,
    capped_api,
    error_body,
    judge,
    unrecorded,
    version_to_send,
)
from ds01.core.routes import API_MAX, API_MIN, OPAQUE, ROUTES
from ds01.core.targets import Target, parse_target
from hypothesis import given
from hypothesis import strategies as st

ABOVE = (API_MAX[0], API_MAX[1] + 1)
NEWEST = f"{API_MAX[0]}.{API_MAX[1]}"
ID = "4fa6e0f0c678"


@dataclass(frozen=True)
class Somebody:
    name: str = "alice"
    group: str = "student"
    mode: str = "enforce"
    admin: bool = False


ALICE = Somebody()
BOB = Somebody("bob", mode="observe")
DANA = Somebody("dana", "admin", admin=True)
CREATE = Target(None, "/containers/create", "")
EVERYBODY = (ALICE, BOB, DANA, replace(DANA, mode="observe"))


def decide(
    who: Somebody,
    request: str,
    upgrade: str = "",
    engine: tuple[int, int] | None = (1, 45),
) -> Verdict:
    method, raw = request.split(" ", 1)
    target = parse_target(raw.encode("ascii"), method)
    return judge(who, method, target, routes.find(method, target.path), upgrade, engine)


def said(verdict: Verdict) -> str:
    """The message that a client shows."""
    body = error_body(verdict)
    assert body.endswith(b"}\n") and body.count(b"\n") == 1
    answer = json.loads(body)
    assert list(answer) == ["message"]
    message = answer["message"]
    assert isinstance(message, str) and message.isprintable()
    return message


def test_everything_on_the_list_passes_for_everybody_without_a_word() -> None:
    for route in ROUTES:
        if route.kind == OPAQUE:
            continue
        path = route.template.replace("{id}", ID).replace("{name}", "lab/base")
        if "/volumes/{name}" in route.template:
            path = "/volumes/data"
        for who in EVERYBODY:
            verdict = decide(who, f"{route.method} /v1.45{path}")
            assert (verdict.decision, verdict.rule, verdict.message) == (ALLOW, "", "")


@pytest.mark.parametrize(
    ("request_line", "rule"),
    [
        ("POST /v1.45/swarm/init", ENDPOINT_UNKNOWN),
        ("GET /nowhere", ENDPOINT_UNKNOWN),
        ("GET /", ENDPOINT_UNKNOWN),
        ("OPTIONS /info", ENDPOINT_METHOD),
        ("HEAD /containers/json", ENDPOINT_METHOD),
        ("PUT /volumes/data", ENDPOINT_UNKNOWN),
        ("POST /plugins/pull", ENDPOINT_UNKNOWN),
        ("GET /containers/web/attach/ws", ENDPOINT_UNKNOWN),
        ("DELETE /containers/web/checkpoints/one", ENDPOINT_UNKNOWN),
        ("POST /v1.45/grpc", BUILD_OPAQUE),
        ("POST /session", BUILD_OPAQUE),
    ],
)
def test_the_mode_decides_what_becomes_of_it(request_line: str, rule: str) -> None:
    enforced, observed = decide(ALICE, request_line), decide(BOB, request_line)
    assert (enforced.decision, enforced.rule, enforced.status) == (DENY, rule, 403)
    assert (observed.decision, observed.rule) == (WOULD_DENY, rule)
    for admin in (DANA, replace(DANA, mode="observe")):
        passed = decide(admin, request_line)
        assert (passed.decision, passed.rule) == (ALLOW, rule)
        assert passed.message.endswith("it passes for an admin")


def test_a_refusal_says_what_which_rule_whose_limit_and_what_to_do() -> None:
    assert said(decide(ALICE, "POST /v1.45/swarm/init?a=secret")) == (
        "ds01: POST /swarm/init is not on the list of what docker is used for here: swarm endpoints "
        "are left out, since the machine is no swarm; joining or leading one is for its admins "
        "(limit gateway_mode: enforce for alice, group student). Ask an admin of the machine if you "
        "need it (rule endpoint.unknown)"
    )
    assert said(decide(ALICE, "GET /nowhere")) == (
        "ds01: GET /nowhere is not on the list of what docker is used for here (limit gateway_mode: "
        "enforce for alice, group student). Ask an admin of the machine if you need it "
        "(rule endpoint.unknown)"
    )
    assert said(decide(ALICE, "HEAD /_ping/")) == (
        "ds01: HEAD /_ping/ is not on the list of what docker is used for here (limit gateway_mode: "
        "enforce for alice, group student). Ask an admin of the machine if you need it "
        "(rule endpoint.unknown)"
    )
    assert said(decide(ALICE, "DELETE /info")) == (
        "ds01: DELETE /info is not on the list: that path is used with GET (limit gateway_mode: "
        "enforce for alice, group student). Use one of these methods (rule endpoint.method)"
    )
    assert said(decide(ALICE, "POST /grpc", "h2c")) == (
        "ds01: POST /grpc opens a connection of BuildKit (docker build, docker buildx), which cannot "
        "be checked (limit gateway_mode: enforce for alice, group student). Build with "
        "DOCKER_BUILDKIT=0 docker build, or ask an admin of the machine (rule build.opaque)"
    )


def test_what_only_a_record_sees_says_so() -> None:
    assert decide(BOB, "GET /nowhere").message.endswith("it passes in mode observe")
    assert decide(BOB, "POST /grpc", "h2c").message.endswith("it passes in mode observe")


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize(
    ("request_line", "upgrade"),
    [
        ("GET /_ping", "websocket"),
        ("GET /_ping", "h2c"),
        ("GET /_ping", "tcp"),
        ("POST /containers/web/attach", "websocket"),
        ("POST /containers/web/attach", "h2c"),
        ("POST /containers/web/attach", "tcp, h2c"),
        ("POST /exec/web/start", "tcp,tcp"),
        ("POST /grpc", "tcp"),
        ("POST /session", "websocket"),
        ("GET /containers/web/attach/ws", "websocket"),
        ("POST /nowhere", "tcp"),
        ("POST /containers/web/logs", "tcp"),
    ],
)
def test_a_switch_of_protocol_that_has_no_place_is_refused_for_everybody(
    who: Somebody, request_line: str, upgrade: str
) -> None:
    verdict = decide(who, request_line, upgrade)
    assert (verdict.decision, verdict.rule, verdict.status) == (DENY, UPGRADE_REFUSED, 400)


def test_the_refusal_of_a_switch_says_what_would_do() -> None:
    assert said(decide(DANA, "POST /containers/web/attach", "websocket")) == (
        "ds01: POST /containers/web/attach asks to switch to the protocol 'websocket', and this "
        "endpoint switches to tcp only. Send it without the header Upgrade (rule upgrade.refused)"
    )
    assert said(decide(DANA, "GET /info", "h2c")) == (
        "ds01: GET /info asks to switch to the protocol 'h2c', and this endpoint switches to none. "
        "Send it without the header Upgrade (rule upgrade.refused)"
    )


def test_the_switches_that_docker_makes_pass() -> None:
    for request in ("POST /containers/web/attach?stream=1", "POST /exec/0123/start"):
        for upgrade in ("", "tcp"):
            assert decide(ALICE, request, upgrade).decision == ALLOW
    for request in ("POST /grpc", "POST /session"):
        for upgrade in ("", "h2c"):
            assert decide(BOB, request, upgrade).decision == WOULD_DENY
            assert decide(DANA, request, upgrade).decision == ALLOW


@pytest.mark.parametrize("who", EVERYBODY)
def test_a_version_out_of_range_is_refused_in_the_words_of_the_engine(who: Somebody) -> None:
    new = decide(who, "GET /v1.99/containers/json")
    assert (new.decision, new.rule, new.status) == (DENY, API_TOO_NEW, 400)
    assert said(new) == "client version 1.99 is too new. Maximum supported API version is 1.45"
    old = decide(who, "GET /v1.23/containers/json")
    assert (old.decision, old.rule, old.status) == (DENY, API_TOO_OLD, 400)
    assert said(old) == (
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your "
        "client to a newer version"
    )


@pytest.mark.parametrize(
    ("version", "engine", "passes", "newest"),
    [
        ((1, 45), (1, 45), True, ""),
        ((1, 46), (1, 45), False, "1.45"),
        (API_MAX, ABOVE, True, ""),
        (ABOVE, ABOVE, False, NEWEST),
        (ABOVE, (2, 0), False, NEWEST),
        ((2, 0), (2, 0), False, NEWEST),
        (API_MAX, None, True, ""),
        (ABOVE, None, False, NEWEST),
        (API_MIN, (1, 45), True, ""),
        ((0, 999), (1, 45), False, "1.24"),
    ],
)
def test_the_older_of_engine_and_list_bounds_the_version(
    version: tuple[int, int], engine: tuple[int, int] | None, passes: bool, newest: str
) -> None:
    verdict = decide(ALICE, f"GET /v{version[0]}.{version[1]}/info", "", engine)
    assert (verdict.decision == ALLOW) is passes
    assert f"supported API version is {newest}" in verdict.message or passes


def test_versions_are_compared_as_numbers() -> None:
    assert decide(ALICE, "GET /v1.100/info").rule == API_TOO_NEW
    assert decide(ALICE, "GET /v1.9/info").rule == API_TOO_OLD


def test_every_rule_has_been_seen() -> None:
    seen = {
        decide(ALICE, "GET /_ping", "x").rule,
        decide(ALICE, "GET /v1.99/info").rule,
        decide(ALICE, "GET /v1.1/info").rule,
        decide(ALICE, "GET /nowhere").rule,
        decide(ALICE, "PUT /info").rule,
        decide(ALICE, "POST /grpc").rule,
        unrecorded(ALICE, "POST", CREATE, "the disk is full").rule,
    }
    assert seen == set(RULES)


@pytest.mark.parametrize(
    ("who", "decision", "status"),
    [(ALICE, DENY, 503), (BOB, WOULD_DENY, 200), (DANA, ALLOW, 200)],
)
def test_what_cannot_be_recorded_is_refused_as_a_fault_of_ours(
    who: Somebody, decision: str, status: int
) -> None:
    verdict = unrecorded(who, "POST", CREATE, "the disk is full")
    assert (verdict.decision, verdict.status) == (decision, status)
    assert "the disk is full" in verdict.message


def test_a_long_path_is_cut_in_the_message() -> None:
    message = said(decide(ALICE, f"GET /{'a' * 5000}"))
    assert len(message) < 500 and "a…" in message


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60), st.text(max_size=30))
def test_no_text_of_a_client_breaks_the_message(
    method: str, path: str, upgrade: str, name: str
) -> None:
    """The parser lets none of this through; the message does not depend on that."""
    who = Somebody(name, name)
    for target in (Target(None, f"/{path}", ""), Target((1, 45), f"/swarm/{path}", path)):
        for asked in (upgrade, ""):
            message = said(judge(who, method, target, None, asked))
            assert message.startswith("ds01: ")


def test_verdicts_of_other_parts_are_said_as_well() -> None:
    assert said(Verdict(DENY, "engine.silent", "the engine does not answer", "", 503)) == (
        "ds01: the engine does not answer (rule engine.silent)"
    )
    assert said(Verdict(DENY, "", "a\r\nb\x1b[2J", "c\x00", 403)) == "ds01: a??b?[2J. c?"


@pytest.mark.parametrize(
    ("raw", "engine", "sent"),
    [
        (b"/info", (1, 45), None),
        (b"/info", API_MAX, None),
        (b"/info", ABOVE, API_MAX),
        (b"/info", None, None),
        (b"/v1.45/info", ABOVE, (1, 45)),
        (b"/v1.45/info", None, (1, 45)),
    ],
)
def test_an_engine_newer_than_the_list_is_asked_in_the_lists_newest_version(
    raw: bytes, engine: tuple[int, int] | None, sent: tuple[int, int] | None
) -> None:
    assert version_to_send(parse_target(raw), engine) == sent


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"1.45", b"1.45"),
        (NEWEST.encode(), NEWEST.encode()),
        (f"{ABOVE[0]}.{ABOVE[1]}".encode(), NEWEST.encode()),
        (b" 1.99 ", NEWEST.encode()),
        (b"2.0", NEWEST.encode()),
        (b"1.9", b"1.9"),
        (b"", b""),
        (b"new", b"new"),
        (b"1.99.1", b"1.99.1"),
        (b"1.45\n", b"1.45\n"),
    ],
)
def test_the_version_shown_is_one_that_the_list_knows(value: bytes, shown: bytes) -> None:
    assert capped_api(value) == shown


def version_answer(api: str, of_engine: str) -> dict[str, object]:
    return {
        "Platform": {"Name": "Docker Engine - Community"},
        "Components": [
            {
                "Name": "Engine",
                "Version": "29.9",
                "Details": {"ApiVersion": of_engine, "Os": "linux"},
            },
            {"Name": "containerd", "Version": "v2", "Details": {"ApiVersion": "9.99"}},
            {"Name": "runc"},
            "odd",
        ],
        "Version": "29.9",
        "ApiVersion": api,
        "MinAPIVersion": "1.24",
        "BuildTime": "2026-01-01T00:00:00.000000000+00:00",
        "KernelVersion": "6.1 é",
    }


def test_the_answer_of_version_is_untouched_where_nothing_exceeds_the_list() -> None:
    for answer in (version_answer("1.45", "1.45"), version_answer(NEWEST, NEWEST)):
        body = json.dumps(answer, indent=1).encode()
        assert cap_version_body(body) is body


@pytest.mark.parametrize(
    ("api", "of_engine"), [("1.99", "1.99"), ("1.99", "1.45"), ("1.45", "1.99")]
)
def test_versions_above_the_list_are_lowered_and_nothing_else(api: str, of_engine: str) -> None:
    body = json.dumps(version_answer(api, of_engine)).encode()
    capped = json.loads(cap_version_body(body))
    lowered = [NEWEST if value == "1.99" else value for value in (api, of_engine)]
    assert capped == version_answer(*lowered)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff",
        b"[]",
        b"1",
        b"null",
        b'"1.99"',
        b"{}",
        b'{"ApiVersion": 1.99}',
        b'{"ApiVersion": null, "Components": {"Name": "Engine"}}',
        b'{"Components": [{"Name": "Engine"}, {"Name": "Engine", "Details": []}]}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_version_is_left_alone(body: bytes) -> None:
    assert cap_version_body(body) == body
