# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ds01's drop-ins on the host: found, checked, staged, moved in, and put back."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from .durable import flush_filesystem, replace_file
from .errors import Ds01Error
from .slices import MARKER, OUR_FILES

_OUR_DIRS = re.compile(r"(ds01(-.*)?|user-([0-9]+)?)\.slice\.d")
_STAGED = "*.slice.d/.*-ds01-*.conf.new"


def present_files(unit_dir: str) -> dict[str, str]:
    """Our drop-ins as they are on the host, by path below the unit directory.

    What bears one of our names and is no regular file reads as empty: :func:`refuse_foreign`
    names it. Directories behind links are not followed.
    """
    found: dict[str, str] = {}
    if not os.path.isdir(unit_dir):
        return found
    for folder in sorted(os.listdir(unit_dir)):
        place = os.path.join(unit_dir, folder)
        if not _OUR_DIRS.fullmatch(folder) or os.path.islink(place) or not os.path.isdir(place):
            continue
        for name in sorted(OUR_FILES.intersection(os.listdir(place))):
            path = Path(place, name)
            regular = stat.S_ISREG(path.lstat().st_mode)
            text = path.read_text(encoding="utf-8", errors="replace") if regular else ""
            found[f"{folder}/{name}"] = text
    return found


def refuse_foreign(present: Mapping[str, str], wanted: Mapping[str, str], unit_dir: str) -> None:
    """Stop before something is overwritten that ds01 did not write.

    :raises Ds01Error: a file with one of our names is not ours, or a directory that drop-ins
        belong in is a link or no directory.
    """
    for path, text in present.items():
        if MARKER not in text and text != wanted.get(path):
            raise Ds01Error(
                "a file with ds01's name was not written by ds01",
                f"{unit_dir}/{path}",
                "Rename it (it may sort before 60-) or remove it, then run again",
            )
    for folder in sorted({path.partition("/")[0] for path in wanted}):
        place = os.path.join(unit_dir, folder)
        if os.path.islink(place) or (os.path.lexists(place) and not os.path.isdir(place)):
            raise Ds01Error(
                "the place of a drop-in is not a directory of its own",
                place,
                "Move it away, then run again",
            )


def sweep(unit_dir: str) -> None:
    """Remove what a killed run had staged; systemd never loads it."""
    for left in Path(unit_dir).glob(_STAGED):
        left.unlink(missing_ok=True)
        _tidy(left)


def _tidy(path: Path) -> None:
    """Remove the directory of a drop-in that is gone, unless somebody else's files are in it."""
    try:
        path.parent.rmdir()
    except OSError:
        return


class Switch:
    """The drop-ins of one apply: staged, moved in, and back again when something fails.

    :param write: texts by path below the unit directory.
    :param remove: paths to remove.
    """

    def __init__(self, unit_dir: str, write: Mapping[str, str], remove: Iterable[str]) -> None:
        self.root = Path(unit_dir)
        self.write = write
        self.remove = tuple(remove)
        self.before: dict[str, bytes | None] = {}
        self.staged: list[Path] = []

    def stage(self) -> None:
        """Write all new texts beside their places, under names that systemd does not load."""
        sweep(str(self.root))
        for path, text in self.write.items():
            target = self.root / path
            target.parent.mkdir(mode=0o755, exist_ok=True)
            aside = target.parent / f".{target.name}.new"
            self.staged.append(aside)
            aside.write_text(text, encoding="utf-8")
            aside.chmod(0o644)
        flush_filesystem(str(self.root))

    def move(self) -> None:
        """Move the staged texts in and the removed ones out."""
        for path in (*self.write, *self.remove):
            target = self.root / path
            self.before[path] = target.read_bytes() if target.exists() else None
        for path in self.write:
            target = self.root / path
            os.replace(target.parent / f".{target.name}.new", target)
        for path in self.remove:
            (self.root / path).unlink(missing_ok=True)
            _tidy(self.root / path)
        flush_filesystem(str(self.root))

    def back(self) -> list[str]:
        """Put the former drop-ins back.

        :returns: what could not be put back, in words.
        """
        stuck = []
        for aside in self.staged:
            aside.unlink(missing_ok=True)
        for path, former in self.before.items():
            try:
                self._restore(self.root / path, former)
            except OSError as error:
                stuck.append(f"{self.root / path}: {error.strerror}")
        for path in self.write:
            _tidy(self.root / path)
        return stuck

    @staticmethod
    def _restore(target: Path, former: bytes | None) -> None:
        if former is None:
            target.unlink(missing_ok=True)
            return
        target.parent.mkdir(mode=0o755, exist_ok=True)
        replace_file(str(target), former, 0o644)
