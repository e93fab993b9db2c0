# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``docker run --gpus`` through the wrapper, with a running ds01d; reasons of refusals after a build."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ds01.core.events import format_timestamp
from ds01.core.gpus import Slot
from ds01.core.leases import Allowance
from ds01.courtesy import gpus, reason

from .docker_place import Place
from .helper_daemon import Helper
from .test_daemon import eventually

LEASE = re.compile(r"lease (l[0-9a-f]+)")


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    found = Helper(tmp_path)
    # The first round would otherwise end the daemon where a process takes long to come up.
    (tmp_path / "cdi").mkdir(mode=0o711)
    with found.running():
        yield found
    found.close()


@pytest.fixture
def docker(tmp_path: Path, helper: Helper) -> Place:
    place = Place(tmp_path)
    place.runtime(helper.path, "alice", 1001)
    return place


def device(place: Place) -> list[str]:
    """The lease that the client was called with."""
    return [word for word in place.told()["argv"] if "ds01.local" in word]


@pytest.mark.parametrize("ask", [["--gpus", "1"], ["--gpus=1"], ["--device", "nvidia.com/gpu=0"]])
def test_a_container_with_a_gpu_runs_with_a_lease(
    docker: Place, helper: Helper, ask: list[str]
) -> None:
    helper.comes("alice")
    more = {"FAKE_READ": "1", "FAKE_EXIT": "7", "LANG": "C"}
    words = ("--config", "x", "run", "-it", *ask, "image", "sh", "--gpus", "1")
    status, out, err = docker(*words, env=more, given="in")
    told, lease = docker.told(), helper.book().snapshot().leases[0]
    assert (status, out) == (7, "output of the client\n")
    assert err == f"ds01: GPU 0 (whole GPU) is yours: lease {lease.id}\n"
    expected = ["run", "-it", f"--device=ds01.local/lease={lease.id}", "image", "sh", "--gpus", "1"]
    assert told["argv"] == ["--config", "x", *expected]
    assert told["environ"] == docker.environment(**more)
    assert (told["stdin"], told["blocked"]) == ("in", "0" * 16)
    assert told["descriptors"] == ["0", "1", "2", "3"]  # 3 lists them
    assert lease.revoked is None


def test_all_gpus_are_as_many_as_the_limits_let_one_container_have(
    tmp_path: Path, helper: Helper
) -> None:
    place = Place(tmp_path)
    place.runtime(helper.path, "carol", 1003)
    helper.comes("carol")
    helper.comes("carol")
    _status, _out, err = place("run", "--gpus", "all", "image")
    assert "all GPUs: 2, as many as your limits let one container have now" in err
    assert "GPU 0 (whole GPU), 1 (whole GPU) are yours" in err
    assert len(helper.book().snapshot().leases[0].slots) == 2


def test_a_limit_refuses_in_plain_words_and_with_dockers_exit_code(
    docker: Place, helper: Helper
) -> None:
    helper.comes("alice")
    status, _out, err = docker("run", "--gpus", "5", "image")
    assert status == 125 and not docker.called
    assert "5 GPUs for one container are more than the 1" in err and "limits.yml" in err
    assert err.splitlines()[-1] == "ds01: nothing was started"


def test_a_device_that_is_taken_is_refused_with_its_holder(docker: Place, helper: Helper) -> None:
    helper.ask("request", "carol", devices=["0"])
    helper.comes("alice")
    status, _out, err = docker("run", "--gpus", "device=0", "image")
    assert status == 125 and "0 is leased to carol" in err


def test_a_wait_is_shown_and_ends_with_the_container(docker: Place, helper: Helper) -> None:
    lease = helper.ask("request", "carol", count=2)["granted"]["id"]
    helper.comes("alice")
    process = docker.start("run", "--gpus", "1", "image")
    assert process.stderr is not None
    assert "waiting: 1 of 1 in the queue" in process.stderr.readline()
    assert not docker.called
    helper.book().release(lease, "admin", helper.world)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "is yours" in err and len(device(docker)) == 1


