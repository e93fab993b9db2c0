# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every endpoint of the reference is on the list, or left out with a reason."""

from __future__ import annotations

import json
import re

import pytest
from docker_api import REFERENCE, engine_route, lines
from ds01.core import routes
from ds01.core.routes import (
    CHANGE,
    GROUPS,
    HIJACK,
    KINDS,
    LEFT_OUT,
    OPAQUE,
    READ,
    ROUTES,
    STREAM,
    UPLOAD,
    find,
    left_out,
    methods_of,
)

ID = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2"
# What the reference leaves out, and the engine's routers have.
UNDOCUMENTED = {("POST", "/grpc"), ("POST", "/build/cancel")}
MEANT_FOR_ADMINS = {
    ("GET", "/containers/{id}/attach/ws"),
    ("PUT", "/volumes/{name}"),
    ("GET", "/plugins/privileges"),
}
ADMIN_NOUNS = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def for_admins(method: str, template: str) -> bool:
    noun = template.split("/")[1]
    changes_plugins = noun == "plugins" and method != "GET"
    return noun in ADMIN_NOUNS or changes_plugins or (method, template) in MEANT_FOR_ADMINS


def spelled(template: str) -> str:
    """A path of a template."""
    return template.replace("{id}", ID).replace("{name}", "lab")


@pytest.mark.parametrize(("method", "template"), lines(REFERENCE))
def test_every_operation_of_the_reference_is_on_the_list_or_left_out_with_a_reason(
    method: str, template: str
) -> None:
    route = find(method, spelled(template))
    if for_admins(method, template):
        assert route is None
        reason = left_out(method, spelled(template))
        assert reason is not None and reason.why and not reason.why.endswith(".")
    else:
        assert route is not None
        assert (route.method, route.template) == (method, template)


def test_the_list_has_nothing_that_neither_the_reference_nor_the_engine_has() -> None:
    listed = {(route.method, route.template) for route in ROUTES}
    wanted = {row for row in lines(REFERENCE) if not for_admins(*row)}
    assert listed == wanted | UNDOCUMENTED
    for method, template in UNDOCUMENTED:
        assert engine_route(method, template) is not None


def test_names_and_rows_are_unique_and_every_kind_is_explained() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.template) for route in ROUTES}) == len(ROUTES)
    assert {route.kind for route in ROUTES} == set(KINDS)
    for route in ROUTES:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", route.name)
        assert route.about and "|" not in route.about


