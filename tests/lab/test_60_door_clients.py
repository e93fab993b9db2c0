# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients notice no door: what alice sees through it is what root sees at the bare engine."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import http_day
import ordinary_day
import pytest
from door_lab import BARE_NAME, DOOR_NAME, ENGINE, DoorLab, Terminals, alike
from labhost.guest import Lab

REPO = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).resolve().parent / "devcontainers"
DETACH = "\x10\x11"  # ctrl-p ctrl-q


@pytest.fixture(scope="module")
def door(lab: Lab) -> Iterator[DoorLab]:
    """The door that site.yml made, with the image at hand."""
    found = DoorLab(lab)
    found.prepare()
    found.sweep()
    yield found
    found.sweep()


def _equal(steps: list[tuple[str, str]], door: DoorLab) -> dict[str, Any]:
    """Take the steps on both sides; fails with all that differ."""
    through, bare = door.both(steps)
    keys = ("rc", "out", "err")
    differ = {
        label: {key: (through[label][key], bare[label][key]) for key in keys}
        for label, _unused in steps
        if any(through[label][key] != bare[label][key] for key in keys)
    }
    assert not differ, json.dumps(differ, indent=1)
    return through


def test_an_ordinary_day_of_the_docker_client_is_the_same_through_the_door(door: DoorLab) -> None:
    seen = _equal(ordinary_day.DAY, door)
    # What both agree on is also what an engine does: neither side may fail alike.
    assert seen["run, both outputs"]["rc"] == 3
    assert seen["run, both outputs"]["err"] == "err\n"
    assert seen["create and start -ai, half-close"]["out"].endswith(" -\nafter\n")
    assert seen["exec"]["rc"] == 5
    assert seen["cp"]["rc"] == seen["cp, tar"]["rc"] == 0
    assert seen["logs -f and wait, until stop"]["out"].endswith(
        "logs 0\nline 1\nline 2\nline 3\noops\n4\n"
    )
    assert "die NAME-e 137\n" in seen["events, live, and a run that is killed"]["out"]
    assert "No such container" in seen["rm, logs, start, exec: none"]["err"]
    assert seen["build, classic"]["rc"] == 7
    assert seen["build, BuildKit"]["out"] == "0\n3\n1\n"
    assert seen["curl"]["out"].startswith("OK 200 1.1\n")


def test_compose_brings_services_up_and_down_through_the_door(door: DoorLab) -> None:
    seen = _equal(ordinary_day.COMPOSE, door)
    failed = {label: step for label, step in seen.items() if step["rc"] and label != "compose exec"}
    assert not failed
    assert seen["compose exec"]["out"] == "in\nme\n"
    assert "served" in seen["compose logs"]["out"]
    assert seen["compose down"]["out"] == ""


def _at_the_terminal(door: DoorLab, user: str, docker_host: str, name: str) -> list[object]:
    """Type, resize, detach and come back; what was seen, in order."""
    seen: list[object] = []
    with Terminals(door, user, docker_host) as screen:
        screen.start("run", f"docker run -it --network none --name {name}-tty lab/base sh")
        screen.expect("run", "# ")
        screen.send("run", "stty size; echo a$((40+2))\n")
        seen.append(screen.expect("run", r"\d+ \d+\s+a42"))
        screen.send("run", DETACH)
        seen.append(screen.wait("run")[0])

        screen.start("exec", f"docker exec -it {name}-tty sh")
        screen.expect("exec", "# ")
        # The client takes note of a new size only some time after it has shown the prompt.
        screen.send("exec", "sleep 2; stty size\n")
        seen.append(screen.expect("exec", r"\n\d+ \d+\r\n"))
        screen.resize("exec", 50, 132)
        screen.send("exec", "sleep 2; stty size\n")
        seen.append(screen.expect("exec", r"\n\d+ \d+\r\n"))
        screen.send("exec", "echo go; exec sleep 100\n")
        screen.expect("exec", "\ngo")
        screen.send("exec", "\x03")
        seen.append(screen.wait("exec")[0])

        screen.start("attach", f"docker attach --detach-keys ctrl-x,d {name}-tty")
        screen.send("attach", "\n")
        screen.expect("attach", "# ")
        screen.send("attach", "\x18d")
        code, text = screen.wait("attach")
        seen += [code, "read escape sequence" in text]
        seen.append(door.bare(f"docker inspect -f '{{{{.State.Running}}}}' {name}-tty").strip())

        screen.start("again", f"docker attach {name}-tty")
        screen.send("again", "\n")
        screen.expect("again", "# ")
        screen.send("again", "exit 4\n")
        seen.append(screen.wait("again")[0])
    return seen


def test_a_terminal_is_resized_detached_from_and_found_again(door: DoorLab) -> None:
    through = _at_the_terminal(door, "alice", "", DOOR_NAME)
    assert through == _at_the_terminal(door, "root", f"unix://{ENGINE}", BARE_NAME)
    assert through == ["24 80\r\na42", 0, "\n24 80\r\n", "\n50 132\r\n", 130, 1, True, "true", 4]


