# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The docker wrapper calls the real client as it would have been called without: real sh, real processes."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .docker_place import Place


@pytest.fixture
def docker(tmp_path: Path) -> Place:
    return Place(tmp_path)


def until(what: object) -> None:
    end = time.monotonic() + 20
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


PLAIN = [
    (),
    ("version",),
    ("run", "-it", "--rm", "image", "sh", "-c", "echo \"a  b\" 'c' $HOME *\n\n"),
    ("exec", "-it", "c", "docker", "build"),
    ("compose", "-f", "a b.yml", "up", "-d"),
    ("__complete", "run", "--gpus", ""),
    ("-H", "tcp://elsewhere:2375", "run", "--gpus", "all", "image"),
    ("--context", "far", "build", "."),
    ("--context=far", "run", "--gpus=all", "image"),
    ("run", "", "-", "--", "ünïcödé"),
]


@pytest.mark.parametrize("words", PLAIN)
@pytest.mark.parametrize("with_runtime", [True, False])
def test_words_environment_input_directory_and_exit_code_arrive_as_they_are(
    docker: Place, words: tuple[str, ...], with_runtime: bool
) -> None:
    if with_runtime:
        docker.runtime("/nowhere")
    more = {"FAKE_READ": "1", "FAKE_EXIT": "7", "IFS": ":", "_": "x", "client": "c", "LC_ALL": "C"}
    status, out, err = docker(*words, env=more, given="in\0put")
    told = docker.told()
    assert (status, out, err) == (7, "output of the client\n", "")
    assert told["argv"] == list(words)
    expected = docker.environment(**more)
    # dash(1) gives IFS its own value, whatever it was called with.
    assert {**told["environ"], "IFS": ":"} == expected
    assert (told["stdin"], told["cwd"]) == ("in\0put", str(docker.root))
    assert told["blocked"] == "0" * 16


def test_the_wrapper_becomes_the_client_with_its_process_id(docker: Place) -> None:
    process = docker.start("ps")
    process.wait(30)
    process.communicate()
    assert docker.told()["pid"] == process.pid