def test_a_path_with_a_variable_can_mean_one_row_only() -> None:
    """Rows that end in their variable and rows that go on would depend on their order."""
    ends: dict[tuple[str, str], set[bool]] = {}
    for route in ROUTES:
        if "{" in route.template:
            key = (route.method, route.template.split("/")[1])
            ends.setdefault(key, set()).add(route.template.endswith("}"))
    assert all(len(both) == 1 for both in ends.values())


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        # The last segment decides, and what comes before it is the image.
        ("GET", "/images/json", "image_list"),
        ("GET", "/images/json/json", "image_inspect"),
        ("GET", "/images/get/json", "image_inspect"),
        ("GET", "/images/json/history", "image_history"),
        ("GET", "/images/lab/json/history", "image_history"),
        ("GET", "/images/lab/history/json", "image_inspect"),
        ("GET", "/images/lab/push/get", "image_save"),
        ("GET", "/images/localhost:5000/a/b:tag@sha256:0123/json", "image_inspect"),
        ("GET", "/images/[::1]:5000/a/json", "image_inspect"),
        ("POST", "/images/a/push/push", "image_push"),
        ("POST", "/images/create/push", "image_push"),
        ("POST", "/images/prune/tag", "image_tag"),
        ("DELETE", "/images/json", "image_delete"),
        ("DELETE", "/images/a/b/json", "image_delete"),
        ("GET", "/distribution/quay.io/a/b:1/json", "distribution_inspect"),
        ("GET", "/plugins/vieux/sshfs:latest/json", "plugin_inspect"),
        # A thing may be called like an endpoint.
        ("GET", "/containers/json/json", "container_inspect"),
        ("DELETE", "/containers/prune", "container_delete"),
        ("GET", "/volumes/create", "volume_inspect"),
        ("GET", "/networks/create", "network_inspect"),
        ("GET", "/networks/", "network_list"),
        ("DELETE", "/networks/prune", "network_delete"),
        ("GET", "/networks/a:b+c", "network_inspect"),
        # docker inspect lab/base:1 tries every kind of thing.
        ("GET", "/containers/lab/base:1/json", "container_inspect"),
        ("GET", "/networks/lab/base:1", "network_inspect"),
        ("GET", "/volumes/lab/base:1", "volume_inspect"),
        ("DELETE", "/containers/web/db", "container_delete"),
        ("DELETE", "/containers/a/checkpoints/b/c", "container_delete"),
        ("DELETE", "/containers/a/checkpoints", "container_delete"),
        ("POST", "/containers/a/checkpoints/start", "container_start"),
        ("POST", "/containers/a/b/start", "container_start"),
        ("POST", "/networks/a/connect/connect", "network_connect"),
    ],
)
def test_names_mean_what_the_engine_takes_them_for(method: str, path: str, name: str) -> None:
    route = find(method, path)
    assert route is not None and route.name == name
    engine = engine_route(method, path)
    assert engine is not None
    assert re.sub(r"\(.*?\)", "{}", engine[0]).rstrip("/") == re.sub(r"{\w+}", "{}", route.template)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/"),
        ("GET", "containers/json"),
        ("GET", "/containers"),
        ("GET", "/containers/"),
        ("GET", "/containers/json/"),
        ("GET", "/Containers/json"),
        ("get", "/containers/json"),
        ("HEAD", "/containers/json"),
        ("HEAD", "/info"),
        ("HEAD", "/version"),
        ("OPTIONS", "/info"),
        ("OPTIONS", "/containers/json"),
        ("PATCH", "/containers/a"),
        ("CONNECT", "/grpc"),
        ("TRACE", "/_ping"),
        ("GET", "/_ping/"),
        ("GET", "/containers//json"),
        ("GET", "/containers/a b/json"),
        ("GET", "/containers/a\n/json"),
        ("GET", "/containers/a/json\n"),
        ("DELETE", "/containers/"),
        ("POST", "/containers/a/start/"),
        ("POST", "/containers/a/start/now"),
        ("POST", "/containers/a/copy"),
        ("GET", "/containers/a/attach/ws"),
        ("GET", "/containers/a/checkpoints"),
        ("POST", "/containers/a/checkpoints"),
        ("DELETE", "/containers/a/checkpoints/b"),
        ("GET", "/images//json"),
        ("GET", "/images/a//json"),
        ("GET", "/images/"),
        ("DELETE", "/images/a/"),
        ("DELETE", "/containers/a/"),
        ("DELETE", "/networks/a/"),
        ("GET", "/volumes/"),
        ("PUT", "/volumes/a"),
        ("POST", "/networks//connect"),
        ("POST", "/plugins/pull"),
        ("POST", "/plugins/a/enable"),
        ("DELETE", "/plugins/a"),
        ("GET", "/plugins/privileges"),
        ("GET", "/debug/pprof/heap"),
        ("GET", "/debug/vars"),
        ("GET", "/grpc"),
        ("GET", "/session"),
        ("POST", "/grpc/x"),
        ("PRI", "*"),
    ],
)
def test_what_is_not_on_the_list_is_not_found(method: str, path: str) -> None:
    assert find(method, path) is None


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/containers/a/attach", HIJACK),
        ("POST", "/exec/a/start", HIJACK),
        ("POST", "/grpc", OPAQUE),
        ("POST", "/session", OPAQUE),
        ("POST", "/containers/a/wait", STREAM),
        ("GET", "/containers/a/logs", STREAM),
        ("GET", "/containers/a/stats", STREAM),
        ("GET", "/containers/a/export", STREAM),
        ("GET", "/containers/a/archive", STREAM),
        ("GET", "/events", STREAM),
        ("GET", "/images/get", STREAM),
        ("GET", "/images/a/get", STREAM),
        ("POST", "/images/create", STREAM),
        ("POST", "/images/load", STREAM),
        ("POST", "/images/a/push", STREAM),
        ("POST", "/build", STREAM),
        ("PUT", "/containers/a/archive", UPLOAD),
        ("HEAD", "/containers/a/archive", READ),
        ("GET", "/containers/a/json", READ),
        ("POST", "/containers/create", CHANGE),
        ("DELETE", "/containers/a", CHANGE),
    ],
)
def test_the_kind_says_how_the_connection_is_used(method: str, path: str, kind: str) -> None:
    route = find(method, path)
    assert route is not None and route.kind == kind


def test_what_asks_only_is_no_change_and_what_changes_is_not_said_to_ask() -> None:
    for route in ROUTES:
        if route.method in ("GET", "HEAD"):
            assert route.kind in (READ, STREAM)
        else:
            assert route.kind != READ


def test_the_methods_of_a_path_are_told() -> None:
    assert methods_of("/_ping") == ("GET", "HEAD")
    assert methods_of("/containers/a/archive") == ("GET", "HEAD", "PUT")
    assert methods_of("/containers/json") == ("GET",)
    assert methods_of("/containers/a") == ("DELETE",)
    assert methods_of("/volumes/a") == ("DELETE", "GET")
    assert methods_of("/swarm/init") == ()


@pytest.mark.parametrize(
    ("method", "path", "prefix"),
    [
        ("GET", "/swarm", "/swarm"),
        ("POST", "/services/create", "/services"),
        ("GET", "/containers/a/attach/ws", "/containers/*/attach/ws"),
        ("DELETE", "/containers/a/checkpoints/b", "/containers/*/checkpoints"),
        ("POST", "/plugins/a/b/enable", "/plugins"),
        ("GET", "/debug/pprof/heap", "/debug"),
    ],
)
def test_a_reason_is_found_for_what_was_left_out(method: str, path: str, prefix: str) -> None:
    reason = left_out(method, path)
    assert reason is not None and reason.prefix == prefix


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/swarmed"), ("GET", "/containers/attach/ws"), ("HEAD", "/volumes"), ("GET", "/")],
)
def test_no_reason_is_made_up_for_what_nobody_decided(method: str, path: str) -> None:
    assert left_out(method, path) is None


def test_nothing_on_the_list_is_said_to_be_left_out() -> None:
    for route in ROUTES:
        assert left_out(route.method, spelled(route.template)) is None


def test_the_data_can_be_shown() -> None:
    assert sum(len(rows) for _title, rows in GROUPS) == len(ROUTES)
    json.dumps([route.about for route in ROUTES] + [entry.why for entry in LEFT_OUT])
    assert routes.API_MIN < routes.API_MAX
