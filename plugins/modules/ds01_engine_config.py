#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_engine_config
short_description: Merges settings into the Docker engine's daemon.json and keeps running containers
version_added: 0.1.0
description:
  - Merges the settings of this collection into daemon.json. Keys of others stay; lists of options are
    merged by the option's name; a setting that is given up is removed again, since a record says which
    values are ours.
  - The new file is judged by C(dockerd --validate) with the flags of the unit before it replaces the
    old one, of which a copy is kept.
  - A running engine is reloaded first, so that live-restore is in effect, and only then restarted, and
    only for keys that a reload does not apply. Every container keeps its process.
  - An engine that does not come up gets its old file back.
  - What changed is an event of type C(engine.configured) in the host's event log.
  - Refuses, before anything changes, an engine older than 26.0, a cgroup driver other than systemd
    under running containers, settings that would cost running containers their files or their network,
    swarm mode, flags in the unit that contradict the file, and a daemon.json that cannot be read.
options:
  stage:
    description:
      - V(apply) brings the settings onto the host.
      - V(check) only refuses what would have to be refused; it works before the engine is installed.
    type: str
    choices: [check, apply]
    default: apply
  packages:
    description: Packages that should be there; the first one is the engine itself.
    type: list
    elements: str
    default: []
  source_file:
    description: A package source file; RV(source_present) tells whether the host has it.
    type: path
  log_driver:
    description: Log driver for new containers.
    type: str
    choices: [json-file, local]
    default: json-file
  log_max_size:
    description: Size at which a container's log file is rotated.
    type: str
    default: 20m
  log_max_file:
    description: Log files kept for one container.
    type: int
    default: 5
  build_cache_size:
    description: What the build cache may keep.
    type: str
    default: 20GB
  address_pools:
    description: Address ranges for new networks. Empty leaves the engine's own ranges.
    type: list
    elements: dict
    default: []
    suboptions:
      base:
        description: Range that blocks are taken from.
        type: str
        required: true
      size:
        description: Prefix length of one block.
        type: int
        required: true
  publish_address:
    description: IPv4 address that published ports listen on unless a request names another one.
    type: str
    default: 127.0.0.1
  cgroup_parent:
    description: Slice of containers that name none.
    type: str
    default: ds01-unattributed.slice
  settings:
    description: Further keys of daemon.json.
    type: dict
    default: {}
  path:
    description: The engine's configuration file.
    type: path
    default: /etc/docker/daemon.json
  record:
    description: Where it is written down which values are ours.
    type: path
    default: /etc/ds01/engine.json
  socket:
    description:
      - The engine's unix socket.
      - Without it, C(/run/ds01/engine.sock) is taken where it exists, else C(/run/docker.sock).
    type: path
attributes:
  check_mode:
    description: Works on a host without an engine, too; dockerd's own verdict on the file is then missing.
    support: full
  diff_mode:
    description: Shows daemon.json and the record.
    support: full
  idempotent:
    description: A run that was broken off is finished by the next one.
    support: full
seealso:
  - module: ds01.infra.ds01_engine_info
  - name: dockerd
    description: The engine's flags and the keys of daemon.json.
    link: https://docs.docker.com/reference/cli/dockerd/
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Configure the engine
  ds01.infra.ds01_engine_config:
    build_cache_size: 50GB
    address_pools:
      - base: 172.20.0.0/14
        size: 24
    settings:
      registry-mirrors:
        - https://mirror.example.org

- name: See what a host refuses before it is touched
  ds01.infra.ds01_engine_config:
    stage: check
    packages: [docker.io, docker-cli]
"""

RETURN = r"""
actions:
  description: What was done, or would be, in order.
  returned: always
  type: list
  elements: str
  sample: [write, record, reload, restart]
changes:
  description: The values of daemon.json that changed.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The key, with dots between the levels.
      type: str
    before:
      description: Old value, null if there was none.
      type: raw
    after:
      description: New value, null if it was removed.
      type: raw
    needs_restart:
      description: Whether a running engine takes it only at its next start.
      type: bool
changed_keys:
  description: The paths of RV(changes).
  returned: always
  type: list
  elements: str
backup:
  description: Where the old daemon.json is kept; null if it was not replaced.
  returned: always
  type: str
missing_packages:
  description: The packages of O(packages) that are not installed.
  returned: always
  type: list
  elements: str
source_present:
  description: Whether the host has O(source_file).
  returned: always
  type: bool
