# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in a directory: a cgroup tree that behaves as the kernel's, a systemd that reads drop-ins.

The fake systemd takes a setting only if the real one would, loads drop-ins by prefix and in the
order of their names (systemd.unit(5)), and writes to the cgroup files what the kernel then shows.
What it does was seen on the lab host; the lab's own tests are the proof.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ds01.core import errors, names, parse, tree
from ds01.core.enforce import Outcome, Paths, enforce, look
from ds01.core.gather import Gathered, IoSettings, gather
from ds01.core.limits import Limits
from ds01.host.accounts import HostAccount
from ds01.host.blockdev import Disk
from ds01.host.cgroupfs import CgroupFs
from ds01.limits_yaml import read_tree

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
PAGE = 4096
_IO = {
    "IOReadBandwidthMax": "rbps",
    "IOWriteBandwidthMax": "wbps",
    "IOReadIOPSMax": "riops",
    "IOWriteIOPSMax": "wiops",
}
_PLAIN = {
    "CPUQuota": (r"|[0-9]+(\.[0-9]{1,2})?%", "cpu.max"),
    "CPUWeight": (r"|[1-9][0-9]{0,4}", "cpu.weight"),
    "IOWeight": (r"|[1-9][0-9]{0,4}", "io.weight"),
    "MemoryMax": (r"infinity|[0-9]{1,19}", "memory.max"),
    "MemoryHigh": (r"infinity|[0-9]{1,19}", "memory.high"),
    "MemorySwapMax": (r"infinity|[0-9]{1,19}", "memory.swap.max"),
    "TasksMax": (r"infinity|[0-9]{1,19}", "pids.max"),
}


def read_limits(text: str, now: datetime = NOW, shown: str = "limits.yml") -> Limits:
    """The checked limits in a text, by the loader and parser that the playbook uses."""
    with tempfile.NamedTemporaryFile("wb", suffix=".yml") as file:
        file.write(text.encode("utf-8", "surrogatepass"))
        file.flush()
        return parse.parse(read_tree(file.name, shown, tree.Node, errors.Ds01Error), shown, now)


class Refused(Exception):
    """The fake systemd does not take a setting."""


def parsed(line: str) -> tuple[str, str]:
    """Setting and value of a ``Setting=value`` text that systemd takes.

    :raises Refused: systemd would refuse it, or in a drop-in ignore it.
    """
    setting, _unused, value = line.partition("=")
    if setting in _IO:
        pattern = r"|/dev/[!-~]+ (infinity|[0-9]{1,19})"
    elif setting in _PLAIN:
        pattern = _PLAIN[setting][0]
    else:
        raise Refused(f"unknown setting in {line!r}")
    if re.fullmatch(pattern, value) is None:
        raise Refused(f"bad value in {line!r}")
    return setting, value


@dataclass
class Context:
    """A unit's settings as systemd holds them in memory."""

    plain: dict[str, str] = field(default_factory=dict)
    disks: dict[str, dict[str, str]] = field(default_factory=dict)

    def take(self, line: str) -> None:
        setting, value = parsed(line)
        if setting in _PLAIN:
            self.plain[setting] = value
        elif value:
            node, amount = value.split()
            self.disks.setdefault(setting, {})[node] = amount
        else:
            # systemd keeps the entries of a cleared list, without limits, to undo them.
            self.disks[setting] = dict.fromkeys(self.disks.get(setting, {}), "infinity")


