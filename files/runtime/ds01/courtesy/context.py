# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a docker command goes to this host's engine. The wrapper has judged words and environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

_DEFAULT = ("", "default")


def goes_here(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether no context of the user's leads elsewhere (``docker context use``).

    :param words: what follows ``docker``.
    """
    if environment.get("DOCKER_HOST"):
        return True  # it wins over contexts, and the wrapper knows it
    try:
        with open(_configuration(words, environment), encoding="utf-8") as stream:
            found = json.load(stream)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("currentContext", "") in _DEFAULT


def _configuration(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """The client's ``config.json``."""
    directory = environment.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    for number, word in enumerate(words):
        if not word.startswith("-"):
            break
        if word.startswith("--config="):
            directory = word.removeprefix("--config=")
        elif word == "--config" and number + 1 < len(words):
            directory = words[number + 1]
            break
    return os.path.join(directory, "config.json")
