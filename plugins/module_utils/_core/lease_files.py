# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that make a lease's devices exist: one CDI spec a lease in ``/run/cdi``.

Device ``ds01.local/lease=<id>`` carries the vendor's edits for the leased slots. The engine reads
the file at each start of a container, so without it no start succeeds, whoever asks for it.
Source: Container Device Interface, https://github.com/cncf-tags/container-device-interface
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .durable import WORK_SUFFIX, replace_file
from .errors import Ds01Error
from .gpus import Slot
from .leases import Lease
from .reconcile import LeaseFile

DIRECTORY = "/run/cdi"
KIND = "ds01.local/lease"
PREFIX = "ds01-"
SUFFIX = ".json"
# Annotations of a spec came with 0.6.0 of the format; engines from Docker 26 read it.
LEAST_VERSION = (0, 6, 0)
# As CDI wants the name of a device (ValidateDeviceName in its pkg/parser), less the colon.
_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?\Z")
_LISTS = ("env", "deviceNodes", "netDevices", "hooks", "mounts", "additionalGids")

VendorSpec = Callable[[], "Mapping[str, Any] | None"]
"""Gives the vendor's CDI spec, or None where there is none; fast when it did not change."""


def sound_id(text: str) -> bool:
    """Whether a text can be the id of a lease: a CDI device name and a part of a file name."""
    return bool(_ID.match(text))


def device_name(lease_id: str) -> str:
    """What a container names to get its lease's devices."""
    return f"{KIND}={lease_id}"


class LeaseFiles:
    """The lease files of this host.

    :param vendor: the vendor's spec.
    :param directory: where the engine looks for specs (dockerd(8), ``cdi-spec-dirs``).
    """

    def __init__(self, vendor: VendorSpec, directory: str = DIRECTORY) -> None:
        self.vendor = vendor
        self.directory = directory

    def path(self, lease_id: str) -> str:
        """Path of a lease's file.

        :raises Ds01Error: the id is none.
        """
        if not sound_id(lease_id):
            raise Ds01Error(f"{lease_id[:80]!r} is no lease id", "lease")
        return os.path.join(self.directory, f"{PREFIX}{lease_id}{SUFFIX}")

    def undescribed(self, slots: Iterable[Slot]) -> list[Slot]:
        """Slots that the vendor's spec does not describe: they cannot be given to a container."""
        vendor = self.vendor()
        if vendor is None:
            return list(slots)
        names = _devices(vendor)
        return [slot for slot in slots if _edits_of(slot, names) is None]

    def write(self, lease: Lease, slots: Sequence[Slot]) -> bool:
        """Make a lease's devices exist.

        :returns: whether the file had to be written.
        :raises Ds01Error: the vendor's spec does not describe a slot.
        :raises OSError: the file cannot be written.
        """
        text = json.dumps(self.spec(lease, slots), indent=1, sort_keys=True) + "\n"
        path = self.path(lease.id)
        try:
            with open(path, encoding="utf-8") as stream:
                if stream.read() == text:
                    return False
        except (OSError, ValueError):
            pass
        os.makedirs(self.directory, mode=0o711, exist_ok=True)
        replace_file(path, text, 0o600)
        return True

    def remove(self, lease_id: str) -> bool:
        """Make a lease's devices exist no more; whether there was a file.

        :raises OSError: it cannot be removed.
        """
        try:
            os.unlink(self.path(lease_id))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def gone(self, lease_id: str) -> bool:
        """Whether a lease has no file for certain; one that cannot be looked at may be there."""
        try:
            os.lstat(self.path(lease_id))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def present(self) -> list[str]:
        """Ids of the leases that have a file."""
        try:
            names = os.listdir(self.directory)
        except OSError:
            return []
        return sorted(
            name[len(PREFIX) : -len(SUFFIX)]
            for name in names
            if name.startswith(PREFIX) and name.endswith(SUFFIX)
        )

    def sweep(self) -> None:
        """Remove what killed writers left; the book's lock is held."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                if name.startswith(f".{PREFIX}") and name.endswith(SUFFIX + WORK_SUFFIX):
                    os.unlink(os.path.join(self.directory, name))

    def read(self) -> dict[str, LeaseFile]:
        """What the files say of their leases, for a book that was lost; damaged ones are left out."""
        found = {}
        for lease_id in self.present():
            try:
                with open(self.path(lease_id), encoding="utf-8") as stream:
                    notes = json.load(stream)["annotations"]
                found[lease_id] = LeaseFile(
                    tuple(notes["ds01.local/slots"].split()),
                    int(notes["ds01.local/uid"]),
                    str(notes["ds01.local/user"]),
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError, Ds01Error):
                continue
        return found

    def spec(self, lease: Lease, slots: Sequence[Slot]) -> dict[str, Any]:
        """The CDI spec of a lease.

        :raises Ds01Error: the vendor's spec is missing or does not describe a slot.
        """
        vendor = self.vendor()
        missing = self.undescribed(slots)
        if vendor is None or missing:
            what = "there is no CDI spec of the vendor"
            if vendor is not None:
                what = f"the vendor's CDI spec does not describe {missing[0].index}"
            raise Ds01Error(
                what, "/etc/cdi", "Run site.yml --tags gpu_host: it makes the spec anew"
            )
        names = _devices(vendor)
        parts = [vendor.get("containerEdits") or {}]
        parts += [_edits_of(slot, names) or {} for slot in slots]
        return {
            "cdiVersion": _version(str(vendor.get("cdiVersion", ""))),
            "kind": KIND,
            "annotations": {
                "ds01.local/uid": str(lease.uid),
                "ds01.local/user": lease.user,
                "ds01.local/slots": " ".join(lease.slots),
            },
            "devices": [{"name": lease.id, "containerEdits": merged(parts)}],
        }


def merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Container edits in one: lists one after the other, each item once."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key in _LISTS and isinstance(value, list):
                kept = result.setdefault(key, [])
                kept += [item for item in value if item not in kept]
            elif value is not None:
                result[key] = value
    return {key: value for key, value in result.items() if value != []}


def _devices(vendor: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        str(device.get("name")): device.get("containerEdits") or {}
        for device in vendor.get("devices") or ()
    }


def _edits_of(slot: Slot, devices: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """By UUID first: after a re-partition an index may mean another device in an old spec.

    The toolkit names devices by index, by UUID or by both. A spec that names any device by UUID and
    not this one does not describe it, whatever is at its index.
    """
    if slot.uuid in devices:
        return devices[slot.uuid]
    by_uuid = any(name.startswith("MIG-" if slot.is_mig else "GPU-") for name in devices)
    return None if by_uuid else devices.get(slot.index)


def _version(vendor: str) -> str:
    try:
        found = tuple(int(part) for part in vendor.split("."))
    except ValueError:
        found = ()
    return ".".join(str(part) for part in max(found, LEAST_VERSION))
