# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vendor's CDI spec, found where the engine looks for specs and read when it has changed.

Source: CDI specification; dockerd(8), ``cdi-spec-dirs``: ``/etc/cdi`` and ``/var/run/cdi``, and a
device that several files describe is taken from the directory named last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

DIRECTORIES = ("/etc/cdi", "/run/cdi")
KIND = "nvidia.com/gpu"
_SUFFIXES = (".yaml", ".yml", ".json")
_SIZE_MAX = 16 * 1024 * 1024


class VendorSpec:
    """Reads the spec of one kind; a file that did not change is not read again.

    :param kind: CDI kind of the vendor's devices.
    :param directories: in rising precedence.
    :param skip: prefix of the names of files that are not the vendor's.
    """

    def __init__(
        self, kind: str = KIND, directories: Sequence[str] = DIRECTORIES, skip: str = "ds01-"
    ) -> None:
        self.kind = kind
        self.directories = tuple(directories)
        self.skip = skip
        self._known: dict[str, tuple[tuple[int, int, int], Any]] = {}
        self._joined: tuple[tuple[Any, ...], Mapping[str, Any] | None] | None = None

    def __call__(self) -> Mapping[str, Any] | None:
        """The spec: all files of the kind in one; None where there is none that can be read."""
        found = []
        for directory in self.directories:
            try:
                names = sorted(os.listdir(directory))
            except OSError:
                continue
            for name in names:
                if name.endswith(_SUFFIXES) and not name.startswith((self.skip, ".")):
                    found.append(self._read(os.path.join(directory, name)))
        stamps = tuple(stamp for stamp, _spec in found)
        if self._joined is None or self._joined[0] != stamps:
            specs = [
                s for _stamp, s in found if isinstance(s, Mapping) and s.get("kind") == self.kind
            ]
            self._joined = (stamps, _join(specs))
        return self._joined[1]

    def _read(self, path: str) -> tuple[Any, Any]:
        try:
            with open(path, encoding="utf-8") as stream:
                stat = os.fstat(stream.fileno())
                stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                known = self._known.get(path)
                if known is None or known[0] != stamp:
                    known = (stamp, _decode(stream.read(_SIZE_MAX)))
                    self._known[path] = known
        except (OSError, UnicodeDecodeError):
            return (path, None), None
        return (path, known[0]), known[1]


def _decode(text: str) -> Any:
    """JSON by the standard library; YAML where PyYAML is, which is in the runtime's environment."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        import yaml
    except ImportError:
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError:
        return None


def _join(specs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    if not specs:
        return None
    if len(specs) == 1:
        return specs[0]
    devices = {}
    edits: list[Any] = []
    for spec in specs:
        common = spec.get("containerEdits")
        for device in spec.get("devices") or ():
            devices[str(device.get("name"))] = device
        if common and common not in edits:
            edits.append(common)
    joined: dict[str, Any] = {}
    for common in edits:
        for key, value in common.items():
            have = joined.setdefault(key, [])
            have += [item for item in value if item not in have] if isinstance(value, list) else []
    newest = max((str(spec.get("cdiVersion", "")) for spec in specs), default="")
    return {
        "cdiVersion": newest,
        "kind": specs[0]["kind"],
        "containerEdits": joined,
        "devices": list(devices.values()),
    }
