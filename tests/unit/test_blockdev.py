# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk that IO limits count for is the one that systemd and the kernel mean."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ds01.host import blockdev
from ds01.host.blockdev import Disk, NoDisk, disk_by_node, disk_by_number, disk_of, existing_parent
from ds01.host.host import Host


class Sysfs:
    """A /sys with the block devices of one machine."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "dev/block").mkdir(parents=True)

    def add(self, name: str, number: str, on: str = "", slaves: tuple[str, ...] = ()) -> None:
        """A device; ``on`` is the disk of a partition, ``slaves`` what a volume lies on."""
        folder = self.top / "devices" / on / name
        (folder / "slaves").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        if on:
            (folder / "partition").write_text("1\n")
        for slave in slaves:
            (folder / "slaves" / slave).symlink_to(next((self.top / "devices").rglob(slave)))
        (self.top / "dev/block" / number).symlink_to(folder)

    def schedule(self, name: str, text: str) -> None:
        queue = self.top / "devices" / name / "queue"
        queue.mkdir()
        (queue / "scheduler").write_text(text)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    machine = Sysfs(tmp_path / "sys")
    machine.add("sda", "8:0")
    machine.schedule("sda", "mq-deadline kyber [bfq] none\n")
    machine.add("sda2", "8:2", on="sda")
    machine.add("sda3", "8:3", on="sda")
    machine.add("sdb", "8:16")
    machine.add("sdb1", "8:17", on="sdb")
    machine.add("dm-0", "253:0", slaves=("sda3",))
    machine.add("dm-1", "253:1", slaves=("dm-0",))
    machine.add("dm-2", "253:2", slaves=("sda2", "sda3"))
    machine.add("md0", "9:0", slaves=("sda3", "sdb1"))
    machine.add("dm-3", "253:3", slaves=("md0",))
    machine.add("cciss!c0d0", "104:0")
    return machine


@pytest.mark.parametrize(
    ("number", "disk"),
    [
        ("8:0", Disk("/dev/sda", "8:0", "bfq")),
        ("8:2", Disk("/dev/sda", "8:0", "bfq")),
        ("8:17", Disk("/dev/sdb", "8:16")),
        ("253:0", Disk("/dev/sda", "8:0", "bfq")),
        ("253:1", Disk("/dev/sda", "8:0", "bfq")),
        ("253:2", Disk("/dev/sda", "8:0", "bfq")),
        ("9:0", Disk("/dev/md0", "9:0")),
        ("253:3", Disk("/dev/md0", "9:0")),
        ("104:0", Disk("/dev/cciss/c0d0", "104:0")),
    ],
)
def test_a_device_is_led_back_to_its_disk(number: str, disk: Disk, sysfs: Sysfs) -> None:
    assert disk_by_number(number, str(sysfs.top)) == disk


def test_a_number_that_is_no_block_device_is_refused(sysfs: Sysfs) -> None:
    with pytest.raises(NoDisk, match="block device 7:7 is not in"):
        disk_by_number("7:7", str(sysfs.top))


def test_a_node_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NoDisk, match="No such file or directory"):
        disk_by_node(str(tmp_path / "sdz"))
    with pytest.raises(NoDisk, match="is not a block device"):
        disk_by_node(str(tmp_path))
    assert Host().disk("/no/such/node", True) == (None, "/no/such/node: No such file or directory")


def test_a_path_that_is_not_there_yet_counts_as_its_nearest_parent(tmp_path: Path) -> None:
    assert existing_parent(str(tmp_path / "var/lib/docker")) == str(tmp_path)
    assert existing_parent("/") == "/"


def fake_stat(devices: dict[str, tuple[int, int]]) -> Any:
    """``os.stat`` with the (st_dev, st_rdev) of some paths."""
    real = os.stat

    def stat(path: Any, **more: Any) -> Any:
        if str(path) in devices:
            dev, rdev = devices[str(path)]
            return SimpleNamespace(st_dev=dev, st_rdev=rdev, st_mode=0o040755)
        return real(path, **more)

    return stat


MOUNTS = """\
22 1 0:25 / / rw - overlay overlay rw
30 22 0:40 / {data} rw,relatime shared:1 master:2 - btrfs /dev/mapper/vg-data rw
31 30 0:41 / {data}/my\\040lab rw - nfs4 server:/export rw
32 22 0:42 / {data}2 rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("below", "answer"),
    [
        ("", "/dev/sda"),
        ("/deep", "/dev/sda"),
        ("/my lab", "(server:/export), not on a disk"),
        ("2", "lies on tmpfs (tmpfs), not on a disk"),
    ],
)
def test_a_file_system_without_a_device_number_is_found_by_its_mount(
    below: str, answer: str, sysfs: Sysfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for name in ("deep", "my lab"):
        (data / name).mkdir(parents=True)
    (tmp_path / "data2").mkdir()
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "mountinfo").write_text(MOUNTS.format(data=data))
    path = f"{data}{below}"
    monkeypatch.setattr(
        os.path, "exists", lambda p: str(p).startswith("/dev/mapper") or Path(p).is_dir()
    )
    monkeypatch.setattr(
        blockdev.os,
        "stat",
        fake_stat({path: (os.makedev(0, 40), 0), "/dev/mapper/vg-data": (5, os.makedev(253, 0))}),
    )
    try:
        shown = disk_of(path, str(sysfs.top), str(tmp_path / "proc")).node
    except NoDisk as error:
        shown = str(error)
    assert answer in shown
