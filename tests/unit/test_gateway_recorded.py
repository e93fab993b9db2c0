# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request that makes something, and its answer, tell of the thing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ds01.core.owner_intents import fingerprint
from ds01.core.owners import CONTAINER, EXEC, IMAGE, NETWORK, VOLUME
from ds01.core.recorded import (
    BOUND,
    NOTED,
    SPANNED,
    Thing,
    agent_of,
    container_asked,
    field,
    is_new_volume,
    leases_named,
    name_asked,
    plan_of,
    read_body,
    seconds_of,
    spelled,
    thing_begun,
    thing_in,
    volumes_asked,
    volumes_named,
)
from ds01.core.route_table import CHANGE, HIJACK, OPAQUE, READ, ROUTES, STREAM, UPLOAD
from hypothesis import given
from hypothesis import strategies as st

ID = "0123456789abcdef" * 4


def test_each_route_that_makes_something_is_recorded_and_no_other() -> None:
    plans = {route.name: plan_of(route.name) for route in ROUTES}
    hows = {name: plan.how for name, plan in plans.items() if plan}
    assert hows == {
        "container_create": BOUND,
        "volume_create": NOTED,
        "network_create": NOTED,
        "exec_create": NOTED,
        "commit": NOTED,
        "image_tag": SPANNED,
        "image_pull": SPANNED,
        "image_load": SPANNED,
        "build": SPANNED,
        "grpc": SPANNED,
        "session": SPANNED,
    }
    for route in ROUTES:
        plan = plans[route.name]
        if plan and plan.gathers:
            # What is read whole is small, and no stream.
            assert route.kind == CHANGE
        assert not plan or route.kind not in (READ, UPLOAD, HIJACK)
    assert {STREAM, OPAQUE} == {r.kind for r in ROUTES if plans[r.name] and r.kind != CHANGE}


@pytest.mark.parametrize(
    ("route", "query", "body", "name"),
    [
        ("container_create", "name=box", {}, "box"),
        ("container_create", "name=%2Fbox&platform=", {}, "box"),
        ("container_create", "name=one&name=two", {}, "one"),
        ("container_create", "", {"Name": "no"}, ""),
        ("container_create", "name=" + "a" * 1000, {}, "a" * 255),
        ("volume_create", "", {"Name": "data"}, "data"),
        ("volume_create", "", {"nAMe": "data"}, "data"),
        ("volume_create", "", {"Name": 7}, ""),
        ("volume_create", "", None, ""),
        ("network_create", "", {"Name": "net"}, "net"),
        ("image_tag", "repo=mine&tag=1", {}, "mine:1"),
        ("image_tag", "repo=mine", {}, "mine:latest"),
        ("image_tag", "repo=localhost:5000/mine", {}, "localhost:5000/mine:latest"),
        ("commit", "container=x&repo=docker.io%2Flibrary%2Fmine&tag=2", {}, "mine:2"),
        ("commit", "container=x", {}, ""),
        ("image_pull", "fromImage=docker.io%2Flibrary%2Falpine&tag=3", {}, "alpine:3"),
        ("image_pull", "fromImage=alpine", {}, "alpine:latest"),
        ("image_pull", f"fromImage=alpine&tag=sha256:{ID}", {}, f"alpine@sha256:{ID}"),
        ("image_pull", "fromSrc=-&repo=mine&tag=1", {}, "mine:1"),
        ("image_pull", "fromSrc=-", {}, ""),
        ("build", "t=a&t=b:2&q=1", {}, "a:latest b:2"),
        ("image_load", "quiet=1", {}, ""),
        ("session", "", {}, ""),
    ],
)
def test_the_name_is_the_one_that_the_engine_will_give(
    route: str, query: str, body: dict[str, Any] | None, name: str
) -> None:
    assert name_asked(route, query, body) == name


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"Image": "x"}', {"Image": "x"}),
        (b' \r\n{"Image": "x"} trailing', {"Image": "x"}),
        (b'{"A": 1, "a": 2, "A": 3}', {"a": 2, "A": 3}),
        (b'{"Image": "\xff"}', {"Image": "\ufffd"}),
        (b"[]", None),
        (b'"text"', None),
        (b"", None),
        (b"{", None),
        (b'\xef\xbb\xbf{"Image": "x"}', None),
        (b'{"Image": "x"}'.decode().encode("utf-16"), None),
        (b"[" * 100_000, None),
        (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, None),
        (b'{"a": [' + b"1," * 30_000 + b"1]}", None),
        (b'{"a": ' + b"9" * 5_000 + b"}", None),
    ],
    ids=range(14),
)
def test_a_body_is_read_as_the_engine_reads_it_or_not_at_all(
    body: bytes, read: dict[str, Any] | None
) -> None:
    found = read_body(body)
    assert found == read
    if found and "a" in found and "A" in found:
        assert field(found, "A") == 3 == field(found, "a")


