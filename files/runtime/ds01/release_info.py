# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release this program is part of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Release:
    """The release that the running code belongs to.

    :param version: version of the collection.
    :param name: the release's name; empty when run from a checkout.
    :param directory: the release's directory, or the checkout's ``files/runtime``.
    """

    version: str
    name: str
    directory: Path


def this_release(package: Path | None = None) -> Release:
    """The release of the running code; never fails, a damaged one has no name.

    :param package: directory of the package ``ds01`` (for tests).
    """
    here = package or Path(__file__).resolve().parent
    # lib/ds01 in a release, files/runtime/ds01 in a checkout.
    directory = here.parent.parent if here.parent.name == "lib" else here.parent
    try:
        stamp = json.loads((directory / "release.json").read_text(encoding="utf-8"))
        return Release(str(stamp["version"]), str(stamp["release"]), directory)
    except (OSError, ValueError, KeyError, TypeError):
        return Release(_checkout_version(directory), "", directory)


def _checkout_version(directory: Path) -> str:
    try:
        text = (directory.parent.parent / "galaxy.yml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r"^version:\s*(\S+)", text, re.MULTILINE)
    return found[1] if found else "unknown"