def _sdk_day(path: str, name: str) -> dict[str, Any]:
    program = Path(__file__).resolve().parent / "sdk_day.py"
    done = subprocess.run(
        [sys.executable, str(program), f"unix://{path}", name],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = ast.literal_eval(done.stdout)
    return seen


def test_the_sdk_for_python_through_a_forwarded_socket(door: DoorLab) -> None:
    with door.forwarded("alice") as near, door.forwarded("root", ENGINE) as bare:
        through = _sdk_day(near, DOOR_NAME)
        assert through == _sdk_day(bare, BARE_NAME)
    assert through["exec"] == (4, (b"out\n", b"err\n"))
    assert through["logs followed"] == b"ready\nheard one\nheard two\n"
    assert through["get"] == (300_000, True)
    assert through["event"] == ("die", "5")


def test_plain_http_is_answered_as_the_engine_answers(door: DoorLab) -> None:
    with door.forwarded("alice") as near, door.forwarded("root", ENGINE) as bare:
        through = http_day.day(near, DOOR_NAME)
        direct = http_day.day(bare, BARE_NAME)
    differ = {
        label: (through[label], direct[label])
        for label in direct
        if through[label] != direct[label]
    }
    assert not differ
    assert through["chunked"] == through["continued"] == "HTTP/1.1 201 Created"
    assert through["continue"] == "HTTP/1.1 100 Continue"


# --- clients that bring their own way here --------------------------------------------------------


def _docker(words: list[str], environment: dict[str, str], given: str = "") -> tuple[int, str, str]:
    """Run this machine's docker client; its exit code and normalised outputs."""
    done = subprocess.run(
        ["docker", *words],
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, alike(done.stdout), alike(done.stderr)


def test_an_ssh_context_reaches_the_door(door: DoorLab, tmp_path: Path) -> None:
    environment = door.ssh_on_path(tmp_path)
    made = _docker(
        ["context", "create", "lab", "--docker", "host=ssh://alice@ds01-lab"], environment
    )
    assert made[0] == 0, made
    commands = (
        (["version", "-f", "{{.Server.APIVersion}}"], ""),
        (
            ["run", "-i", "--rm", "--network", "none", "lab/base", "sh", "-c", "md5sum; exit 5"],
            "x" * 99_999,
        ),
        (["inspect", "none"], ""),
    )
    with door.forwarded("root", ENGINE) as near:
        at_engine = {**environment, "DOCKER_HOST": f"unix://{near}"}
        for words, given in commands:
            through = _docker(["--context", "lab", *words], environment, given)
            assert through == _docker(words, at_engine, given)
    by_host = {**environment, "DOCKER_HOST": "ssh://alice@ds01-lab"}
    assert _docker(["ps", "-q", "--filter", "name=none"], by_host) == (0, "", "")


@pytest.fixture(scope="module")
def devcontainer() -> str:
    """The Dev Containers CLI in the locked version."""
    place = REPO / ".cache/devcontainers"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(CLIENTS / name, place)
    program = place / "node_modules/.bin/devcontainer"
    if not program.exists():
        words = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(words, cwd=place, check=True, timeout=300, stdin=subprocess.DEVNULL)
    return str(program)


def _development(program: str, near: str, name: str, folder: Path) -> list[object]:
    """Bring a dev container up twice and work in it; what was seen."""
    workspace = folder / name
    (workspace / ".devcontainer").mkdir(parents=True)
    settings = {
        "image": "lab/base",
        # The image's own user and files suffice: nothing can be pulled to build on it.
        "updateRemoteUserUID": False,
        "userEnvProbe": "none",
        "workspaceMount": f"type=volume,source={name}-work,target=/work",
        "workspaceFolder": "/work",
        "containerEnv": {"A": "b"},
        "runArgs": ["--name", f"{name}-dev", "--network", "none"],
        "postCreateCommand": "echo made > /work/made",
    }
    (workspace / ".devcontainer/devcontainer.json").write_text(json.dumps(settings))
    seen: list[object] = []
    for words in (["up"], ["up"], ["exec", "sh", "-c", "cat made; echo $A; pwd; exit 3"]):
        done = subprocess.run(
            [program, words[0], "--workspace-folder", str(workspace), *words[1:]],
            env={**os.environ, "DOCKER_HOST": f"unix://{near}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        seen.append((done.returncode, alike(done.stdout) or done.stderr))
    return seen


def test_dev_containers_come_up_through_the_door(
    door: DoorLab, devcontainer: str, tmp_path: Path
) -> None:
    with door.forwarded("alice") as near, door.forwarded("root", ENGINE) as bare:
        through = _development(devcontainer, near, DOOR_NAME, tmp_path)
        assert through == _development(devcontainer, bare, BARE_NAME, tmp_path)
    assert through[2] == (3, "made\nb\n/work\n")
    assert through[0] == through[1]
