"""How the command line is read: hosts anywhere, abbreviations, and options at every level."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from gitopperd.ctl.client import AskError, Request
from gitopperd.ctl.fleet import ask_all
from gitopperd.ctl.hosts import Host, default_sockets, parse_host

__all__ = [
    "MACHINE_READABLE",
    "AbbreviatedGroup",
    "HostCommand",
    "RootGroup",
    "commit_argument",
    "common_options",
    "hosts_of",
    "machine_readable",
    "service_argument",
    "sockets_of",
    "timeout_of",
]

MACHINE_READABLE = ("-m", "--machine-readable")
DEFAULT_TIMEOUT_SECONDS = 10.0
COMPLETION_TIMEOUT_SECONDS = 1.0
KEY = "gitopperd.ctl."

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


class _WithExamples(click.Command):
    """A command whose help ends with lines to copy; each of them can be run as it is."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples, unwrapped."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class AbbreviatedGroup(_WithExamples, click.Group):
    """A group whose commands may be shortened as long as one command alone begins so."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, and go by its full name from there on."""
        typed = args[0]
        matches = [name for name in self.list_commands(ctx) if name.startswith(typed)]
        if typed in matches or not typed:
            matches = [typed]
        if len(matches) > 1 and not ctx.resilient_parsing:
            *others, last = matches
            ctx.fail(f"{typed!r} is ambiguous: it can mean {', '.join(others)} or {last}.")
        return super().resolve_command(ctx, [matches[0], *args[1:]] if len(matches) == 1 else args)


class RootGroup(AbbreviatedGroup):
    """The command as a whole; takes every @HOST out of the arguments, wherever it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the hosts aside, and parse the rest."""
        hosts: dict[str, Host] = {}
        for text in filter(_is_host, args):
            try:
                host = parse_host(text)
            except ValueError as exc:
                if not ctx.resilient_parsing:
                    raise click.BadParameter(str(exc), ctx=ctx, param_hint=repr(text)) from exc
            else:
                # The same host twice is asked once.
                hosts[host.label] = host
        ctx.meta[KEY + "hosts"] = tuple(hosts.values())
        return super().parse_args(ctx, [text for text in args if not _is_host(text)])


class HostCommand(_WithExamples):
    """A command that needs at least one @HOST."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after seeing to it that there is somebody to ask."""
        asks_help = any(text in ctx.help_option_names for text in args)
        if not (hosts_of(ctx) or ctx.resilient_parsing or asks_help):
            needs = " ".join(piece for param in self.params for piece in param.get_usage_pieces(ctx))
            example = f"{ctx.command_path} @localhost {needs}".rstrip()
            ctx.fail(f"No @HOST given. Name the gitopperd to ask with an @ before it: {example}")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the pieces of the usage line, hosts before the other arguments."""
        options, *rest = super().collect_usage_pieces(ctx)
        return [options, "@HOST...", *rest]


def service_argument(command: Decorated) -> Decorated:
    """Add the argument SERVICE."""
    return click.argument("service", callback=_service_name, shell_complete=_service_names)(command)


def commit_argument(command: Decorated) -> Decorated:
    """Add the argument HASH; the command gets it as `commit`, in lower case."""
    return click.argument("commit", metavar="HASH", callback=_commit)(command)


def common_options(command: Decorated) -> Decorated:
    """Add the options that every level takes, so that they may stand anywhere on the line."""
    for option in (
        click.option(
            "--socket",
            metavar="PATH",
            help="Where @localhost has its Unix socket.",
            **_remembered(),
        ),
        click.option(
            "--timeout",
            type=float,
            metavar="SECONDS",
            help=f"How long to wait for all answers; default {DEFAULT_TIMEOUT_SECONDS:g}.",
            **_remembered(_checked_timeout),
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


def hosts_of(ctx: click.Context) -> tuple[Host, ...]:
    """Return the hosts on the line, each once, in their order."""
    hosts: tuple[Host, ...] = ctx.meta[KEY + "hosts"]
    return hosts


def machine_readable(ctx: click.Context) -> bool:
    """Tell whether JSON is wanted."""
    return bool(ctx.meta.get(KEY + "machine_readable"))


def timeout_of(ctx: click.Context) -> float:
    """Return how long to wait for all answers together, in seconds."""
    seconds: float = ctx.meta.get(KEY + "timeout", DEFAULT_TIMEOUT_SECONDS)
    return seconds


def sockets_of(ctx: click.Context) -> tuple[str, ...]:
    """Return where @localhost may have its socket."""
    path: str | None = ctx.meta.get(KEY + "socket")
    return (path,) if path else default_sockets()


def _remembered(check: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
    """Keep an option's value for whichever command runs in the end; `meta` is shared by all levels."""

    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta[KEY + str(param.name)] = check(value)

    return {"callback": remember, "expose_value": False}


def _checked_timeout(seconds: float) -> float:
    # Written so that "nan" is refused too.
    if not 0 < seconds <= 86400:
        raise click.BadParameter("it must be more than 0, and 86400 (a day) at most.")
    return seconds


def _is_host(text: str) -> bool:
    return text.startswith("@")


def _service_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    # These two would lead to another path of the REST interface.
    if value in {"", ".", ".."} and not ctx.resilient_parsing:
        raise click.BadParameter(f"{value!r} is not the name of a service.", ctx=ctx, param=param)
    return value


def _commit(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if ctx.resilient_parsing:
        return value
    if not re.fullmatch(r"[0-9A-Fa-f]{4,64}", value):
        raise click.BadParameter(
            f"{value!r} is not the hash of a commit: write 4 or more of its hexadecimal digits.",
            ctx=ctx,
            param=param,
        )
    return value.lower()


def _service_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ask the hosts on the line for their services, for a shell; who is slow to answer is left out."""
    outcomes = ask_all(
        hosts_of(ctx),
        Request(method="GET", segments=("list", "services"), member="services"),
        sockets=sockets_of(ctx),
        timeout_seconds=COMPLETION_TIMEOUT_SECONDS,
    )
    answers = [outcome for outcome in outcomes.values() if not isinstance(outcome, AskError)]
    names = {str(item.get("service", "")) for answer in answers for item in answer["services"]}
    return [name for name in sorted(names) if _completes(name, incomplete)]


def _completes(name: str, incomplete: str) -> bool:
    """Tell whether `name` may be put into a shell's line: nothing that the shell would take apart."""
    return name.startswith(incomplete) and re.fullmatch(r"[\w@.:-]+", name) is not None