def test_ctrl_c_leaves_the_queue_and_starts_nothing(docker: Place, helper: Helper) -> None:
    helper.ask("request", "carol", count=2)
    helper.comes("alice")
    main, terminal = pty.openpty()
    process = docker.start("run", "--gpus", "1", "image", stderr=terminal, start_new_session=True)
    os.close(terminal)
    eventually(lambda: helper.book().snapshot().queue)
    shown = b""
    while b"waiting: 1 of 1" not in shown:  # cut to the width of the terminal
        shown += os.read(main, 4096)
    assert shown.startswith(b"\r\x1b[K")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130 and not docker.called
    assert b"you wait no longer, and nothing was started" in os.read(main, 4096)
    os.close(main)
    eventually(lambda: not helper.book().snapshot().queue)


def test_a_client_that_starts_nothing_gives_the_gpu_back(docker: Place, helper: Helper) -> None:
    helper.comes("alice")
    helper.comes("alice")
    status, _out, err = docker("run", "--gpus", "1", "image", env={"FAKE_EXIT": "125"})
    assert status == 125 and "no container was started, so lease" in err
    # On its way to its end, or there already.
    assert all(lease.revoked is not None for lease in helper.book().snapshot().leases)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_wrapper_alone_is_the_clients(
    docker: Place, helper: Helper, number: signal.Signals
) -> None:
    helper.comes("alice")
    process = docker.start("run", "--gpus", "1", "image", env={"FAKE_STAY": "42"})
    eventually(lambda: docker.called)
    time.sleep(0.3)
    process.send_signal(number)
    out, _err = process.communicate(timeout=30)
    assert process.returncode == 42 and out.count(f"client met {number.name}") == 1


def test_ctrl_c_on_the_terminal_reaches_the_client_once(docker: Place, helper: Helper) -> None:
    helper.comes("alice")
    main, terminal = pty.openpty()
    # A session of its own whose terminal this is: only there a key becomes a signal.
    script = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        ["python3", "-c", script, str(docker.wrapper), "run", "--gpus", "1", "image"],
        env=docker.environment(FAKE_STAY="42"),
        cwd=docker.root,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    eventually(lambda: docker.called)
    time.sleep(0.3)
    os.write(main, b"\x03")
    out, _err = process.communicate(timeout=30)
    assert process.returncode == 42 and out.count("client met SIGINT") == 1
    os.close(main)
    os.close(terminal)


def test_a_client_killed_by_a_signal_counts_as_a_shell_counts(
    docker: Place, helper: Helper
) -> None:
    helper.comes("alice")
    assert docker("run", "--gpus", "1", "image", env={"FAKE_KILL": "9"})[0] == 137


def test_killed_the_wrapper_takes_its_client_along(docker: Place, helper: Helper) -> None:
    helper.comes("alice")
    process = docker.start("run", "--gpus", "1", "image", env={"FAKE_STAY": "42"})
    eventually(lambda: docker.called)
    process.kill()
    process.communicate(timeout=30)  # the client has closed its output
    eventually(lambda: not os.path.exists(f"/proc/{docker.told()['pid']}"))


def test_a_lease_that_is_named_is_left_alone(docker: Place) -> None:
    words = ["run", "--gpus", "1", "--device", "ds01.local/lease=l1", "image"]
    assert docker(*words) == (0, "output of the client\n", "")
    assert docker.told()["argv"] == words


def test_with_standard_error_closed_nothing_is_said_elsewhere(
    docker: Place, helper: Helper
) -> None:
    helper.comes("alice")
    words = ["-c", 'exec "$0" "$@" 2>&-', str(docker.wrapper), "run", "--gpus", "1", "image"]
    assert docker(*words, command="/bin/sh") == (0, "output of the client\n", "")
    assert len(device(docker)) == 1 and docker.told()["descriptors"] == ["0", "1", "2"]


def test_root_gets_what_he_asks_for(tmp_path: Path, helper: Helper) -> None:
    place = Place(tmp_path)
    place.runtime(helper.path, "root", 0)
    assert place("run", "--gpus", "all", "image")[2] == ""
    assert place.told()["argv"] == ["run", "--gpus", "all", "image"]


