# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which words of ``docker run`` ask for GPUs, and which only look so."""

from __future__ import annotations

import re
import subprocess

import pytest
from ds01.courtesy.options import (
    ALL,
    SWITCHES,
    TAKES_VALUE,
    gpu_wish,
    with_lease,
)

# docker run --help of client 26.1.5 as the lab host has it: an option with what it takes, if anything.
HELP = """
--add-host list; --annotation map; -a, --attach list; --blkio-weight uint16; --blkio-weight-device list;
--cap-add list; --cap-drop list; --cgroup-parent string; --cgroupns string; --cidfile string;
--cpu-period int; --cpu-quota int; --cpu-rt-period int; --cpu-rt-runtime int; -c, --cpu-shares int;
--cpus decimal; --cpuset-cpus string; --cpuset-mems string; -d, --detach; --detach-keys string;
--device list; --device-cgroup-rule list; --device-read-bps list; --device-read-iops list;
--device-write-bps list; --device-write-iops list; --disable-content-trust; --dns list; --dns-option list;
--dns-search list; --domainname string; --entrypoint string; -e, --env list; --env-file list;
--expose list; --gpus gpu-request; --group-add list; --health-cmd string; --health-interval duration;
--health-retries int; --health-start-interval duration; --health-start-period duration;
--health-timeout duration; --help; -h, --hostname string; --init; -i, --interactive; --ip string;
--ip6 string; --ipc string; --isolation string; --kernel-memory bytes; -l, --label list;
--label-file list; --link list; --link-local-ip list; --log-driver string; --log-opt list;
--mac-address string; -m, --memory bytes; --memory-reservation bytes; --memory-swap bytes;
--memory-swappiness int; --mount mount; --name string; --network network; --network-alias list;
--no-healthcheck; --oom-kill-disable; --oom-score-adj int; --pid string; --pids-limit int;
--platform string; --privileged; -p, --publish list; -P, --publish-all; --pull string; -q, --quiet;
--read-only; --restart string; --rm; --runtime string; --security-opt list; --shm-size bytes; --sig-proxy;
--stop-signal string; --stop-timeout int; --storage-opt list; --sysctl map; --tmpfs list; -t, --tty;
--ulimit ulimit; -u, --user string; --userns string; --uts string; -v, --volume list;
--volume-driver string; --volumes-from list; -w, --workdir string
"""
OPTION = re.compile(r"^\s*(?:-(\w), |\s*)--([a-z0-9-]+)(?: (\S.*?))?(?:\s{2,}.*)?$")


def options_of(lines: list[str]) -> dict[str, bool]:
    """Each long option and whether it takes a value."""
    found = [match for line in lines if (match := OPTION.match(line))]
    return {match[2]: match[3] is not None for match in found}


def test_every_option_of_the_client_is_known() -> None:
    options = options_of(HELP.replace("\n", " ").split(";"))
    assert len(options) == 99
    assert {name for name, takes in options.items() if takes} <= TAKES_VALUE
    assert {name for name, takes in options.items() if not takes} <= SWITCHES
    assert not TAKES_VALUE & SWITCHES


def test_a_client_that_is_installed_has_no_option_of_another_form() -> None:
    done = subprocess.run(["docker", "run", "--help"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.lstrip().startswith("-")]
    for name, takes in options_of(lines).items():
        assert name not in (SWITCHES if takes else TAKES_VALUE), name


@pytest.mark.parametrize(
    ("words", "count", "devices"),
    [
        ("run --gpus all image", ALL, ()),
        ("run --gpus=all image sh", ALL, ()),
        ("run --gpus 2 image", 2, ()),
        ("run --gpus count=2 image", 2, ()),
        ("run --gpus device=0 image", 1, ("0",)),
        ('run --gpus "device=0:1,2:0" image', 2, ("0:1", "2:0")),
        ("run --gpus device=MIG-1 image", 1, ("MIG-1",)),
        ("run --gpus driver=nvidia image", 1, ()),
        ("run --gpus driver=nvidia,count=all image", ALL, ()),
        ("run -it --rm -v /a:/b -p80:80 --gpus 1 -w=/x image --gpus all", 1, ()),
        ("run --name --gpus --gpus 1 image", 1, ()),
        ("run -itv --gpus --gpus 1 image", 1, ()),
        ("run --rm=false --gpus 1 -- image", 1, ()),
        ("create --gpus 1 image", 1, ()),
        ("container run --gpus 1 image", 1, ()),
        ("container create --gpus 1 image", 1, ()),
        ("--config dir --debug -l warn run --gpus 1 image", 1, ()),
        ("run --device nvidia.com/gpu=0 image", 1, ("0",)),
        ("run --device=nvidia.com/gpu=all --device /dev/fuse image", ALL, ()),
        ("run --device nvidia.com/gpu=0 --device nvidia.com/gpu=1:0 i", 2, ("0", "1:0")),
        ("run -de A=--gpus --gpus 1 image", 1, ()),
    ],
)
def test_gpus_are_asked_for(words: str, count: int, devices: tuple[str, ...]) -> None:
    wish = gpu_wish(words.split(" "))
    assert wish is not None
    assert (wish.count, wish.devices) == (count, devices)


@pytest.mark.parametrize(
    "words",
    [
        "run image --gpus all",
        "run -e --gpus=all image",
        "run --env --gpus image",
        "run -it image nvidia-smi --gpus 1",
        "run -- image --gpus all",
        "run --name=--gpus image",
        "run --gpus 1",
        "run --gpus",
        "run --gpus 0 image",
        "run --gpus -3 image",
        "run --gpus many image",
        "run --gpus device=0,1 image",
        "run --gpus count=1,device=0 image",
        "run --gpus all,capabilities=video image",
        "run --gpus driver=other image",
        "run --gpus 1 --gpus 1 image",
        "run --gpus 1 --device nvidia.com/gpu=0 image",
        "run --gpus 1 --no-such-option image",
        "run -Z --gpus 1 image",
        "run --gpus 1 --help image",
        "run --gpus 1 --device ds01.local/lease=l0 image",
        "run --device=ds01.local/lease=l0 image nvidia.com/gpu=0",
        "run -v /dev/nvidia.com/gpu=0:/x image",
        "exec c --gpus all",
        "container ls --gpus",
        "container",
        "",
    ],
)
def test_nothing_is_asked_for_or_nothing_that_we_are_sure_of(words: str) -> None:
    assert gpu_wish(words.split(" ")) is None


def test_the_lease_takes_the_place_of_what_asked_for_gpus_and_nothing_else_moves() -> None:
    words = ["run", "-e", "--gpus", "--gpus", "2", "--rm", "image", "sh", "-c", "--gpus 2"]
    wish = gpu_wish(words)
    assert wish is not None
    lease = "--device=ds01.local/lease=l1"
    assert with_lease(words, wish, "l1") == ["run", "-e", "--gpus", lease, *words[5:]]
    words = ["run", "--device=nvidia.com/gpu=0", "-it", "--device", "nvidia.com/gpu=1", "image"]
    wish = gpu_wish(words)
    assert wish is not None
    assert with_lease(words, wish, "l1") == ["run", lease, "-it", "image"]


@pytest.mark.parametrize("value", ["", "1,2x", '"', "device=0\ncount=1", "2.5", "None"])
def test_what_is_no_value_of_gpus_is_the_clients_to_refuse(value: str) -> None:
    assert gpu_wish(["run", "--gpus", value, "image"]) is None
