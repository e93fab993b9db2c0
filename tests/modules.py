# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module of this collection in the test's own process, from arguments to the JSON it prints."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

COLLECTIONS = Path(__file__).parents[1] / ".cache" / "collections"
PLUGINS = "ansible_collections.ds01.infra.plugins"


def plugin(name: str) -> Any:
    """A file below ``plugins`` under the name that it has in Ansible: ``module_utils._core.store``.

    The collection's path is the one that ``make setup`` makes. What is imported here is not what
    ``ds01.core`` is: a test uses the one or the other.
    """
    if str(COLLECTIONS) not in sys.path:
        sys.path.append(str(COLLECTIONS))
    return importlib.import_module(f"{PLUGINS}.{name}")


def run(name: str, params: Mapping[str, Any], check: bool = False) -> dict[str, Any]:
    """What a module answers to its parameters; ``failed`` says whether it failed.

    :param check: in check mode.
    """
    module = plugin(f"modules.{name}")
    output = io.StringIO()
    arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": True}
    status: object = None
    # A module is a process of its own; here the one before has left its warnings.
    warnings._global_warnings.clear()
    with patch_module_args(arguments), redirect_stdout(output):
        try:
            module.main()
            raise AssertionError(f"{name} ended without a result")
        except SystemExit as end:
            status = end.code
    result: dict[str, Any] = json.loads(output.getvalue())
    assert bool(status) == bool(result.get("failed")), result
    return result