def test_without_the_daemon_docker_is_called_as_it_is(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.runtime(str(tmp_path / "nobody.sock"))
    status, out, err = place("run", "--gpus", "all", "image", env={"FAKE_EXIT": "125"})
    assert (status, out) == (125, "output of the client\n")
    assert len(err.splitlines()) == 1 and "docker is called as it is" in err
    assert place.told()["argv"] == ["run", "--gpus", "all", "image"]


def test_a_daemon_in_trouble_is_no_refusal(tmp_path: Path) -> None:
    place = Place(tmp_path)
    answer = {"error": {"code": "store", "what": "the store is of another version"}}
    place.runtime(serve(tmp_path, answer))
    status, _out, err = place("run", "--gpus", "1", "image")
    assert status == 0 and "another version" in err and place.called


# --- how many are all -----------------------------------------------------------------------------


def row(index: str, profile: str = "", state: str = "free") -> dict[str, Any]:
    gpu = index.partition(":")[0]
    return {
        "slot": index,
        "uuid": f"U-{index}",
        "gpu": f"GPU-{gpu}",
        "profile": profile,
        "memory": 1,
        "state": state,
    }


MIXED = [row("0"), row("1"), *(row(f"2:{n}", "2g.10gb") for n in range(3))]


@pytest.mark.parametrize(
    ("limits", "used", "count"),
    [
        ({"max_gpus_per_container": None, "allow_full_gpu": True}, None, 3),
        ({"max_gpus_per_container": 2, "allow_full_gpu": True}, None, 2),
        ({"max_gpus_per_container": 1, "allow_full_gpu": True}, None, 1),
        ({"max_gpus_per_container": 4, "max_mig_instances": 2}, None, 2),
        ({"max_gpus_per_container": 4, "max_mig_instances": 2}, (2 / 7, 1), 1),
        ({"max_gpus_per_container": 4, "max_mig_instances": 0}, None, 1),
        ({"max_gpu_equivalents": 1.0, "allow_full_gpu": True}, None, 3),
    ],
)
def test_all_is_what_one_request_can_come_to(
    limits: dict[str, Any], used: tuple[float, int] | None, count: int
) -> None:
    users = [{"uid": 1, "gpu_equivalents": used[0], "mig": used[1]}] if used else []
    found = {"slots": MIXED, "users": users}
    assert gpus.most(found, Allowance(1, "alice", **limits)) == count


def test_slots_that_are_lost_do_not_count() -> None:
    found = {"slots": [row("0"), row("1", state="lost")], "users": []}
    assert gpus.most(found, Allowance(1, "alice", allow_full_gpu=True)) == 1
    assert isinstance(gpus._slot(row("0")), Slot)


# --- the reason after a build ---------------------------------------------------------------------


def serve(directory: Path, answer: dict[str, Any]) -> str:
    """A ds01d that always says the same."""
    path = str(directory / "says.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()

    def loop() -> None:
        with listener:
            for _turn in range(4):
                sock, _peer = listener.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(json.dumps(answer).encode() + b"\n")

    threading.Thread(target=loop, daemon=True).start()
    return path


def refusal(at: float) -> dict[str, Any]:
    why = "builds are not let through in mode enforce"
    timestamp = format_timestamp(datetime.fromtimestamp(at, timezone.utc))
    remedy = "Ask the administrators"
    one = {"subject": reason.SUBJECT, "why": why, "remedy": remedy, "timestamp": timestamp}
    return {"reasons": [{"subject": "last refusal", "why": "a GPU", "remedy": ""}, one]}


@pytest.mark.parametrize(
    "words",
    [
        ("build", "."),
        ("buildx", "build", "."),
        ("--debug", "image", "build", "."),
        ("compose", "-f", "x.yml", "build"),
        ("compose", "up", "--build"),
    ],
)
def test_a_failed_build_is_followed_by_the_doors_reason(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    place = Place(tmp_path)
    place.runtime(serve(tmp_path, refusal(time.time() + 60)))
    status, out, err = place(*words, env={"FAKE_EXIT": "17"})
    assert (status, out) == (17, "output of the client\n")
    assert err.splitlines() == [
        "ds01: the door refused this: builds are not let through in mode enforce",
        "ds01: Ask the administrators",
    ]
    told = place.told()
    assert told["argv"] == list(words) and told["environ"] == place.environment(FAKE_EXIT="17")
    assert place(*words)[2] == ""


def test_a_refusal_of_an_earlier_command_is_not_shown(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.runtime(serve(tmp_path, refusal(time.time() - 5)))
    assert place("build", ".", env={"FAKE_EXIT": "1"}) == (1, "output of the client\n", "")


def test_without_the_daemon_a_failed_build_has_said_all_there_is(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.runtime(str(tmp_path / "nobody.sock"))
    assert place("build", ".", env={"FAKE_EXIT": "1"}) == (1, "output of the client\n", "")
