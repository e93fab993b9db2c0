# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small version of ``make soak-streams``: 256 MB each way, bytes identical, memory flat."""

from __future__ import annotations

from soak import gateway_streams


def test_large_streams_arrive_as_they_were_sent_and_memory_stays_flat() -> None:
    lines, memory = gateway_streams.run(256 << 20)
    print("\n".join([*(line.text for line in lines), *memory.end()]))
    assert len(lines) == 7
    assert memory.growth <= gateway_streams.GROWTH
