"""What of the lab tool can be seen without booting a machine; tests/lab sees the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from labhost import cli, fakegpus, image, needs, ssh, vm
from labhost.errors import LabError
from labhost.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A lab of its own that was never booted."""
    monkeypatch.setenv("DS01_LAB_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DS01_LAB_CACHE", str(tmp_path / "cache"))
    found = Settings.from_environment()
    found.prepare()
    yield found
    found.runtime.rmdir()


def record(settings: Settings, pid: int) -> vm.Record:
    made = vm.Record(pid, 2222, "0123", "tcg")
    made.save(settings)
    return made


def test_sources_name_the_machines_own_mirror_and_its_updates() -> None:
    mirror = needs.Mirror("http://mirror.example/debian", "")
    assert mirror.sources("trixie") == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
    ]


def test_a_security_archive_is_used_where_apt_has_one() -> None:
    mirror = needs.Mirror("http://mirror.example/debian", "http://mirror.example/security")
    assert mirror.sources("trixie")[2] == "deb http://mirror.example/security trixie-security main"


def test_a_given_mirror_wins_over_apts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS01_LAB_MIRROR", "http://mirror.example/debian/")
    assert needs.find_mirror().main == "http://mirror.example/debian"


def test_a_machine_whose_apt_has_no_debian_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DS01_LAB_MIRROR", raising=False)
    monkeypatch.setattr(needs, "_archives", lambda: {"Ubuntu": "http://mirror.example/ubuntu"})
    monkeypatch.setattr(needs.subprocess, "run", lambda *a, **k: None)
    with pytest.raises(LabError, match="set DS01_LAB_MIRROR"):
        needs.find_mirror()


def test_another_mirror_gives_another_image() -> None:
    one = image.digest(needs.Mirror("http://one.example/debian", ""))
    assert one == image.digest(needs.Mirror("http://one.example/debian", ""))
    assert one != image.digest(needs.Mirror("http://two.example/debian", ""))


def test_another_fake_gpu_is_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = needs.Mirror("http://one.example/debian", "")
    shutil.copytree(fakegpus.HOME, tmp_path / "fake")
    monkeypatch.setattr(fakegpus, "HOME", tmp_path / "fake")
    before = image.digest(mirror)
    with (tmp_path / "fake/src/api_mig.c").open("a") as source:
        source.write("/* changed */\n")
    assert image.digest(mirror) != before


def test_the_image_gets_a_library_that_can_be_loaded_and_its_machine() -> None:
    made = fakegpus.files()
    assert made["usr/local/lib/ds01-lab/libnvidia-ml.so.1"].startswith(b"\x7fELF")
    assert b"driver version=" in made["etc/fake-nvml.conf"]


def test_the_image_holds_no_docker_so_that_the_role_installs_it() -> None:
    installed = image._names(image.DEFINITION / "packages")
    assert "systemd" in installed
    assert not any(name.startswith("docker") for name in installed)
    assert "docker.io" in image._names(image.DEFINITION / "cached-packages")


def test_the_device_alone_is_not_taken_for_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm.os, "access", lambda path, mode: True)
    monkeypatch.setattr(vm.Path, "read_text", lambda path: "flags : fpu sse2 hypervisor")
    assert vm.accelerator() == "tcg"
    monkeypatch.setattr(vm.Path, "read_text", lambda path: "flags : fpu svm sse2")
    assert vm.accelerator() == "kvm"


def test_emulation_reads_the_time_from_the_tsc(settings: Settings) -> None:
    line = vm._qemu(settings, image.Image(settings.cache / "x"), "tcg", 2222)
    assert "tsc=reliable" in line[line.index("-append") + 1]
    assert "tsc=reliable" not in vm._kernel_command_line("kvm")


def test_the_guest_listens_on_loopback_alone(settings: Settings) -> None:
    line = vm._qemu(settings, image.Image(settings.cache / "x"), "tcg", 2222)
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in line[line.index("-netdev") + 1]


def test_a_pid_that_came_again_is_not_taken_for_the_lab(settings: Settings) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            assert not record(settings, stranger.pid).alive(settings)
            assert vm.running(settings) is None
        finally:
            stranger.kill()


def test_a_damaged_record_says_what_to_do(settings: Settings) -> None:
    settings.record.write_text("{")
    with pytest.raises(LabError, match="lab up --fresh"):
        vm.running(settings)


def test_a_kept_disk_whose_image_is_gone_is_not_booted(settings: Settings) -> None:
    with pytest.raises(LabError, match="is gone: run `lab up --fresh`"):
        vm._image_of_disk(settings, record(settings, 1))


def test_a_command_for_a_lab_that_is_down_says_how_to_start_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ssh", "--", "true"]) == 1
    assert "start it with `make lab-up`" in capsys.readouterr().err


def test_status_tells_by_its_exit_code_that_nothing_runs(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status"]) == cli.NOT_RUNNING
    assert capsys.readouterr().out == "down\n"


def test_a_state_directory_that_cannot_be_is_one_line_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DS01_LAB_DIR", str(tmp_path / "file"))
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err.startswith("lab: ")


def test_ssh_hands_a_command_over_unquoted_and_whole(settings: Settings) -> None:
    line = ssh.command(settings, "h.baker@hertie-school.lan", ["echo $HOME; id"])
    assert line[-2:] == ["--", "echo $HOME; id"]
    assert line[line.index("-l") + 1] == "h.baker@hertie-school.lan"


def test_a_port_nobody_listens_on_does_not_answer() -> None:
    assert not ssh.answers(ssh.free_port())


@pytest.mark.parametrize(
    ("said", "account"), [([], "root"), (["AS=alice"], "alice")], ids=["nobody named", "alice"]
)
def test_make_lab_ssh_is_root_unless_somebody_is_named(said: list[str], account: str) -> None:
    # Make has a variable AS of its own, the assembler.
    environment = {name: value for name, value in os.environ.items() if name != "AS"}
    top = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["make", "--dry-run", "-C", str(top), "lab-ssh", "RUN=true", *said],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"--as '{account}'" in done.stdout
