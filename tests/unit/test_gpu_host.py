# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops a host from having its GPUs leased, and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ds01.core import gpu_host
from ds01.core.gpu_host import EngineView, HostFacts, Needs
from ds01.core.gpus import DRIVER_ABSENT, DRIVER_RESTARTING, READY

CONFIG = """\
#accept-nvidia-visible-devices-as-volume-mounts = true
accept-nvidia-visible-devices-envvar-when-unprivileged = false # a lease gives GPUs

[nvidia-container-cli]
load-kmods = true
"""
ENGINE = EngineView(
    "runc", ("io.containerd.runc.v2", "nvidia", "runc"), ("/etc/cdi", "/var/run/cdi"), ()
)
SOUND = HostFacts(
    state=READY,
    driver="550.54.15",
    gpus=4,
    toolkit={
        "nvidia-container-toolkit": "1.17.8-1",
        "nvidia-container-toolkit-base": "1.17.8-1",
    },
    toolkit_config=CONFIG,
    engine=ENGINE,
)
NEEDS = Needs("535", "1.17.8", ("nvidia-ctk", "cdi", "generate"))
OWN = replace(NEEDS, cdi_command=("/usr/local/sbin/site-cdi", "generate"))


def refusals(facts: HostFacts, needs: Needs = NEEDS) -> list[str]:
    return [str(problem) for problem in gpu_host.check(facts, needs)]


def test_a_sound_host_is_not_refused() -> None:
    assert refusals(SOUND) == []


@pytest.mark.parametrize(
    ("version", "least", "is_older"),
    [
        ("550.54.15", "535", False),
        ("535.0", "535", False),
        ("530.30.02", "535", True),
        ("1.17.8-1", "1.17.8", False),
        ("1:1.17.7-1~deb13", "1.17.8", True),
        ("1.18.0~rc.1-1", "1.17.8", False),
        ("1.17.8~rc.2-1", "1.17.8", True),
        ("1.9.0", "1.17.8", True),
        ("", "535", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, least: str, is_older: bool) -> None:
    assert gpu_host.older(version, least) is is_older


def test_an_old_driver_is_refused() -> None:
    (message,) = refusals(replace(SOUND, driver="525.147.05"))
    assert message.startswith("NVML: driver 525.147.05 is older than 535. Upgrade")


def test_a_missing_toolkit_is_refused_unless_the_site_has_a_generator_of_its_own() -> None:
    bare = replace(SOUND, toolkit={}, toolkit_config=None)
    (message,) = refusals(bare)
    assert "the NVIDIA container toolkit is not installed. Install version 1.17.8" in message
    assert "gpu_host_cdi_command" in message
    assert refusals(bare, OWN) == []
    (message,) = refusals(bare, replace(NEEDS, cdi_command=("/usr/bin/nvidia-ctk", "cdi")))
    assert "is not installed" in message


def test_an_old_toolkit_is_refused_by_package() -> None:
    mixed = {**SOUND.toolkit, "nvidia-container-toolkit-base": "1.17.4-1"}
    (message,) = refusals(replace(SOUND, toolkit=mixed), OWN)
    assert message.startswith("package nvidia-container-toolkit-base: version 1.17.4-1 is older")
    assert "CVE-2025-23266" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is not set, which means true"),
        ("", "is not set, which means true"),
        ("#accept-nvidia-visible-devices-envvar-when-unprivileged = false", "is not set"),
        ("[nvidia-ctk]\naccept-nvidia-visible-devices-envvar-when-unprivileged = false", "not set"),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged = true", "is true"),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged=true # x", "is true"),
    ],
)
def test_gpus_by_a_variable_of_the_image_are_refused(text: str | None, said: str) -> None:
    (message,) = refusals(replace(SOUND, toolkit_config=text))
    assert said in message
    assert "NVIDIA_VISIBLE_DEVICES" in message
    assert message.startswith("/etc/nvidia-container-runtime/config.toml: ")
    assert "nvidia-ctk config --in-place --set accept-nvidia-visible-devices-envvar" in message


def test_gpus_by_mounts_are_refused() -> None:
    text = f"accept-nvidia-visible-devices-as-volume-mounts = true\n{CONFIG}"
    (message,) = refusals(replace(SOUND, toolkit_config=text))
    assert "a container gets GPUs without a lease through its mounts" in message


def test_a_left_over_configuration_counts_without_the_package() -> None:
    left = replace(SOUND, toolkit={}, toolkit_config="")
    assert len(refusals(left, OWN)) == 1


def test_nvidia_as_the_default_runtime_is_refused_and_its_registration_kept() -> None:
    (message,) = refusals(replace(SOUND, engine=replace(ENGINE, default_runtime="nvidia")))
    assert "the default runtime is nvidia" in message
    assert "docker_engine_settings: {default-runtime: runc}" in message
    assert "leave runtimes.nvidia" in message


def test_containers_whose_runtime_was_taken_away_are_named() -> None:
    names = tuple(f"old-{number}" for number in range(12))
    engine = replace(ENGINE, runtimes=("runc",), nvidia_containers=names)
    (message,) = refusals(replace(SOUND, engine=engine))
    assert "created with it: old-0, old-1" in message and "old-9 and 2 more" in message
    assert refusals(replace(SOUND, engine=replace(ENGINE, nvidia_containers=names))) == []
    assert refusals(replace(SOUND, engine=replace(ENGINE, runtimes=("runc",)))) == []


def test_an_engine_without_cdi_is_refused() -> None:
    (message,) = refusals(replace(SOUND, engine=replace(ENGINE, cdi_dirs=())))
    assert message == "daemon.json: features.cdi: CDI is off. Run the role docker_engine"


def test_an_engine_that_reads_specs_elsewhere_is_refused() -> None:
    engine = replace(ENGINE, cdi_dirs=("/srv/cdi",))
    (message,) = refusals(replace(SOUND, engine=engine))
    assert "does not read CDI specs from /etc/cdi and /run/cdi" in message


def test_an_engine_that_is_down_is_refused() -> None:
    (message,) = refusals(replace(SOUND, engine=None))
    assert message.startswith("docker.service: the engine does not run")


def test_an_unknown_admin_group_is_refused() -> None:
    (message,) = refusals(
        replace(SOUND, admin_group_known=False), replace(NEEDS, admin_group="amdins")
    )
    assert message.startswith("gpu_host_admin_group: there is no group 'amdins' on the host")


@pytest.mark.parametrize(
    "facts",
    [HostFacts(DRIVER_ABSENT, "NVML Shared Library Not Found"), HostFacts(READY, driver="550.1")],
)
def test_a_host_without_gpus_is_a_fault_only_where_gpus_are_required(facts: HostFacts) -> None:
    assert gpu_host.without_gpus(facts)
    (message,) = refusals(facts)
    assert message.startswith("NVML: there is no NVIDIA driver (")
    assert "gpu_host_required: false" in message
    assert refusals(facts, replace(NEEDS, required=False)) == []


def test_a_driver_that_does_not_answer_is_always_a_fault() -> None:
    facts = HostFacts(DRIVER_RESTARTING, "Driver/library version mismatch")
    assert not gpu_host.without_gpus(facts)
    (message,) = refusals(facts, replace(NEEDS, required=False))
    assert "the driver does not answer (Driver/library version mismatch)" in message
    assert "reboot" in message


def test_every_fault_is_told_at_once() -> None:
    ill = replace(SOUND, driver="470.1", toolkit={}, toolkit_config="", engine=None)
    assert len(refusals(ill)) == 4
