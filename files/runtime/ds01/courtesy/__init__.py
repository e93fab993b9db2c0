# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Courtesies of the docker wrapper: a lease before a container starts, the reason after a refusal.

``files/runtime/wrapper/docker`` calls this package where one may be due. Nothing here is security, and
whatever goes wrong here, the real client is called as it would have been without.
"""
