# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 doctor``: run the checks, show the findings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ds01.cli.output import Exit, Output
from ds01.doctor.finding import Finding, Severity

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTICE: "dim"}


def run(options: argparse.Namespace, output: Output) -> int:
    """All checks, or those of the installation alone; exit code 1 with errors or warnings."""
    if options.only_self:
        from ds01.doctor.release import check_self

        findings = list(check_self())
        names = ["release"]
    else:
        from ds01.doctor.checks import run_checks

        findings, names = run_checks()
    show(findings, names, output)
    bad = any(finding.severity is not Severity.NOTICE for finding in findings)
    return Exit.FINDINGS if bad else Exit.OK


def show(findings: Sequence[Finding], names: Sequence[str], output: Output) -> None:
    """The findings, worst first, and what was looked at."""
    order = list(Severity)
    ranked = sorted(findings, key=lambda finding: order.index(finding.severity))
    if output.as_json:
        output.json({"checks": list(names), "findings": [f.as_dict() for f in ranked]})
        return
    for finding in ranked:
        word = (finding.severity.value, _COLOURS[finding.severity])
        output.line(word, f"  {finding.where}: {finding.what}")
        output.line(f"         {finding.remedy}")
    bad = [finding for finding in ranked if finding.severity is not Severity.NOTICE]
    if bad:
        output.line(f"{len(bad)} finding(s) from {len(names)} checks")
    else:
        output.line(("The host matches what was applied", "green"), f" ({', '.join(names)})")
