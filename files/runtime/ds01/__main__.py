# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m ds01``, and what ``bin/ds01`` calls."""

from __future__ import annotations

import sys

from ds01.cli import main

if __name__ == "__main__":
    sys.exit(main())
