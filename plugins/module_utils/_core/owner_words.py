# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How owners and what speaks for them are told to people. Pure.

Labels, names and paths are written by whoever makes a container, so all of it is cut and made printable
before it is shown or published.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from .owners import Owner

SHOWN_MAX = 120
_PLAIN = re.compile(r"[\w./@+:,~=\\-]+")

LABEL_CAVEAT = "whoever made the container, or its image, could have written that"
NAME_CAVEAT = "whoever made or renamed the container chose its name"
FOLDER_CAVEAT = "whoever made the container, or its image, could have written that path"
MOUNT_CAVEAT = "anybody who may mount it could have"
READ_CAVEAT = "anybody who may mount it could have, and what is only read is often somebody else's"
SLICE_CAVEAT = "whoever made the container chose its slice"
PROCESS_CAVEAT = "images often bring their own numbers"


def clean(text: str, most: int = SHOWN_MAX) -> str:
    """A text of anybody's in printable characters, cut.

    :param most: characters that are kept, at least 4; what is cut ends in three dots.
    """
    kept = "".join(char if char.isprintable() else "?" for char in text[: most + 1])
    return kept if len(kept) <= most else f"{kept[: most - 3]}..."


def shown(text: str, most: int = SHOWN_MAX) -> str:
    """The same, in quotation marks where it could be read as more than a name or a path."""
    kept = clean(text, most)
    if _PLAIN.fullmatch(kept):
        return kept
    return '"' + kept.replace('"', "'") + '"'


def listed(texts: list[str], most: int = 3) -> str:
    """``a``, ``a and b``, ``a, b and 7 more``."""
    if len(texts) > most:
        texts = [*texts[: most - 1], f"{len(texts) - most + 1} more"]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def day(at: float) -> str:
    """A day for people, of seconds of the wall clock; empty where there is no such day."""
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return ""


def summary(owner: Owner) -> str:
    """Whose a thing is and why, in one line.

    Such as "alice, because /home/alice/proj, which it mounts, is alice's; weak: anybody who may mount
    it could have".
    """
    if not owner.known:
        said = "; ".join(item.words for item in owner.evidence)
        text = f"nobody is known: {said or 'nothing about it names anybody'}"
    else:
        because = f", because {owner.evidence[0].words}" if owner.evidence else ""
        text = f"{shown(owner.user)}{because}"
    return f"{text}; not everything could be looked at" if owner.incomplete else text
