# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which tool a container was made and what it is for, and how much of that is only claimed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ds01.core.owner_origin import managed, origin
from ds01.core.owners import CONTAINER, INTERFACES, TYPES, Made, Record
from owner_cases import ALICE, ID, box, made_by

CLAIM = "a label's word, which whoever made it could have written"
# As the tools really write them.
DEV = {
    "devcontainer.local_folder": "/home/alice/proj",
    "devcontainer.config_file": "/home/alice/proj/.devcontainer/devcontainer.json",
    "devcontainer.metadata": "[]",
}
COMPOSE = {
    "com.docker.compose.config-hash": "b1946ac92492d2347c6235b4d2611184",
    "com.docker.compose.container-number": "1",
    "com.docker.compose.depends_on": "",
    "com.docker.compose.image": "sha256:4f",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.project": "app",
    "com.docker.compose.project.config_files": "/home/alice/app/compose.yaml",
    "com.docker.compose.project.working_dir": "/home/alice/app",
    "com.docker.compose.service": "web",
    "com.docker.compose.version": "2.24.5",
}
# On images that compose builds, and so on every container of such an image.
COMPOSE_IMAGE = {
    "com.docker.compose.project": "app",
    "com.docker.compose.service": "web",
    "com.docker.compose.version": "2.24.5",
}
AIME = {"aime.mlc": "alice", "aime.mlc.NAME": "proj", "aime.mlc.USER": "alice"}
CLI = "Docker-Client/27.3.1 (linux)"


@pytest.mark.parametrize(
    ("known", "agent", "interface"),
    [
        ({"labels": DEV}, None, "devcontainer"),
        ({"labels": DEV}, CLI, "devcontainer"),
        ({"labels": {"devcontainer.local_folder": "C:\\x"}}, CLI, "devcontainer"),
        ({"labels": {"devcontainer.config_file": "/x"}}, CLI, "devcontainer"),
        ({"labels": DEV | COMPOSE}, "compose/v2.24.5", "devcontainer"),
        ({"labels": DEV | {"ds01.interface": "atomic"}}, None, "devcontainer"),
        # Images made for dev containers carry this wherever they run.
        ({"labels": {"devcontainer.metadata": "[]"}}, CLI, "docker"),
        ({"labels": {"devcontainer.metadata": "[]"}}, None, "unknown"),
        ({"labels": {"devcontainer.local_folder": ""}}, None, "unknown"),
        ({"labels": COMPOSE}, None, "compose"),
        ({"labels": COMPOSE}, "compose/v2.24.5", "compose"),
        ({"labels": COMPOSE}, CLI, "compose"),
        ({"labels": COMPOSE | {"ds01.interface": "docker"}}, None, "compose"),
        ({"labels": COMPOSE_IMAGE}, None, "compose"),
        ({"labels": COMPOSE_IMAGE}, "compose/v2.24.5", "compose"),
        ({"labels": COMPOSE_IMAGE}, CLI, "docker"),
        ({"labels": {"com.docker.compose.project": ""}}, None, "unknown"),
        ({"labels": {"ds01.interface": "orchestration"}}, None, "orchestration"),
        ({"labels": {"ds01.interface": "atomic"}}, CLI, "atomic"),
        ({"labels": {"ds01.interface": "api"} | AIME}, None, "api"),
        ({"labels": {"ds01.interface": "unknown"}}, CLI, "docker"),
        ({"labels": {"ds01.interface": "Atomic"}}, CLI, "docker"),
        ({"labels": {"ds01.interface": "x" * 100_000}}, None, "unknown"),
        ({"labels": {"ds01.managed": "true"}}, CLI, "atomic"),
        ({"labels": {"ds01.managed": "false"}}, CLI, "docker"),
        ({"labels": AIME}, CLI, "atomic"),
        ({"labels": {"aime.mlc": "alice"}}, None, "atomic"),
        ({"labels": {"aime.mlc.VERSION": "4"}}, None, "atomic"),
        ({"labels": {"aime.mlcx": "alice"}}, None, "unknown"),
        ({"name": "proj._.1001"}, None, "atomic"),
        ({"name": "proj._.1001"}, CLI, "atomic"),
        ({"name": "proj._.alice"}, CLI, "docker"),
        ({"name": "proj._.99999999999"}, None, "unknown"),
        ({}, CLI, "docker"),
        ({}, "docker-client/1", "docker"),
        ({}, "compose/v2.24.5", "compose"),
        ({}, "docker-compose/1.29.2 docker-py/5.0.0", "compose"),
        ({}, "docker-sdk-python/7.1.0", "api"),
        ({}, "Go-http-client/1.1", "api"),
        ({}, "curl/8.5.0 Docker-Client/27", "api"),
        ({}, "", "api"),
        ({}, None, "unknown"),
    ],
)
def test_the_interface(known: dict[str, Any], agent: str | None, interface: str) -> None:
    made = None if agent is None else made_by(ALICE, agent=agent)
    found = origin(box(**known), made)
    assert found.interface == interface
    assert found.interface in INTERFACES
    assert found.interface_words


