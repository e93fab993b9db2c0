# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a release from a payload: unpack, virtual environment, packages, stamp, rename."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .durable import files, flush, flush_tree, remove
from .release import ReleaseError

# Where the pip that ensurepip would install lies: Debian moves it out of the standard library.
PIP_WHEELS = ("/usr/share/python-wheels", "{stdlib}/ensurepip/_bundled")
_OUTPUT_SHOWN = 600

Runner = Callable[[Sequence[str]], "tuple[int, str]"]
"""Runs a command, returns exit status and its output (both streams)."""


@dataclass(frozen=True)
class Payload:
    """What a release is made from.

    :param version: the collection's version.
    :param archive: gzip-compressed tar with ``lib/``, ``man/``, ``wrapper/`` and
        ``requirements.txt``.
    :param sha256: SHA-256 of the uncompressed tar, in hex (compressors differ in their output).
    :param wheels: wheels by file name; with them no package index is asked.
    :param wheelhouse: a directory of this host with wheels, for the same purpose.
    """

    version: str
    archive: bytes
    sha256: str
    wheels: Mapping[str, bytes] = field(default_factory=dict)
    wheelhouse: str | None = None

    def unpacked(self) -> bytes:
        """The tar, after its digest was found right.

        :raises ReleaseError: the archive is damaged or is not what the digest says.
        """
        try:
            data = gzip.decompress(self.archive)
        except (OSError, EOFError, zlib.error) as error:
            raise ReleaseError(
                f"the payload is damaged: {error}", "payload", "Run again"
            ) from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ReleaseError("the payload is not what its digest says", "payload", "Run again")
        return data


@dataclass(frozen=True)
class Tools:
    """What applying a plan needs from the host.

    :param run: runs a command.
    :param python: the interpreter for the virtual environment.
    :param on_step: told the name of each step before it is done.
    """

    run: Runner
    python: str
    on_step: Callable[[str], None] = lambda _step: None


def build(name: str, payload: Payload, root: str, tools: Tools, donors: Sequence[str] = ()) -> None:
    """Make the release under a hidden name, then give it its own.

    :param donors: sound releases; one with the same requirements lends its installed packages.
    """
    final, work = os.path.join(root, name), os.path.join(root, f".incoming-{name}")
    tools.on_step("unpack")
    _unpack(payload.unpacked(), work)
    tools.on_step("venv")
    # Without pip: the release needs none, and installing it takes longer than all the rest.
    venv = os.path.join(work, "venv")
    _must_run(tools.run, [tools.python, "-m", "venv", "--without-pip", venv], "python3-venv")
    tools.on_step("packages")
    donor = _donor(work, [os.path.join(root, entry) for entry in donors], tools)
    if donor:
        shutil.copytree(
            os.path.join(donor, "venv/lib"), os.path.join(venv, "lib"), dirs_exist_ok=True
        )
    else:
        _install_packages(payload, work, tools)
    tools.on_step("stamp")
    _write_command(work, final)
    _write_wrapper(work, final)
    python = os.path.join(venv, "bin/python3")
    _must_run(tools.run, [python, "-m", "compileall", "-q", os.path.join(work, "lib")], "python3")
    _stamp(work, name, payload, tools)
    tools.on_step("sync")
    flush_tree(work)
    tools.on_step("rename")
    if os.path.lexists(final):
        # Damaged, or the plan would not build it: out of the way first.
        os.rename(final, os.path.join(root, f".old-{name}"))
    os.rename(work, final)
    flush(root)
    remove(os.path.join(root, f".old-{name}"))


def _unpack(data: bytes, target: str) -> None:
    os.mkdir(target, 0o755)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            parts = member.name.split("/")
            if (
                member.name.startswith("/")
                or ".." in parts
                or not (member.isfile() or member.isdir())
            ):
                raise ReleaseError(
                    f"the payload holds {member.name!r}, which is no plain file", "payload"
                )
            path = os.path.join(target, member.name)
            os.makedirs(path if member.isdir() else os.path.dirname(path), exist_ok=True)
            if member.isfile():
                stream = archive.extractfile(member)
                with open(path, "wb") as out:
                    out.write(stream.read() if stream else b"")


def _donor(work: str, releases: Sequence[str], tools: Tools) -> str | None:
    """A release whose packages are those that this one needs: same pins, same Python.

    Its files were found to be as they were made, so an upgrade that changes no package asks no
    index and no wheelhouse.
    """
    wanted = _made_with(work, tools)
    for release in reversed(releases):
        try:
            with open(os.path.join(release, "release.json"), encoding="utf-8") as stream:
                if json.load(stream).get("made_with") == wanted:
                    return release
        except (OSError, ValueError):
            continue
    return None


def _made_with(work: str, tools: Tools) -> dict[str, str]:
    """What decides about the installed packages."""
    with open(os.path.join(work, "requirements.txt"), "rb") as stream:
        requirements = hashlib.sha256(stream.read()).hexdigest()
    probe = "import sys, platform; print(sys.version, platform.machine())"
    status, output = tools.run([os.path.join(work, "venv/bin/python3"), "-I", "-c", probe])
    if status != 0:
        raise ReleaseError(f"the new interpreter does not run: {_shown(output)}", tools.python)
    return {"requirements_sha256": requirements, "python": output.strip()}