class FakeSystemd:
    """systemd over a cgroup tree in a directory.

    :param units: the unit directory.
    :param cgroups: the cgroup root.
    :param numbers: ``major:minor`` of the disks by node.
    """

    def __init__(self, units: Path, cgroups: Path, numbers: dict[str, str]) -> None:
        self.units = units
        self.cgroups = cgroups
        self.numbers = numbers
        self.contexts: dict[str, Context] = {}
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.broken: dict[str, Exception] = {}
        self.forgotten: tuple[str, ...] = ()

    def running(self) -> bool:
        return True

    def loaded_slices(self) -> list[str]:
        return sorted(self.contexts)

    def forget_leftovers(self, settings: Iterable[str]) -> None:
        self.forgotten = tuple(settings)

    def set_properties(self, unit: str, assignments: Sequence[str]) -> None:
        if unit in self.broken:
            raise self.broken[unit]
        self.calls.append((unit, tuple(assignments)))
        context = self.contexts.setdefault(unit, Context())
        for line in assignments:
            context.take(line)
        if self.folder(unit).is_dir():
            self._realize(unit)

    def folder(self, unit: str) -> Path:
        return self.cgroups / names.slice_path(unit)

    def drop_ins(self, unit: str) -> list[Path]:
        """The drop-ins that count for a unit, in the order in which they count."""
        stem = unit.removesuffix(".slice")
        parts = stem.split("-")
        prefixes = ["-".join(parts[:n]) + "-" for n in range(len(parts) - 1, 0, -1)]
        found: dict[str, Path] = {}
        for folder in (stem, *prefixes):
            for path in sorted((self.units / f"{folder}.slice.d").glob("*.conf")):
                if not path.name.startswith("."):
                    found.setdefault(path.name, path)
        return [found[name] for name in sorted(found)]

    def _load(self, unit: str) -> Context:
        context = Context()
        for path in self.drop_ins(unit):
            lines = path.read_text(encoding="utf-8").splitlines()
            assert lines.count("[Slice]") == 1, f"{path} is not whole"
            for line in lines:
                if line and not line.startswith(("#", "[")):
                    context.take(line)
        return context

    def start(self, *units: str) -> None:
        """Start slices with the slices above them, as dockerd or logind make them."""
        for unit in units:
            parts = unit.removesuffix(".slice").split("-")
            for n in range(1, len(parts) + 1):
                name = "-".join(parts[:n]) + ".slice"
                if not self.folder(name).is_dir():
                    self.folder(name).mkdir(parents=True)
                    self.contexts[name] = self._load(name)
                    self._write(name, "memory.current", "0")
                    self._write(name, "pids.current", "0")
                    self._write(name, "cgroup.procs", "")
                    self._realize(name)

    def stop(self, unit: str, unload: bool = True) -> None:
        shutil.rmtree(self.folder(unit))
        if unload:
            self.contexts.pop(unit)

    def daemon_reload(self) -> None:
        """Read the files anew; the kernel keeps what it has, as the lab host's does."""
        self.contexts = {unit: self._load(unit) for unit in self.contexts}

    def reboot(self) -> None:
        """Everything that ran starts again from the files."""
        ran = [unit for unit in self.contexts if self.folder(unit).is_dir()]
        for unit in ran:
            shutil.rmtree(self.folder(unit), ignore_errors=True)
        self.contexts = {}
        self.start(*ran)

    def use(self, unit: str, name: str, amount: int) -> None:
        """Let what runs in a slice use something (``memory.current``, ``pids.current``)."""
        self._write(unit, name, str(amount))

    def kernel(self, unit: str) -> dict[str, str]:
        """The limits of a slice as the kernel shows them."""
        files = [*(file for _unused, file in _PLAIN.values()), "io.max"]
        return {name: (self.folder(unit) / name).read_text().strip() for name in files}

    def _write(self, unit: str, name: str, text: str) -> None:
        (self.folder(unit) / name).write_text(f"{text}\n" if text else "", encoding="utf-8")

    def _realize(self, unit: str) -> None:
        context = self.contexts[unit]
        for setting, (_unused, name) in _PLAIN.items():
            self._write(unit, name, _shown(name, context.plain.get(setting, "")))
        present = self.folder(unit) / "io.max"
        limits = _io_lines(present.read_text() if present.exists() else "")
        for setting, fieldname in _IO.items():
            for node, amount in context.disks.get(setting, {}).items():
                number = self.numbers.get(node, node.removeprefix("/dev/block/"))
                disk = limits.setdefault(number, dict.fromkeys(_IO.values(), "max"))
                disk[fieldname] = "max" if amount == "infinity" else amount
        shown = [
            " ".join([number, *(f"{name}={value}" for name, value in disk.items())])
            for number, disk in sorted(limits.items())
            if set(disk.values()) != {"max"}
        ]
        self._write(unit, "io.max", "\n".join(shown))


def _io_lines(text: str) -> dict[str, dict[str, str]]:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    return {number: dict(pair.split("=") for pair in pairs) for number, *pairs in lines}


def _shown(name: str, value: str) -> str:
    if name == "cpu.max":
        return f"{round(float(value[:-1]) * 1000)} 100000" if value else "max 100000"
    if name.endswith("weight"):
        return f"{'default ' if name == 'io.weight' else ''}{value or 100}"
    if value in ("", "infinity"):
        return "max"
    return str(int(value) // PAGE * PAGE if name.startswith("memory.") else int(value))


class FakeCgroups(CgroupFs):
    """The real reader on the fake tree, on a machine of a known size."""

    size = (256, 512 * 1024**3, 4194304)

    def capacity(self) -> tuple[int, int, int]:
        return self.size


class FakeHost:
    """A host below a directory.

    :param accounts: ``name: (uid, Unix groups)``, or a whole account where its spelling differs.
    :param disks: ``major:minor`` by node; the first one holds every path.
    """

    def __init__(
        self,
        top: Path,
        accounts: dict[str, HostAccount] | None = None,
        disks: dict[str, str] | None = None,
    ) -> None:
        self.paths = Paths(
            units=str(top / "units"),
            limits=str(top / "etc/limits.json"),
            lock=str(top / "run/limits.lock"),
            events=str(top / "events.jsonl"),
        )
        self.accounts = accounts or {}
        self.disks = disks or {"/dev/vda": "254:0"}
        root = top / "cgroup"
        for folder in (root, Path(self.paths.units)):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (root / "io.cost.qos").write_text("254:0 enable=1 ctrl=auto\n")
        self.cgroups = FakeCgroups(str(root))
        self.systemd = FakeSystemd(Path(self.paths.units), root, self.disks)

    def find_account(self, name: str) -> HostAccount | None:
        return self.accounts.get(name)

    def io_paths(self) -> tuple[str, ...]:
        return ("/var/lib/docker", "/home")

    def disk(self, node_or_path: str, is_node: bool) -> tuple[Any, str]:
        node = node_or_path if is_node else next(iter(self.disks))
        if node not in self.disks:
            return None, f"{node}: No such file or directory"
        return Disk(node, self.disks[node], "none"), ""

    def gather(self, limits: Limits, now: datetime = NOW, devices: Iterable[str] = ()) -> Gathered:
        return gather(limits, IoSettings(tuple(devices)), self, now)

    def apply(
        self, text: str, now: datetime = NOW, devices: Iterable[str] = (), **more: Any
    ) -> Outcome:
        """One run of the limits in a text."""
        io = IoSettings(tuple(devices))
        found = gather(read_limits(text, now), io, self, now)
        return enforce(found, io, self, "test", self.paths, **more)

    def look(self, text: str, now: datetime = NOW, devices: Iterable[str] = ()) -> Outcome:
        """What a run would do."""
        io = IoSettings(tuple(devices))
        return look(gather(read_limits(text, now), io, self, now), io, self, self.paths)

    def files(self) -> dict[str, str]:
        """Everything below the unit directory."""
        top = Path(self.paths.units)
        return {
            str(path.relative_to(top)): path.read_text(encoding="utf-8")
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }
