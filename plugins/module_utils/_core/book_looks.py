# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at the book: no lock, no change."""

from __future__ import annotations

from . import book_rows as rows
from .allot import estimates, in_order, pass_queue
from .book_change import load_board
from .book_frame import Frame
from .book_view import Queued, Snapshot
from .leases import HELD, RESERVED, Lease


class Looks(Frame):
    """What can be seen of the book."""

    def due(self) -> float | None:
        """Seconds from now until a time of the book comes; None when there is none."""
        with self.store.reading() as connection:
            now = self._now(connection)
            leases, waiters = rows.holding(connection), rows.waiters(connection)
        times = [w.deadline for w in waiters]
        for lease in leases:
            if lease.revoked is not None:
                since = self.file_gone.get((lease.id, lease.revoked), lease.revoked)
                times.append(since + self.settle_seconds)
            elif lease.state == RESERVED:
                times.append(lease.expires)
            elif lease.state == HELD:
                times.append(lease.hold_until)
        known = [moment for moment in times if moment is not None]
        return max(0.0, min(known) - now) if known else None

    def snapshot(self, eta: bool = True) -> Snapshot:
        """The book now; takes no lock.

        :param eta: whether waits are estimated, which costs time with a long queue.
        """
        with self.store.reading() as connection:
            now = self._now(connection)
            board = load_board(connection, self.files)
            leases = tuple(rows.every_lease(connection))
            driver = rows.meta(connection, "driver") or ""
            reason = rows.meta(connection, "driver_reason") or ""
        order = in_order(board, now)
        reasons = {
            w.ticket: text for w, text in pass_queue(board, now, self.settings.placement).waiting
        }
        times = estimates(board, now, self.settings.placement) if eta and order else {}
        queue = []
        for position, waiter in enumerate(order, 1):
            at = times.get(waiter.ticket)
            left = None if at is None else at - now
            queue.append(Queued(waiter, position, left, reasons.get(waiter.ticket, "")))
        return Snapshot(
            board.slots,
            leases,
            tuple(queue),
            board.blocks,
            now,
            self.clock().wall,
            driver,
            reason,
        )

    def lease(self, lease_id: str) -> Lease | None:
        """One lease, ended ones whose container is still there included."""
        with self.store.reading() as connection:
            return rows.lease_by_id(connection, lease_id)
