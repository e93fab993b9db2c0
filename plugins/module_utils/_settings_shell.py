# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays down a settings file of the host, for the modules that do."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ._core.durable import replace_file
from ._core.engine_config import MARKER
from ._core.errors import Ds01Error


def lay(path: str, settings: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Compare, and write where it differs.

    :param settings: checked, as the file shall hold them.
    :param check_mode: only compare.
    :returns: the module's result.
    :raises Ds01Error: the file cannot be read or written.
    """
    text = json.dumps({"_managed": MARKER, **settings}, indent=1) + "\n"
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            before = stream.read()
    except FileNotFoundError:
        before = ""
    except OSError as error:
        raise Ds01Error(f"cannot be read: {error.strerror}", path) from error
    if text != before and not check_mode:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            replace_file(path, text, 0o644)
        except OSError as error:
            raise Ds01Error(f"cannot be written: {error.strerror}", path) from error
    return {
        "changed": text != before,
        "settings": dict(settings),
        "diff": {"before": before, "after": text, "before_header": path, "after_header": path},
    }
