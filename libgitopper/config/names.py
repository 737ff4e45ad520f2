"""What machines, units, users, packages, plugins, branches and actions may be called."""

from __future__ import annotations

import re
from collections.abc import Callable

from libgitopper.config import values as v
from libgitopper.config.problems import BadValueError, shown

__all__ = ["action", "branch", "machine", "machines", "package", "plugin", "unit", "user"]

MACHINE = re.compile(r"[A-Za-z0-9_.*?!\[\]-]{1,253}")
ACTION = re.compile(r"[A-Za-z0-9_-]{0,64}")
BRANCH_RULES = (
    (r"^refs/heads/(.+)", 'is a full ref; leave out "refs/heads/"'),
    (r"^-", 'begins with "-"'),
    (r"[\x00-\x20\x7f~^:?*\[\\]", "has a character that git allows in no branch"),
    (r"\.\.|@\{", 'has ".." or "@{" in it'),
    (r"^/|/$|//|^$", "has an empty part"),
    (r"^\.|/\.", 'has a part that begins with "."'),
    (r"\.lock$|\.lock/|\.$", 'has a part that ends in ".lock", or ends in "."'),
    (r"^@$|^HEAD$", "has a meaning of its own to git"),
)  # fmt: skip

user = v.matching(
    r"(?![0-9]+$)[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}\$?", "the name of a user", 'its name, as "grafana"'
)
# systemd's characters for a unit; no "/" and no "." or "-" in front, as it names a file too.
unit = v.matching(
    r"[A-Za-z0-9:_@\\][A-Za-z0-9:_.@\\-]{0,199}", "the name of a service", 'its unit, as "nginx" or "app@1"'
)
package = v.matching(
    r"[A-Za-z0-9_@][A-Za-z0-9_@.:+~/-]{0,199}", "the name of a package", 'it without version, as "nginx"'
)


def plugin(examples: str) -> Callable[[object], str]:
    """Return a reader of the names of plugins."""
    return v.matching(r"[A-Za-z][A-Za-z0-9_-]{0,63}", "the name of a plugin", examples)


def machine(value: object) -> str:
    """Return the name of a machine, or a glob of names."""
    example = '"web1.example.net", or a glob as "web*"'
    text = v.string(value, example)
    if not MACHINE.fullmatch(text):
        raise BadValueError(f"{shown(text)} is not the name of a machine; write {example}")
    if re.search(r"[\[\]]", re.sub(r"\[[^\[\]]+\]", "", text)):
        raise BadValueError(f'{shown(text)} has a bracket without its partner; write "web[12]"')
    return text


def machines(value: object) -> tuple[str, ...]:
    """Return the machines of a service: one, or a list."""
    if value == []:
        raise BadValueError(
            'the list is empty; name a machine, as "web1.example.net", or "*" for every one'
        )
    return v.one_or_more(machine)(value)


def action(value: object) -> str:
    """Return the verb for a reload plugin, or an empty string for none."""
    if ACTION.fullmatch(text := v.string(value, '"reload", or "" for none')):
        return text
    raise BadValueError(f'{shown(text)} is not an action; write "reload" or "restart", or "" for none')


def branch(value: object) -> str:
    """Return the name of a branch, as ``git check-ref-format --branch`` would have it."""
    text = v.string(value, 'the name of a branch, as "main"')
    v.refuse_unprintable(text)
    for pattern, what in BRANCH_RULES:
        if re.search(pattern, text):
            raise BadValueError(f'{shown(text)} {what}; write the name of a branch, as "main"')
    return text
