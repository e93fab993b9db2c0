# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which tool a container was made, and what it is for. Pure.

Labels come first, then what the client called itself at the door. Both are claims of whoever made the
container, and the words say so.
"""

from __future__ import annotations

import re

from .owner_accounts import number
from .owner_paths import LOCAL_FOLDER
from .owner_strategies import AIME_MARK
from .owner_words import shown
from .owners import (
    API,
    ATOMIC,
    BATCH,
    COMPOSE,
    DEV_CONTAINER,
    DOCKER,
    INTERACTIVE,
    INTERFACES,
    SERVICE,
    UNKNOWN,
    ContainerFacts,
    Made,
    Origin,
    Record,
)

INTERFACE_LABEL = "ds01.interface"
MANAGED_LABEL = "ds01.managed"
AIME_MANAGED_LABEL = "aime.mlc.DS01_MANAGED"
COMPOSE_LABEL = "com.docker.compose.project"
# devcontainer.metadata alone is an image's: those made for dev containers carry it wherever they run.
_DEV_LABELS = (LOCAL_FOLDER, "devcontainer.config_file")
# What compose writes on containers only; the project's name is on the images that it builds as well.
_COMPOSE_ONLY = (
    "com.docker.compose.container-number",
    "com.docker.compose.config-hash",
    "com.docker.compose.oneoff",
    "com.docker.compose.project.working_dir",
    "com.docker.compose.project.config_files",
)
_YES = frozenset({"1", "true", "yes", "on"})
_CLAIM = "a label's word, which whoever made it could have written"
_DOCKER_AGENT = re.compile(r"docker-client/", re.IGNORECASE)
_COMPOSE_AGENT = re.compile(r"(docker-)?compose/", re.IGNORECASE)
_RESTARTS = {"always", "unless-stopped", "on-failure"}


def origin(facts: ContainerFacts, made: Made | None) -> Origin:
    """By which tool a container was made and what it is for."""
    interface, words = _interface(facts, made)
    kind, kind_words = _type(facts, interface)
    return Origin(interface, words, kind, kind_words)


def managed(record: Record) -> bool:
    """Whether a thing was made under ds01's eyes: through the door, or by its tools' own word."""
    labels = {} if record.facts is None else record.facts.labels
    return record.made is not None or any(
        labels.get(key, "").strip().lower() in _YES for key in (MANAGED_LABEL, AIME_MANAGED_LABEL)
    )


def _interface(facts: ContainerFacts, made: Made | None) -> tuple[str, str]:
    labels = facts.labels
    agent = made.agent.strip() if made is not None else ""
    for key in _DEV_LABELS:
        if labels.get(key):
            return DEV_CONTAINER, f"it has the label {key}: {_CLAIM}"
    if labels.get(COMPOSE_LABEL):
        image_alone = not any(key in labels for key in _COMPOSE_ONLY)
        if not (image_alone and _DOCKER_AGENT.match(agent)):
            return COMPOSE, f"it has the label {COMPOSE_LABEL}: {_CLAIM}"
    told = labels.get(INTERFACE_LABEL, "")
    if told in INTERFACES and told != UNKNOWN:
        return told, f"its label {INTERFACE_LABEL} says {told}: {_CLAIM}"
    atomic = _atomic(facts)
    if atomic:
        return ATOMIC, atomic
    if made is None:
        return UNKNOWN, "nothing in it names a tool, and it was not made through the door"
    return _by_agent(agent)


def _atomic(facts: ContainerFacts) -> str:
    """What marks a container of ds01's or AIME's commands; empty where nothing does."""
    if facts.labels.get(MANAGED_LABEL, "").strip().lower() in _YES:
        return f"it has the label {MANAGED_LABEL}: {_CLAIM}"
    for key in sorted(facts.labels):
        if key == "aime.mlc" or key.startswith("aime.mlc."):
            return f"it has the label {shown(key)}: {_CLAIM}"
    _front, mark, back = facts.name.rpartition(AIME_MARK)
    if mark and number(back) is not None:
        return "it is named as AIME's tool names containers, which anybody can do"
    return ""


def _by_agent(agent: str) -> tuple[str, str]:
    if not agent:
        return API, "it was made through the door by a client that did not name itself"
    called = f"the client called itself {shown(agent)}, which any client can do"
    if _COMPOSE_AGENT.match(agent):
        return COMPOSE, called
    if _DOCKER_AGENT.match(agent):
        return DOCKER, called
    return API, called


def _type(facts: ContainerFacts, interface: str) -> tuple[str, str]:
    if interface == DEV_CONTAINER:
        return DEV_CONTAINER, "it is a dev container by its interface"
    if interface == COMPOSE:
        return COMPOSE, "it is part of a compose project by its interface"
    if facts.tty and facts.stdin:
        return INTERACTIVE, "it has a terminal and its input is kept open"
    if facts.restart_policy in _RESTARTS:
        return SERVICE, f"the engine starts it again by itself ({facts.restart_policy})"
    return BATCH, "it has no terminal to type into, and is not started again by itself"
