# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime as one archive: the same bytes from a checkout and from an installed collection.

Standard library and PyYAML only, so that it can be tested without Ansible.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import yaml

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class PayloadError(Exception):
    """The payload cannot be made; the message says what is missing and where."""


def runtime_payload(collection: str, wheelhouse: str = "") -> dict[str, Any]:
    """What the module ds01_release installs.

    :param collection: the root directory of the collection.
    :param wheelhouse: a directory of the controller with wheels; those that the pinned
        requirements name by their hash are taken along. Empty: none.
    :returns: ``version``, ``sha256`` of the uncompressed tar, ``content`` (gzip, base64) and
        ``wheels`` (a list of ``name`` and base64 ``content``).
    :raises PayloadError: something is missing.
    """
    data = _tar(os.path.realpath(collection))
    return {
        "version": collection_version(collection),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content": base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii"),
        "wheels": _wheels(collection, wheelhouse) if wheelhouse else [],
    }


def collection_version(collection: str) -> str:
    """The version of the collection, installed (MANIFEST.json) or checked out (galaxy.yml).

    :raises PayloadError: neither file says it.
    """
    try:
        with open(os.path.join(collection, "MANIFEST.json"), encoding="utf-8") as stream:
            return str(json.load(stream)["collection_info"]["version"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PayloadError(f"{collection}/MANIFEST.json is damaged: {error}") from error
    try:
        with open(os.path.join(collection, "galaxy.yml"), encoding="utf-8") as stream:
            return str(yaml.safe_load(stream)["version"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise PayloadError(f"{collection}/galaxy.yml names no version: {error}") from error


def _tar(collection: str) -> bytes:
    """An uncompressed tar whose bytes depend on names and contents alone."""
    runtime = os.path.join(collection, "files", "runtime")
    members = {f"lib/ds01/{name}": path for name, path in _tree(f"{runtime}/ds01", collection)}
    members.update((f"man/{name}", path) for name, path in _tree(f"{runtime}/man", collection))
    members["wrapper/docker"] = os.path.join(runtime, "wrapper", "docker")
    members["requirements.txt"] = os.path.join(runtime, "requirements.txt")
    if "lib/ds01/__main__.py" not in members:
        raise PayloadError(f"{runtime}/ds01 holds no runtime package")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members):
            try:
                with open(members[name], "rb") as stream:
                    content = stream.read()
            except OSError as error:
                raise PayloadError(f"{members[name]} cannot be read: {error.strerror}") from error
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _tree(top: str, collection: str) -> Iterator[tuple[str, str]]:
    """Names below ``top`` and the real files behind them, links followed inside the collection."""
    for directory, directories, names in os.walk(top, followlinks=True):
        directories[:] = [name for name in directories if _wanted(name)]
        for name in filter(_wanted, names):
            path = os.path.join(directory, name)
            real = os.path.realpath(path)
            if not real.startswith(collection + os.sep):
                raise PayloadError(f"{path} leads out of the collection, to {real}")
            yield os.path.relpath(path, top), real


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__" and not name.endswith(".pyc")


def _wheels(collection: str, wheelhouse: str) -> list[dict[str, str]]:
    """The wheels that the requirements pin; pip takes the one that fits the host."""
    with open(os.path.join(collection, "files/runtime/requirements.txt"), encoding="utf-8") as text:
        pinned = set(_HASH.findall(text.read()))
    wheels = []
    try:
        names = sorted(name for name in os.listdir(wheelhouse) if name.endswith(".whl"))
    except OSError as error:
        raise PayloadError(
            f"the wheelhouse {wheelhouse} cannot be read: {error.strerror}"
        ) from error
    for name in names:
        with open(os.path.join(wheelhouse, name), "rb") as stream:
            content = stream.read()
        if hashlib.sha256(content).hexdigest() in pinned:
            encoded = base64.b64encode(content).decode("ascii")
            wheels.append({"name": name, "content": encoded})
    if not wheels:
        raise PayloadError(
            f"the wheelhouse {wheelhouse} holds none of the wheels that "
            "files/runtime/requirements.txt pins; fill it with 'pip download --require-hashes'"
        )
    return wheels
