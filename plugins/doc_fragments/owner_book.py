# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that open the records of owners have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the places on the host; there is no need to set them outside of tests."""

    DOCUMENTATION = r"""
options:
  store_path:
    description: The state store.
    type: path
    default: /var/lib/ds01/state.db
  settings_path:
    description: The settings of owners; the built-in ones count where the file is missing.
    type: path
    default: /etc/ds01/owners.json
  publish_dir:
    description: Where the published files are, C(containers.json) and C(opa/container-owners.json).
    type: path
    default: /var/lib/ds01
  engine_socket:
    description:
      - The engine's unix socket.
      - Without it, C(/run/ds01/engine.sock) is taken where it exists, else C(/run/docker.sock).
    type: path
notes:
  - Works with C(ds01d) down, since the records are in the store and not in the daemon. A daemon that runs
    learns of a change at once.
  - The records are compared with the engine first, so that a name means the container that has it now. Where
    the engine does not answer they are taken as they are, with a warning.
  - Into a store that was lost and made anew certain owners are taken over once from what was published.
  - Refuses a store that is missing, damaged or of another version. Only M(ds01.infra.ds01_store) makes
    and migrates it.
"""
