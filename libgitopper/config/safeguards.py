"""The keys by which a service asks to be checked, watched, verified, ordered and kept from drifting."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from libgitopper.config import names as n
from libgitopper.config import values as v
from libgitopper.config.problems import BadValueError, Problems, redacted, shown
from libgitopper.config.reading import Key, Layers, Table, read_table
from libgitopper.safeguards import Check, DriftPolicy, Health, Verify
from libgitopper.windows import Window, parse_window

__all__ = [
    "AFTER", "CHECK", "CHECK_KEYS", "DRIFT", "HEALTH", "HEALTH_KEYS", "NO_REWIND", "VERIFY", "VERIFY_KEYS",
    "WINDOW",
]  # fmt: skip

T = TypeVar("T")

HTTP_EXAMPLE = '"http://127.0.0.1:9090/-/ready"'
WINDOW_EXAMPLE = '"Mon-Fri 09:00-17:00 Europe/Amsterdam"'
TCP_EXAMPLE = '"127.0.0.1:5432" or "[::1]:5432"'
_SERVER = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::(?P<port>[0-9]{1,5}))?"
)

_argv = v.argv('["/usr/sbin/nginx", "-t"]')
_policy = v.one_of([policy.value for policy in DriftPolicy])


def _commands(value: object) -> tuple[tuple[str, ...], ...]:
    """Return one command, or a list of them; none is shown."""
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return v.each(_argv, value)
    return (_argv(value),)


def _check(value: object) -> Check:
    if not isinstance(value, dict):
        return Check(commands=_commands(value))
    problems = Problems()
    table = _inner(value, CHECK_KEYS, '["/usr/sbin/nginx", "-t"]', problems)
    problems.raise_bad()
    return Check(
        commands=table.get(CHECK_COMMAND) or (),
        user=table.get(CHECK_USER),
        timeout_seconds=Layers((table,)).value(CHECK_TIMEOUT),
    )


def _health(value: object) -> Health:
    problems = Problems()
    table = _inner(value, HEALTH_KEYS, f"{{ http = {HTTP_EXAMPLE} }}", problems)
    # One that is written and bad, or misspelt, has been told.
    looks = any(table.writes(probe) and table.get(probe) is not False for probe in PROBES)
    if not looks and table.written <= {key.name for key in HEALTH_KEYS}:
        remedy = f"write at least one of command, http, tcp and unit = true, as http = {HTTP_EXAMPLE}"
        problems.add((), f"this names nothing to look at; {remedy}")
    _check_times(table, problems)
    problems.raise_bad()
    layers = Layers((table,))
    return Health(
        command=table.get(HEALTH_COMMAND) or (),
        http=table.get(HTTP) or "",
        tcp=table.get(TCP) or "",
        unit=table.get(UNIT) or False,
        within_seconds=layers.value(WITHIN),
        interval_seconds=layers.value(HEALTH_INTERVAL),
        stable_for_seconds=layers.value(STABLE_FOR),
    )


def _check_times(table: Table, problems: Problems) -> None:
    within, stable = _written(table, WITHIN), _written(table, STABLE_FOR)
    interval = _written(table, HEALTH_INTERVAL)
    if within is not None and stable is not None and stable >= within:
        enough = v.format_duration(stable + WITHIN.default_value)
        what = (
            f'"{v.format_duration(stable)}" does not end in time: within is "{v.format_duration(within)}"'
        )
        problems.add((STABLE_FOR.name,), f'{what}; write a shorter time, or within = "{enough}"')
    if within is not None and interval is not None and interval > within:
        key = HEALTH_INTERVAL if table.writes(HEALTH_INTERVAL) else WITHIN
        enough = v.format_duration(within / 5)
        times = f'interval is "{v.format_duration(interval)}", and within "{v.format_duration(within)}"'
        problems.add((key.name,), f'{times}: there would be one probe; write interval = "{enough}"')


def _verify(value: object) -> Verify:
    problems = Problems()
    example = 'allowed_signers = "/etc/gitopper/allowed_signers"'
    table = _inner(value, VERIFY_KEYS, f"{{ {example} }}", problems)
    if not table.written:
        problems.add((), f"this names nobody whose signature counts; write {example}, or keyring")
    problems.raise_bad()
    return Verify(allowed_signers=table.get(ALLOWED_SIGNERS), keyring=table.get(KEYRING))


def _inner(value: object, keys: Sequence[Key[Any]], example: str, problems: Problems) -> Table:
    """Read the table that is the value of a key. What stands in its place is not shown: it may be secret.

    Raises:
        BadValueError: it is no table.
    """
    if isinstance(value, dict) and (table := read_table(value, keys, (), problems)):
        return table
    raise BadValueError(f"this is not a table; write {example}")


def _written(table: Table, key: Key[T]) -> T | None:
    """Return the value of `key`, else its default; None where it is written and bad."""
    return table.get(key) if table.writes(key) else key.default_value


def _http(value: object) -> str:
    """Return an http or https URL. It is shown in logs and errors, so it must not hold a password."""
    text = v.string(value, HTTP_EXAMPLE)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _bad_url(text, "has white space in it, or characters that a URL can't have")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _bad_url(text, "has a host that can't be read") from None
    if parts.scheme not in ("http", "https"):
        raise _bad_url(text, "is not an http or https URL")
    if "@" in parts.netloc:
        remedy = "write a URL that needs none, or a command that reads it from a file"
        message = f"{shown(text)} has a user or password, and this URL is shown in logs and errors"
        raise BadValueError(f"{message}; {remedy}")
    if not _is_server(parts.netloc):
        raise _bad_url(text, "has no host, or a bad port")
    if "#" in text:
        raise _bad_url(text, "has a fragment, which is sent to nobody")
    return parts.scheme + text[len(parts.scheme) :]


def _bad_url(text: str, what: str) -> BadValueError:
    return BadValueError(f"{shown(text)} {what}; write one as {HTTP_EXAMPLE}")


def _tcp(value: object) -> str:
    text = v.string(value, TCP_EXAMPLE)
    if _is_server(text, with_port=True):
        return text
    raise BadValueError(f"{shown(text)} is not a host and a port; write {TCP_EXAMPLE}")


def _is_server(text: str, *, with_port: bool = False) -> bool:
    """Tell whether `text` is a host, with its port or (unless `with_port`) without."""
    match = _SERVER.fullmatch(text)
    if not match or (with_port and not match["port"]):
        return False
    try:
        ipaddress.IPv6Address(match["v6"] or "::")
    except ValueError:
        return False
    return 0 < int(match["port"] or 1) < 65536


def _window(value: object) -> Window:
    text = v.string(value, WINDOW_EXAMPLE)
    # What is not even near a window is shown as carefully as anything else.
    if len(text) > 80 or redacted(text) != text:
        raise BadValueError(f"{shown(text)} is not a window; write {WINDOW_EXAMPLE}")
    try:
        return parse_window(text)
    except ValueError as exc:
        raise BadValueError(str(exc)) from exc


def _drift(value: object) -> DriftPolicy:
    return DriftPolicy(_policy(value))


CHECK_COMMAND = Key(
    name="command", kind="commands", parse=_commands, example='command = ["/usr/sbin/nginx", "-t"]'
)
CHECK_USER = Key(name="user", kind="user", parse=n.user)
CHECK_TIMEOUT = Key(name="timeout", kind="duration", parse=v.duration("100ms", "24h"), default="1m")
CHECK_KEYS: tuple[Key[Any], ...] = (CHECK_COMMAND, CHECK_USER, CHECK_TIMEOUT)

HEALTH_COMMAND = Key(name="command", kind="list of strings", parse=v.argv('["/usr/bin/pg_isready"]'))
HTTP = Key(name="http", kind="http URL", parse=_http)
TCP = Key(name="tcp", kind="host and port", parse=_tcp)
UNIT = Key(name="unit", kind="boolean", parse=v.boolean, default=False)
WITHIN = Key(name="within", kind="duration", parse=v.duration("100ms", "24h"), default="30s")
HEALTH_INTERVAL = Key(name="interval", kind="duration", parse=v.duration("10ms", "1h"), default="1s")
STABLE_FOR = Key(name="stable_for", kind="duration", parse=v.duration("0s", "12h"), default="0s")
PROBES: tuple[Key[Any], ...] = (HEALTH_COMMAND, HTTP, TCP, UNIT)
HEALTH_KEYS: tuple[Key[Any], ...] = (*PROBES, WITHIN, HEALTH_INTERVAL, STABLE_FOR)

ALLOWED_SIGNERS = Key(name="allowed_signers", kind="path", parse=v.absolute_path)
KEYRING = Key(name="keyring", kind="path", parse=v.absolute_path)
VERIFY_KEYS: tuple[Key[Any], ...] = (ALLOWED_SIGNERS, KEYRING)

VERIFY = Key(name="verify", kind="table", parse=_verify)
NO_REWIND = Key(name="no_rewind", kind="boolean", parse=v.boolean, default=False)
DRIFT = Key(name="drift", kind='"off", "report" or "heal"', parse=_drift, default="report")
WINDOW = Key(name="window", kind="window, or list", parse=v.one_or_more(_window), default=[])
CHECK = Key(name="check", kind="commands, or table", parse=_check)
HEALTH = Key(name="health", kind="table", parse=_health)
AFTER = Key(name="after", kind="unit, or list", parse=v.one_or_more(n.unit), default=[])
