# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 why``: why a request waits, a GPU is not to be had, a container does not start."""

from __future__ import annotations

import argparse

from ds01.cli.gpu import ask
from ds01.cli.gpu_text import show_reasons
from ds01.cli.output import Exit, Output


def run(options: argparse.Namespace, output: Output) -> int:
    """All reasons, the most pressing first."""
    found = ask("why", subject=options.subject)
    if output.as_json:
        output.json(found)
    elif found["reasons"]:
        show_reasons(found["reasons"], output)
    else:
        output.line("Nothing of yours waits or was refused, and you have no lease.")
    return Exit.OK
