# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 gpu`` and ``ds01 why`` against a running daemon: words, JSON, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ds01 import cli, client
from ds01.cli import gpu
from ds01.cli.gpu_text import duration, waiting_words
from ds01.cli.output import Exit
from ds01.core.errors import Ds01Error
from ds01.core.sightings import SeenContainer
from ds01.daemon import local, protocol

from .helper_daemon import Helper
from .test_daemon import eventually

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Helper]:
    found = Helper(tmp_path)
    monkeypatch.setattr(protocol, "SOCKET_PATH", found.path)
    with found.running():
        yield found
    found.close()


class Terminal:
    """Runs command lines as a user; exit code, output, errors."""

    def __init__(self, helper: Helper, capsys: pytest.CaptureFixture[str]) -> None:
        self._helper = helper
        self._capsys = capsys

    def __call__(self, user: str, *arguments: str) -> tuple[int, str, str]:
        self._helper.comes(user)
        status = cli.main(arguments)
        found = self._capsys.readouterr()
        return status, found.out, found.err

    def json(self, user: str, *arguments: str) -> Any:
        return json.loads(self(user, *arguments, "--json")[1])


@pytest.fixture
def ds01(helper: Helper, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(helper, capsys)


def test_request_prints_how_a_container_gets_the_gpu(ds01: Terminal) -> None:
    status, out, err = ds01("alice", "gpu", "request", "--note", "thesis")
    lease = ds01.json("alice", "gpu", "status")["leases"][0]["id"]
    assert (status, err) == (Exit.OK, "")
    assert "Yours: GPU 0 (whole GPU)" in out
    assert "within 2 min, or it goes back" in out
    assert f"docker run --device ds01.local/lease={lease} IMAGE" in out


def test_status_is_a_table_with_a_row_for_each_slot(ds01: Terminal, helper: Helper) -> None:
    lease = ds01.json("alice", "gpu", "request")["granted"]["id"]
    helper.book().bind(lease, "c" * 64, "train")
    ds01("root", "gpu", "drain", "1", "--message", "new fan")
    status, out, _err = ds01("bob", "gpu", "status")
    rows = [line.split() for line in out.splitlines()]
    assert status == Exit.OK
    assert rows[0] == ["GPU", "PROFILE", "MEMORY", "STATE", "WHO", "CONTAINER", "SINCE", "UNTIL"]
    assert rows[1][:9] == ["0", "whole", "GPU", "40", "GiB", "in", "use", "alice", "train"]
    assert " ".join(rows[1]).endswith("ago in 1 h")
    assert rows[2] == ["1", "whole", "GPU", "40", "GiB", "drained"]
    assert "1: drained by root: new fan" in out
    assert "alice  1 of 1" in out
    assert lease not in out


def test_status_of_one_user_leaves_the_others_out(ds01: Terminal) -> None:
    ds01("alice", "gpu", "request")
    found = ds01.json("bob", "gpu", "status", "--user", "alice")
    assert [row["slot"] for row in found["slots"]] == ["0"]
    assert ds01.json("bob", "gpu", "status", "--user", "bob")["slots"] == []


def test_a_driver_that_is_away_is_said_first(ds01: Terminal, helper: Helper) -> None:
    helper.world.reading = {"state": "driver_absent", "reason": "no library", "gpus": []}
    helper.ask("reconcile", "root")
    assert "no GPU driver on this host (no library)" in ds01("bob", "gpu", "status")[1]
    status, _out, err = ds01("bob", "gpu", "request")
    assert status == Exit.NO_GPU and "driver" in err
    assert "nothing is handed out" in ds01("bob", "why")[1]


def test_a_limit_refuses_with_an_exit_code_of_its_own(ds01: Terminal) -> None:
    status, _out, err = ds01("alice", "gpu", "request", "--count", "5")
    assert status == Exit.REFUSED
    assert "limits.yml" in err and "5 GPUs for one container" in err


def test_no_wait_ends_at_once_with_an_exit_code_of_its_own(ds01: Terminal) -> None:
    for user in ("alice", "bob"):
        ds01(user, "gpu", "request")
    status, _out, err = ds01("carol", "gpu", "request", "--no-wait")
    assert status == Exit.NO_GPU and "no GPU that fits is free now" in err


def test_a_device_that_is_taken_is_refused_with_its_holder(ds01: Terminal) -> None:
    ds01("alice", "gpu", "request", "--device", "0")
    status, _out, err = ds01("carol", "gpu", "request", "--device", "0")
    assert status == Exit.REFUSED and "0 is leased to alice" in err


def test_a_wait_tells_its_place_and_an_estimate_and_ends_with_the_gpu(
    ds01: Terminal, helper: Helper
) -> None:
    leases = [ds01.json(user, "gpu", "request")["granted"]["id"] for user in ("alice", "bob")]

    def free_one() -> None:
        eventually(lambda: helper.book().snapshot().queue)
        helper.book().release(leases[0], "admin", helper.world)

    other = threading.Thread(target=free_one)
    other.start()
    status, out, err = ds01("carol", "gpu", "request")
    other.join()
    assert status == Exit.OK and "Yours: GPU 0" in out
    assert "waiting: 1 of 1 in the queue, about" in err and "(an estimate)" in err


def test_a_wait_is_over_when_the_caller_says_so(ds01: Terminal, helper: Helper) -> None:
    for user in ("alice", "bob"):
        ds01(user, "gpu", "request")
    status, _out, err = ds01("carol", "gpu", "request", "--timeout", "1s")
    assert status == Exit.NO_GPU and "you have left the queue" in err
    eventually(lambda: not helper.book().snapshot().queue)


def test_ctrl_c_leaves_the_queue_and_says_so(helper: Helper) -> None:
    for user in ("alice", "bob"):
        helper.ask("request", user)
    helper.comes("carol")
    code = (
        "import sys; from ds01 import cli; from ds01.daemon import protocol; "
        f"protocol.SOCKET_PATH = {helper.path!r}; sys.exit(cli.main(['gpu', 'request']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "files/runtime")}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "1 of 1 in the queue" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert "you have left the queue" in err
    eventually(lambda: not helper.book().snapshot().queue)


def test_the_queue_shows_who_waits_for_what(ds01: Terminal, helper: Helper) -> None:
    assert "Nobody waits" in ds01("alice", "gpu", "queue")[1]
    for user in ("alice", "bob"):
        ds01(user, "gpu", "request")
    with helper.dial("carol") as sock:
        sock.sendall(b'{"verb": "request", "count": 2, "kind": "full"}\n')
        eventually(lambda: helper.book().snapshot().queue)
        out = ds01("alice", "gpu", "queue")[1]
        assert "carol" in out and "2 x full" in out and "estimates" in out
        assert "1 in the queue" in ds01("alice", "gpu", "status")[1]


def test_release_says_what_was_given_back(ds01: Terminal) -> None:
    ds01("alice", "gpu", "request")
    assert "Given back: GPU 0 (whole GPU)" in ds01("alice", "gpu", "release")[1]
    status, _out, err = ds01("bob", "gpu", "release")
    assert status == Exit.INPUT and "you have no lease" in err


def test_drain_and_undrain_say_whether_anything_changed(ds01: Terminal) -> None:
    assert "handed out no more" in ds01("root", "gpu", "drain", "0", "--message", "x")[1]
    assert "already" in ds01("root", "gpu", "drain", "0", "--message", "x")[1]
    assert "handed out again" in ds01("root", "gpu", "undrain", "0")[1]
    assert "not drained" in ds01("root", "gpu", "undrain", "0")[1]
    status, _out, err = ds01("alice", "gpu", "undrain", "0")
    assert status == Exit.REFUSED and "administrators" in err
    assert ds01("root", "gpu", "undrain", "17")[0] == Exit.REFUSED


def test_why_explains_leases_slots_and_containers(ds01: Terminal, helper: Helper) -> None:
    assert "Nothing of yours" in ds01("alice", "why")[1]
    lease = ds01.json("alice", "gpu", "request")["granted"]["id"]
    assert "reserved for you" in ds01("alice", "why")[1]
    assert "leased to alice" in ds01("bob", "why", "0")[1]
    assert "it is free" in ds01("bob", "why", "1")[1]
    assert "no lease, container, or GPU" in ds01("bob", "why", lease)[1]
    book = helper.book()
    book.bind(lease, "c" * 64, "train")
    assert "in force" in ds01("alice", "why", "train")[1]
    book.container_stopped(lease, "c" * 64)
    assert "held for 15 min" in ds01("alice", "why", "train")[1]
    helper.world.seen = [SeenContainer("c" * 64, "train", "exited", leases=(lease,))]
    book.release(lease, "alice", helper.world)
    out = ds01("alice", "why", "train")[1]
    assert "has ended" in out and f"--renew {lease}" in out


def test_an_ended_lease_is_renewed_under_its_name(ds01: Terminal, helper: Helper) -> None:
    lease = ds01.json("alice", "gpu", "request")["granted"]["id"]
    book = helper.book()
    book.bind(lease, "c" * 64, "train")
    book.container_stopped(lease, "c" * 64)
    helper.world.seen = [SeenContainer("c" * 64, "train", "exited", leases=(lease,))]
    book.release(lease, "alice", helper.world)
    assert ds01("bob", "gpu", "request", "--renew", lease)[0] == Exit.INPUT
    granted = ds01.json("alice", "gpu", "request", "--renew", "train")["granted"]
    assert granted["id"] == lease and granted["container"] == "train"


def test_without_the_daemon_users_are_told_and_root_reads_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helper = Helper(tmp_path)
    book = helper.book()
    book.look(gpu_inventory(helper))
    monkeypatch.setattr(protocol, "SOCKET_PATH", str(tmp_path / "nobody.sock"))
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert cli.main(["gpu", "status"]) == Exit.HOST
    assert "systemctl status ds01d.socket" in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(local, "open_book", lambda: book)
    assert cli.main(["gpu", "status"]) == Exit.OK
    found = capsys.readouterr()
    assert "read from the store" in found.err and "whole GPU" in found.out


def gpu_inventory(helper: Helper) -> Any:
    from ds01.core.gpus import inventory

    return inventory(helper.world.reading)


def test_a_wait_that_is_no_time_is_refused(ds01: Terminal) -> None:
    assert ds01("alice", "gpu", "request", "--timeout", "soon")[0] == Exit.INPUT


def test_the_place_in_the_queue_is_kept_while_the_daemon_restarts(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    with helper.running():
        for user in ("alice", "bob"):
            helper.ask("request", user)
        helper.comes("carol")
        messages = client.request(path=helper.path, count=1)
        first = next(messages)["waiting"]
    # How it stood last may be told once more before the end is met.
    assert any("reconnecting" in message for message in messages)
    helper.comes("carol")
    with helper.running():
        again = next(message for message in messages if "waiting" in message)
        assert again["waiting"]["ticket"] == first["ticket"]
        messages.close()
        eventually(lambda: not helper.book().snapshot().queue)
    helper.close()


def test_an_answer_that_is_none_is_an_error(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    with helper.running():
        pass
    with pytest.raises(Ds01Error, match="does not answer"):
        client.ask("ping", path=str(tmp_path / "nobody.sock"))
    helper.close()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (720, "12 min"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_are_read_by_people(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_restart_is_told_while_waiting() -> None:
    assert "kept" in waiting_words({"reconnecting": {}})


def test_every_error_of_the_daemon_has_an_exit_code() -> None:
    assert set(gpu._EXITS.values()) <= set(Exit)
