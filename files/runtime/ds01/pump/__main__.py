# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m ds01.pump [--listen PATH]``."""

from __future__ import annotations

import sys

from ds01.pump.main import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
