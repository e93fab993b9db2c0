# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference of the lease benchmark: the same bookkeeping with flock and one JSON file.

Each operation reads the whole file below a lock, decides, writes a temporary file, syncs it, renames
it, and syncs the folder: as durable as the book, and what one would write in an afternoon. It
decides less than the book does: no queue, no events, no settling of what has run out.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ds01.core.gpus import Slot
from ds01.core.leases import HOLDING, Allowance


class JsonBook:
    """Leases in one JSON file.

    :param folder: for the file and its lock.
    :param cdi: folder of the lease files.
    :param edits: the vendor's edits by UUID of the slot.
    """

    def __init__(
        self, folder: Path, cdi: Path, slots: Sequence[Slot], edits: dict[str, Any]
    ) -> None:
        self._path = folder / "leases.json"
        self._cdi = cdi
        self._slots = slots
        self._edits = edits
        self._lock = os.open(folder / "leases.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._path.exists():
            durable(self._path, {"leases": {}})

    def close(self) -> None:
        """Let go of the lock file."""
        os.close(self._lock)

    @contextmanager
    def _change(self) -> Iterator[dict[str, Any]]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
            yield state["leases"]
            durable(self._path, state)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def fill(self, ended: Sequence[dict[str, Any]]) -> None:
        """Ended leases whose containers still exist."""
        with self._change() as leases:
            for lease in ended:
                leases[secrets.token_hex(8)] = lease

    def request(self, allowance: Allowance) -> str:
        """One slot for a user: the first free one that her limits allow.

        :raises LookupError: none is free, or a limit is reached.
        """
        lease = secrets.token_hex(8)
        with self._change() as leases:
            holding = [row for row in leases.values() if row["state"] in HOLDING]
            taken = {slot for row in holding for slot in row["slots"]}
            mine = [slot for row in holding if row["uid"] == allowance.uid for slot in row["slots"]]
            by_uuid = {slot.uuid: slot for slot in self._slots}
            used = sum(by_uuid[uuid].sevenths for uuid in mine)
            most = round((allowance.max_gpu_equivalents or 1e6) * 7)
            for slot in self._slots:
                if slot.uuid not in taken and used + slot.sevenths <= most:
                    break
            else:
                raise LookupError("nothing fits")
            leases[lease] = {
                "uid": allowance.uid,
                "user": allowance.user,
                "state": "reserved",
                "slots": [slot.uuid],
                "created": time.time(),
                "container": "",
            }
            durable(
                self._cdi / f"ds01-{lease}.json",
                {
                    "cdiVersion": "0.5.0",
                    "kind": "ds01.local/lease",
                    "devices": [{"name": lease, "containerEdits": self._edits[slot.uuid]}],
                },
            )
        return lease

    def bind(self, lease: str, container: str) -> None:
        """The lease is that container's."""
        with self._change() as leases:
            leases[lease] |= {"state": "bound", "container": container}

    def end(self, lease: str) -> None:
        """The container is gone: its lease too."""
        with self._change() as leases:
            (self._cdi / f"ds01-{lease}.json").unlink()
            del leases[lease]


def durable(path: Path, value: Any) -> None:
    """Replace a file by a value's JSON so that a power cut leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
