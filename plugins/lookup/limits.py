# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: limits
short_description: Read and check a site's limits file
version_added: 0.1.0
author:
  - ds01.infra maintainers (@ds01)
description:
  - Reads the limits file of a site on the controller with ds01's own loader, so that the file and
    line of every value are known and duplicate keys are seen.
  - A faulty file stops the play before anything is changed; every fault is listed with its place
    and its remedy.
  - Warnings and notices (an old spelling, an override that contradicts its group) are shown.
options:
  _terms:
    description:
      - Path of the limits file. A relative path counts from the current directory.
    required: true
    type: list
    elements: path
seealso:
  - module: ds01.infra.ds01_slices
"""

EXAMPLES = r"""
- name: Apply the limits of the site
  ds01.infra.ds01_slices:
    limits: "{{ lookup('ds01.infra.limits', inventory_dir ~ '/limits.yml') }}"
"""

RETURN = r"""
_raw:
  description:
    - The checked limits, each value with its key path, file and line, as M(ds01.infra.ds01_slices)
      takes them.
  type: list
  elements: dict
"""

import os
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible_collections.ds01.infra.plugins.module_utils._core import errors, limits, parse, tree
from ansible_collections.ds01.infra.plugins.plugin_utils import limits_yaml


def shown_path(path: str) -> str:
    """The file as people shall see it: its last three parts, the same from every directory."""
    return "/".join(os.path.abspath(path).split("/")[-3:]).lstrip("/")


class LookupModule(LookupBase):
    """Reads limits files."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Read and check each file.

        :param terms: paths.
        :raises AnsibleLookupError: a file is faulty.
        """
        return [self._one(os.path.expanduser(term)) for term in terms]

    @staticmethod
    def _one(path: str) -> dict[str, Any]:
        shown = shown_path(path)
        try:
            root = limits_yaml.read_tree(path, shown, tree.Node, errors.Ds01Error)
            checked = parse.parse(root, shown)
        except errors.Ds01Error as error:
            raise AnsibleLookupError(
                f"The limits were refused, nothing was changed:\n{error}"
            ) from error
        for problem in checked.problems:
            Display().warning(str(problem))
        return limits.to_json(checked)
