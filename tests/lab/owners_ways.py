# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to make a container, and what has to be said of each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from door_lab import IMAGE

BAKER = "h.baker@hertie-school.lan"
PREFIX = "own"
PROJECT = "/home/alice/own-proj"
APP = "/home/bob/own-app"
COMPOSE = f"""
services:
  web:
    image: {IMAGE}
    command: sleep 3600
    stop_grace_period: 0s
    network_mode: none
"""
# What the Dev Containers CLI sends, seen on the wire.
_DEV = (
    "devcontainer.local_folder={0} devcontainer.config_file={0}/.devcontainer/devcontainer.json "
    "devcontainer.metadata=[]"
)
_COMPOSE = (
    "com.docker.compose.project=own com.docker.compose.service=web "
    f"com.docker.compose.project.working_dir={APP}"
)


@dataclass(frozen=True)
class Way:
    """A way to make a container, and what has to be said of it.

    :param who: the account that does it; ``root`` does it at the bare engine.
    :param words: of docker, before image and command.
    :param owner: None for nobody.
    :param runs: ``docker run -d`` where it has to run, else ``docker create``.
    """

    name: str
    who: str
    words: str
    owner: str | None
    method: str
    interface: str
    managed: bool = False
    kind: str = "batch"
    runs: bool = False

    def line(self) -> str:
        """The command line that makes it."""
        verb = "run -d" if self.runs else "create"
        words = f"--name {self.name} --network none {self.words} {IMAGE} sleep 3600"
        return f"docker {verb} {words} >/dev/null"


def _labels(text: str) -> str:
    return " ".join(f"--label {shlex.quote(label)}" for label in text.split())


WAYS = {
    way.name.removeprefix(f"{PREFIX}-"): way
    for way in (
        # At the engine, as before there was a door.
        Way("own-root", "root", "", None, "unknown", "unknown"),
        Way("own-label", "root", "--label ds01.user=carol", "carol", "ds01_label", "unknown"),
        Way(
            "own-aime",
            "root",
            _labels("aime.mlc.USER=carol aime.mlc.NAME=own-aime"),
            "carol",
            "aime_label",
            "atomic",
        ),
        Way("own-name._.1002", "root", "", "bob", "container_name", "atomic"),
        Way(
            "own-dev-bare",
            "root",
            _labels(_DEV.format(PROJECT)),
            "alice",
            "devcontainer",
            "devcontainer",
            kind="devcontainer",
        ),
        # A laptop's folder, of which this host knows nothing.
        Way(
            "own-laptop",
            "root",
            _labels(_DEV.format("c:\\\\Users\\\\bob\\\\proj")),
            None,
            "unknown",
            "devcontainer",
            kind="devcontainer",
        ),
        Way("own-mount", "root", f"-v {PROJECT}:/work", "alice", "mount_path", "unknown"),
        Way(
            "own-mounts",
            "root",
            f"--mount type=bind,source={APP},target=/work,readonly",
            "bob",
            "mount_path",
            "unknown",
        ),
        Way(
            "own-compose-bare",
            "root",
            _labels(_COMPOSE),
            "bob",
            "compose_dir",
            "compose",
            kind="compose",
        ),
        Way(
            "own-slice",
            "root",
            "--cgroup-parent ds01-student-bob.slice",
            "bob",
            "cgroup",
            "unknown",
        ),
        Way("own-process", "root", "-u 1003", "carol", "process", "unknown", runs=True),
        # A label and a mount that name two people: the label comes first, and is contradicted.
        Way(
            "own-torn",
            "root",
            f"--label ds01.user=bob -v {PROJECT}:/work",
            "bob",
            "ds01_label",
            "unknown",
        ),
        # Through the door.
        Way("own-run", "alice", "", "alice", "gateway", "docker", True, runs=True),
        Way(
            "own-dev",
            "alice",
            _labels(_DEV.format("c:\\\\Users\\\\bob\\\\proj")),
            "alice",
            "gateway",
            "devcontainer",
            True,
            "devcontainer",
        ),
        Way(
            "own-forged",
            "alice",
            "--label ds01.user=bob --restart always",
            "alice",
            "gateway",
            "docker",
            True,
            "service",
        ),
        Way("own-tty", BAKER, "-it", BAKER, "gateway", "docker", True, "interactive"),
        Way("own-c-web-1", "bob", "", "bob", "gateway", "compose", True, "compose"),
        Way("own-sdk", "carol", "", "carol", "gateway", "api", True),
    )
}
CONTRADICTED = {"own-torn": "alice", "own-forged": "bob"}
"""Containers with the one whom the weaker evidence names."""
