# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the target of a request line is read: the plain ones, the rare ones, and the attacks."""

from __future__ import annotations

import pytest
from ds01.core.targets import TARGET_MAX, Target, TargetError, forward_target, parse_target

ID = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2"


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"/_ping", Target(None, "/_ping", "")),
        (b"/", Target(None, "/", "")),
        (b"/v1.45/containers/json?all=1", Target((1, 45), "/containers/json", "all=1")),
        (b"/v1.24/info", Target((1, 24), "/info", "")),
        (b"/v0.0/info", Target((0, 0), "/info", "")),
        (b"/v1.999/info", Target((1, 999), "/info", "")),
        (b"/v1.45/", Target((1, 45), "/", "")),
        (b"/networks/", Target(None, "/networks/", "")),
        (b"/volumes", Target(None, "/volumes", "")),
        (b"/version?", Target(None, "/version", "")),
        (b"/info??", Target(None, "/info", "?")),
        (b"/info?/../v1.45//", Target(None, "/info", "/../v1.45//")),
        (b"/containers/..a/json", Target(None, "/containers/..a/json", "")),
        (b"/containers/a../json", Target(None, "/containers/a../json", "")),
        (b"/containers/.../json", Target(None, "/containers/.../json", "")),
        (f"/v1.45/containers/{ID}/json".encode(), Target((1, 45), f"/containers/{ID}/json", "")),
        (
            b"/images/localhost:5000/a/b:tag@sha256:01/json",
            Target(None, "/images/localhost:5000/a/b:tag@sha256:01/json", ""),
        ),
        # Filters as clients encode them, and as people type them to curl.
        (
            b"/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D",
            Target(None, "/events", "filters=%7B%22type%22%3A%5B%22container%22%5D%7D"),
        ),
        (b'/events?filters={"a":["b"]}', Target(None, "/events", "filters={%22a%22:[%22b%22]}")),
        (b"/build?t=a%3cb>c<d\\e^f`{|}~", Target(None, "/build", "t=a%3cb%3Ec%3Cd%5Ce^f`{|}~")),
        (b"/auth?a=b;c=d&e=%zz", Target(None, "/auth", "a=b;c=d&e=%zz")),
    ],
)
def test_a_target_is_read(raw: bytes, wanted: Target) -> None:
    assert parse_target(raw) == wanted
    assert parse_target(forward_target(wanted, wanted.version)) == wanted


@pytest.mark.parametrize(
    ("raw", "wanted", "sent"),
    [
        (b"/v1.45%2fcontainers/json", "/containers/json", b"/v1.45/containers/json"),
        (b"/%761.45/containers/json", "/containers/json", b"/v1.45/containers/json"),
        (b"/v1%2e45/containers/json", "/containers/json", b"/v1.45/containers/json"),
        (b"/images/a%2Fb%3Ac%40d/json", "/images/a/b:c@d/json", b"/images/a/b:c@d/json"),
        (b"/containers/%61%2eb/json", "/containers/a.b/json", b"/containers/a.b/json"),
        (
            b"/images/[::1]:5000/a/json",
            "/images/[::1]:5000/a/json",
            b"/images/%5B::1%5D:5000/a/json",
        ),
        (b"/images/%5b::1%5d/json", "/images/[::1]/json", b"/images/%5B::1%5D/json"),
    ],
)
def test_an_encoded_path_is_decoded_once_and_sent_in_one_spelling(
    raw: bytes, wanted: str, sent: bytes
) -> None:
    target = parse_target(raw)
    assert target.path == wanted
    assert forward_target(target, target.version) == sent