@given(st.binary(max_size=300))
def test_no_body_makes_it_stumble(body: bytes) -> None:
    found = read_body(body)
    (
        leases_named(found),
        volumes_named(found),
        volumes_asked(found),
        name_asked("volume_create", "", found),
    )


def test_leases_are_those_that_cdi_is_asked_for() -> None:
    wanted = [
        {"Driver": "cdi", "DeviceIDs": ["ds01.local/lease=l1", "nvidia.com/gpu=0"]},
        {"Driver": "", "DeviceIDs": ["ds01.local/lease=l2"]},
        {"Driver": "cdi", "DeviceIDs": ["ds01.local/lease=l1", "ds01.local/lease=../x", 7]},
        {"Driver": "cdi", "DeviceIDs": "ds01.local/lease=l3"},
        "no request",
    ]
    assert leases_named({"HostConfig": {"DeviceRequests": wanted}}) == ("l1",)
    assert leases_named({"hostconfig": {"devicerequests": wanted}}) == ("l1",)
    odd_ones: tuple[dict[str, Any] | None, ...]
    odd_ones = (None, {}, {"HostConfig": 1}, {"HostConfig": {"DeviceRequests": {}}})
    for odd in odd_ones:
        assert leases_named(odd) == ()


def test_volumes_of_a_container_are_those_that_are_made_with_it() -> None:
    host = {
        "Binds": ["data:/data", "/srv:/srv", "more:/m:ro", 7, "./x:/x"],
        "Mounts": [
            {"Type": "volume", "Source": "third"},
            {"Type": "bind", "Source": "fourth"},
            {"Type": "volume"},
        ],
    }
    assert volumes_named({"HostConfig": host}) == {"data", "more", "third"}


@pytest.mark.parametrize(
    ("kind", "status", "body", "thing"),
    [
        (CONTAINER, 201, {"Id": ID, "Warnings": []}, Thing(ID)),
        (EXEC, 201, {"Id": ID}, Thing(ID)),
        (NETWORK, 201, {"Id": ID}, Thing(ID)),
        (IMAGE, 201, {"Id": f"sha256:{ID}"}, Thing(f"sha256:{ID}")),
        (
            VOLUME,
            201,
            {"Name": "data", "CreatedAt": "2026-01-01T00:00:00Z"},
            Thing("data", "data", 1767225600.0),
        ),
        (VOLUME, 201, {"Name": "data"}, Thing("data", "data")),
        (VOLUME, 201, {"Name": "../data"}, None),
        (CONTAINER, 201, {"Id": "../x"}, None),
        (CONTAINER, 201, {"Id": ID.upper()}, None),
        (CONTAINER, 201, {"Id": f"sha256:{ID}"}, None),
        (CONTAINER, 201, {"Id": None}, None),
        (CONTAINER, 201, [], None),
        (IMAGE, 201, {"Id": ID}, None),
        (CONTAINER, 409, {"Id": ID}, None),
        (CONTAINER, 204, {"Id": ID}, None),
    ],
)
def test_an_answer_tells_what_was_made_or_nothing(
    kind: str, status: int, body: Any, thing: Thing | None
) -> None:
    assert thing_in(kind, status, json.dumps(body).encode()) == thing
    assert thing_in(kind, status, b"no json") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600.0),
        ("2026-01-01T01:00:00.5+01:00", 1767225600.5),
        ("2026-01-01T00:00:00.123456789Z", 1767225600.123456789),
        ("2026-13-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (7, None),
    ],
)
def test_the_engines_times_are_seconds(text: object, seconds: float | None) -> None:
    found = seconds_of(text)
    assert found is None if seconds is None else found == pytest.approx(seconds)


