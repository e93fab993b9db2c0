# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway, the one door in front of the engine.

Who knocks is the kernel's word (:mod:`.people`); what was asked and answered is recorded
(:mod:`.access`); a call that may hang is made in a thread that may be left behind (:mod:`.slow`).
"""
