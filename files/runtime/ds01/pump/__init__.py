# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pump: it owns admitted streams, pairs of sockets, and moves their bytes until they end.

It decides nothing. The gateway hands a pair over (:mod:`.wire`), the bytes go through kernel pipes
(:mod:`.stream`), and systemd keeps a duplicate of every descriptor (:mod:`.keep`), so that neither the
gateway's nor the pump's own restart, crash or upgrade ends a stream (docs/decisions/0015-pump.md).
"""