@pytest.mark.parametrize(
    ("known", "agent", "words"),
    [
        ({"labels": DEV}, CLI, f"it has the label devcontainer.local_folder: {CLAIM}"),
        ({"labels": COMPOSE}, None, f"it has the label com.docker.compose.project: {CLAIM}"),
        (
            {"labels": {"ds01.interface": "atomic"}},
            None,
            f"its label ds01.interface says atomic: {CLAIM}",
        ),
        ({"labels": {"ds01.managed": "True "}}, None, f"it has the label ds01.managed: {CLAIM}"),
        ({"labels": AIME}, None, f"it has the label aime.mlc: {CLAIM}"),
        (
            {"labels": {"aime.mlc.\x1b[31m": "x"}},
            None,
            f'it has the label "aime.mlc.?[31m": {CLAIM}',
        ),
        (
            {"name": "a._.1001"},
            None,
            "it is named as AIME's tool names containers, which anybody can do",
        ),
        ({}, CLI, f'the client called itself "{CLI}", which any client can do'),
        ({}, "x\r\n\x1b", 'the client called itself "x???", which any client can do'),
        ({}, " ", "it was made through the door by a client that did not name itself"),
        ({}, None, "nothing in it names a tool, and it was not made through the door"),
    ],
)
def test_the_reason_says_what_is_only_claimed(
    known: dict[str, Any], agent: str | None, words: str
) -> None:
    made = None if agent is None else made_by(ALICE, agent=agent)
    assert origin(box(**known), made).interface_words == words


@pytest.mark.parametrize(
    ("known", "kind", "words"),
    [
        ({"labels": DEV | COMPOSE, "tty": True}, "devcontainer", "it is a dev container by its"),
        ({"labels": COMPOSE, "restart_policy": "always"}, "compose", "it is part of a compose"),
        ({"tty": True, "stdin": True}, "interactive", "it has a terminal and its input"),
        (
            {"tty": True, "stdin": True, "restart_policy": "always"},
            "interactive",
            "it has a terminal and its input",
        ),
        ({"tty": True}, "batch", "it has no terminal to type into"),
        ({"stdin": True}, "batch", "it has no terminal to type into"),
        ({"restart_policy": "always"}, "service", "the engine starts it again by itself (always)"),
        ({"restart_policy": "unless-stopped"}, "service", "the engine starts it again by itself"),
        ({"restart_policy": "on-failure"}, "service", "the engine starts it again by itself"),
        ({"restart_policy": "no"}, "batch", "it has no terminal to type into"),
        ({"restart_policy": ""}, "batch", "it has no terminal to type into"),
        ({}, "batch", "it has no terminal to type into"),
    ],
)
def test_the_type(known: dict[str, Any], kind: str, words: str) -> None:
    found = origin(box(**known), None)
    assert found.container_type == kind
    assert found.container_type in TYPES
    assert found.type_words.startswith(words)


def test_a_project_that_only_the_client_tells_of_is_one_too() -> None:
    found = origin(box(), made_by(ALICE, agent="compose/v2.24.5"))
    assert (found.interface, found.container_type) == ("compose", "compose")


@pytest.mark.parametrize(
    ("labels", "made", "is_managed"),
    [
        ({}, None, False),
        ({}, made_by(ALICE), True),
        ({"ds01.managed": "true"}, None, True),
        ({"ds01.managed": "True"}, None, True),
        ({"ds01.managed": "1"}, None, True),
        ({"ds01.managed": "false"}, None, False),
        ({"ds01.managed": ""}, None, False),
        ({"ds01.managed": "false"}, made_by(ALICE), True),
        ({"aime.mlc.DS01_MANAGED": "true"}, None, True),
        ({"aime.mlc.DS01_MANAGED": "0"}, None, False),
        ({"ds01.user": "alice", "aime.mlc": "alice"}, None, False),
    ],
)
def test_what_is_managed(labels: dict[str, str], made: Made | None, is_managed: bool) -> None:
    record = Record(CONTAINER, ID, facts=box(labels=labels), made=made)
    assert managed(record) is is_managed
    assert managed(replace(record, facts=None)) is (made is not None)
