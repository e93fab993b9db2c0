# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the docker wrapper calls: ``__main__.py gpus CLIENT WORD...`` or ``reason SINCE WORD...``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Do the courtesy; with ``gpus`` the exit code is the client's."""
    courtesy, first, *words = arguments
    try:
        # Called by its path, this file stands for the package in the search path; ds01 is above it.
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
        from ds01.courtesy import client, gpus, reason
    except Exception:  # a release that is damaged must not keep anybody from docker
        if courtesy == "gpus":
            os.execv(first, [first, *words])
        return 0
    except KeyboardInterrupt:
        return 130
    if courtesy == "gpus":
        return gpus.run(client.Client(first), words)
    return reason.tell(first, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
