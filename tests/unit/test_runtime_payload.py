# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime's archive holds real files, the same bytes wherever it is made."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def _module() -> ModuleType:
    path = REPOSITORY / "plugins/plugin_utils/runtime_payload.py"
    spec = importlib.util.spec_from_file_location("runtime_payload", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _module()


def _tar(payload: dict[str, Any]) -> bytes:
    return gzip.decompress(base64.b64decode(payload["content"]))


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A copy of what the payload is made of, links kept."""
    copy = tmp_path / "infra"
    for part in ("files/runtime", "plugins/module_utils", "plugins/plugin_utils"):
        shutil.copytree(REPOSITORY / part, copy / part, symlinks=True)
    shutil.copy(REPOSITORY / "galaxy.yml", copy)
    return copy


def test_the_archive_holds_the_domain_as_files_and_nothing_made(collection: Path) -> None:
    cache = collection / "files/runtime/ds01/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "x.cpython-313.pyc").write_bytes(b"x")
    with tarfile.open(fileobj=io.BytesIO(_tar(MAKER.runtime_payload(str(collection))))) as archive:
        members = archive.getmembers()
    names = {member.name for member in members}
    assert {"lib/ds01/__main__.py", "lib/ds01/core/limits.py", "lib/ds01/host/cgroupfs.py"} <= names
    assert {"lib/ds01/limits_yaml.py", "man/ds01.1", "requirements.txt", "wrapper/docker"} <= names
    assert all(member.isfile() for member in members)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_same_sources_give_the_same_bytes(collection: Path, tmp_path: Path) -> None:
    here = MAKER.runtime_payload(str(REPOSITORY))
    for path in collection.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1, 1))
            path.chmod(path.stat().st_mode | 0o070)
    assert MAKER.runtime_payload(str(collection)) == here
    linked = tmp_path / "link"
    linked.symlink_to(collection)
    assert MAKER.runtime_payload(str(linked)) == here


def test_the_digest_is_that_of_the_tar(collection: Path) -> None:
    payload = MAKER.runtime_payload(str(collection))
    assert hashlib.sha256(_tar(payload)).hexdigest() == payload["sha256"]


def test_a_changed_line_changes_the_digest(collection: Path) -> None:
    before = MAKER.runtime_payload(str(collection))["sha256"]
    with (collection / "plugins/module_utils/_core/units.py").open("a") as stream:
        stream.write("# changed\n")
    assert MAKER.runtime_payload(str(collection))["sha256"] != before


def test_the_unpacked_runtime_runs_by_itself(collection: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_tar(MAKER.runtime_payload(str(collection))))) as archive:
        # Our own archive: Debian 12's Python has no extraction filters yet.
        archive.extractall(tmp_path / "out")
    shutil.rmtree(collection)
    done = subprocess.run(
        [sys.executable, "-m", "ds01", "doctor", "--self"],
        env={"PYTHONPATH": str(tmp_path / "out/lib"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_installed_collection_is_asked_for_its_version_in_its_manifest(collection: Path) -> None:
    (collection / "galaxy.yml").unlink()
    (collection / "MANIFEST.json").write_text('{"collection_info": {"version": "7.8.9"}}')
    assert MAKER.runtime_payload(str(collection))["version"] == "7.8.9"


def test_a_link_that_leads_out_of_the_collection_is_refused(collection: Path) -> None:
    (collection / "files/runtime/ds01/hosts").symlink_to("/etc/hosts")
    with pytest.raises(MAKER.PayloadError, match="leads out of the collection"):
        MAKER.runtime_payload(str(collection))


def test_only_pinned_wheels_are_taken_along(collection: Path, tmp_path: Path) -> None:
    house = tmp_path / "wheels"
    house.mkdir()
    (house / "good-1-py3-none-any.whl").write_bytes(b"good")
    (house / "other-1-py3-none-any.whl").write_bytes(b"other")
    with pytest.raises(MAKER.PayloadError, match="none of the wheels"):
        MAKER.runtime_payload(str(collection), str(house))
    with (collection / "files/runtime/requirements.txt").open("a") as stream:
        stream.write(f"good==1 --hash=sha256:{hashlib.sha256(b'good').hexdigest()}\n")
    wheels = MAKER.runtime_payload(str(collection), str(house))["wheels"]
    assert wheels == [
        {"name": "good-1-py3-none-any.whl", "content": base64.b64encode(b"good").decode()}
    ]


def test_a_wheelhouse_that_is_not_there_is_named(collection: Path) -> None:
    with pytest.raises(MAKER.PayloadError, match=r"wheelhouse /nowhere cannot be read"):
        MAKER.runtime_payload(str(collection), "/nowhere")
