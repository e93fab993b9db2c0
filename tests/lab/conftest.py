# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests on the real host. A lab that is not up is a failure, never a skip."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).resolve().parent))

from labhost import vm  # noqa: E402
from labhost.errors import LabError  # noqa: E402
from labhost.guest import Lab  # noqa: E402
from labhost.settings import HOST_ALIAS, Settings  # noqa: E402


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab host, which `make lab` or molecule's create step has booted and converged."""
    settings = Settings.from_environment()
    try:
        vm.need_running(settings)
    except LabError as error:
        pytest.fail(f"{error}. Boot it with: make lab", pytrace=False)
    return Lab(settings)


@pytest.fixture(scope="session")
def host(lab: Lab) -> Host:
    """testinfra's view of the same host."""
    return testinfra.get_host(f"ssh://{HOST_ALIAS}", ssh_config=str(lab.settings.ssh_config))
