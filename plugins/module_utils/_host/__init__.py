# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adapters to the host (systemd, cgroup file system, block devices, the engine's socket).

Standard library only, so that Ansible modules and the runtime share them. They hold no rules:
decisions live in the domain package beside this one.
"""