SEGMENT = "segment . or .."
ESCAPE = "begins no escape"
TWICE = "encoded twice"
CHARACTER = "a character that no name in docker has"
ASCII = "outside ASCII"
VERSION = "version of the API"
NO_PATH = "something else than a path"
FRAGMENT = "begins a fragment"
DOUBLED = "doubled slashes"
QUERY = "a space or a control character"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", NO_PATH),
        (b"*", NO_PATH),
        (b"containers/json", NO_PATH),
        (b"localhost:2375", NO_PATH),
        (b"http://localhost/containers/json", NO_PATH),
        (b"HTTP://localhost", NO_PATH),
        (b"?a=1", NO_PATH),
        (b"\\containers\\json", NO_PATH),
        (b"%2Fcontainers/json", NO_PATH),
        (b"/.", SEGMENT),
        (b"/..", SEGMENT),
        (b"/./containers/json", SEGMENT),
        (b"/containers/./json", SEGMENT),
        (b"/containers/../swarm/init", SEGMENT),
        (b"/containers/json/..", SEGMENT),
        (b"/containers/json/.?a", SEGMENT),
        (b"/containers/%2e%2e/json", SEGMENT),
        (b"/containers/%2E./json", SEGMENT),
        (b"/containers/..%2fjson", SEGMENT),
        (b"/v1.45/..%2f..%2fetc", SEGMENT),
        (b"/v1.45/../v1.44/info", SEGMENT),
        (b"/containers/%252e%252e/json", TWICE),
        (b"/containers/a%25/json", TWICE),
        (b"/containers/%/json", ESCAPE),
        (b"/containers/%2/json", ESCAPE),
        (b"/containers/%zz/json", ESCAPE),
        (b"/containers/%u002e/json", ESCAPE),
        (b"/containers/a;b/json", CHARACTER),
        (b"/containers/json;a=1", CHARACTER),
        (b"/containers\\a\\json", CHARACTER),
        (b"/containers/%5cjson", CHARACTER),
        (b"/containers/a%00/json", CHARACTER),
        (b"/containers/a\x00/json", CHARACTER),
        (b"/containers/a%0d%0aX:%20y/json", CHARACTER),
        (b"/containers/a\tb/json", CHARACTER),
        (b"/containers/a b/json", CHARACTER),
        (b"/containers/a%20b/json", CHARACTER),
        (b"/containers/json%3fall=1", CHARACTER),
        (b"/containers/json%23", CHARACTER),
        (b"/containers/a\x7f/json", CHARACTER),
        (b"/containers/a|b/json", CHARACTER),
        (b'/containers/"a"/json', CHARACTER),
        (b"/containers/a\n", CHARACTER),
        (b"/containers/json\n", CHARACTER),
        (b"/containers/json#top", FRAGMENT),
        (b"/containers/json?all=1#top", FRAGMENT),
        (b"/containers/json?all=1 ", QUERY),
        (b"/containers/json?all=1\n", QUERY),
        (b"/containers/json?a\x00", QUERY),
        (b"/containers/json?a\x7f", QUERY),
        (b"/containers/json?a=\xc3\xa9", ASCII),
        ("/containers/müller/json".encode(), ASCII),
        (b"/containers/m%c3%bcller/json", ASCII),
        (b"/containers/%ff/json", ASCII),
        (b"/containers/%c0%ae%c0%ae/json", ASCII),
        ("/containers/\u2024\u2024/json".encode(), ASCII),
        ("/\uff0fcontainers".encode(), ASCII),
        (b"/v1.45/v1.45/containers/json", VERSION),
        (b"/v1.45/v1.44/v1.43/info", VERSION),
        (b"/v1.45", VERSION),
        (b"/v1.45?a", VERSION),
        (b"/v1/containers/json", VERSION),
        (b"/v1./info", VERSION),
        (b"/v.45/info", VERSION),
        (b"/v./info", VERSION),
        (b"/v1..45/info", VERSION),
        (b"/v1.45.0/info", VERSION),
        (b"/v1.045/info", VERSION),
        (b"/v01.45/info", VERSION),
        (b"/v1.4500/info", VERSION),
        (b"/v1000.1/info", VERSION),
        (b"/v1.45/v1%2e45/info", VERSION),
        (b"//containers/json", DOUBLED),
        (b"/v1.45//containers/json", DOUBLED),
        (b"/containers//json", DOUBLED),
        (b"/containers/json//", DOUBLED),
        (b"/containers/%2fjson", DOUBLED),
        (b"//evil.example/a", DOUBLED),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(raw: bytes, fault: str) -> None:
    with pytest.raises(TargetError, match=fault.replace(".", r"\.")) as caught:
        parse_target(raw, "POST")
    assert caught.value.status == 400
    assert not caught.value.location
    # The answer and the log hold nothing of what was sent.
    assert str(caught.value).isascii() and str(caught.value).isprintable()


@pytest.mark.parametrize("raw", [b"/V1.45/containers/json", b"/v1x/containers", b"/version1.45/a"])
def test_what_only_looks_like_a_version_is_a_path_as_for_the_engine(raw: bytes) -> None:
    assert parse_target(raw) == Target(None, raw.decode(), "")


def test_a_target_may_have_64_kib_and_no_more() -> None:
    longest = b"/info?" + b"a" * (TARGET_MAX - 6)
    assert len(parse_target(longest).query) == TARGET_MAX - 6
    for raw in (longest + b"a", b"/" + b"a" * TARGET_MAX, b"\xff" * (TARGET_MAX + 1)):
        with pytest.raises(TargetError, match="65536 bytes") as caught:
            parse_target(raw)
        assert caught.value.status == 414


@pytest.mark.parametrize(
    ("raw", "location"),
    [
        (b"//containers/json", "/containers/json"),
        (b"/containers//web/json?size=1", "/containers/web/json?size=1"),
        (b"/v1.45///containers//json", "/v1.45/containers/json"),
        (b"//networks//", "/networks/"),
        (b"//evil.example/a", "/evil.example/a"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_with_doubled_slashes_is_redirected_as_by_the_engine(
    raw: bytes, location: str, method: str
) -> None:
    with pytest.raises(TargetError, match=DOUBLED) as caught:
        parse_target(raw, method)
    assert (caught.value.status, caught.value.location) == (301, location)


@pytest.mark.parametrize("raw", [b"//a/%2e", b"//%61", b"/a//..", b"/v1.45//v1.45/info", b"//a;b"])
def test_doubled_slashes_with_anything_else_wrong_are_refused(raw: bytes) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(raw, "GET")
    assert (caught.value.status, caught.value.location) == (400, "")


def test_a_version_is_put_before_the_path() -> None:
    target = parse_target(b"/info?a=1")
    assert forward_target(target, None) == b"/info?a=1"
    assert forward_target(target, (1, 45)) == b"/v1.45/info?a=1"
