"""What `make test` promises of its stages: all run, each is told, none fails unseen."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run_stages

MAKEFILE = """\
.RECIPEPREFIX = >
stage-good:
>@echo forty-two checked
stage-bad:
>@echo the reason; exit 3
stage-setup:
>@echo no disk left; exit 1
stage-slow:
>@echo started; sleep 60 & echo $$! > child; wait
stage-input:
>@read -r line && echo "got $$line" || echo nobody there
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    monkeypatch.chdir(tmp_path)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_all_stages_run_and_one_failure_fails_the_run(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_stages.main(["bad", "good"]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == "1 passed, 1 failed"
    assert lines[-2].startswith("===== 1 failed, 1 passed in ")
    table = [line.split() for line in lines if line.startswith(("good ", "bad "))]
    assert [(row[0], row[-1]) for row in table] == [("bad", "FAIL"), ("good", "pass")]
    assert "    | the reason" in lines
    assert (here / ".cache/logs/good.log").read_text() == "forty-two checked\n"


def test_a_run_without_a_failure_passes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_stages.main(["good"]) == 0
    out = capfd.readouterr().out
    assert out.endswith("1 passed, 0 failed\n")
    assert "good: pass in 0." in out
    assert "forty-two checked" in out


def test_nothing_runs_after_a_failed_setup_and_all_of_it_counts_as_failed(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_stages.main(["setup", "good"]) == 1
    out = capfd.readouterr().out
    assert out.endswith("0 passed, 2 failed\n")
    assert "not run: setup failed" in out
    assert not (here / ".cache/logs/good.log").exists()


def test_a_stage_over_its_time_fails_and_leaves_nothing_running(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_stages.main(["slow", "--limit", "1"]) == 1
    assert "FAIL (over 1 s)" in capfd.readouterr().out
    child = Path("/proc", (here / "child").read_text().strip())
    deadline = time.monotonic() + 10
    while child.exists() and "State:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < deadline, "the stage's child outlived it"
        time.sleep(0.05)


def test_a_stage_that_does_not_exist_fails(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_stages.main(["unheard-of"]) == 1
    assert "No rule to make target" in capfd.readouterr().out


def test_a_stage_has_no_terminal_to_wait_at(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_stages.main(["input"]) == 0
    assert "nobody there" in capfd.readouterr().out


def test_an_interrupted_run_still_takes_the_lab_down(here: Path) -> None:
    with (here / "Makefile").open("a") as stream:
        stream.write("stage-lab-down:\n>@touch down\n")
    process = subprocess.Popen(
        [sys.executable, run_stages.__file__, "slow", "good", "lab-down"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not (here / "child").exists():
        assert time.monotonic() < deadline, "the first stage did not start"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (here / "down").exists()
    assert not (here / ".cache/logs/good.log").exists()
