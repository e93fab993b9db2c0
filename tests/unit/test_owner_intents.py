# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which thing came of which intent after a crash: by all that was asked for, and in doubt nobody's."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from ds01.core.owner_intents import (
    EARLY_SECONDS,
    GROUP,
    ITEMS,
    LATE_SECONDS,
    Found,
    Intent,
    fingerprint,
    fits,
    match,
)
from ds01.core.owners import IMAGE, NETWORK, VOLUME
from hypothesis import given
from hypothesis import strategies as st
from owner_desk import WALL, intent

BODY: dict[str, Any] = {
    "Image": "python:3.12",
    "Cmd": ["python", "train.py"],
    "Env": ["TOKEN=hunter2", "LR=0.1", "HOME"],
    "Labels": {"team": "nlp", "run": "7"},
    "Tty": True,
    "OpenStdin": False,
    "User": "1000:1000",
    "WorkingDir": "/w",
    "HostConfig": {
        "Binds": ["/home/alice/proj:/w", "cache:/c:ro"],
        "Mounts": [{"Type": "bind", "Source": "/data", "Target": "/d", "ReadOnly": True}],
        "CgroupParent": "ds01-student-alice.slice",
        "NetworkMode": "default",
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    },
}


def shown(body: dict[str, Any] | None = None, name: str = "brave_hopper") -> dict[str, Any]:
    """The engine's inspection of what it made of a body, with what the image adds."""
    body = copy.deepcopy(BODY if body is None else body)
    config = {key: value for key, value in body.items() if key != "HostConfig"}
    config["Env"] = [*(config.get("Env") or []), "PATH=/usr/bin", "PYTHON_VERSION=3.12.1"]
    config["Labels"] = {**(config.get("Labels") or {}), "maintainer": "somebody"}
    config["Entrypoint"] = config.get("Entrypoint")
    config["Cmd"] = config.get("Cmd") or ["python3"]
    host = {"NetworkMode": "bridge", "RestartPolicy": {"Name": "no"}, **body.get("HostConfig", {})}
    return {"Name": f"/{name}", "Config": config, "HostConfig": host}


def wanted(name: str = "", body: dict[str, Any] | None = None, **more: Any) -> Intent:
    return intent(name=name, fingerprint=fingerprint(name, BODY if body is None else body), **more)


def test_no_secret_can_be_read_in_a_fingerprint() -> None:
    text = json.dumps(fingerprint("web", BODY))
    for secret in ("hunter2", "TOKEN", "train.py", "/home/alice", "nlp", "1000"):
        assert secret not in text
    # Nor does the same secret look the same in another process.
    assert fingerprint("web", BODY, "s")["env"] != fingerprint("web", BODY, "t")["env"]
    assert fingerprint("web", BODY) == fingerprint("web", BODY)


def test_the_engines_inspection_fits_what_was_asked_for() -> None:
    assert fits(wanted(), WALL + 0.3, shown())
    assert fits(wanted("web"), WALL + 0.3, shown(name="web"))
    # Through the store and back.
    kept = json.loads(json.dumps(fingerprint("web", BODY)))
    assert fits(intent(name="web", fingerprint=kept), WALL, shown(name="web"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Image", "python:3.11"),
        ("Cmd", ["python", "other.py"]),
        ("Env", ["LR=0.1"]),
        ("Env", ["TOKEN=hunter3", "LR=0.1"]),
        ("Labels", {"team": "nlp"}),
        ("Labels", {"team": "nlp", "run": "8"}),
        ("Tty", False),
        ("OpenStdin", True),
        ("User", "0"),
    ],
)
def test_what_shows_something_else_does_not_fit(field: str, value: Any) -> None:
    inspection = shown()
    inspection["Config"][field] = value
    assert not fits(wanted(), WALL, inspection)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Binds", ["/home/alice/proj:/w"]),
        ("Binds", ["/home/alice/proj:/w", "cache:/c:ro", "/home/bob:/b"]),
        ("Binds", None),
        ("Mounts", []),
        ("Mounts", [{"Type": "bind", "Source": "/other", "Target": "/d"}]),
        ("CgroupParent", "ds01-student-bob.slice"),
        ("NetworkMode", "host"),
        ("RestartPolicy", {"Name": "always"}),
    ],
)
def test_what_shows_another_host_configuration_does_not_fit(field: str, value: Any) -> None:
    inspection = shown()
    inspection["HostConfig"][field] = value
    assert not fits(wanted(), WALL, inspection)


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        ({"Image": "a"}, "Cmd", ["of", "the", "image"]),
        ({"Image": "a", "Cmd": "true"}, "Cmd", ["true"]),
        ({"Image": "a", "Entrypoint": [""]}, "Entrypoint", None),
        ({"Image": "a", "Entrypoint": []}, "Entrypoint", ["/entry"]),
        ({"Image": "a", "Env": None, "Labels": None}, "User", "app"),
        ({"Image": "a", "Env": ["PATH"]}, "Env", ["X=1"]),
    ],
)
def test_what_a_body_leaves_to_the_image_may_be_anything(
    asked: dict[str, Any], field: str, value: Any
) -> None:
    inspection = shown(asked)
    inspection["Config"][field] = value
    assert fits(wanted(body=asked), WALL, inspection)


