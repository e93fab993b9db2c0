# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check has to say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum


class Severity(str, Enum):
    """How bad it is.

    ``error``: a limit or a promise does not hold now. ``warning``: it holds, but will not for
    long, or not fully. ``notice``: worth knowing, nothing to mend.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    :param check: the check that found it.
    :param what: the fault in plain words.
    :param where: the place.
    :param remedy: what to do.
    """

    severity: Severity
    check: str
    what: str
    where: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return {**asdict(self), "severity": self.severity.value}
