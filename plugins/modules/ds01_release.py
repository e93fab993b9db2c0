#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: install, upgrade or roll back the runtime on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_release
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Install, upgrade or roll back the ds01 runtime
description:
  - Each release stands in a directory of its own under O(root), with its own Python virtual
    environment; the host's Python is left alone. The link C(current) says which is in force.
  - A release is made under a hidden name, checked in its final place, and put in force by one
    rename. A run that is killed anywhere leaves the release before in force, and the next run
    finishes the work.
  - A release that fails its own check (C(ds01 doctor --self)) is not put in force.
options:
  state:
    description:
      - V(present) puts the release made from O(payload) in force.
      - V(rolled_back) puts the release in force that was so before the current one. Each further
        roll-back goes one release further back.
    type: str
    choices: [present, rolled_back]
    default: present
  payload:
    description:
      - What the release is made from, the value of
        P(ds01.infra.runtime_payload#lookup).
      - Required with O(state=present).
    type: dict
    suboptions:
      version:
        description: Version of the collection.
        type: str
        required: true
      sha256:
        description: SHA-256 of the archive before compression.
        type: str
        required: true
      content:
        description: The archive, compressed with gzip and encoded in base64.
        type: str
        required: true
      wheels:
        description: Wheels to install from instead of a package index.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: File name of the wheel.
            type: str
            required: true
          content:
            description: The wheel, encoded in base64.
            type: str
            required: true
  wheelhouse:
    description:
      - A directory of the managed host with the wheels to install from instead of a package index.
    type: path
  root:
    description: Where the releases stand.
    type: path
    default: /opt/ds01
  links:
    description:
      - Links to set to files of the release in force, each by its path, with the file's path
        inside the release. They go through C(current), so they need no change at an upgrade.
    type: dict
    default: {}
  keep:
    description: How many releases to keep, the present one included; 2 or more.
    type: int
    default: 3
  python:
    description:
      - The host's interpreter for the virtual environment, 3.10 or newer.
      - Needs the distribution's C(python3-venv).
    type: path
    default: /usr/bin/python3
  needs:
    description:
      - With O(state=rolled_back), files that the release to go back to must have, by their paths inside
        it; without one of them nothing changes.
    type: list
    elements: str
    default: []
  store:
    description:
      - With O(state=rolled_back), the state store of this host, such as C(/var/lib/ds01/state.db). Where
        the release to go back to reads another version of it, nothing changes, and the message says how
        to go back all the same.
      - Without it the store is not looked at.
    type: path
  event_log:
    description: The event log that a change is recorded in.
    type: path
    default: /var/log/ds01/events.jsonl
attributes:
  check_mode:
    description: Says which release would be made and put in force; works on a new host.
    support: full
  diff_mode:
    description: Shows the release in force, the releases kept and the links, before and after.
    support: full
  idempotent:
    description:
      - A release that is in force and undamaged is left alone.
      - O(state=rolled_back) goes one release back each time.
    support: partial
"""

EXAMPLES = r"""
- name: Install the runtime of this collection
  ds01.infra.ds01_release:
    payload: "{{ lookup('ds01.infra.runtime_payload') }}"
    links:
      /usr/local/bin/ds01: bin/ds01
      /usr/local/share/man/man1/ds01.1: man/ds01.1

- name: Put the release before in force again
  ds01.infra.ds01_release:
    state: rolled_back
"""

RETURN = r"""
release:
  description: The release in force after the run.
  returned: success
  type: str
  sample: 0.1.0-3f2a90b1c7de
previous:
  description: The release that was in force before the run, none on a new host.
  returned: success
  type: str
built:
  description: Whether the release was made in this run (in check mode, would be).
  returned: success
  type: bool
removed:
  description: Releases removed because more than O(keep) were there.
  returned: success
  type: list
  elements: str
"""

import base64
import glob
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core import store
from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.events import Event, append
from ..module_utils._core.release import Found, Plan, plan_install, plan_rollback, release_name
from ..module_utils._core.release_build import Payload, Tools
from ..module_utils._core.release_files import install, look, roll_back

PROBE = "import sys; print('%d %d' % sys.version_info[:2])"
# no_log keeps a megabyte of base64 out of the journal and of -vvv; it is no secret.
CONTENT = {"type": "str", "required": True, "no_log": True}
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "rolled_back"], "default": "present"},
    "payload": {
        "type": "dict",
        "options": {
            "version": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "content": CONTENT,
            "wheels": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "content": CONTENT},
            },
        },
    },
    "wheelhouse": {"type": "path"},
    "root": {"type": "path", "default": "/opt/ds01"},
    "links": {"type": "dict", "default": {}},
    "keep": {"type": "int", "default": 3},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "needs": {"type": "list", "elements": "str", "default": []},
    "store": {"type": "path"},
    "event_log": {"type": "path", "default": "/var/log/ds01/events.jsonl"},
}


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[("state", "present", ["payload"])],
        supports_check_mode=True,
    )
    try:
        found, plan = change(module)
        if plan.changed and not module.check_mode:
            record(module, found, plan)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(
        changed=plan.changed,
        release=plan.release,
        previous=found.current,
        built=plan.build is not None,
        removed=list(plan.remove),
        diff=plan.diff(found),
    )


def change(module: AnsibleModule) -> tuple[Found, Plan]:
    """Plan, and in earnest carry out."""
    params = module.params
    root, keep = params["root"], params["keep"]
    tools = Tools(run=runner(module), python=params["python"])
    if params["state"] == "rolled_back":
        found = look(root, {})
        plan = plan_rollback(found)
        need(root, str(plan.release), params["needs"])
        if params["store"] is not None:
            read_by(root, str(plan.release), params["store"])
        return (found, plan) if module.check_mode else roll_back(root, tools)
    payload = read_payload(params)
    name = release_name(payload.version, payload.sha256, python_version(module))
    links = {
        path: os.path.join(root, "current", inside) for path, inside in params["links"].items()
    }
    found = look(root, links)
    plan = plan_install(found, name, links, keep)
    if module.check_mode or not plan.changed:
        return found, plan
    return install(root, name, links, keep, payload, tools)


def need(root: str, release: str, files: list[str]) -> None:
    """Refuse a release without a file that something on this host runs.

    :raises Ds01Error: one is missing.
    """
    for path in files:
        if not os.path.exists(os.path.join(root, release, path)):
            raise Ds01Error(
                f"the release to go back to, {release}, has no {path}, which this host runs",
                root,
                "Undo what needs it first; for the gateway that is playbooks/undo_gateway.yml",
            )


def read_by(root: str, release: str, path: str) -> None:
    """Refuse a release that reads another version of the state store than this host has.

    Such a release would start, refuse the store, and give nobody a GPU.

    :raises Ds01Error: it does, or the store is damaged.
    """
    reads = store_version(os.path.join(root, release))
    found = store.version_of(path)
    if reads is None or found is None or reads == found:
        return
    copies = sorted(glob.glob(f"{glob.escape(path)}.v{reads}-*Z"))
    copy = copies[-1] if copies else f"{path}.v{reads}-<time>"
    units = "ds01d.socket ds01d.service ds01-gateway.socket ds01-gateway.service"
    if reads > found:
        remedy = "Run site.yml with the collection of that release: it brings the store along"
    elif not copies:
        remedy = (
            "Stay with this release: no copy of the store from before its migration is there any more "
            f"({copy})"
        )
    else:
        remedy = (
            "To stay with this release, do nothing. To go back all the same, to the state of that time: "
            f"systemctl stop {units} (those that are there); rm -f {path}-wal {path}-shm; "
            f"cp -a {copy} {path}; roll back again; start the sockets. Owners and leases that came "
            "since then are found anew as far as the engine tells of them"
        )
    raise Ds01Error(
        f"the release to go back to, {release}, reads version {reads} of the state store, and this "
        f"host's is of version {found}",
        path,
        remedy,
    )


def store_version(release: str) -> int | None:
    """The version of the state store that a release reads; None where it knows of no store."""
    for name in ("store_schema.py", "store.py"):
        try:
            with open(os.path.join(release, "lib/ds01/core", name), encoding="utf-8") as stream:
                found = re.search(r"^VERSION = (\d+)$", stream.read(), re.MULTILINE)
        except OSError:
            continue
        if found is not None:
            return int(found[1])
    return None


def read_payload(params: dict[str, Any]) -> Payload:
    """The payload as the domain takes it."""
    given = params["payload"]
    try:
        return Payload(
            version=given["version"],
            archive=base64.b64decode(given["content"], validate=True),
            sha256=given["sha256"],
            wheels={
                w["name"]: base64.b64decode(w["content"], validate=True) for w in given["wheels"]
            },
            wheelhouse=params["wheelhouse"],
        )
    except ValueError as error:
        raise Ds01Error(
            f"the payload is not base64: {error}", "payload", "Use the lookup"
        ) from error


def python_version(module: AnsibleModule) -> tuple[int, int]:
    """Major and minor version of the interpreter for the virtual environment."""
    status, output, errors = module.run_command([module.params["python"], "-I", "-c", PROBE])
    if status != 0:
        raise Ds01Error(
            f"the interpreter does not run: {errors.strip() or output.strip()}",
            module.params["python"],
            "Install the distribution's python3, or set runtime_python",
        )
    major, minor = output.split()
    return int(major), int(minor)


def runner(module: AnsibleModule) -> Any:
    """How the domain runs a command: status and both outputs together."""

    def run(command: Any) -> tuple[int, str]:
        status, output, errors = module.run_command(list(command), cwd="/")
        return status, output + errors

    return run


def record(module: AnsibleModule, found: Found, plan: Plan) -> None:
    """The change as an event."""
    what = "rolled_back" if module.params["state"] == "rolled_back" else "installed"
    details = {"release": plan.release, "previous": found.current, "removed": list(plan.remove)}
    append(module.params["event_log"], Event(f"runtime.{what}", "ds01_release", details=details))


if __name__ == "__main__":
    main()