installed:
  description: Whether dockerd is there.
  returned: always
  type: bool
containers:
  description: Names of the running containers.
  returned: always
  type: list
  elements: str
refusals:
  description: Every reason to stop, with what, where and remedy.
  returned: failure
  type: list
  elements: dict
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _engine_shell as shell
from ..module_utils._core.engine_apply import Apply, actions
from ..module_utils._core.engine_config import (
    Plan,
    dotted,
    make_plan,
    parse_json_object,
)
from ..module_utils._core.engine_preflight import (
    check,
    notices,
    with_engine,
)
from ..module_utils._core.engine_settings import (
    EngineOptions,
    wanted_settings,
)
from ..module_utils._host.engine_host import (
    EngineFiles,
    HostError,
    read_text,
)

ARGUMENTS: dict[str, Any] = {
    "stage": {"type": "str", "choices": ["check", "apply"], "default": "apply"},
    "packages": {"type": "list", "elements": "str", "default": []},
    "source_file": {"type": "path"},
    "log_driver": {"type": "str", "choices": ["json-file", "local"], "default": "json-file"},
    "log_max_size": {"type": "str", "default": "20m"},
    "log_max_file": {"type": "int", "default": 5},
    "build_cache_size": {"type": "str", "default": "20GB"},
    "address_pools": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "base": {"type": "str", "required": True},
            "size": {"type": "int", "required": True},
        },
    },
    "publish_address": {"type": "str", "default": "127.0.0.1"},
    "cgroup_parent": {"type": "str", "default": "ds01-unattributed.slice"},
    "settings": {"type": "dict", "default": {}},
    "path": {"type": "path", "default": "/etc/docker/daemon.json"},
    "record": {"type": "path", "default": "/etc/ds01/engine.json"},
    "socket": {"type": "path"},
}


def options(params: dict[str, Any]) -> EngineOptions:
    names = EngineOptions.__dataclass_fields__
    return EngineOptions(**{name: params[name] for name in names})


def diff(plan: Plan, path: str, record: str) -> list[dict[str, str]]:
    texts = [
        (path, plan.before_text or "", plan.after_text),
        (record, plan.record_before or "", plan.record_text),
    ]
    return [
        {"before_header": name, "after_header": name, "before": before, "after": after}
        for name, before, after in texts
        if before != after
    ]


def configure(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    path, record = params["path"], params["record"]
    wanted = wanted_settings(options(params))
    host = shell.look(module.run_command, params["socket"], params["packages"])
    before = read_text(path)
    plan = make_plan(before, read_text(record), wanted, (path, record))
    plan = with_engine(plan, host.facts)
    found = parse_json_object(before or "", path)
    if refusals := check(host.facts, plan, found, params["packages"], path):
        shell.refuse(module, refusals)
    todo = actions(plan, host.facts, host.enabled)
    result: dict[str, Any] = {
        "actions": list(todo),
        "changes": [
            {
                "path": dotted(change.path),
                "before": change.before,
                "after": change.after,
                "needs_restart": change.needs_restart,
            }
            for change in plan.changes
        ],
        "changed_keys": [dotted(change.path) for change in plan.changes],
        "backup": None,
        "missing_packages": list(host.facts.missing_packages),
        "source_present": bool(params["source_file"]) and os.path.exists(params["source_file"]),
        "installed": host.dockerd is not None,
        "containers": [container.name for container in host.facts.containers],
    }
    files = EngineFiles(module.run_command, path, record, host.dockerd, host.facts.argv)
    if plan.writes_file and (module.check_mode or params["stage"] == "check"):
        files.judge(plan.after_text)
    if params["stage"] == "check":
        return {**result, "changed": False}
    for notice in notices(host.facts, plan):
        module.warn(notice)
    if not module.check_mode:
        if host.dockerd is None:
            raise HostError(
                "no engine is installed", "dockerd", "install the packages of the role first"
            )
        engine = shell.DomainEngine(host.engine)
        applied = Apply(files, host.service, engine, path).run(plan, host.facts, host.enabled)
        result["backup"] = applied.backup
        if todo:
            told = {name: result[name] for name in ("changed_keys", "actions", "backup")}
            shell.record("engine.configured", "ds01_engine_config", told)
    return {**result, "changed": bool(todo), "diff": diff(plan, path, record)}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = configure(module)
    except shell.ERRORS as error:
        shell.fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
