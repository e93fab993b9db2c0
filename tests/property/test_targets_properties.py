# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a client writes as a target, the gateway and the engine read the same, or it is refused."""

from __future__ import annotations

import re

from docker_api import REFERENCE, engine_reads, engine_route, lines
from ds01.core import routes
from ds01.core.targets import Target, TargetError, forward_target, parse_target
from hypothesis import example, given, settings
from hypothesis import strategies as st

# Pieces that attacks are made of, so that they meet in every order.
PIECES = (
    *("/containers", "/images", "/json", "/create", "/prune", "/exec", "/networks", "/a"),
    *("/v1.45", "/v1.99", "/v1", "/V1.45", "/v1.045", "/v", "v1.45", "/v1.45.6", "/v1..2", "/.1"),
    *("/", "//", "/.", "/..", "/./", "/../", "...", ";", "\\", ":", "@", "+", "~", "-", "_", "."),
    *("%2e", "%2E%2e", "%2F", "%2f..", "%00", "%0a", "%25", "%252e", "%5c", "%3f", "%23", "%41"),
    *("%76%31.45", "%", "%2", "%zz", "%c0%ae", "%ff", "%20", "%5B", "[", "]", "%7f", "*", "http:"),
    *("?", "?a=1", "&b", "=", "#", '"', "<", ">", " ", "\t", "\r\n", "\x00", "\x7f", "é"),
)
DANGEROUS = re.compile(rb"[^!-~]|[\"<>#\\]")


def _bytes(parts: list[str]) -> bytes:
    return "".join(parts).encode("utf-8")


targets = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map(_bytes),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: b"/" + _bytes(parts)),
    st.binary(max_size=64),
    st.binary(max_size=64).map(lambda raw: b"/" + raw),
)
methods = st.sampled_from(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
SEGMENTS = (
    *("containers", "images", "networks", "volumes", "exec", "plugins"),
    *("json", "get", "history", "push", "tag", "create", "prune", "start"),
    *("attach", "ws", "archive", "load", "search", "connect", "disconnect", "checkpoints"),
    *("attestations", "build", "cancel", "grpc", "_ping"),
    *("a", "B0", "a:b", "a@b", ".a", "-a", "_a", "a.b"),
)
segments = st.sampled_from(SEGMENTS)
paths = st.lists(segments, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


def outcome(raw: bytes, method: str = "") -> Target | TargetError:
    try:
        return parse_target(raw, method)
    except TargetError as error:
        return error


def parsed(raw: bytes) -> Target | None:
    """The target; None where it is refused, with an answer that can be given."""
    target = outcome(raw)
    if isinstance(target, Target):
        return target
    assert target.status in (400, 414) and not target.location
    assert str(target).isascii() and str(target).isprintable()
    return None


@settings(max_examples=500)
@given(targets)
@example(b"/v1.45%2fcontainers/json")
@example(b"/%76%31.45/containers/json?a=%2e%2e/&b=//")
@example(b"/images/%5B::1%5D:5000%2Fa/json")
def test_what_is_sent_is_what_was_judged(raw: bytes) -> None:
    target = parsed(raw)
    if target is None:
        return
    sent = forward_target(target, target.version)
    assert parse_target(sent) == target
    assert not DANGEROUS.search(sent)
    assert b"%" not in re.sub(rb"%5[BD]", b"", sent.partition(b"?")[0])


@settings(max_examples=500)
@given(targets)
@example(b"/v1.45/v1.45/containers/json")
@example(b"/v1.45//containers/json")
def test_the_engine_reads_what_is_sent_as_the_gateway_did(raw: bytes) -> None:
    target = parsed(raw)
    if target is None:
        return
    version = f"{target.version[0]}.{target.version[1]}" if target.version else ""
    judged = (version, target.path.encode("ascii"))
    assert engine_reads(forward_target(target, target.version)) == judged
    # Nor would the engine have read the client's own spelling otherwise.
    assert engine_reads(raw) == judged


@given(targets)
def test_a_version_that_is_put_before_the_path_changes_nothing_else(raw: bytes) -> None:
    target = parsed(raw)
    if target is None or target.version is not None:
        return
    sent = forward_target(target, (1, 45))
    assert parse_target(sent) == Target((1, 45), target.path, target.query)
    assert engine_reads(sent) == ("1.45", target.path.encode("ascii"))


@given(targets, methods)
def test_a_redirect_leads_to_a_path_of_this_socket_that_is_accepted(
    raw: bytes, method: str
) -> None:
    refused = outcome(raw, method)
    if isinstance(refused, Target) or refused.status != 301:
        return
    assert method in ("GET", "HEAD")
    assert re.match(r"/(?!/)", refused.location) and "\\" not in refused.location
    assert isinstance(outcome(refused.location.encode("ascii"), method), Target)


def _plain(template: str) -> str:
    """A template without the names of its variables."""
    return re.sub(r"\(.*?\)|{\w+}", "{}", template)


ON_LIST = {
    method: {_plain(route.template) for route in routes.ROUTES if route.method == method}
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
}


@settings(max_examples=500)
@given(paths, methods)
@example("/containers/a/checkpoints/b", "DELETE")
def test_the_list_takes_a_path_for_what_the_engine_takes_it_for(path: str, method: str) -> None:
    route = routes.find(method, path)
    engine = engine_route(method, path)
    if route is None:
        # The engine has nothing there, or something that was left out.
        assert engine is None or _plain(engine[0]) not in ON_LIST[method]
        return
    assert engine is not None
    assert _plain(engine[0]) == _plain(route.template)
    assert all(variable and not variable.startswith("/") for variable in engine[1])


LISTED = [row for row in lines(REFERENCE) if routes.find(row[0], re.sub(r"{\w+}", "a", row[1]))]
names = st.from_regex(r"\A[a-zA-Z0-9][a-zA-Z0-9_.-]{0,80}\Z")
references = st.from_regex(
    r"\A[a-z0-9]{1,8}(:[0-9]{2,5})?(/[a-z0-9_.-]*[a-z0-9]){0,3}(:[a-zA-Z0-9_.-]{1,9})?\Z"
)


@given(st.sampled_from(LISTED), st.one_of(names, references))
@example(("GET", "/images/{name}/json"), "a/json")
def test_whatever_a_thing_is_called_it_is_reached(row: tuple[str, str], name: str) -> None:
    method, template = row
    target = parse_target(f"/v1.45{re.sub(r'{[a-z]+}', name, template)}".encode("ascii"))
    route = routes.find(method, target.path)
    engine = engine_route(method, target.path)
    assert route is not None and engine is not None
    assert _plain(route.template) == _plain(engine[0])
