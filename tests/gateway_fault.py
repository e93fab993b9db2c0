# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway, dying at a step of a request: ``python -m gateway_fault STEP OPTIONS``."""

from __future__ import annotations

import os
import signal
import sys

from ds01.gateway import making
from ds01.gateway.main import run


def die_at(step: str) -> None:
    """Have the process killed as soon as it has taken this step."""

    def fault(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    making.fault = fault


if __name__ == "__main__":
    die_at(sys.argv[1])
    sys.exit(run(sys.argv[2:]))