@pytest.mark.parametrize(
    "body", [{}, {"Image": 7}, {"HostConfig": 3, "Env": {"a": 1}, "Labels": []}]
)
def test_absurd_bodies_are_taken_as_they_are(body: dict[str, Any]) -> None:
    assert fits(wanted(body=body), WALL, {"Name": "brave_hopper", "Config": {"Image": 3}}) is False
    assert not fits(wanted(body=body), WALL, {"Name": None, "Config": None, "HostConfig": []})


@pytest.mark.parametrize(
    ("asked", "name", "fit"),
    [
        ("web", "web", True),
        ("/web", "web", True),
        ("web", "other", False),
        # Nobody asked for a name: it is one that the engine gives.
        ("", "brave_hopper", True),
        ("", "brave_hopper3", True),
        ("", "web", False),
        ("", "web_", False),
        ("", "0a1b2c3d4e5f_brave_hopper", False),
    ],
)
def test_the_name_is_the_one_that_was_asked_for(asked: str, name: str, fit: bool) -> None:
    assert fits(wanted(asked), WALL, shown(name=name)) is fit


@pytest.mark.parametrize(
    ("created", "ended", "fit"),
    [
        (0.0, None, True),
        (-EARLY_SECONDS, None, True),
        (-EARLY_SECONDS - 0.1, None, False),
        (LATE_SECONDS, None, True),
        (LATE_SECONDS + 0.1, None, False),
        (5.0, 5.0, True),
        (7.0, 5.0, False),
        (LATE_SECONDS + 50, LATE_SECONDS + 60, False),
    ],
)
def test_it_was_made_while_it_was_asked_for(created: float, ended: float | None, fit: bool) -> None:
    one = wanted(ended=None if ended is None else WALL + ended)
    assert fits(one, WALL + created, shown()) is fit


def test_volumes_and_networks_go_by_their_name_and_images_by_none() -> None:
    assert fits(intent(kind=VOLUME, name="data"), WALL, {"Name": "data"})
    assert fits(intent(kind=NETWORK, name="net"), WALL, {"Name": "net"})
    assert not fits(intent(kind=VOLUME, name="data"), WALL, {"Name": "other"})
    assert not fits(intent(kind=VOLUME), WALL, {"Name": ""})
    assert not fits(intent(kind=VOLUME, name="data"), WALL - 60, {"Name": "data"})
    assert not fits(intent(kind=IMAGE, name="a"), WALL, {"Name": "a"})
    # Without a fingerprint nothing tells a container.
    assert not fits(intent(name="web"), WALL, shown(name="web"))


@pytest.mark.parametrize(
    ("name", "image", "labels", "fit"),
    [
        ("web", "python:3.12", {"team": "nlp", "run": "7", "more": "x"}, True),
        ("web", "python:3.12", {"team": "nlp"}, False),
        ("web", "python:3.11", {"team": "nlp", "run": "7"}, False),
        ("other", "python:3.12", {"team": "nlp", "run": "7"}, False),
    ],
)
def test_of_what_is_gone_the_engines_event_tells_enough(
    name: str, image: str, labels: dict[str, str], fit: bool
) -> None:
    told = {"Name": name, "Config": {"Image": image, "Labels": labels}}
    assert fits(wanted("web"), WALL, told, whole=False) is fit
    assert not fits(wanted("web"), WALL, told)
    assert not fits(wanted("web"), WALL - 60, told, whole=False)
    matches = match([wanted("web")], [Found("1" * 64, WALL, told, whole=False)])
    assert bool(matches.claims) is fit
    twice = [wanted("web"), wanted("web", token="t2", uid=1002, user="bob")]
    assert match(twice, [Found("1" * 64, WALL, told, whole=False)]).claims == {}


def test_a_fingerprint_without_end_stays_small() -> None:
    body: dict[str, Any] = {
        "Image": "i" * 10**5,
        "Cmd": ["c" * 10**6],
        "Env": [f"K{number}={'v' * 100}" for number in range(10**4)],
        "Labels": {f"k{number}": "v" * 100 for number in range(10**4)},
        "HostConfig": {"Binds": [f"/{number}:/{number}" for number in range(10**4)]},
    }
    found = fingerprint("n" * 10**5, body)
    assert len(json.dumps(found)) < 3 * ITEMS * 24
    assert fits(intent(fingerprint={**found, "name": ""}), WALL, shown(body))
    body["HostConfig"]["Binds"].pop()
    assert not fits(intent(fingerprint={**found, "name": ""}), WALL, shown(body))


# --- which came of which --------------------------------------------------------------------------


