"""The keys of each table. The reference page says the same in prose, and a test compares the two."""

from __future__ import annotations

from typing import Any

from libgitopper.config import names as n
from libgitopper.config import values as v
from libgitopper.config.reading import Key
from libgitopper.config.safeguards import (
    AFTER,
    CHECK,
    CHECK_KEYS,
    DRIFT,
    HEALTH,
    HEALTH_KEYS,
    NO_REWIND,
    VERIFY,
    VERIFY_KEYS,
    WINDOW,
)
from libgitopper.config.upstreams import upstream

__all__ = [
    "ACTION", "AFTER", "BRANCH", "CHECK", "COMMAND", "CREDENTIALS", "DEFAULT_KEYS", "DIRS", "DIR_KEYS",
    "DRIFT", "FETCH_USER", "FILE", "GLOBAL_KEYS", "HEALTH", "HOMES", "INNER", "INTERVAL", "KEEP", "LINK",
    "LOCAL", "MACHINE", "MAX_FETCH", "MAX_FILE", "MAX_RELEASE", "MOUNT", "NO_REWIND", "OWN_KEYS", "PACKAGE",
    "PUBLISH", "READONLY", "RELOAD", "RESYNC", "SERVICE", "SERVICE_KEYS", "SSH_KEY", "SYSTEMD_ACTIONS",
    "TIMEOUT", "UPSTREAM", "USER", "VERIFY", "WINDOW",
]  # fmt: skip

SYSTEMD_ACTIONS = ("reload", "restart", "reload-or-restart", "try-restart", "try-reload-or-restart")

UPSTREAM = Key(name="upstream", kind="URL", parse=upstream)
BRANCH = Key(name="branch", kind="branch", parse=n.branch, default="main")
CREDENTIALS = Key(name="credentials", kind="path", parse=v.secret_file)
SSH_KEY = Key(name="ssh_key", kind="path", parse=v.secret_file)
INTERVAL = Key(name="interval", kind="duration", parse=v.duration("1s", "720h"), default="5m")
RESYNC = Key(name="resync", kind="duration", parse=v.duration("1s", "720h"), default="10m")
TIMEOUT = Key(name="timeout", kind="duration", parse=v.duration("100ms", "24h"), default="90s")
MOUNT = Key(name="mount", kind="path", parse=v.mount)
KEEP = Key(name="keep", kind="number", parse=v.integer(1, 100), default=5)
PUBLISH = Key(name="publish", kind="plugin", parse=n.plugin('"bind" or "symlink"'))
READONLY = Key(name="readonly", kind="boolean", parse=v.boolean, default=False)
USER = Key(name="user", kind="user", parse=n.user)
RELOAD = Key(name="reload", kind="plugin", parse=n.plugin('"systemd" or "command"'))
ACTION = Key(name="action", kind="action", parse=n.action, default="reload")
COMMAND = Key(name="command", kind="list of strings", parse=v.argv('["/usr/sbin/nginx", "-s", "reload"]'))
MAX_FILE = Key(name="max_file", kind="size", parse=v.size("1KiB", "1TiB"), default="100MiB")
MAX_RELEASE = Key(name="max_release", kind="size", parse=v.size("1KiB", "100TiB"), default="1GiB")
MAX_FETCH = Key(name="max_fetch", kind="size", parse=v.size("1MiB", "100TiB"), default="4GiB")

DEFAULT_KEYS: tuple[Key[Any], ...] = (
    UPSTREAM, BRANCH, CREDENTIALS, SSH_KEY, INTERVAL, RESYNC, TIMEOUT, MOUNT, KEEP, PUBLISH, READONLY,
    USER, RELOAD, ACTION, COMMAND, MAX_FILE, MAX_RELEASE, MAX_FETCH, VERIFY, NO_REWIND, DRIFT, WINDOW,
)  # fmt: skip
"""The keys of [global], which a service can have as well."""

FETCH_USER = Key(name="fetch_user", kind="user", parse=n.user)

GLOBAL_KEYS: tuple[Key[Any], ...] = (*DEFAULT_KEYS, FETCH_USER)
"""The keys of [global]: one account fetches for all services, since they share stores and connections."""

MACHINE = Key(
    name="machine", kind="machine, or list", parse=n.machines, example='machine = "web1.example.net"'
)
SERVICE = Key(name="service", kind="unit", parse=n.unit, example='service = "nginx"')
PACKAGE = Key(name="package", kind="package", parse=n.package)
DIRS = Key(
    name="dirs",
    kind="list of tables",
    parse=v.tables,
    example='dirs = [{ local = "/etc/nginx", link = "nginx/etc" }]',
)

OWN_KEYS: tuple[Key[Any], ...] = (MACHINE, SERVICE, PACKAGE, DIRS, CHECK, HEALTH, AFTER)
"""The keys that only a service has. What checks or probes one service says nothing of another."""

SERVICE_KEYS: tuple[Key[Any], ...] = (*OWN_KEYS, *DEFAULT_KEYS)

LOCAL = Key(name="local", kind="path", parse=v.absolute_path, example='local = "/etc/nginx"')
LINK = Key(name="link", kind="path in the repository", parse=v.link, example='link = "nginx/etc"')
FILE = Key(name="file", kind="boolean", parse=v.boolean, default=False)

DIR_KEYS: tuple[Key[Any], ...] = (LOCAL, LINK, FILE)

INNER: dict[Key[Any], tuple[Key[Any], ...]] = {
    CHECK: CHECK_KEYS,
    HEALTH: HEALTH_KEYS,
    VERIFY: VERIFY_KEYS,
}
"""The keys whose value can be a table, and the keys of that."""

HOMES = (
    {key.name: f"{outer.name} in [[services]]" for outer, keys in INNER.items() for key in keys}
    | {key.name: "[global] or [[services]]" for key in DEFAULT_KEYS}
    | {FETCH_USER.name: "[global]"}
    | {key.name: "[[services]]" for key in OWN_KEYS}
    | {key.name: "an entry of dirs in [[services]]" for key in DIR_KEYS}
)
"""Where each key belongs, for one that is written in another table."""
