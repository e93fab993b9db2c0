# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain of ds01.infra: pure decisions, standard library only.

Modules, filters, the command line and the daemons call this package; it knows none of them,
nor Docker, NVML or Ansible. Whatever touches the host is passed in.
"""
