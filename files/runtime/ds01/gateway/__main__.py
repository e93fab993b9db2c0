# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m ds01.gateway``: what ``ds01 gateway`` does."""

from __future__ import annotations

import sys

from ds01.core.errors import Ds01Error
from ds01.gateway.main import run

if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except Ds01Error as error:
        sys.exit(f"ds01 gateway: {error}")
