"""Options that may stand anywhere on the line, and what they, the environment and ctl.toml say together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from gitopperd.ctl.config import Config, find, load
from gitopperd.ctl.errors import SettingsError
from gitopperd.ctl.hosts import Host, Ssh, group_of, parse_host
from gitopperd.ctl.places import Target
from gitopperd.ctl.settings import Settings, absolute, from_environ, read_settings, seconds

__all__ = [
    "MACHINE_READABLE",
    "BadSettings",
    "common_options",
    "hosts_named",
    "interactive",
    "machine_readable",
    "name_hosts",
    "root_options",
    "targets_of",
    "timeout_of",
]

MACHINE_READABLE = ("-m", "--machine-readable")
DEFAULT_TIMEOUT_SECONDS = 10.0
KEY = "gitopperd.ctl."
# Option, and what it is called in ctl.toml.
CONNECTION = {"token_file": "token_file", "ca": "ca", "cert": "certificate", "key": "key", "tls": "tls"}

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


class BadSettings(click.ClickException):
    """The settings can't be used, so nobody was asked."""

    exit_code = 2

    def __init__(self, error: SettingsError) -> None:
        super().__init__(str(error))
        self.problems = error.problems

    def show(self, file: Any = None) -> None:
        """Print each problem on a line of its own."""
        for problem in self.problems:
            click.echo(f"gitopperctl: {problem}", file=file or sys.stderr)


def root_options(command: Decorated) -> Decorated:
    """Add all the options of `common_options`, and show them in the help."""
    return common_options(command, hidden=False)


def common_options(command: Decorated, *, hidden: bool = True) -> Decorated:
    """Add the options that every level takes, so that they may stand anywhere on the line.

    Those that are about connections are shown once, in the help of the whole.
    """
    for option in (
        click.option(
            "--tls/--no-tls", default=None, hidden=hidden, help="Ask over TLS, or not.", **_remembered()
        ),
        _path("--key", hidden, "PEM: its key, where it is in another file."),
        _path("--cert", hidden, "PEM: our certificate."),
        _path("--ca", hidden, "PEM: the CAs to trust, instead of the system's."),
        _path("--token-file", hidden, "The file with our token."),
        _path("--config", hidden, "Read this instead of ctl.toml."),
        _path("--socket", False, "The Unix socket of @localhost, or the one at @ssh://…"),
        click.option(
            "--timeout",
            metavar="SECONDS",
            help=f"How long to wait for all answers; default {DEFAULT_TIMEOUT_SECONDS:g}.",
            **_remembered(_timeout),
        ),
        click.option(
            *MACHINE_READABLE,
            is_flag=True,
            default=None,
            help="Print JSON, errors too.",
            **_remembered(),
        ),
    ):
        command = option(command)
    return command


def name_hosts(ctx: click.Context, words: Sequence[str]) -> None:
    """Keep the words of the line that begin with an @.

    Raises:
        ValueError: One of them is neither a host nor a group; `args[1]` is the word.
    """
    for word in words:
        try:
            group_of(word) or parse_host(word)
        except ValueError as exc:
            raise ValueError(str(exc), word) from exc
    ctx.meta[KEY + "words"] = tuple(words)


def hosts_named(ctx: click.Context) -> tuple[str, ...]:
    """Return the words of the line that begin with an @."""
    words: tuple[str, ...] = ctx.meta.get(KEY + "words", ())
    return words


def targets_of(ctx: click.Context) -> tuple[Target, ...]:
    """Return the hosts on the line, each once, in their order, with the settings that hold for them.

    Raises:
        BadSettings: The settings can't be used.
    """
    try:
        config = _config(ctx)
        # Flags win over the environment, and that over the file.
        said = _flags(ctx).over(from_environ(os.environ))
        hosts: dict[str, Host] = {}
        for word in hosts_named(ctx):
            group = group_of(word)
            for host in config.group(group) if group else (parse_host(word),):
                hosts.setdefault(host.label, host)
    except SettingsError as exc:
        raise BadSettings(exc) from exc
    return tuple(Target(host=host, settings=said.over(config.settings(host))) for host in hosts.values())


def machine_readable(ctx: click.Context) -> bool:
    """Tell whether JSON is wanted."""
    return bool(ctx.meta.get(KEY + "machine_readable"))


def timeout_of(ctx: click.Context) -> float:
    """Return how long to wait for all answers together, in seconds.

    Raises:
        BadSettings: The settings can't be used.
    """
    if (flag := ctx.meta.get(KEY + "timeout")) is not None:
        return float(flag)
    try:
        if variable := os.environ.get("GITOPPERCTL_TIMEOUT"):
            return seconds(variable)
        return _config(ctx).timeout_seconds or DEFAULT_TIMEOUT_SECONDS
    except ValueError as exc:
        raise BadSettings(SettingsError([f"$GITOPPERCTL_TIMEOUT: {exc}"])) from exc
    except SettingsError as exc:
        raise BadSettings(exc) from exc


def interactive(targets: Sequence[Target]) -> bool:
    """Tell whether ssh may ask the person at the terminal: there is one, and one host."""
    return (
        len(targets) == 1
        and isinstance(targets[0].host.address, Ssh)
        and sys.stdin.isatty()
        and sys.stderr.isatty()
    )


def _config(ctx: click.Context) -> Config:
    config = ctx.meta.get(KEY + "loaded")
    if not isinstance(config, Config):
        path = find(ctx.meta.get(KEY + "config"), os.environ)
        config = ctx.meta[KEY + "loaded"] = load(path) if path else Config()
    return config


def _flags(ctx: click.Context) -> Settings:
    table = {key: ctx.meta[KEY + flag] for flag, key in CONNECTION.items() if KEY + flag in ctx.meta}
    if socket := ctx.meta.get(KEY + "socket"):
        table["socket"] = socket
    problems: list[str] = []
    settings = read_settings(table, lambda key, said: problems.append(f"--{key}: {said}"))
    if problems:
        raise SettingsError(problems)
    return settings


def _path(name: str, hidden: bool, help_: str) -> Callable[[Decorated], Decorated]:
    check = _as_written if name == "--config" else _full_path
    return click.option(name, metavar="PATH", hidden=hidden, help=help_, **_remembered(check))


def _remembered(check: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
    """Keep an option's value for whichever command runs in the end; `meta` is shared by all levels."""

    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta[KEY + str(param.name)] = check(value)

    return {"callback": remember, "expose_value": False}


def _as_written(value: str) -> str:
    return value


def _full_path(value: str) -> str:
    try:
        return absolute(os.path.abspath(value) if value else value)  # noqa: PTH100
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _timeout(value: str) -> float:
    try:
        return seconds(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc
