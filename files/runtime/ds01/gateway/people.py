# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a peer to a caller, with no directory look-up while somebody waits for an answer."""

from __future__ import annotations

from ds01.core.callers import Caller, Refusal
from ds01.host.peer import Peer


class People:
    """Who is who."""

    def start(self) -> None:
        """Begin to look after the tables."""

    def stop(self) -> None:
        """End."""

    def caller(self, peer: Peer) -> Caller | Refusal | None:
        """Who a peer is; None: the account has to be asked for, see :meth:`wait_for`."""
        raise NotImplementedError

    async def wait_for(self, peer: Peer) -> Caller | Refusal:
        """Who a peer is, waiting at most two seconds for the directory."""
        raise NotImplementedError
