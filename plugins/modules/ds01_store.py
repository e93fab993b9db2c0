#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: make the host's state store, or bring it to the version of this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_store
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Make or migrate the host's state store
description:
  - The store is one SQLite file with the leases, the queue and what else has to outlive a power cut.
  - Every program of the runtime, and every module, refuses a store of another version than its own.
    This module alone brings a store to a newer version; the role P(ds01.infra.runtime#role) runs it
    after a new release is in force and before its units start.
  - A store is never brought to an older version, and a damaged one is left as it is for C(ds01d),
    which puts it aside and builds it anew from the engine and the GPUs.
options:
  path:
    description:
      - The store. Its lock file lies beside it.
      - The directory is made where it is missing.
    type: path
    default: /var/lib/ds01/state.db
  event_log:
    description: Where the change is recorded.
    type: path
    default: /var/log/ds01/events.jsonl
attributes:
  check_mode:
    description: Says whether the store would be made or migrated; works on a host that has none.
    support: full
  diff_mode:
    description: Shows the version before and after.
    support: full
  idempotent:
    description: A store of this version is left alone.
    support: full
notes:
  - Before a migration the store is copied to C(state.db.v<version>-<time>) beside it.
"""

EXAMPLES = r"""
- name: Make the store, or bring it to this version
  ds01.infra.ds01_store:

- name: See before an upgrade whether the store would be migrated
  ds01.infra.ds01_store:
  check_mode: true
  register: store
"""

RETURN = r"""
version:
  description: The version of the store after the run (in check mode, what it would be).
  returned: success
  type: int
  sample: 2
previous:
  description: The version before the run; null where there was no store.
  returned: success
  type: int
  sample: 1
backup:
  description: The copy that was made before a migration; null where there was none.
  returned: success
  type: str
  sample: /var/lib/ds01/state.db.v1-20261122T120000Z
"""

import os
import sqlite3
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core import store
from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.events import Event, append


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": store.STATE_PATH},
            "event_log": {"type": "path", "default": "/var/log/ds01/events.jsonl"},
        },
        supports_check_mode=True,
    )
    try:
        result = change(module)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


def change(module: AnsibleModule) -> dict[str, Any]:
    """Look, and in earnest make or migrate.

    :raises Ds01Error: the store is damaged or of a newer version, or cannot be written.
    """
    path = module.params["path"]
    found = store.version_of(path)
    if found is not None and found > store.VERSION:
        raise _newer(found, path)
    changed = found != store.VERSION
    backup = None
    if found is not None and not changed:
        store.check(path)
    if changed and not module.check_mode:
        backup = _make(path, found)
        what = "created" if found is None else "migrated"
        details = {"path": path, "version": store.VERSION, "previous": found, "backup": backup}
        append(module.params["event_log"], Event(f"store.{what}", "ds01_store", details=details))
    return {
        "changed": changed,
        "version": store.VERSION,
        "previous": found,
        "backup": backup,
        "diff": {
            "before": _words(found),
            "after": _words(store.VERSION),
            "before_header": path,
            "after_header": path,
        },
    }


def _make(path: str, found: int | None) -> str | None:
    """Make or migrate the store; the copy that was made of the former one."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        backup = None if found is None else _copy(path, found)
    except (OSError, sqlite3.Error) as error:
        raise Ds01Error(
            f"the store cannot be made or copied: {error}",
            path,
            "Look at the file system's free space (df) and permissions; nothing was changed",
        ) from error
    store.migrate(path)
    return backup


def _copy(path: str, version: int) -> str:
    """A whole copy beside the store, whoever writes to it meanwhile (sqlite3_backup_init())."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    target = f"{path}.v{version}-{stamp}"
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    source, copy = sqlite3.connect(path), sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
    return target


def _newer(found: int, path: str) -> Ds01Error:
    return store.StoreVersion(
        f"the state store is of version {found}, this collection makes {store.VERSION}; "
        "a store does not go back to an older version",
        path,
        "Run site.yml with the collection that made it or a newer one; to go back in earnest, stop "
        "ds01d and ds01-gateway (their sockets too), remove state.db-wal and state.db-shm, and put the "
        "copy that the migration made (state.db.v*) in its place",
    )


def _words(version: int | None) -> str:
    return "no store\n" if version is None else f"version {version}\n"


if __name__ == "__main__":
    main()
