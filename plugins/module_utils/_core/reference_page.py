# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits file described for people: docs/limits.md, made from the table of keys."""

from __future__ import annotations

from collections.abc import Iterable

from .keys import ALIASES, KEYS, LEVELS, TABLE, Key
from .parse import TOP
from .reference import SECTIONS, show_default

NOT_YET = "**not yet**"
EXAMPLE = """\
default_group: student

defaults:
  tasks_max: 256

groups:
  student:
    members: [alice]
    unix_groups: [students]
    cpu_quota: 400%
    memory_max: 32g
  researcher:
    members: [carol, h.baker@hertie-school.lan]
    memory_max: 64g
    total:
      memory_max: 256g

user_overrides:
  alice:
    memory_max: 48g
    reason: thesis
    expires: 2027-01-31
"""

_HEAD = """\
<!-- Made by tests/ci/docgen.py from the table of keys; do not edit. -->
# The limits file

One YAML file a site says who may use how much. It lies beside the inventory
(`inventories/<site>/limits.yml`) and is read by ds01's own loader, not by Ansible: variables
(`{{ … }}`) are not filled in. `inventories/lab/limits.yml` is the worked example. How to change
it day by day: [admin/daily-tasks.md](admin/daily-tasks.md).

```yaml
"""

_MERGE = """\
## Which value counts

1. the built-in default of the key (the tables below),
2. over it `defaults`,
3. over it `groups.<name>` of the user's group,
4. over it `user_overrides.<user>`, unless it has expired.

The merge goes key by key: an override that raises `memory_max` keeps the group's `cpu_quota`,
`tasks_max` and all the rest. `ds01 limits show alice` says for every value where it comes from.

**Which group.** A name in `members` comes first, then the first group of the file that has one of
the user's Unix groups in `unix_groups`, then `default_group`. A name may be a member of one group
only. Names of a directory (with `@`) ignore case.

**Several users together.** `total`, `groups.<name>.total`, `login` and `unattributed` take slice
limits only (the second table of keys). A total holds what it says and nothing else. `login`
starts from the values of `default_group`, since a login shell's slice does not tell a group; a
user's override counts there too, and root's shells are never limited. `unattributed` starts from `defaults`.

**An override** may say `reason:` (a text) and `expires:`, a day (`2027-01-31`, that day included) or
a moment (`2027-01-31T18:00`, in the time zone of the server). After that it is ignored, with a
warning.

## How values are written

| kind | spelling | note |
|---|---|---|
| size | `512m`, `32g`, `1.5T`, `64MiB` | \
powers of 1024, as Docker and systemd count memory: `g`, `GB` and `GiB` are the same |
| rate | `100M`, `5MB/s`, `64MiB` | \
bytes per second in powers of 1000, as systemd counts; with an `i` powers of 1024 |
| per cent | `50%`, `400%` | of one CPU: `400%` is four CPUs. The sign must be there |
| duration | `30m`, `48h`, `7d`, `1d 12h` | a bare number is refused |
| number | `128`, `0.5` | |
| yes or no | `true`, `false` | |
| list | `[a, b]` | |
| no limit | `null` | shown as "unlimited", or "never" for a time. \
A key that is left out is not `null`: it follows the merge |
"""

_EDITOR = """\
## Help in the editor

An editor with the YAML language server (for VS Code the extension *YAML*) completes keys, shows
their description and marks mistakes while you type, if the file's first lines hold

```yaml
# yaml-language-server: $schema=../../docs/limits.schema.json
```

The path counts from the limits file; in a site's own folder it is the path of
[limits.schema.json](limits.schema.json) in the checkout or in the installed collection. The schema
knows names, spellings and bounds. Whether values fit each other is for `ds01 limits check FILE`,
whether they fit the server for the playbook's preflight.
"""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows), ""]


def spelling(key: Key) -> str:
    """How a key's value is written, with its bounds."""
    text = key.kind.wanted
    if key.minimum > 0 and key.maximum is None:
        whole = int(key.minimum)
        text += f"; at least {key.show(whole if whole == key.minimum else key.minimum)}"
    elif key.maximum is not None:
        text += f"; {key.minimum:g} to {key.maximum:g}"
    return text if key.nullable else f"{text}; not null"


