# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that open the lease book have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the places on the host; there is no need to set them outside of tests."""

    DOCUMENTATION = r"""
options:
  store_path:
    description: The state store.
    type: path
    default: /var/lib/ds01/state.db
  limits_path:
    description: The limits in force, as the role P(ds01.infra.slices#role) recorded them.
    type: path
    default: /etc/ds01/limits.json
  settings_path:
    description: The settings of GPU leases; the built-in ones count where the file is missing.
    type: path
    default: /etc/ds01/gpu.json
  vendor_dirs:
    description: Where the vendor's CDI specification is looked for, in rising precedence.
    type: list
    elements: path
    default: [/etc/cdi, /run/cdi]
notes:
  - Works with C(ds01d) down, since the book is in the store and not in the daemon. A daemon that runs
    learns of the change at once.
  - Where the host has the runtime, the module goes on in the runtime's Python, which has NVML's bindings.
  - Refuses a store that is missing, damaged or of another version. Only M(ds01.infra.ds01_store) makes
    and migrates it.
"""