ASKED = 1000.7
NONE: frozenset[str] = frozenset()
DATA = frozenset({"data"})


@pytest.mark.parametrize(
    ("made", "absent", "named", "new"),
    [
        # It was not there, and came in the second in which it was asked for.
        (Thing("data", "data", 1000.0), DATA, True, True),
        (Thing("data", "data", 1001.0), DATA, True, True),
        (Thing("data", "data", None), DATA, True, True),
        # It was there: even if its time is of this very second, or its folder was changed just now.
        (Thing("data", "data", 1000.0), NONE, True, False),
        (Thing("data", "data", 1005.0), NONE, True, False),
        # The engine did not know it, yet shows a time before: another driver's, say.
        (Thing("data", "data", 999.0), DATA, True, False),
        # Another one than was asked for.
        (Thing("bobs", "bobs", 1001.0), DATA, True, False),
        # Without a name the engine makes one up, which nobody can guess.
        (Thing(ID, ID, 1000.0), NONE, False, True),
        (Thing("bobs", "bobs", 1000.0), NONE, False, False),
        (Thing(ID, ID, 500.0), NONE, False, False),
    ],
)
def test_a_volume_that_was_there_is_not_claimed(
    made: Thing, absent: frozenset[str], named: bool, new: bool
) -> None:
    assert is_new_volume(made, ASKED, absent, named) is new


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"Name": "bobs"}', {"bobs"}),
        (b'{"Name": "", "nAmE": "bobs"}', {"bobs"}),
        (b'{"Name": "bobs", "name": null}', {"bobs"}),
        (b'{"Name": "mine", "name": "bobs"}', {"mine", "bobs"}),
        (b'{"N\\u0061me": "bobs"}', {"bobs"}),
        (b'{"Labels": {"Name": "bobs"}}', set()),
        (b'{"Name": "../bobs"}', set()),
    ],
)
def test_every_name_that_the_engine_may_take_is_looked_at(body: bytes, names: set[str]) -> None:
    assert volumes_asked(read_body(body)) == names


def test_clients_and_containers_are_named_as_they_name_themselves() -> None:
    assert agent_of([(b"Host", b"x"), (b"USER-agent", b"compose/2.30")]) == "compose/2.30"
    assert agent_of([(b"User-Agent", b"a" * 5000)]) == "a" * 200
    assert agent_of([]) == ""
    assert container_asked("/containers/box/exec") == "box"
    assert container_asked("/containers/link/alias/exec") == "link/alias"
    assert container_asked("/containers/box/json") == ""


def test_fields_in_any_case_are_what_the_engine_takes_them_for() -> None:
    """Else what was asked would not be known again in what came of it."""
    plain = {"Image": "x", "Labels": {"image": "y"}, "HostConfig": {"Binds": ["/a:/a"]}}
    odd = {"image": "x", "LABELS": {"image": "y"}, "hostconfig": {"bindS": ["/a:/a"]}}
    assert fingerprint("n", spelled(odd), "s") == fingerprint("n", spelled(plain), "s")
    assert fingerprint("n", spelled(plain), "s") == fingerprint("n", plain, "s")


@pytest.mark.parametrize(
    ("status", "content", "found"),
    [
        (201, b'{"Id":"%s","Warnings":["' % (b"a" * 64), "a" * 64),
        (200, b'{"Id":"%s","Warnings":["' % (b"a" * 64), ""),
        (201, b'{"Warnings":["","Id":"%s"' % (b"a" * 64), ""),
        (400, b'{"message":"', ""),
    ],
)
def test_the_beginning_of_an_answer_tells_what_was_made(
    status: int, content: bytes, found: str
) -> None:
    thing = thing_begun(CONTAINER, status, content)
    assert (thing.id if thing else "") == found
