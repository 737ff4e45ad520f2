"""The keys of each table. The reference page says the same in prose, and a test compares the two."""

from __future__ import annotations

from typing import Any

from libgitopper.config import values as v
from libgitopper.config.reading import Key
from libgitopper.config.upstreams import upstream

__all__ = [
    "ACTION", "BRANCH", "COMMAND", "CREDENTIALS", "DEFAULT_KEYS", "DIRS", "DIR_KEYS", "FILE", "HOMES",
    "INTERVAL", "KEEP", "LINK", "LOCAL", "MACHINE", "MOUNT", "PACKAGE", "PUBLISH", "READONLY", "RELOAD",
    "SERVICE", "SERVICE_KEYS", "SSH_KEY", "SYSTEMD_ACTIONS", "TIMEOUT", "UPSTREAM", "USER",
]  # fmt: skip

SYSTEMD_ACTIONS = ("reload", "restart", "reload-or-restart", "try-restart", "try-reload-or-restart")

_plugin = v.matching(r"[A-Za-z][A-Za-z0-9_-]{0,63}", "the name of a plugin", '"bind" or "symlink"')
_reloader = v.matching(r"[A-Za-z][A-Za-z0-9_-]{0,63}", "the name of a plugin", '"systemd" or "command"')
_user = v.matching(
    r"(?![0-9]+$)[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}\$?", "the name of a user", 'its name, as "grafana"'
)
# systemd's characters for a unit; no "/" and no "." or "-" in front, as it names a file too.
_service = v.matching(
    r"[A-Za-z0-9:_@\\][A-Za-z0-9:_.@\\-]{0,199}", "the name of a service", 'its unit, as "nginx" or "app@1"'
)
_package = v.matching(
    r"[A-Za-z0-9_@][A-Za-z0-9_@.:+~/-]{0,199}", "the name of a package", 'it without version, as "nginx"'
)

UPSTREAM = Key(name="upstream", kind="URL", parse=upstream)
BRANCH = Key(name="branch", kind="branch", parse=v.branch, default="main")
CREDENTIALS = Key(name="credentials", kind="path", parse=v.secret_file)
SSH_KEY = Key(name="ssh_key", kind="path", parse=v.secret_file)
INTERVAL = Key(name="interval", kind="duration", parse=v.duration("1s", "720h"), default="5m")
TIMEOUT = Key(name="timeout", kind="duration", parse=v.duration("100ms", "24h"), default="90s")
MOUNT = Key(name="mount", kind="path", parse=v.mount)
KEEP = Key(name="keep", kind="number", parse=v.integer(1, 100), default=5)
PUBLISH = Key(name="publish", kind="plugin", parse=_plugin)
READONLY = Key(name="readonly", kind="boolean", parse=v.boolean, default=False)
USER = Key(name="user", kind="user", parse=_user)
RELOAD = Key(name="reload", kind="plugin", parse=_reloader)
ACTION = Key(name="action", kind="action", parse=v.action, default="reload")
COMMAND = Key(name="command", kind="list of strings", parse=v.argv)

DEFAULT_KEYS: tuple[Key[Any], ...] = (
    UPSTREAM, BRANCH, CREDENTIALS, SSH_KEY, INTERVAL, TIMEOUT, MOUNT, KEEP, PUBLISH, READONLY, USER,
    RELOAD, ACTION, COMMAND,
)  # fmt: skip
"""The keys of [global], which a service can have as well."""

MACHINE = Key(
    name="machine", kind="machine, or list", parse=v.machines, example='machine = "web1.example.net"'
)
SERVICE = Key(name="service", kind="unit", parse=_service, example='service = "nginx"')
PACKAGE = Key(name="package", kind="package", parse=_package)
DIRS = Key(
    name="dirs",
    kind="list of tables",
    parse=v.tables,
    example='dirs = [{ local = "/etc/nginx", link = "nginx/etc" }]',
)

SERVICE_KEYS: tuple[Key[Any], ...] = (MACHINE, SERVICE, PACKAGE, DIRS, *DEFAULT_KEYS)

LOCAL = Key(name="local", kind="path", parse=v.absolute_path, example='local = "/etc/nginx"')
LINK = Key(name="link", kind="path in the repository", parse=v.link, example='link = "nginx/etc"')
FILE = Key(name="file", kind="boolean", parse=v.boolean, default=False)

DIR_KEYS: tuple[Key[Any], ...] = (LOCAL, LINK, FILE)

HOMES = (
    {key.name: "[global] or [[services]]" for key in DEFAULT_KEYS}
    | {key.name: "[[services]]" for key in (MACHINE, SERVICE, PACKAGE, DIRS)}
    | {key.name: "an entry of dirs in [[services]]" for key in DIR_KEYS}
)
"""Where each key belongs, for one that is written in another table."""
