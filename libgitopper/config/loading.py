"""From the text of a configuration to what this host is to do."""

from __future__ import annotations

import difflib
import errno
import pwd
from collections.abc import Mapping, Set
from pathlib import Path

import tomli
from attrs import field, frozen

from libgitopper.config import keys as k
from libgitopper.config.api import Api, AuthSettings, JudgeAuth, Webhook, read_api, read_auth, read_webhooks
from libgitopper.config.entries import Defaults, Entry, check_credentials, read_entry
from libgitopper.config.machines import runs_here
from libgitopper.config.problems import Problems, shown
from libgitopper.config.reading import Layers, Table, read_table
from libgitopper.config.rules import check_hosts
from libgitopper.config.values import format_duration
from libgitopper.errors import ConfigError, ConfigProblem
from libgitopper.model import Service, Watch, watches

__all__ = ["Config", "Overrides", "default_fetch_user", "default_mount", "load_config", "parse_config"]

FETCH_USER = "gitopper-fetch"
"""The account that is made for nothing else; see examples/gitopper.sysusers.conf."""

TOP = {
    "global": "[global]",
    "services": "[[services]]",
    "api": "[api]",
    "auth": "[auth]",
    "webhooks": "[[webhooks]]",
}


@frozen(kw_only=True)
class Overrides:
    """What the command line says instead of ``[global]``; a service's own keys still win."""

    interval_seconds: float | None = None
    """Not negative, and finite."""
    upstream: str | None = field(default=None, repr=False)
    """As it is written in a file, so it may hold a password."""
    branch: str | None = None
    mount: Path | None = None

    def as_table(self) -> dict[str, object]:
        """Return them as a ``[global]`` table would say it, to be judged in the same way."""
        seconds = self.interval_seconds
        written = {
            "interval": None if seconds is None else format_duration(seconds),
            "upstream": self.upstream,
            "branch": self.branch,
            "mount": None if self.mount is None else str(self.mount),
        }
        return {name: value for name, value in written.items() if value is not None}


@frozen(kw_only=True)
class Config:
    """A configuration without mistakes, as one host sees it."""

    origin: Path
    """The file."""
    machines: tuple[str, ...]
    """Every machine that is named, of this host or not, as it is written (so with globs); sorted."""
    services: tuple[Service, ...]
    """The services of this host, in file order, with defaults applied. Can be empty."""
    mount: Path
    """The global mount."""
    interval_seconds: float
    """The global interval."""

    api: Api = field(factory=Api)
    """How the daemon answers over TCP."""
    auth: tuple[AuthSettings, ...] = ()
    """The auth plugins, in the order in which they are asked."""
    webhooks: tuple[Webhook, ...] = ()
    """Who may say that there is news."""
    own: Service | None = None
    """The service that keeps this very configuration up to date, where it comes from a repository; it
    is the first of `services`, and no file says so: the command line does."""

    @property
    def stores(self) -> Path:
        """The directory of the stores, one for each upstream."""
        return _stores(self.mount)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """What is to be polled: each upstream once.

        Once more where the configuration's own repository is kept below another mount than the
        services': a store lies below the mount of those who use it.
        """
        if self.own is None or self.own.mount == self.mount:
            return watches(self.services, self.stores)
        others = (service for service in self.services if service is not self.own)
        return (*watches((self.own,), _stores(self.own.mount)), *watches(others, self.stores))


def _stores(mount: Path) -> Path:
    return mount / ".gitopper" / "stores"


