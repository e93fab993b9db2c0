# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m ds01``, and what ``bin/ds01`` calls."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType

SERVICES = {"gateway": "ds01.gateway.main", "pump": "ds01.pump.main"}
"""What systemd starts and streams wait for: these do not pay for the parsers of the command line."""


def main() -> int:
    """Run the service or the command line that the process was given."""
    if len(sys.argv) == 2 and sys.argv[1] in SERVICES:
        from ds01.core.errors import Ds01Error

        try:
            return int(_service(sys.argv[1]).run())
        except Ds01Error as error:
            print(f"ds01: {error}", file=sys.stderr)
            return 1
    from ds01.cli import main as command

    return command()


def _service(name: str) -> ModuleType:
    """Import a service as fast as it goes: callers wait in its socket meanwhile."""
    # asyncio does without where there is none (base_events.py); nothing here speaks TLS.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    gc.disable()
    try:
        return importlib.import_module(SERVICES[name])
    finally:
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
