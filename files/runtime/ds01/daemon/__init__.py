# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01d``, the helper daemon: it holds no truth of its own, only what the store says.

Connections live in an event loop (:mod:`.server`). One worker thread (:mod:`.worker`) owns the lease
book and does everything that may wait for the disk; the looks at the engine and at NVML, which may hang,
happen in threads of their own (:mod:`.rounds`).
"""