def load_config(
    path: Path,
    *,
    hosts: Set[str],
    root: bool,
    environ: Mapping[str, str],
    overrides: Overrides = Overrides(),
    judge_auth: JudgeAuth | None = None,
) -> Config:
    """Read the configuration in `path`; for the arguments see `parse_config`.

    Raises:
        ConfigError: it can't be read, is not UTF-8, or has mistakes.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise _alone(str(path), _unreadable(exc)) from exc
    except ValueError as exc:  # a NUL in the path
        raise _alone(str(path), f"can't be read: {exc}; name another file") from exc
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - (data.rfind(b"\n", 0, exc.start) + 1) + 1
        place = f"line {line}, byte {column}"
        message = f"the byte 0x{data[exc.start]:02x} at {place} is not UTF-8; save the file as UTF-8"
        # Without its cause, which carries the whole file along, and so its secrets.
        raise _alone(str(path), message) from None
    return parse_config(
        text,
        origin=str(path),
        hosts=hosts,
        root=root,
        environ=environ,
        overrides=overrides,
        judge_auth=judge_auth,
    )


def parse_config(
    text: str,
    *,
    origin: str,
    hosts: Set[str],
    root: bool,
    environ: Mapping[str, str],
    overrides: Overrides = Overrides(),
    judge_auth: JudgeAuth | None = None,
) -> Config:
    """Return what `text` says for this host; of the host itself it reads the list of accounts alone.

    Args:
        text: TOML.
        origin: the name of the file, for errors and for `Config.origin`.
        hosts: the names that this host answers to.
        root: whether what works by it runs as root: decides the defaults of ``publish``, ``mount`` and
            ``fetch_user``, who reads what upstreams send.
        environ: environment variables: ``XDG_DATA_HOME`` and ``HOME`` are looked at, for ``mount``.
        overrides: from the command line.
        judge_auth: tells what is wrong with the table of an auth plugin, as `Hooks.auth_problems` does.

    Raises:
        ConfigError: with every mistake of the file, in file order, also for services of other hosts.
    """
    document = _toml(text, origin)
    problems = Problems()
    given = _Given(
        mount=default_mount(root=root, environ=environ), fetch_user=default_fetch_user(root=root)
    )
    defaults = _defaults(document, given, root, overrides, problems)
    entries = _entries(document, defaults, problems)
    check_hosts(entries, hosts, defaults.mount, problems)
    api, auth = read_api(document, problems), read_auth(document, problems, judge_auth)
    webhooks = read_webhooks(document, problems)
    if problems or defaults.mount is None:
        raise ConfigError(origin, problems.in_file_order(document))
    return Config(
        origin=Path(origin),
        machines=tuple(sorted({machine for entry in entries for machine in entry.machines})),
        services=tuple(e.service for e in entries if e.service and runs_here(e.machines, hosts)),
        mount=defaults.mount,
        interval_seconds=Layers(defaults.layers).value(k.INTERVAL),
        api=api,
        auth=auth,
        webhooks=webhooks,
    )


def default_mount(*, root: bool, environ: Mapping[str, str]) -> Path | None:
    """Return where releases and stores are kept when nobody says; None when there is no home either."""
    if root:
        return Path("/var/lib/gitopper")
    data, home = environ.get("XDG_DATA_HOME", ""), environ.get("HOME", "")
    if data.startswith("/"):  # a relative one is to be ignored, says the XDG specification
        return Path(data, "gitopper")
    return Path(home, ".local/share/gitopper") if home.startswith("/") else None


def default_fetch_user(*, root: bool) -> str | None:
    """Return the account that fetches when nobody says; None for our own, where that is no root."""
    if not root:
        return None
    try:
        return pwd.getpwnam(FETCH_USER).pw_name
    except KeyError:
        return "nobody"


def _toml(text: str, origin: str) -> dict[str, object]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as exc:
        raise _alone(origin, f"not valid TOML: {exc}; mend it there") from None
    except (ValueError, RecursionError):  # a number of 5,000 digits, lists in lists in lists
        raise _alone(origin, "a number is too long, or tables lie too deep; shorten it") from None


@frozen(kw_only=True)
class _Given:
    """What holds where a file says nothing."""

    mount: Path | None
    fetch_user: str | None


def _defaults(
    document: Mapping[str, object],
    fallback: _Given,
    root: bool,
    overrides: Overrides,
    problems: Problems,
) -> Defaults:
    for name in document:
        if name not in TOP:
            problems.add((name,), _not_at_top(name))
    table = read_table(document.get("global", {}), k.GLOBAL_KEYS, ("global",), problems, homes=k.HOMES)
    given = read_table(overrides.as_table(), k.DEFAULT_KEYS, ("overrides",), problems)
    table, given = table or Table(where=("global",)), given or Table(where=("overrides",))
    layers = Layers((given, table))
    found = layers.find(k.MOUNT)
    if not found and not layers.writes(k.MOUNT) and fallback.mount is None:
        message = 'there is no home directory to keep releases in; write mount = "/srv/gitopper"'
        problems.add(("global", "mount"), message)
    defaults = Defaults(
        overrides=given,
        table=table,
        publish="bind" if root else "symlink",
        # An ordinary user has no other account to choose.
        fetch_user=(table.get(k.FETCH_USER) or fallback.fetch_user) if root else None,
        mount=found.value if found else (None if layers.writes(k.MOUNT) else fallback.mount),
    )
    check_credentials(table, defaults.home, problems)
    return defaults


def _not_at_top(name: str) -> str:
    if close := difflib.get_close_matches(name[:64].lower(), TOP, n=1):
        return f"unknown table; did you mean {TOP[close[0]]}?"
    if name in k.HOMES:
        return f"this key stands outside of any table; move it to {k.HOMES[name]}"
    return "unknown; remove it: a configuration has [global], [api], [auth], [[webhooks]] and [[services]]"


def _entries(document: Mapping[str, object], defaults: Defaults, problems: Problems) -> tuple[Entry, ...]:
    raw = document.get("services")
    if "services" not in document:
        # A file that was cut short must not look like a host that is to lose its services.
        message = "there are none; write [[services]], or services = [] if that is what you want"
        problems.add(("services",), message)
    elif isinstance(raw, dict):
        problems.add(("services",), "this is one table; write [[services]], with two brackets")
    elif not isinstance(raw, list):
        problems.add(("services",), f"{shown(raw)} is not a list of tables; write [[services]]")
    if not isinstance(raw, list):
        return ()
    read = (read_entry(item, ("services", i), defaults, problems) for i, item in enumerate(raw))
    return tuple(entry for entry in read if entry)


def _unreadable(exc: OSError) -> str:
    remedies = {
        errno.ENOENT: "name a file that exists",
        errno.EACCES: "let this user read it, or run as one who may",
        errno.EISDIR: "name the file in it",
    }
    remedy = remedies.get(exc.errno or 0, "see that it can be read")
    return f"can't be read: {exc.strerror or exc}; {remedy}"


def _alone(origin: str, message: str) -> ConfigError:
    return ConfigError(origin, (ConfigProblem(path="", message=message),))
