# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that needs NVML goes on under the runtime's interpreter, once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from modules import plugin

respawn = plugin("module_utils._respawn")


class Gone(Exception):
    """The process has become another one."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def become(interpreter: str) -> None:
        found.append(interpreter)
        raise Gone

    monkeypatch.setattr(respawn, "respawn_module", become)
    monkeypatch.setattr(respawn, "has_respawned", lambda: False)
    return found


def environment(top: Path) -> str:
    """A virtual environment's interpreter; as usual a link to the host's."""
    (top / "bin").mkdir(parents=True)
    python = top / "bin" / "python3"
    python.symlink_to(os.path.realpath(sys.executable))
    return str(python)


def test_it_goes_on_in_the_runtime_although_both_are_one_program(
    tmp_path: Path, called: list[str]
) -> None:
    python = environment(tmp_path / "venv")
    with pytest.raises(Gone):
        respawn.into_runtime(python)
    assert called == [python]


def test_without_a_runtime_it_stays(tmp_path: Path, called: list[str]) -> None:
    respawn.into_runtime(str(tmp_path / "venv/bin/python3"))
    assert called == []


def test_in_the_runtime_it_stays(
    tmp_path: Path, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current").symlink_to("0.1.0-3f2a90b1c7de")
    environment(tmp_path / "0.1.0-3f2a90b1c7de" / "venv")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "0.1.0-3f2a90b1c7de" / "venv"))
    respawn.into_runtime(str(tmp_path / "current" / "venv" / "bin" / "python3"))
    assert called == []


def test_it_does_so_once(
    tmp_path: Path, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(respawn, "has_respawned", lambda: True)
    respawn.into_runtime(environment(tmp_path / "venv"))
    assert called == []
