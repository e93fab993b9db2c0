# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the vendor's CDI spec describes the GPUs that there are.

Leases take their edits from it, by UUID, so each slot has to be in it under its UUID.
Source: CDI specification, https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


def faults(
    spec: Any,
    kind: str,
    slots: Mapping[str, str],
    exists: Callable[[str], bool],
    complete: bool = True,
) -> list[str]:
    """Why a spec does not do; empty where it does.

    :param spec: the file's content, decoded.
    :param kind: the CDI kind that it has to be of, such as ``nvidia.com/gpu``.
    :param slots: UUID → index of each slot.
    :param exists: whether a path is on the host: after an upgrade of the driver its libraries have
        other names.
    :param complete: whether every GPU answers; the MIG devices of a lost one are not known.
    """
    if not isinstance(spec, Mapping):
        return ["it is no mapping"]
    if not isinstance(spec.get("cdiVersion"), str):
        return ["it has no cdiVersion"]
    if spec.get("kind") != kind:
        return [f"its kind is {spec.get('kind')!r}, not {kind}"]
    devices = spec.get("devices")
    if not isinstance(devices, Sequence) or not all(_well_formed(row) for row in devices):
        return ["it has no list of devices with names and edits"]
    try:
        named = set(paths(spec))
    except (AttributeError, KeyError, TypeError):
        return ["its edits are malformed"]
    names = {str(device["name"]) for device in devices}
    found = [
        f"slot {index} ({uuid}) is not in it" for uuid, index in slots.items() if uuid not in names
    ]
    # A GPU in MIG mode is no slot, but a generator may list it.
    gone = sorted(name for name in names if name.startswith("MIG-") and name not in slots)
    found += [f"{name} is in it, and no slot" for name in gone if complete]
    found += [f"{path} is not on the host" for path in sorted(named) if not exists(path)]
    return found


def paths(spec: Mapping[str, Any]) -> Iterator[str]:
    """The host's paths that the spec names: device nodes, mounts and hooks."""
    edits = [spec.get("containerEdits"), *(row["containerEdits"] for row in spec["devices"])]
    for edit in edits:
        if edit is None:
            continue
        for node in edit.get("deviceNodes") or ():
            yield str(node.get("hostPath") or node["path"])
        for mount in edit.get("mounts") or ():
            yield str(mount["hostPath"])
        for hook in edit.get("hooks") or ():
            yield str(hook["path"])


def _well_formed(device: Any) -> bool:
    return (
        isinstance(device, Mapping)
        and isinstance(device.get("name"), str)
        and isinstance(device.get("containerEdits"), Mapping)
    )
