"""The tables that concern the daemon's API: ``[api]``, ``[auth]`` and ``[[webhooks]]``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from attrs import field, frozen

from libgitopper.config import values as v
from libgitopper.config.names import plugin
from libgitopper.config.problems import BadValueError, Location, Problems, shown
from libgitopper.config.reading import Key, Table, read_table

__all__ = [
    "API_KEYS",
    "WEBHOOK_KEYS",
    "Api",
    "AuthSettings",
    "JudgeAuth",
    "Webhook",
    "read_api",
    "read_auth",
    "read_webhooks",
]

JudgeAuth: TypeAlias = Callable[[str, Mapping[str, Any]], Sequence[str]]
"""Takes the name of an auth plugin and its table, and returns what is wrong: ``key: what`` each."""

WEBHOOK_KINDS = ("github", "gitlab", "gitea", "forgejo", "hmac")


@frozen(kw_only=True)
class Api:
    """How the daemon answers over TCP. Its defaults face loopback only."""

    listen: str | None = None
    """``ADDR:PORT``; the command line wins."""
    certificate: Path | None = None
    """PEM: the server's certificate, and the chain that leads to its CA."""
    key: Path | None = None
    """PEM: the private key."""
    client_ca: Path | None = None
    """PEM: the CAs whose client certificates are looked at."""
    insecure: bool = False
    """Plain http on an address that is not loopback: only with this."""
    anonymous: bool | None = None
    """Whether anonymous clients may read; None: on loopback only."""


@frozen(kw_only=True)
class AuthSettings:
    """One auth plugin that is asked, and its table."""

    plugin: str
    settings: Mapping[str, Any] = field(repr=False)


@frozen(kw_only=True)
class Webhook:
    """A sender whose push notifications are listened to, at ``/hook/<name>``."""

    name: str
    kind: str
    secret_file: Path
    """Its first line is the secret; read at each use."""


def _listen(value: object) -> str:
    text = v.string(value, '"127.0.0.1:8000"')
    match = _LISTEN.fullmatch(text)
    if not match or not 0 < int(match["port"]) < 65536:
        raise BadValueError(f"{shown(text)} is no address and port; {_ADDRESSES}")
    try:
        ipaddress.ip_address(match["v6"] or match["v4"])
    except ValueError:
        raise BadValueError(f"{shown(text)} has no IP address; {_ADDRESSES}") from None
    return text


def _on_loopback(listen: str) -> bool:
    host, _, _ = listen.rpartition(":")
    return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback


def _anonymous(value: object) -> bool:
    return v.one_of(("read", "none"))(value) == "read"


def _kind(value: object) -> str:
    if not isinstance(value, str) or value not in WEBHOOK_KINDS:
        known = ", ".join(f'"{kind}"' for kind in WEBHOOK_KINDS)
        raise BadValueError(f"{shown(value)} is no kind of webhook; write one of {known}")
    return value


def _plugins(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadValueError(f'{shown(value)} is no list of plugins; write ["peercred", "token"]')
    return v.each(_plugin, value)


# An IPv6 address needs its brackets: "::1:8000" is an address by itself, with no port at all.
_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_ADDRESSES = 'write "127.0.0.1:8000", "0.0.0.0:8000" or "[::]:8000"'
_STEP = re.compile(r"\[(\d{1,9})\]|([A-Za-z0-9_-]+)")
_PLACE = re.compile(r"[A-Za-z0-9_-]+(\[\d{1,9}\]|\.[A-Za-z0-9_-]+)*")
_plugin = plugin('"token"')
_name = v.matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "a name for a webhook", '"github"')

LISTEN = Key(name="listen", kind="address", parse=_listen)
CERTIFICATE = Key(name="certificate", kind="path", parse=v.absolute_path)
PRIVATE_KEY = Key(name="key", kind="path", parse=v.absolute_path)
CLIENT_CA = Key(name="client_ca", kind="path", parse=v.absolute_path)
INSECURE: Key[bool] = Key(name="insecure", kind="boolean", parse=v.boolean, default=False)
ANONYMOUS = Key(name="anonymous", kind='"read" or "none"', parse=_anonymous)
API_KEYS: tuple[Key[Any], ...] = (LISTEN, CERTIFICATE, PRIVATE_KEY, CLIENT_CA, INSECURE, ANONYMOUS)

PLUGINS = Key(name="plugins", kind="list of plugins", parse=_plugins)

