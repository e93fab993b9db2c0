# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 doctor``: does the host still match what was applied to it?

A check is a function from the host to findings. The host comes in as an argument, so that tests
use a fake; nothing here changes anything.
"""
