# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the containers are, as files for programs that do not ask the daemon.

``opa/container-owners.json`` is in the format that policies and dashboards read on such hosts;
``containers.json`` tells more. Both are replaced in one step while ``opa/container-owners.lock`` is held
(flock(2)), so that programs of the format's own that lock it and write it do not mix with this one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .errors import Ds01Error
from .owner_origin import managed
from .owners import CONTAINER, UNKNOWN, Record

FOLDER = "/var/lib/ds01"
OWNERS_FOLDER = "opa"
OWNERS = "container-owners.json"
LOCK = "container-owners.lock"
CONTAINERS = "containers.json"
LOCK_SECONDS = 10.0
SHORT_ID = 12
SCHEMA_VERSION = 1
_POLL_SECONDS = 0.02
_FOLDER_MODE = 0o755
_MODE = 0o644
# Whoever can open a file can lock it: others' hands would keep it from being written.
_LOCK_MODE = 0o600


def owners_view(
    records: Iterable[Record], admins: Sequence[str], service_users: Sequence[str], now: float
) -> dict[str, Any]:
    """The file of owners: containers by the first twelve digits of their ids.

    Where two ids begin with the same twelve, each is there under its full id, and under the twelve digits
    is nobody, unless both are the same person's.

    :param now: seconds of the wall clock.
    """
    groups: dict[str, list[Record]] = {}
    for one in _there(records):
        groups.setdefault(one.id[:SHORT_ID], []).append(one)
    entries: dict[str, Any] = {}
    for key, group in groups.items():
        entries[key] = _entry(group[0])
        if len(group) > 1:
            if len({(one.owner.uid, one.owner.user) for one in group}) > 1:
                nobody = {"owner": None, "owner_uid": None, "detection_method": UNKNOWN}
                entries[key].update(nobody, ds01_managed=False)
            entries.update({one.id: _entry(one) for one in group})
    return {
        "containers": entries,
        "admins": list(admins),
        "service_users": list(service_users),
        "updated_at": moment(now),
    }


def _entry(one: Record) -> dict[str, Any]:
    return {
        "owner": one.owner.user or None if one.owner.known else None,
        "owner_uid": one.owner.uid if one.owner.known else None,
        "name": one.name,
        "ds01_managed": managed(one),
        "interface": one.origin.interface,
        "created_at": moment(one.created),
        "detection_method": one.owner.method,
    }


def containers_view(records: Iterable[Record], now: float) -> dict[str, Any]:
    """The file of containers: what is known of each, with the evidence in words and no lease's id."""
    return {
        "schema": SCHEMA_VERSION,
        "updated_at": moment(now),
        "containers": [_container(one) for one in _there(records)],
    }


def _container(one: Record) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "image": "" if one.facts is None else one.facts.image,
        "state": one.state,
        "owner": one.owner.user or None if one.owner.known else None,
        "owner_uid": one.owner.uid if one.owner.known else None,
        "method": one.owner.method,
        "confidence": one.owner.confidence,
        "interface": one.origin.interface,
        "container_type": one.origin.container_type,
        "created_at": moment(one.created),
        "leases": 0 if one.facts is None else len(one.facts.leases),
        "managed": managed(one),
        "evidence": [item.words for item in one.owner.evidence],
        "contradictions": list(one.owner.contradictions),
    }


def _there(records: Iterable[Record]) -> list[Record]:
    """Containers that are there, in the order in which they were made."""
    found = [one for one in records if one.kind == CONTAINER and one.gone is None]
    return sorted(found, key=lambda one: (one.created, one.id))


def moment(seconds: float) -> str | None:
    """Seconds of the wall clock as ``2025-01-07T10:30:45Z``; None where there is no such time."""
    if seconds <= 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


