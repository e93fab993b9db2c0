# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m ds01``, and what ``bin/ds01`` calls."""

from __future__ import annotations

import importlib
import sys

SERVICES = {"gateway": "ds01.gateway.main", "pump": "ds01.pump.main"}
"""What systemd starts and streams wait for: these do not pay for the parsers of the command line."""


def main() -> int:
    """Run the service or the command line that the process was given."""
    if len(sys.argv) == 2 and sys.argv[1] in SERVICES:
        return int(importlib.import_module(SERVICES[sys.argv[1]]).run())
    from ds01.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