def test_bytes_that_are_no_text_arrive_as_they_are(docker: Place) -> None:
    done = subprocess.run(
        [str(docker.wrapper), "run", b"-e", b"A=\xff\xfe", b"image"],
        env=docker.environment(),
        cwd=docker.root,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert docker.told()["argv"][2].encode("utf-8", "surrogateescape") == b"A=\xff\xfe"


def test_the_client_is_the_next_one_behind_the_wrapper(docker: Place) -> None:
    before = docker.root / "before"
    before.mkdir()
    shim = before / "docker"
    shim.write_text(f'#!/bin/sh\nexec {docker.wrapper} --config x "$@"\n')
    shim.chmod(0o755)
    path = f"{before}::{docker.path}"
    assert docker("ps", command=str(shim), env={"PATH": path})[0] == 0
    assert docker.told()["argv"] == ["--config", "x", "ps"]


def test_links_and_copies_of_the_wrapper_never_call_each_other_for_ever(docker: Place) -> None:
    link = docker.root / "links"
    link.mkdir()
    (link / "docker").symlink_to(docker.wrapper)
    copy = docker.lay(docker.root / "copy")
    (docker.root / "directory/docker").mkdir(parents=True)
    parts = [link, copy.parent, docker.wrapper.parent, copy.parent, link, docker.root / "directory"]
    path = ":".join(map(str, parts)) + ":" + docker.path
    for command in (str(link / "docker"), str(copy), str(docker.wrapper)):
        assert docker("ps", command=command, env={"PATH": path})[0] == 0
        assert docker.told()["argv"] == ["ps"]


def test_called_by_its_path_it_takes_the_distributions_client(docker: Place) -> None:
    installed = docker.root / "usr-bin/docker"
    installed.parent.mkdir()
    shutil.copy(docker.real, installed)
    assert docker("ps", env={"PATH": "/nowhere"})[0] == 0
    # No loop either where a script of the user's own is all there is.
    installed.unlink()
    script = docker.root / "script/docker"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {docker.wrapper} "$@"\n')
    script.chmod(0o755)
    assert docker("ps", env={"PATH": str(script.parent)})[0] == 127


def test_without_a_client_it_says_so(docker: Place) -> None:
    status, _out, err = docker("ps", env={"PATH": str(docker.wrapper.parent)})
    assert status == 127 and "no docker client is installed" in err


def test_a_client_killed_by_a_signal_is_seen_as_such(docker: Place) -> None:
    assert docker("ps", env={"FAKE_KILL": "9"})[0] == -signal.SIGKILL
    docker.runtime("/nowhere")
    assert docker("build", ".", env={"FAKE_KILL": "15"})[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "more",
    [
        {"DS01_WRAPPER": "off"},
        {"DOCKER_HOST": "ssh://alice@elsewhere"},
        {"DOCKER_CONTEXT": "far"},
    ],
)
@pytest.mark.parametrize("words", [("run", "--gpus", "all", "i"), ("build", ".")])
def test_switched_off_or_for_another_engine_nothing_is_done(
    docker: Place, more: dict[str, str], words: tuple[str, ...]
) -> None:
    docker.runtime("/nowhere")
    process = docker.start(*words, env={**more, "FAKE_EXIT": "1"})
    _out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")
    assert docker.told()["pid"] == process.pid


def test_a_context_in_use_is_another_engine(docker: Place) -> None:
    docker.runtime("/nowhere")
    (docker.home / ".docker").mkdir()
    (docker.home / ".docker/config.json").write_text('{"currentContext": "far"}')
    status, _out, err = docker("run", "--gpus", "all", "image")
    assert (status, err) == (0, "")
    assert docker.told()["argv"] == ["run", "--gpus", "all", "image"]
    other = docker.root / "other"
    other.mkdir()
    err = docker("--config", str(other), "run", "--gpus", "all", "image")[2]
    assert "no lease was asked for" in err


@pytest.mark.parametrize("damage", ["no interpreter", "no package", "broken package"])
def test_a_runtime_that_is_gone_or_broken_keeps_nobody_from_docker(
    docker: Place, damage: str
) -> None:
    docker.runtime("/nowhere")
    release = docker.root / "release"
    if damage == "no interpreter":
        (release / "venv/bin/python3").unlink()
    else:
        (release / "lib/ds01").unlink()
    if damage == "broken package":
        package = release / "lib/ds01/courtesy"
        package.mkdir(parents=True)
        source = Path(__file__).parents[3] / "files/runtime/ds01/courtesy/__main__.py"
        shutil.copy(source, package)
        (release / "lib/ds01/__init__.py").write_text("nonsense nonsense\n")
        (release / "venv/bin/python3").unlink()
        (release / "venv/bin/python3").symlink_to(sys.executable)
    for words in (("run", "--gpus", "all", "image"), ("build", ".")):
        status, _out, err = docker(*words, env={"FAKE_EXIT": "3"})
        assert (status, err) == (3, "")
        assert docker.told()["argv"] == list(words)


def test_a_build_keeps_the_terminal_and_its_process_group(docker: Place) -> None:
    docker.runtime("/nowhere")
    main, terminal = pty.openpty()
    ends: dict[str, Any] = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    process = docker.start("build", ".", env={"FAKE_EXIT": "0"}, start_new_session=True, **ends)
    assert process.wait(30) == 0
    told = docker.told()
    assert told["terminals"] == [True, True, True]
    assert told["group"] == process.pid and told["pid"] != process.pid
    assert told["blocked"] == "0" * 16
    os.close(main)
    os.close(terminal)


def test_ctrl_c_in_a_build_is_the_clients(docker: Place) -> None:
    docker.runtime("/nowhere")
    process = docker.start("build", ".", env={"FAKE_STAY": "42"}, start_new_session=True)
    until(lambda: docker.called)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, _err = process.communicate(timeout=30)
    assert process.returncode == 42 and "client met SIGINT" in out


def test_a_build_that_is_told_to_end_takes_its_client_along(docker: Place) -> None:
    docker.runtime("/nowhere")
    process = docker.start("build", ".", env={"FAKE_STAY": "42"})
    until(lambda: docker.called)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM and "client met SIGTERM" in out
