#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gpu_cdi
short_description: Keeps the vendor's CDI spec in step with the GPUs
version_added: 0.1.0
description:
  - Compares the vendor's CDI spec with what NVML shows, and makes it anew where it does not describe it.
    Each GPU and MIG device has to be in it under its UUID, no MIG device that is gone, and each path that
    it names has to be on the host (an upgrade of the driver renames its libraries).
  - The new spec is written aside, judged in the same way, and only then takes the old one's place in one
    step. Where the command fails, or its spec does not do, the old one stays.
options:
  command:
    description: Program and arguments that write the spec; C(--output=PATH) is appended.
    type: list
    elements: str
    default: [nvidia-ctk, cdi, generate]
  path:
    description: The spec.
    type: path
    default: /etc/cdi/nvidia.yaml
  kind:
    description: CDI kind that it has to be of.
    type: str
    default: nvidia.com/gpu
  force:
    description: Make it anew in any case, as after a change of the MIG layout.
    type: bool
    default: false
attributes:
  check_mode:
    description: Tells why the spec would be made anew; the command is not run.
    support: full
  diff_mode:
    description: Shows the spec; in check mode the reasons.
    support: partial
  idempotent:
    description: A spec that describes the GPUs is left alone.
    support: full
requirements:
  - The runtime of this collection on the host, or nvidia-ml-py and PyYAML
seealso:
  - module: ds01.infra.ds01_mig_layout
  - name: Container Device Interface
    description: The format of the spec.
    link: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Keep the CDI spec in step with the GPUs
  ds01.infra.ds01_gpu_cdi:

- name: Use a generator of the site
  ds01.infra.ds01_gpu_cdi:
    command: [/usr/local/sbin/site-cdi, generate]
"""

RETURN = r"""
reasons:
  description: Why the spec was made anew, or would be.
  returned: always
  type: list
  elements: str
  sample: ["slot 2:0 (MIG-51e4a5c2-8d0b-5b0f-9c1e-3d6f0a7b2c44) is not in it"]
path:
  description: The spec.
  returned: always
  type: str
  sample: /etc/cdi/nvidia.yaml
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _gpu_host_shell as shell
from ..module_utils._core import vendor_spec
from ..module_utils._core.durable import flush
from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.gpus import READY, inventory
from ..module_utils._host import nvml
from ..module_utils._host.engine_host import read_text
from ..module_utils._respawn import into_runtime


@dataclass(frozen=True)
class Gpus:
    """What has to be in the spec.

    :param slots: UUID → index.
    :param complete: whether every GPU answers.
    """

    slots: dict[str, str]
    complete: bool


def judge(text: str | None, kind: str, gpus: Gpus) -> list[str]:
    """Why a spec does not do."""
    if text is None:
        return ["there is none"]
    try:
        spec = shell.decode(text)
    except ValueError as error:
        return [f"it cannot be read: {error}"]
    return vendor_spec.faults(spec, kind, gpus.slots, os.path.lexists, gpus.complete)


def generate(module: AnsibleModule, folder: str, gpus: Gpus) -> str:
    """Have the spec written to ``folder`` and judge it; returns its path.

    :raises Ds01Error: the command fails, or what it wrote does not do.
    """
    command, path = module.params["command"], module.params["path"]
    # The generator takes the format from the name's end.
    work = os.path.join(folder, os.path.basename(path))
    words = " ".join(command)
    try:
        code, out, err = module.run_command([*command, f"--output={work}"], handle_exceptions=False)
    except OSError as error:
        raise Ds01Error(
            f"it cannot be run: {error.strerror}",
            words,
            f"Install it, or name another one in gpu_host_cdi_command; {path} is as it was",
        ) from error
    if code != 0:
        last = (err or out).strip().splitlines()[-3:]
        raise Ds01Error(
            f"exit code {code}: {' | '.join(last) or 'no output'}",
            words,
            f"{path} is as it was; run the command by hand to see more",
        )
    if found := judge(read_text(work), module.params["kind"], gpus):
        raise Ds01Error(
            f"it wrote a spec that does not do: {'; '.join(found[:10])}",
            words,
            f"{path} is as it was. Devices have to be named by UUID, as nvidia-ctk does unless it is "
            "told otherwise (--device-name-strategy)",
        )
    return work


def install(module: AnsibleModule, gpus: Gpus) -> str:
    """Make the spec anew in the old one's place; returns its text.

    :raises Ds01Error: as :func:`generate`.
    :raises OSError: it cannot be written.
    """
    path = module.params["path"]
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # A folder of its own: the engine reads each file of this directory that ends in .yaml.
    folder = tempfile.mkdtemp(prefix=".ds01-", dir=directory)
    try:
        work = generate(module, folder, gpus)
        text = read_text(work) or ""
        os.chmod(work, 0o644)
        flush(work)
        os.replace(work, path)
        flush(directory)
        return text
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep_in_step(module: AnsibleModule) -> dict[str, Any]:
    """Compare, and make anew where it is due."""
    given = module.params
    path = given["path"]
    reading = nvml.read()
    found = inventory(reading)
    if found.state != READY:
        raise Ds01Error(f"the driver does not answer ({found.reason})", "NVML", "See dmesg")
    gpus = Gpus(
        {slot.uuid: slot.index for slot in found.slots},
        not any(gpu.get("lost") for gpu in reading["gpus"]),
    )
    before = read_text(path)
    reasons = judge(before, given["kind"], gpus)
    if given["force"]:
        reasons.insert(0, "the MIG layout changed")
    result = {"changed": bool(reasons), "reasons": reasons, "path": path}
    header = {"before_header": path, "after_header": path}
    if not reasons:
        return result
    if module.check_mode:
        after = (before or "") + shell.lines(f"# made anew: {reason}" for reason in reasons)
        return {**result, "diff": {"before": before or "", "after": after, **header}}
    text = install(module, gpus)
    # Slots that the old spec lacked can be leased from now on.
    shell.tell_the_book(shell.the_store(), path, "ds01_gpu_cdi")
    diff = {"before": before or "", "after": text, **header}
    return {**result, "changed": text != before, "diff": diff}


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "command": {
                "type": "list",
                "elements": "str",
                "default": ["nvidia-ctk", "cdi", "generate"],
            },
            "path": {"type": "path", "default": "/etc/cdi/nvidia.yaml"},
            "kind": {"type": "str", "default": "nvidia.com/gpu"},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    into_runtime()
    empty: dict[str, Any] = {"reasons": [], "path": module.params["path"]}
    if not module.params["command"]:
        module.fail_json(msg="command is empty: name a program", **empty)
    if not shell.can_look():
        module.fail_json(msg=shell.NO_RUNTIME, **empty)
    try:
        result = keep_in_step(module)
    except shell.ERRORS as error:
        module.fail_json(msg=str(error), **empty)
    except OSError as error:
        module.fail_json(
            msg=f"{module.params['path']}: cannot be written: {error.strerror}", **empty
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
