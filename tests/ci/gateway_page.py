"""The page of docs/ on the gateway's allow-list, from the list itself."""

from __future__ import annotations

from ds01.core import gateway_decision, route_table
from ds01.core.route_table import API_MAX, API_MIN, GROUPS, KINDS, LEFT_OUT

_HEAD = """# What docker is used for here: the gateway's list of endpoints

<!-- Generated from plugins/module_utils/_core/route_table.py by `make docs`. Do not edit. -->

Every docker command, SDK and IDE speaks the Docker Engine API over `/run/docker.sock`, and there the
gateway listens. A request passes when its method and path are on this list. What is not on it is
refused in mode `enforce`, and passes and is written down in mode `observe` (limit
[`gateway_mode`](limits.md)). Admins pass, and what passes only for that reason is written down with
the rule's name.

The list is that of **API {newest}**, read whole. Clients are told that the engine speaks no more than
that, and agree on it by themselves; versions below {oldest} are refused. A path may carry a version
(`/v1.45/containers/json`) or none.
"""

_KINDS_HEAD = """
## Kinds

| kind | what it means |
|---|---|
"""

_LEFT_OUT_HEAD = """
## Left out on purpose

| path | what | why |
|---|---|---|
"""

_RULES_HEAD = """
## When a request is refused

The message ends with the name of a rule, which is in the access log too.

| rule | what happened | what to do |
|---|---|---|
"""

# What is about the protocol is refused for everybody, in every mode.
_EVERYBODY = "for everybody, in every mode"
_RULES = (
    (
        gateway_decision.ENDPOINT_UNKNOWN,
        "the endpoint is not on the list",
        "use another command, or ask an admin",
    ),
    (
        gateway_decision.ENDPOINT_METHOD,
        "the path is on the list, with another method",
        "use that method",
    ),
    (
        gateway_decision.BUILD_OPAQUE,
        "BuildKit's connection, which cannot be checked",
        "`DOCKER_BUILDKIT=0 docker build`, or ask an admin",
    ),
    (
        gateway_decision.OWNER_RECORD,
        "something is made, and by whom cannot be written down (status 503)",
        "try again in a moment; admins: `ds01 doctor`",
    ),
    (
        gateway_decision.UPGRADE_REFUSED,
        f"a switch to a protocol that the endpoint does not speak; {_EVERYBODY}",
        "leave the header `Upgrade` out",
    ),
    (
        gateway_decision.API_TOO_NEW,
        f"a version of the API above the engine's or the list's; {_EVERYBODY}",
        "let the client agree on a version: unset `DOCKER_API_VERSION`",
    ),
    (
        gateway_decision.API_TOO_OLD,
        f"a version below the list's; {_EVERYBODY}",
        "a newer client",
    ),
)

_PATHS = """
## How a path is read

A path is decoded once. One that the engine might read otherwise is refused for everybody in every
mode: a segment `.` or `..`, `%` after decoding, a character that no name in docker has (only letters,
digits and `. _ : @ + ~ = , - [ ]`), bytes outside ASCII, a target that is no path (`http://…`, `*`), a
second version, a version that is not written like `v1.45`, more than 64 KiB. Doubled slashes are
redirected for GET and HEAD, as the engine does it, and refused otherwise. A network whose name has
other characters is reached by its id. Names may have slashes, and the last segment says what is asked,
as in the engine: `/images/a/json/history` is the history of the image `a/json`.
"""


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def page() -> str:
    """The page as Markdown."""
    newest, oldest = _dotted(API_MAX), _dotted(API_MIN)
    parts = [_HEAD.format(newest=newest, oldest=oldest), _KINDS_HEAD]
    parts += [f"| `{kind}` | {about} |\n" for kind, about in KINDS.items()]
    for title, routes in GROUPS:
        parts.append(f"\n## {title}\n\n| request | name | kind | for |\n|---|---|---|---|\n")
        parts += [
            f"| `{r.method} {r.template}` | `{r.name}` | {r.kind} | {r.about} |\n" for r in routes
        ]
    parts.append(_LEFT_OUT_HEAD)
    parts += [f"| {_place(entry)} | {entry.what} | {entry.why} |\n" for entry in LEFT_OUT]
    parts.append(_RULES_HEAD)
    parts += [f"| `{rule}` | {what} | {remedy} |\n" for rule, what, remedy in _RULES]
    parts.append(_PATHS)
    return "".join(parts)


def _place(entry: route_table.LeftOut) -> str:
    methods = f"{', '.join(entry.methods)} " if entry.methods else ""
    return f"`{methods}{entry.prefix}`"
