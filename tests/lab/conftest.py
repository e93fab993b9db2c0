# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests on the real host. A lab that is not up is a failure, never a skip."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).resolve().parent))

from labhost import vm
from labhost.errors import LabError
from labhost.guest import CommandFailed, Lab
from labhost.settings import HOST_ALIAS, Settings


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the journals of units that are down to the report of a failed test."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(lab, Lab) and vm.running(lab.settings):
        try:
            journals = lab.journal_of_failed_units()
        except CommandFailed as error:
            journals = f"the guest does not answer: {error}"
        if journals:
            report.sections.append(("units that failed on the lab host", journals))
    return report
