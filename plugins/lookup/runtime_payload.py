# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: the runtime package of this collection, ready for the module ds01_release."""

from __future__ import annotations

DOCUMENTATION = r"""
name: runtime_payload
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: The runtime of this collection as one archive
description:
  - Packs what P(ds01.infra.ds01_release#module) installs on a host, with links resolved into files.
  - The same sources give the same digest, from a checkout and from an installed collection,
    so a host is changed only when the runtime has changed.
options:
  wheelhouse:
    description:
      - A directory of the controller with Python wheels. Those that the pinned requirements name
        by their hash are taken along, for hosts that reach no package index.
      - Fill it with C(pip download --require-hashes -r files/runtime/requirements.txt), with
        C(--python-version) and C(--platform) of the hosts.
      - Empty takes no wheels along.
    type: str
    default: ""
seealso:
  - plugin: ds01.infra.ds01_release
    plugin_type: module
"""

EXAMPLES = r"""
- name: Install the runtime
  ds01.infra.ds01_release:
    payload: "{{ lookup('ds01.infra.runtime_payload') }}"

- name: Install the runtime on hosts without a way to a package index
  ds01.infra.ds01_release:
    payload: "{{ lookup('ds01.infra.runtime_payload', wheelhouse='/srv/wheels') }}"
"""

RETURN = r"""
_raw:
  description: One dictionary, to be handed to O(ds01.infra.ds01_release#module:payload).
  type: list
  elements: dict
  contains:
    version:
      description: Version of the collection.
      type: str
      sample: 0.1.0
    sha256:
      description: SHA-256 of the archive before compression.
      type: str
    content:
      description: The archive, compressed with gzip and encoded in base64.
      type: str
    wheels:
      description: Names and contents (base64) of the wheels taken along.
      type: list
      elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.runtime_payload import PayloadError, runtime_payload


class LookupModule(LookupBase):
    """The lookup; its one term-less result is the payload."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        if terms:
            raise AnsibleLookupError("ds01.infra.runtime_payload takes no terms")
        collection = Path(__file__).resolve().parents[2]
        try:
            return [runtime_payload(str(collection), self.get_option("wheelhouse") or "")]
        except PayloadError as error:
            raise AnsibleLookupError(str(error)) from error
