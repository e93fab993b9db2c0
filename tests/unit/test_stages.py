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
stage-lab-site:
>@echo booted; until test -e free; do sleep 0.05; done; ! grep broken free
stage-newest-site:
>@test ! -e under-way && touch under-way && sleep 0.3 && rm under-way
stage-lab-tests:
>@test ! -e under-way && echo alone
stage-frees:
>@echo fine > free
stage-breaks:
>@echo broken > free
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


def test_what_waits_for_the_guest_goes_on_beside_what_follows(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # The first one ends only after a later one has: one after the other this would never end.
    assert run_stages.main(["lab-site", "good", "frees", "lab-tests"]) == 0
    lines = capfd.readouterr().out.splitlines()
    begun = [line for line in lines if line.startswith("==> ")]
    assert begun[:3] == ["==> lab-site", "==> good beside lab-site", "==> frees beside lab-site"]
    # The proofs measure times: nothing runs beside them.
    assert begun[3] == "==> lab-tests"
    told = [line.split(":")[0].strip() for line in lines if ": pass in " in line]
    assert told[0] == "good" and told[3] == "lab-tests" and "lab-site" in told[1:3]
    rows = [line.split()[0] for line in lines if line.endswith("s  pass")]
    assert rows == ["lab-site", "good", "frees", "lab-tests"]


def test_stages_that_share_the_lab_never_run_side_by_side(here: Path) -> None:
    (here / "free").touch()
    assert run_stages.main(["newest-site", "lab-site", "newest-site", "lab-tests"]) == 0
    assert (here / ".cache/logs/lab-tests.log").read_text() == "alone\n"


def test_a_failure_beside_other_stages_fails_the_run_and_shows_its_own_log(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_stages.main(["lab-site", "breaks", "good", "lab-tests", "newest-site"]) == 1
    out = capfd.readouterr().out
    assert out.endswith("3 passed, 2 failed\n")
    assert "    | broken\n" in out
    assert "good: pass" in out
    assert "lab-tests: FAIL (not run: lab-site failed)" in out
    assert not (here / ".cache/logs/lab-tests.log").exists()


def test_a_stage_beside_others_has_its_time_too(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_stages.main(["lab-site", "good", "--limit", "1"]) == 1
    out = capfd.readouterr().out
    assert "lab-site: FAIL (over 1 s)" in out
    assert out.endswith("1 passed, 1 failed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_all_and_takes_the_lab_down(
    here: Path, number: signal.Signals
) -> None:
    with (here / "Makefile").open("a") as stream:
        stream.write("stage-lab-down:\n>@touch down\n")
    process = subprocess.Popen(
        [sys.executable, run_stages.__file__, "lab-site", "slow", "good", "lab-down"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (here / "child").exists():
        assert time.monotonic() < deadline, "the stages did not start"
        time.sleep(0.05)
    process.send_signal(number)
    assert process.communicate(timeout=60)[1] == "\ninterrupted during lab-site, slow\n"
    assert process.returncode == 130
    assert (here / "down").exists()
    assert not (here / ".cache/logs/good.log").exists()
