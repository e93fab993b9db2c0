#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_files
short_description: Lays down several text files at once
version_added: 0.1.0
description:
  - Does for a list of files what M(ansible.builtin.template) does for one, where each file costs it two or
    three starts of Python on the host.
  - The files are laid in their order. Each one is compared, checked by its command if it names one, and
    replaced in one step. The first one that is refused ends the task; those before it stay.
options:
  files:
    description: The files.
    type: list
    elements: dict
    default: []
    suboptions:
      dest:
        description: Where it lies. Its directory has to be there.
        type: path
        required: true
      content:
        description: Its whole text, such as the lookup P(ansible.builtin.template#lookup) gives it.
        type: str
        required: true
      validate:
        description: A command (no shell) that fails if the text is wrong. C(%s) in it is a file with it.
        type: str
        default: ""
  absent:
    description: Files that are removed.
    type: list
    elements: path
    default: []
extends_documentation_fragment:
  - ansible.builtin.files
attributes:
  check_mode:
    description: Nothing is checked by a command.
    support: full
  diff_mode:
    description: Shows each file.
    support: full
  idempotent:
    description: An equal file is left alone.
    support: full
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Lay down a service and its timer
  ds01.infra.ds01_files:
    files:
      - dest: /etc/systemd/system/example.service
        content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
        validate: systemd-analyze verify --man=no %s:example.service
      - dest: /etc/systemd/system/example.timer
        content: "{{ lookup('ansible.builtin.template', 'example.timer.j2') }}"
    owner: root
    group: root
    mode: "0644"
"""

RETURN = r"""
changed_files:
  description: The files that differed, in their order.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/example.timer]
"""

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import Ds01Error

ARGUMENTS: dict[str, Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "dest": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "validate": {"type": "str", "default": ""},
        },
    },
    "absent": {"type": "list", "elements": "path", "default": []},
}


def _before(path: str) -> str | None:
    """A file's text; None when it is not there.

    :raises Ds01Error: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Ds01Error(f"cannot be read: {error.strerror}", path) from error


def _write(module: AnsibleModule, path: str, text: str, validate: str) -> None:
    """Write aside, check, and put in place.

    :param validate: a command with ``%s``, or nothing.
    :raises Ds01Error: the command refuses the text.
    """
    if not os.path.isdir(os.path.dirname(path)):
        raise Ds01Error("cannot be written: its directory is not there", path)
    handle, work = tempfile.mkstemp(dir=module.tmpdir)
    module.add_cleanup_file(work)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    if validate:
        status, out, err = module.run_command(validate.replace("%s", work))
        if status:
            words = " ".join(f"{out} {err}".split())
            raise Ds01Error(f"refused by {validate.split()[0]}: {words}", path)
    # Keeps what a security module says of the place, and ends the module if it fails.
    module.atomic_move(work, path)


def _lay(module: AnsibleModule, row: dict[str, Any]) -> dict[str, Any] | None:
    """Make one file so; what changed, for the diff, or None.

    :raises Ds01Error: it cannot be read, or its text is refused.
    """
    path, text = row["dest"], row["content"]
    before = _before(path)
    if text != before and not module.check_mode:
        _write(module, path, text, row["validate"])
    told: dict[str, Any] = {"before": {}, "after": {}}
    attributes = False
    if not (module.check_mode and before is None):
        wanted = module.load_file_common_arguments(module.params, path=path)
        attributes = module.set_fs_attributes_if_different(wanted, False, diff=told)
    if text != before:
        told = {"before": before or "", "after": text}
    elif not attributes:
        return None
    return {**told, "before_header": path, "after_header": path}


def _remove(module: AnsibleModule, path: str) -> dict[str, Any] | None:
    """Make one file gone; what changed, for the diff, or None.

    :raises Ds01Error: it cannot be read or removed.
    """
    before = _before(path)
    if before is None:
        return None
    if not module.check_mode:
        try:
            os.unlink(path)
        except OSError as error:
            raise Ds01Error(f"cannot be removed: {error.strerror}", path) from error
    return {"before": before, "after": "", "before_header": path, "after_header": path}


def laid(module: AnsibleModule) -> dict[str, Any]:
    """The module's result.

    :raises Ds01Error: a file cannot be read, written or removed, or its text is refused.
    """
    rows = [(row["dest"], _lay(module, row)) for row in module.params["files"]]
    rows += [(path, _remove(module, path)) for path in module.params["absent"]]
    changed = {path: diff for path, diff in rows if diff is not None}
    return {
        "changed": bool(changed),
        "changed_files": list(changed),
        "diff": list(changed.values()),
    }


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, add_file_common_args=True, supports_check_mode=True
    )
    try:
        result = laid(module)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