def _install_packages(payload: Payload, work: str, tools: Tools) -> None:
    """The hash-pinned requirements into the release's virtual environment."""
    python = os.path.join(work, "venv/bin/python3")
    requirements = os.path.join(work, "requirements.txt")
    command = [python, *_pip(tools, python), "install", "--require-hashes", "--no-deps"]
    command += ["--only-binary=:all:", "--no-input", "--no-cache-dir", "--root-user-action=ignore"]
    command += ["--disable-pip-version-check", "--quiet", "--requirement", requirements]
    wheels = os.path.join(work, "wheels")
    if payload.wheels:
        os.mkdir(wheels, 0o755)
        for name, content in payload.wheels.items():
            with open(os.path.join(wheels, os.path.basename(name)), "wb") as out:
                out.write(content)
    if payload.wheels or payload.wheelhouse:
        command += ["--no-index", "--find-links", payload.wheelhouse or wheels]
    else:
        command += ["--retries", "2", "--timeout", "30"]
    status, output = tools.run(command)
    if status != 0:
        raise ReleaseError(
            f"the runtime's packages were not installed (status {status}): {_shown(output)}",
            requirements,
            "Give this host a way to a package index, or set runtime_wheelhouse to a "
            "directory with the wheels",
        )
    remove(wheels)


def _pip(tools: Tools, python: str) -> list[str]:
    """How to call the distribution's pip with the new environment's interpreter."""
    status, output = tools.run([python, "-c", "import os; print(os.path.dirname(os.__file__))"])
    stdlib = output.strip() if status == 0 else ""
    for place in PIP_WHEELS:
        directory = place.format(stdlib=stdlib)
        if os.path.isdir(directory):
            wheels = [
                n for n in os.listdir(directory) if n.startswith("pip-") and n.endswith(".whl")
            ]
            if wheels:
                return [os.path.join(directory, max(wheels), "pip")]
    raise ReleaseError(
        "no pip was found to fill the virtual environment",
        tools.python,
        "Install the distribution's package python3-venv",
    )


def _write_command(work: str, final: str) -> None:
    """``bin/ds01``; the interpreter is named by its final path, isolated from the caller's
    environment (-I) and leaving no byte code behind (-B)."""
    os.mkdir(os.path.join(work, "bin"), 0o755)
    path = os.path.join(work, "bin/ds01")
    with open(path, "w", encoding="utf-8") as out:
        out.write(
            f"#!{final}/venv/bin/python3 -IB\n"
            "import sys\n\n"
            f"sys.path.insert(0, {final + '/lib'!r})\n"
            "from ds01.__main__ import main\n\n"
            "sys.exit(main())\n"
        )
    os.chmod(path, 0o755)


def _write_wrapper(work: str, final: str) -> None:
    """``bin/docker``, which has to know where its release is without asking anybody."""
    try:
        with open(os.path.join(work, "wrapper/docker"), encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        return  # a payload of before there was one
    path = os.path.join(work, "bin/docker")
    with open(path, "w", encoding="utf-8") as out:
        out.write(text.replace("@RELEASE@", final))
    os.chmod(path, 0o755)


def _stamp(work: str, name: str, payload: Payload, tools: Tools) -> None:
    """release.json: what this is, and the digest of each file that was laid."""
    digests: dict[str, str] = {}
    for path in files(work):
        relative = os.path.relpath(path, work)
        if relative.endswith(".pyc"):
            continue  # the interpreter may write these anew
        with open(path, "rb") as stream:
            digests[relative] = hashlib.sha256(stream.read()).hexdigest()
    stamp: dict[str, Any] = {
        "release": name,
        "version": payload.version,
        "payload_sha256": payload.sha256,
        "made_with": _made_with(work, tools),
        "installed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": digests,
    }
    with open(os.path.join(work, "release.json"), "w", encoding="utf-8") as out:
        json.dump(stamp, out, indent=1, sort_keys=True)


def _must_run(run: Runner, command: Sequence[str], package: str) -> None:
    status, output = run(command)
    if status != 0:
        raise ReleaseError(
            f"{' '.join(command[:3])} failed (status {status}): {_shown(output)}",
            command[-1],
            f"See whether the distribution's package {package} is installed and whole",
        )


def _shown(output: str) -> str:
    text = " ".join(output.split())
    return text if len(text) <= _OUTPUT_SHOWN else "…" + text[-_OUTPUT_SHOWN:]


def self_check(release: str, run: Runner) -> None:
    """Let a release say of itself that it works, in the place where it will be used.

    :raises ReleaseError: it does not.
    """
    status, output = run([os.path.join(release, "bin/ds01"), "doctor", "--self"])
    if status != 0:
        raise ReleaseError(
            f"the release fails its own check (status {status}): {_shown(output)}",
            release,
            "The release before stays in force; mend the cause and run again",
        )
