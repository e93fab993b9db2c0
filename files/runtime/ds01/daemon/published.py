# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Views of the book as files, for programs that do not ask the daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from ds01.core.book_view import Snapshot
from ds01.core.durable import replace_file
from ds01.core.gpu_views import allocations, gpu_state

ALLOCATIONS = "gpu-allocations.json"
STATE = "gpu-state.json"
# They name who has what, as the table that everybody may see does, and no lease's id.
MODE = 0o644


def publisher(folder: str) -> Callable[[Snapshot, Any], None]:
    """Writes the views into a directory, each in one step.

    They are written when the mark that comes with a snapshot is another one, or a file is missing:
    the texts themselves differ with each look, since the book's times are put into the wall clock's.
    """
    last: list[Any] = [None]

    def publish(snapshot: Snapshot, mark: Any) -> None:
        """:raises OSError: a view cannot be written."""
        paths = {name: os.path.join(folder, name) for name in (ALLOCATIONS, STATE)}
        if last[0] == mark and all(os.path.exists(path) for path in paths.values()):
            return
        for name, content in ((ALLOCATIONS, allocations(snapshot)), (STATE, gpu_state(snapshot))):
            text = json.dumps(content, indent=1, sort_keys=True) + "\n"
            replace_file(paths[name], text, MODE)
        last[0] = mark

    return publish