def found(number: int, body: dict[str, Any] | None = None, **more: Any) -> Found:
    at = more.pop("at", WALL + number / 10)
    return Found(f"{number:064x}", at, shown(body, **more))


def asked(token: str, uid: int = 1001, body: dict[str, Any] | None = None, **more: Any) -> Intent:
    return wanted(body=body, token=token, uid=uid, user={1001: "alice"}.get(uid, "bob"), **more)


OTHER = {**BODY, "Image": "ubuntu"}


def test_what_one_user_alone_can_have_made_is_his() -> None:
    matches = match([asked("a"), asked("b", 1002, OTHER)], [found(1), found(2, OTHER)])
    assert matches.claims == {"a": f"{1:064x}", "b": f"{2:064x}"}
    assert matches.disputed == {}


def test_what_two_users_can_have_made_is_nobodys() -> None:
    matches = match([asked("a"), asked("b", 1002)], [found(1)])
    assert matches.claims == {}
    assert matches.disputed == {f"{1:064x}": ("alice", "bob")}


def test_one_intent_makes_one_thing() -> None:
    """One of the two was made by somebody whom the door did not see: nobody knows which."""
    matches = match([asked("a")], [found(1), found(2)])
    assert matches.claims == {}
    assert matches.disputed == {f"{1:064x}": ("alice",), f"{2:064x}": ("alice",)}


def test_several_of_one_user_that_look_alike_are_all_his() -> None:
    matches = match([asked("a"), asked("b"), asked("c")], [found(1), found(2)])
    assert sorted(matches.claims.values()) == [f"{1:064x}", f"{2:064x}"]
    assert len(matches.claims) == 2
    # In the order in which they were asked for, where that is possible.
    first, second = asked("a", at=WALL), asked("b", at=WALL + 1)
    assert match([second, first], [found(1), found(20)]).claims["a"] == f"{1:064x}"


def test_times_that_leave_one_way_only_are_seen() -> None:
    early, late = asked("a", at=WALL), asked("b", at=WALL + 50)
    things = [found(1, at=WALL + 60), found(2, at=WALL + 1)]
    assert match([early, late], things).claims == {"a": f"{2:064x}", "b": f"{1:064x}"}


def test_what_is_disputed_counts_against_what_is_not() -> None:
    """Alice's one intent may be the disputed one; then the other was made by nobody known."""
    alice, bob = asked("a", at=WALL), asked("b", 1002, at=WALL + 100)
    both, hers, more = found(1, at=WALL + 101), found(2, at=WALL + 1), found(3, at=WALL + 2)
    assert match([alice, bob], [both, hers]).claims == {"a": hers.id}
    assert match([alice, bob], [both, hers]).disputed == {both.id: ("alice", "bob")}
    assert match([alice, bob], [both, hers, more]).claims == {}


def test_things_and_intents_that_nothing_fits_are_left_out() -> None:
    assert match([], [found(1)]).claims == {}
    assert match([asked("a")], []).claims == {}
    assert match([asked("a")], [found(1, OTHER)]).disputed == {}


def test_more_than_anybody_can_tell_apart_is_nobodys_and_soon_said() -> None:
    many = [asked(f"t{number:04}") for number in range(GROUP + 1)]
    things = [Found(f"{number:064x}", WALL, shown()) for number in range(GROUP + 1)]
    matches = match(many, things)
    assert (len(matches.claims), len(matches.disputed)) == (0, GROUP + 1)
    assert len(match(many[:100], things[:100]).claims) == 100


@given(
    st.lists(st.tuples(st.integers(1001, 1003), st.integers(0, 2)), max_size=6),
    st.lists(st.integers(0, 2), max_size=6),
)
def test_whatever_came_of_what_nobody_gets_what_he_did_not_make(
    intents: list[tuple[int, int]], things: list[int]
) -> None:
    """Each thing is made by one of the intents or past the door; no claim names a wrong user.

    What was made past the door may look as one intent of which nothing came asked for: nobody can tell
    that from what was made through it. So those are left out here: each intent has made its thing.
    """
    images = [{"Image": f"i{number}"} for number in range(3)]
    ours = [
        wanted(body=images[image], token=f"t{number}", uid=uid, user=f"u{uid}")
        for number, (uid, image) in enumerate(intents)
    ]
    makers: dict[str, int | None] = {}
    there = []
    ids = (f"{number:064x}" for number in itertools.count())
    for uid, image in intents:
        there.append(Found(next(ids), WALL, shown(images[image])))
        makers[there[-1].id] = uid
    for image in things:
        there.append(Found(next(ids), WALL, shown(images[image])))
        makers[there[-1].id] = None
    matches = match(ours, there)
    users = {one.token: one.uid for one in ours}
    for token, thing in matches.claims.items():
        assert makers[thing] == users[token]
    assert len(set(matches.claims.values())) == len(matches.claims)
    assert not set(matches.claims.values()) & set(matches.disputed)