class Publisher:
    """Writes both files when what they say has changed.

    :param folder: where; made where it is missing, as its folder ``opa`` is.
    :param lock_seconds: how long another program may hold the lock.
    :ivar trouble: why the last call did not write what it should; empty when it did.
    """

    def __init__(self, folder: str = FOLDER, lock_seconds: float = LOCK_SECONDS) -> None:
        self.folder = folder
        self.lock_seconds = lock_seconds
        self.trouble = ""
        self._written: dict[str, tuple[Any, tuple[int, int, int]]] = {}

    def publish(
        self,
        records: Iterable[Record],
        admins: Sequence[str],
        service_users: Sequence[str],
        *,
        full: bool = False,
    ) -> bool:
        """Make the files say what the records do.

        :param full: after a full sync: ``updated_at`` moves though nothing else did.
        :returns: whether they do. False: another program holds the lock for too long, which
            :attr:`trouble` tells; the files are as they were, and the next call tries again.
        :raises Ds01Error: a file cannot be written, or a link stands in its place.
        """
        records = list(records)
        now = time.time()
        views = {
            OWNERS: owners_view(records, admins, service_users, now),
            CONTAINERS: containers_view(records, now),
        }
        self.trouble = ""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_opened(self.folder, None))
            owners = stack.enter_context(_opened(self.folder, OWNERS_FOLDER, folder))
            places = {OWNERS: owners, CONTAINERS: folder}
            changed = {
                name: view
                for name, view in views.items()
                if full or not self._is_written(name, view, places[name])
            }
            if not changed:
                return True
            lock_path = os.path.join(self.folder, OWNERS_FOLDER, LOCK)
            if not stack.enter_context(_locked(owners, lock_path, self.lock_seconds)):
                self.trouble = (
                    f"{lock_path}: another program has held it for {self.lock_seconds:.0f} s, so the "
                    "owners of containers are not published; see which one with fuser -v"
                )
                return False
            for name, view in changed.items():
                self._written.pop(name, None)
                shown = _replace(places[name], name, view, self._path(name))
                self._written[name] = (_content(view), shown)
        return True

    def _path(self, name: str) -> str:
        within = (OWNERS_FOLDER,) if name == OWNERS else ()
        return os.path.join(self.folder, *within, name)

    def _is_written(self, name: str, view: Mapping[str, Any], place: int) -> bool:
        content, shown = self._written.get(name, (None, None))
        return content == _content(view) and shown == _identity(place, name)


def _content(view: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in view.items() if key != "updated_at"}


def _identity(place: int, name: str) -> tuple[int, int, int] | None:
    """Which file it is, and when it was written: somebody may have removed or changed it."""
    try:
        found = os.stat(name, dir_fd=place, follow_symlinks=False)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_mode


@contextlib.contextmanager
def _opened(folder: str, name: str | None, above: int | None = None) -> Iterator[int]:
    """A folder, made where it is missing."""
    path = folder if name is None else os.path.join(folder, name)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if name is None:
            _make(path)
            descriptor = os.open(path, flags)
        else:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
                os.chmod(name, _FOLDER_MODE, dir_fd=above)
            descriptor = os.open(name, flags, dir_fd=above)
    except OSError as error:
        raise _told(path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make(path: str) -> None:
    if os.path.isdir(path):
        return
    _make(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
        os.chmod(path, _FOLDER_MODE)


@contextlib.contextmanager
def _locked(place: int, path: str, seconds: float) -> Iterator[bool]:
    """Hold the lock file; False when another program keeps it."""
    until = time.monotonic() + seconds
    while True:
        descriptor = _open_lock(place, path)
        try:
            if not _take(descriptor, until):
                yield False
                return
            here, mine = _stat(place, LOCK), os.fstat(descriptor)
            if here is not None and (here.st_dev, here.st_ino) == (mine.st_dev, mine.st_ino):
                yield True
                return
        finally:
            os.close(descriptor)


def _open_lock(place: int, path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(LOCK, flags, _LOCK_MODE, dir_fd=place)
    except OSError as error:
        raise _told(path, error) from error
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, _LOCK_MODE)
    return descriptor


def _take(descriptor: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _stat(place: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _replace(place: int, name: str, view: Mapping[str, Any], path: str) -> tuple[int, int, int]:
    """Write a whole file in one step; what identifies it."""
    text = _text(view)
    work = f".{name}.new"
    try:
        before = _stat(place, name)
        if before is not None and not stat.S_ISREG(before.st_mode):
            number = errno.ELOOP if stat.S_ISLNK(before.st_mode) else errno.EISDIR
            raise OSError(number, os.strerror(number))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(work, dir_fd=place)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(work, flags, 0o600, dir_fd=place), "wb") as out:
            os.fchmod(out.fileno(), _MODE)
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        os.replace(work, name, src_dir_fd=place, dst_dir_fd=place)
        shown = _identity(place, name)
    except OSError as error:
        raise _told(path, error) from error
    return shown or (0, 0, 0)


def _text(view: Mapping[str, Any]) -> str:
    """JSON with a line for each container: readable, and several times as fast as one indented."""
    parts = []
    for key, value in view.items():
        if isinstance(value, dict):
            lines = [f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items()]
            text = "{\n" + ",\n".join(lines) + "\n }" if lines else "{}"
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            text = "[\n" + ",\n".join(f"  {json.dumps(one)}" for one in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _told(path: str, error: OSError) -> Ds01Error:
    remedy = "Look at the file system's free space (df) and the permissions of that folder"
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        remedy = "Something else stands in its place: look at it (ls -l) and remove it"
    return Ds01Error(
        f"the owners of containers cannot be published: {error.strerror or error}", path, remedy
    )
