# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules start with the host's Python; NVML's bindings are in the runtime's own environment.

Source: ansible.module_utils.common.respawn.
"""

from __future__ import annotations

import os
import sys

from ansible.module_utils.common.respawn import has_respawned, respawn_module

RUNTIME_PYTHON = "/opt/ds01/current/venv/bin/python3"
"""The interpreter of the release in force."""


def into_runtime(interpreter: str = RUNTIME_PYTHON) -> None:
    """Run the module once more, under the runtime's interpreter, and end with its result.

    Call it right after the ``AnsibleModule`` is made, before anything is done. Returns where the
    module runs there already, and where the host has no runtime: then the host's own packages have
    to do. A pynvml among those does not keep the module here, since nobody pinned its version.
    """
    if has_respawned() or _is_this(interpreter) or not os.access(interpreter, os.X_OK):
        return
    respawn_module(interpreter)


def _is_this(interpreter: str) -> bool:
    """Whether this process runs in the interpreter's environment (venv: PEP 405, sys.prefix)."""
    environment = os.path.dirname(os.path.dirname(interpreter))
    return os.path.realpath(environment) == os.path.realpath(sys.prefix)
