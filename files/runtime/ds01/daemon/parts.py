# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a daemon is made of; tests put in their own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ds01.core.apply import LIMITS_PATH
from ds01.core.book import Book
from ds01.core.book_view import Snapshot
from ds01.core.gpu_settings import GPU_SETTINGS_PATH
from ds01.daemon.allowances import Directory
from ds01.daemon.ear import Recorder
from ds01.daemon.rounds import World
from ds01.daemon.systemd import Notifier
from ds01.door_refusals import REFUSALS_PATH
from ds01.host.peer import Peer, peer_of

RELEASE_LINK = "/opt/ds01/current"


@dataclass
class Places:
    """Files that the daemon reads and is woken by.

    :param publish: writes the published views of a snapshot, whose mark changes with its content.
    """

    limits: str = LIMITS_PATH
    settings: str = GPU_SETTINGS_PATH
    release: str = RELEASE_LINK
    refusals: str = REFUSALS_PATH
    publish: Callable[[Snapshot, Any], None] = lambda _snapshot, _mark: None


@dataclass
class Parts:
    """What a daemon is made of.

    :param who: who a peer is.
    :param tracker: keeps the records of owners.
    :param sync_owners: compares the book of owners with the engine now; returns what was done.
    """

    listener: socket.socket
    book: Book
    world: World
    notifier: Notifier
    places: Places = field(default_factory=Places)
    directory: Directory = field(default_factory=Directory)
    watchdog: float | None = None
    who: Callable[[socket.socket], Peer] = peer_of
    group_id: Callable[[str], int | None] = lambda _name: None
    tracker: Recorder = field(default_factory=Recorder)
    sync_owners: Callable[[], dict[str, Any]] = dict
