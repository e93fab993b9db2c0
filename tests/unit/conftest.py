# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_nvml.machine import Machine, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake NVML, built once."""
    return build(tmp_path_factory.mktemp("fake-nvml"))


@pytest.fixture
def machine(tmp_path: Path, nvml_library: Path) -> Machine:
    """A machine with four A100, for the fake NVML to play."""
    return Machine(tmp_path, nvml_library)
