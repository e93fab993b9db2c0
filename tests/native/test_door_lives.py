# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lives of containers through the door on a native engine; the short run, and what judges it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
from native_engine import IMAGE, NativeEngine, client_environment, docker_program
from soak.door_lives import Quiet, Summary, grown, main, memory
from soak.house import Measure, Restart

LIVES = 1_000


def test_nothing_leaks_in_a_thousand_lives_of_four_users_with_restarts_in_the_middle(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its status says so: nothing was lost, and the last descriptor is accounted for."""
    status = main(["--lives", str(LIVES)])
    told = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{told}")
    assert status == 0, told
    assert told.startswith(f"{LIVES:,} lives of containers by 4 users at once")
    assert "ended by SIGTERM" in told and "ended by SIGKILL" in told


# --- a judge that cannot say guilty is none -------------------------------------------------------

WARM = Measure(descriptors=9, threads=4, rss=28_000, tasks=2, watched=3, objects={"link.Link": 2})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda was: replace(was, descriptors=10), "end: gateway: descriptors: 10, was 9"),
        (lambda was: replace(was, descriptors=8), "end: gateway: descriptors: 8, was 9"),
        (lambda was: replace(was, tasks=3), "end: gateway: tasks: 3, was 2"),
        (lambda was: replace(was, watched=4), "end: gateway: watched: 4, was 3"),
        (lambda was: replace(was, threads=5), "end: gateway: threads: 5, was 4"),
    ],
)
def test_one_thing_too_many_is_found(change: Callable[[Measure], Measure], fault: str) -> None:
    warm = Quiet("warm", 60, WARM, WARM, engine=2, door=1)
    end = replace(warm, name="end", gateway=change(WARM))
    assert grown(warm.exact(), warm.exact(), 0, "end") == []
    assert grown(warm.exact(), end.exact(), 0, "end") == [fault]


def test_a_connection_that_stays_is_found() -> None:
    warm = Quiet("warm", 60, WARM, WARM, engine=2, door=1)
    assert grown(warm.exact(), replace(warm, engine=3).exact(), 0, "end") == [
        "end: connections to the engine: 3, was 2"
    ]
    assert grown(warm.exact(), replace(warm, door=2).exact(), 0, "end") == [
        "end: connections to the door: 2, was 1"
    ]


def test_memory_and_objects_that_grow_are_found() -> None:
    assert memory("gateway", WARM, replace(WARM, rss=36_000, objects={"link.Link": 30})) == []
    assert memory("gateway", WARM, replace(WARM, rss=37_000)) == [
        "gateway: memory: 37,000 KiB, was 28,000 KiB"
    ]
    assert memory("gateway", WARM, replace(WARM, objects={"link.Link": 40})) == [
        "gateway: objects: link.Link: 40, was 2"
    ]


def test_only_who_asked_during_a_restart_is_excused() -> None:
    restart = Restart("SIGTERM", began=100.0, ready=101.0)
    assert restart.covers(99.0, 100.5)
    assert restart.covers(101.5, 103.0)
    assert not restart.covers(98.0, 99.9)
    assert not restart.covers(102.1, 110.0)


def test_a_fault_is_told() -> None:
    assert "FAULT: lost" in Summary(0, faults=["lost"]).text()


# --- the engine -----------------------------------------------------------------------------------


def test_an_engine_of_our_own_runs_a_container_and_leaves_nothing() -> None:
    with NativeEngine() as engine:
        environment = client_environment(engine.socket, engine.folder)
        words = [docker_program(), "run", "--rm", IMAGE, "echo", "alive"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("alive\n", 0), done.stderr
        assert engine.containers() == []
        folder = engine.folder
        # One that still runs when the engine is ended.
        words = [docker_program(), "run", "-d", IMAGE, "sleep", "600"]
        subprocess.run(words, env=environment, capture_output=True, check=True)
        assert len(engine.containers()) == 1
    assert not folder.exists()
    assert (
        folder.name
        not in subprocess.run(
            ["ps", "-e", "-o", "args"], capture_output=True, text=True, check=True
        ).stdout
    )