def _default(key: Key) -> str:
    # A weight is a share, not a limit: without one the kernel's own counts (cgroup v2).
    return "100, the kernel's" if key.setting.endswith("Weight") else show_default(key)


def _enforcer(key: Key) -> str:
    return f"{NOT_YET}: {key.enforced_by}" if key.pending else key.enforced_by


def _kernel_file(key: Key) -> str:
    name, _unused, field = key.cgroup.partition(":")
    return f"`{name}` ({field})" if field else f"`{name}`"


def _level(level: str) -> list[str]:
    keys = [key for key in TABLE if key.level == level]
    lines = [f"### {LEVELS[level][0].upper()}{LEVELS[level][1:]}", ""]
    common = [
        (f"`{key.name}`", key.about, spelling(key), _default(key), _enforcer(key)) for key in keys
    ]
    head = ("key", "what it does", "value", "default", "enforced by")
    if level != "slice":
        return lines + _table(head, common)
    rows = [
        (*row, f"`{key.setting}`", _kernel_file(key)) for row, key in zip(common, keys, strict=True)
    ]
    return lines + _table((*head, "systemd", "kernel file"), rows)


def _layout() -> list[str]:
    rows: list[tuple[str, ...]] = [(f"`{name}`", SECTIONS[name]) for name in TOP]
    rows += [
        ("`groups.<name>.members`", "A list of account names."),
        ("`groups.<name>.unix_groups`", "A list of Unix groups (local, AD, LDAP)."),
        ("`groups.<name>.total`", "What the whole group together may have. Slice limits only."),
        ("`user_overrides.<user>.reason`", "Why, for people."),
        ("`user_overrides.<user>.expires`", "Until when."),
    ]
    return ["## Parts of the file", "", *_table(("part", "what it says"), rows)]


def _keys() -> list[str]:
    waiting = sum(key.pending for key in TABLE)
    return [
        "## Keys",
        "",
        f"{len(TABLE) - waiting} of {len(TABLE)} keys are enforced now. The others are checked, kept "
        "and shown, and\n"
        f"marked {NOT_YET} here with the part of ds01 that will enforce them; `check`, `diff` and `doctor`\n"
        "say so too. Do not rely on them before that.",
        "",
        *(line for level in LEVELS for line in _level(level)),
    ]


def _aliases() -> list[str]:
    rows = [
        (f"`{name}`", f"`{alias.key}`", "a number of hours" if alias.suffix else "the same value")
        for name, alias in ALIASES.items()
    ]
    rows.append(("`aggregate:` (a block)", "its keys, one level up", "slice limits"))
    return [
        "## Old spellings",
        "",
        "Read with a notice that names the new spelling. When both are there, the new one counts, with\n"
        "a warning.",
        "",
        *_table(("old", "read as", "value"), rows),
    ]


def _refusals(examples: Iterable[tuple[str, str]]) -> list[str]:
    lines = [
        "## What is refused",
        "",
        "Nothing is ignored silently. A fault anywhere refuses the whole file: every fault is listed with\n"
        "its place and what to do, and the server keeps its old limits. A limit above what the server has\n"
        "is refused by the playbook's preflight, before anything is changed.",
        "",
    ]
    for text, message in examples:
        lines += ["```yaml", text.rstrip("\n"), "```", "", "```text", message, "```", ""]
    return lines


def page(refusals: Iterable[tuple[str, str]]) -> str:
    """The reference page in Markdown.

    :param refusals: pairs of a faulty text and the message that ds01 answers it with.
    """
    lines = [*_layout(), _MERGE, *_keys(), *_aliases(), *_refusals(refusals), _EDITOR]
    return _HEAD + EXAMPLE + "```\n\n" + "\n".join(lines)


def keys_without_a_row(text: str) -> list[str]:
    """Names of keys that a page does not explain in a row of their own."""
    return [name for name in KEYS if f"\n| `{name}` |" not in text]
