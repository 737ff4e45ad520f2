"""``gitopperctl token``: make, list and revoke the tokens of this machine's daemon. No daemon is asked."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitopperd.ctl.cli import AbbreviatedGroup, LocalCommand
from gitopperd.ctl.options import MACHINE_READABLE, common_options, machine_readable
from gitopperd.ctl.table import Column, lines_of
from gitopperd.ctl.text import Terminal, visible

if TYPE_CHECKING:
    from gitopper_plugins.tokenfile import Token

__all__ = ["token"]

ROLES = ("read", "operate", "admin")
COLUMNS = (
    Column(title="NAME"),
    Column(title="ROLE"),
    Column(title="SERVICES", least=8),
    Column(title="CREATED"),
    Column(title="EXPIRES"),
)
_DAYS = re.compile(r"(?:([0-9]{1,5})d)?(.*)", re.DOTALL)


class Lifetime(click.ParamType[timedelta]):
    """How long a token is good: a duration as the config writes it, or days."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time."""
        # Imported here alone: the library costs more than all else that gitopperctl does.
        from libgitopper import parse_duration

        if isinstance(value, timedelta):
            return value
        match = _DAYS.fullmatch(str(value))
        days, rest = match.groups() if match else (None, str(value))
        try:
            span = timedelta(days=int(days or 0), seconds=parse_duration(rest) if rest or not days else 0)
        except (ValueError, OverflowError):
            self.fail(f'{value!r} is not a duration; write "90d" or "12h".', param, ctx)
        if span < timedelta(seconds=1):
            self.fail("A token that is never good is of no use.", param, ctx)
        return span


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command takes; report what is wrong with the file, and return 1."""

    @click.option(*MACHINE_READABLE, "as_json", is_flag=True, help="Print JSON, errors too.")
    @click.option(
        "--file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The file of tokens; default /etc/gitopper/tokens.toml for root, else below ~/.config.",
    )
    @click.pass_context
    @functools.wraps(command)
    def run(ctx: click.Context, /, file: Path | None, as_json: bool, **arguments: Any) -> int:
        from gitopper_plugins.tokenfile import TokenFileError, default_file

        as_json = as_json or machine_readable(ctx)
        try:
            answer, lines, note = command(file or default_file(), **arguments)
        except (TokenFileError, _RefusedError) as exc:
            error = {"error": {"code": "tokens", "message": str(exc)}}
            click.echo(
                json.dumps(error, indent=2) if as_json else f"gitopperctl: {visible(str(exc))}",
                err=not as_json,
            )
            return 1
        for line in [json.dumps(answer, indent=2)] if as_json else lines:
            click.echo(line)
        if note and not as_json:
            sys.stdout.flush()
            click.echo(note, err=True)
        return 0

    return run


Said = tuple[dict[str, Any], list[str], str]
"""What a command says: as JSON, as lines on standard output, and a note on standard error."""


class _RefusedError(Exception):
    """What was asked for can't be done; the text says why."""


@click.group(
    "token",
    cls=AbbreviatedGroup,
    examples=(
        "gitopperctl token create deploy --role operate --services 'web*' --expires 90d",
        "gitopperctl token list",
        "gitopperctl token revoke deploy",
    ),
)
@common_options
def token() -> None:
    """Make, list or revoke tokens for this machine."""


@token.command(
    "create",
    cls=LocalCommand,
    examples=(
        "gitopperctl token create grafana --role read",
        "gitopperctl token create deploy --role operate --services 'web*,db' --expires 90d",
    ),
)
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What its bearer may do.")
@click.option(
    "--services", metavar="NAMES", help="Only for these: names or globs, separated by commas. Default: all."
)
@click.option("--expires", type=Lifetime(), help="How long it is good: 90d, 12h. Default: for ever.")
@_options
def create(file: Path, name: str, role: str, services: str | None, expires: timedelta | None) -> Said:
    """Make a token, and print it, once.

    The file keeps a hash of it. A running daemon takes it from the next
    request on, where its config has [auth.token].
    """
    from gitopper_plugins import tokenfile
    from libgitopper import Grant, Role

    if not tokenfile.NAME.fullmatch(name):
        raise _RefusedError(f"{name!r} is no name for a token; use up to 64 letters, digits, and . _ @ -")
    now = datetime.now(UTC).replace(microsecond=0)
    globs = ("*",) if services is None else tuple(g.strip() for g in services.split(",") if g.strip())
    if not globs:
        raise _RefusedError("--services names none: leave it out for all of them, or name some")
    secret = tokenfile.new_token()
    made = tokenfile.Token(
        name=name,
        sha256=tokenfile.hash_of(secret),
        grant=Grant(role=Role.named(role), services=globs),
        created=now,
        expires=_later(now, expires),
    )
    with tokenfile.editing(file) as tokens:
        if any(other.name == name for other in tokens):
            raise _RefusedError(
                f"there is a token {name!r} in {file}; choose another name, or revoke that one"
            )
        tokens.append(made)
    note = f"This is the only time that it is shown; {file} has its hash. Keep it in a file of mode 0600."
    return {"token": secret, **_shown(made, now)}, [secret], note


@token.command("list", cls=LocalCommand, examples=("gitopperctl token list",))
@_options
def list_(file: Path) -> Said:
    """List the tokens: names and roles, not the tokens themselves."""
    from gitopper_plugins import tokenfile

    now = datetime.now(UTC)
    shown = [_shown(found, now) for found in tokenfile.read(file)]
    rows = [[visible(cell) for cell in _row(entry)] for entry in shown]
    return {"tokens": shown}, lines_of(COLUMNS, rows, Terminal.of(sys.stdout)), ""


@token.command("revoke", cls=LocalCommand, examples=("gitopperctl token revoke deploy",))
@click.argument("name")
@_options
def revoke(file: Path, name: str) -> Said:
    """Make a token worthless, from the next request on."""
    from gitopper_plugins import tokenfile

    with tokenfile.editing(file) as tokens:
        gone = [found for found in tokens if found.name == name]
        if not gone:
            known = ", ".join(found.name for found in tokens) or "none"
            raise _RefusedError(f"there is no token {name!r} in {file}; there are: {known}")
        tokens[:] = [found for found in tokens if found.name != name]
    return {"revoked": name}, [f"revoked {name}"], ""


def _later(now: datetime, span: timedelta | None) -> datetime | None:
    try:
        return now + span if span else None
    except OverflowError:
        raise _RefusedError("that is beyond the year 9999; leave --expires out") from None


def _shown(found: Token, now: datetime) -> dict[str, Any]:
    return {
        "name": found.name,
        "role": found.grant.role.name.lower(),
        "services": list(found.grant.services),
        "created": found.created.astimezone(UTC).isoformat() if found.created else None,
        "expires": found.expires.astimezone(UTC).isoformat() if found.expires else None,
        "expired": found.expired(now),
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    created, expires = ((entry[key] or "")[:16].replace("T", " ") for key in ("created", "expires"))
    when = f"{expires} (expired)" if entry["expired"] else expires or "never"
    return (entry["name"], entry["role"], ",".join(entry["services"]), created, when)
