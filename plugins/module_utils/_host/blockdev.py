# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disk a path lies on (sysfs(5), proc_pid_mountinfo(5)).

The kernel's io.max takes whole disks only, so a partition is led back to its disk.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# mountinfo writes spaces, tabs, line breaks and backslashes as octal codes.
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Disk:
    """A whole disk.

    :param node: its node below /dev.
    :param number: ``major:minor``.
    :param scheduler: the IO scheduler in force (``bfq``, ``none``, …), empty when unknown.
    """

    node: str
    number: str
    scheduler: str = ""


class NoDisk(Exception):
    """A path lies on no disk whose IO the kernel can limit (NFS, tmpfs, …)."""


def existing_parent(path: str) -> str:
    """The path itself, or the nearest directory above it that exists."""
    current = os.path.abspath(path)
    while not os.path.exists(current) and current != "/":
        current = os.path.dirname(current)
    return current


def _mount_source(path: str, proc: str) -> tuple[str, str]:
    """File system type and source of the mount that holds a path."""
    real = os.path.realpath(path)
    best, found = "", ("", "")
    with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _unused, right = line.partition(" - ")
            point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), left.split()[4])
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, found = point, (right.split()[0], right.split()[1])
    return found


def _number_of(path: str, proc: str) -> str:
    device = os.stat(path).st_dev
    if os.major(device):
        return f"{os.major(device)}:{os.minor(device)}"
    # btrfs, overlay and the like hide the disk behind an anonymous device.
    kind, source = _mount_source(path, proc)
    if source.startswith("/dev/") and os.path.exists(source):
        node = os.stat(source).st_rdev
        return f"{os.major(node)}:{os.minor(node)}"
    raise NoDisk(
        f"{path} lies on {kind or 'an unknown file system'} ({source or 'no source'}), not on a disk"
    )


def disk_of(path: str, sysfs: str = "/sys", proc: str = "/proc") -> Disk:
    """The whole disk under a path; a path that is not there yet counts as its nearest parent.

    :raises NoDisk: nothing there that io.max can name.
    """
    return disk_by_number(_number_of(existing_parent(path), proc), sysfs)


def _whole(folder: Path) -> Path:
    """The sysfs directory of the disk that a partition is on."""
    return folder.parent if (folder / "partition").exists() else folder


def _underlying(folder: Path) -> Path:
    """Through the layers of device mapper and RAID as long as they lie on one disk."""
    for _layer in range(16):
        try:
            slaves = [slave.resolve() for slave in (folder / "slaves").iterdir()]
        except OSError:
            break
        if len({_whole(slave) for slave in slaves}) != 1:
            break
        folder = slaves[0]
    return _whole(folder)


def disk_by_number(number: str, sysfs: str = "/sys") -> Disk:
    """The whole disk of a ``major:minor``, be that a disk, a partition, LVM or LUKS.

    systemd leads a device back in the same way before it writes io.max; a volume that lies on
    several disks stays itself.

    :raises NoDisk: sysfs does not know the number.
    """
    entry = Path(sysfs, "dev/block", number)
    if not entry.exists():
        raise NoDisk(f"block device {number} is not in {sysfs}")
    folder = _underlying(entry.resolve())
    scheduler = ""
    try:
        words = (folder / "queue/scheduler").read_text().split()
        scheduler = next((word.strip("[]") for word in words if word.startswith("[")), "")
    except OSError:
        pass
    name = folder.name.replace("!", "/")
    return Disk(f"/dev/{name}", (folder / "dev").read_text().strip(), scheduler)


def disk_by_node(node: str, sysfs: str = "/sys") -> Disk:
    """The whole disk of a device node given by the inventory.

    :raises NoDisk: there is no such block device.
    """
    try:
        rdev = os.stat(node).st_rdev
    except OSError as error:
        raise NoDisk(f"{node}: {error.strerror}") from error
    if not rdev:
        raise NoDisk(f"{node} is not a block device")
    return disk_by_number(f"{os.major(rdev)}:{os.minor(rdev)}", sysfs)