NAME = Key(name="name", kind="name", parse=_name, example='name = "github"')
KIND = Key(name="kind", kind="kind of webhook", parse=_kind, example='kind = "github"')
SECRET = Key(
    name="secret", kind="path", parse=v.secret_file, example='secret = "/etc/gitopper/webhook.secret"'
)
WEBHOOK_KEYS: tuple[Key[Any], ...] = (NAME, KIND, SECRET)


def read_api(document: Mapping[str, object], problems: Problems) -> Api:
    """Read ``[api]``."""
    table = read_table(document.get("api", {}), API_KEYS, ("api",), problems) or Table(where=("api",))
    certificate, key = table.get(CERTIFICATE), table.get(PRIVATE_KEY)
    for one, other in ((CERTIFICATE, PRIVATE_KEY), (PRIVATE_KEY, CERTIFICATE)):
        if table.writes(one) and not table.writes(other):
            problems.add(table.at(other), f'missing, and TLS needs both; write {other.name} = "/etc/…"')
    if table.writes(CLIENT_CA) and not table.writes(CERTIFICATE):
        problems.add(table.at(CLIENT_CA), "client certificates need TLS; write certificate and key, too")
    listen = table.get(LISTEN)
    if listen and not (_on_loopback(listen) or table.writes(CERTIFICATE) or table.get(INSECURE)):
        message = (
            f"{shown(listen)} can be reached from other hosts, and nothing said there would be encrypted;"
            " write certificate and key, or listen on 127.0.0.1, or insecure = true if something else"
            " protects it"
        )
        problems.add(table.at(LISTEN), message)
    return Api(
        listen=listen,
        certificate=certificate,
        key=key,
        client_ca=table.get(CLIENT_CA),
        insecure=table.get(INSECURE) is True,
        anonymous=table.get(ANONYMOUS),
    )


def read_auth(
    document: Mapping[str, object], problems: Problems, judge: JudgeAuth | None = None
) -> tuple[AuthSettings, ...]:
    """Read ``[auth]``: who is asked, in which order, and the table of each, which only its plugin knows.

    Without ``plugins``, ``peercred`` is asked, and then each plugin that has a table, in file order.
    Without `judge` nobody looks into the tables.
    """
    raw = document.get("auth", {})
    if not isinstance(raw, dict):
        problems.add(("auth",), f"{shown(raw)} is not a table; write [auth]")
        return ()
    tables = {
        name: value for name, value in raw.items() if isinstance(value, dict) and name != PLUGINS.name
    }
    scalars = {name: value for name, value in raw.items() if name not in tables}
    table = read_table(scalars, (PLUGINS,), ("auth",), problems) or Table(where=("auth",))
    plugins = table.get(PLUGINS) or tuple(dict.fromkeys(("peercred", *tables)))
    for name in tables:
        if name not in plugins:
            problems.add(("auth", name), f'not among plugins, so nobody reads it; add "{name}" there')
    for name in dict.fromkeys(plugins):
        if plugins.count(name) > 1:
            problems.add(("auth", "plugins"), f"{name} is named twice; name it once")
    found = tuple(AuthSettings(plugin=name, settings=tables.get(name, {})) for name in plugins)
    for auth in found:
        for problem in judge(auth.plugin, auth.settings) if judge else ():
            problems.add(*_placed(auth.plugin, problem))
    return found


def _placed(plugin: str, problem: str) -> tuple[Location, str]:
    """Return where a plugin's problem is, and what it says: ``clients[0].role: …`` names the place."""
    place, colon, message = problem.partition(": ")
    if not colon or not _PLACE.fullmatch(place):
        return ("auth", plugin), problem
    steps = (int(number) if number else name for number, name in _STEP.findall(place))
    return ("auth", plugin, *steps), message


def read_webhooks(document: Mapping[str, object], problems: Problems) -> tuple[Webhook, ...]:
    """Read ``[[webhooks]]``."""
    raw = document.get("webhooks", [])
    if not isinstance(raw, list):
        problems.add(("webhooks",), f"{shown(raw)} is not a list of tables; write [[webhooks]]")
        return ()
    tables = [read_table(item, WEBHOOK_KEYS, ("webhooks", i), problems) for i, item in enumerate(raw)]
    return tuple(_unique(tables, problems))


def _unique(tables: Sequence[Table | None], problems: Problems) -> list[Webhook]:
    found: dict[str, Webhook] = {}
    for table in tables:
        if table is None:
            continue
        name, kind, secret = table.get(NAME), table.get(KIND), table.get(SECRET)
        if name is None or kind is None or secret is None:
            continue
        if name in found:
            problems.add(table.at(NAME), f"{shown(name)} is the name of another webhook; choose another")
        found[name] = Webhook(name=name, kind=kind, secret_file=secret)
    return list(found.values())
