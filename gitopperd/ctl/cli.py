"""How the command line is read: hosts anywhere, abbreviations, arguments, and completion."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

import click

from gitopperd.ctl.client import Request
from gitopperd.ctl.errors import AskError
from gitopperd.ctl.fleet import ask_all
from gitopperd.ctl.options import BadSettings, hosts_named, name_hosts, targets_of

__all__ = [
    "AbbreviatedGroup",
    "HostCommand",
    "LocalCommand",
    "RootGroup",
    "commit_argument",
    "optional_commit",
    "service_argument",
    "service_option",
]

COMPLETION_TIMEOUT_SECONDS = 1.0

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


class _WithExamples(click.Command):
    """A command whose help ends with lines to copy; each of them can be run as it is."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write where the other options are told, and the examples, unwrapped."""
        if any(isinstance(param, click.Option) and param.hidden for param in self.params):
            formatter.write_paragraph()
            formatter.write_text(f"For settings, tokens and TLS: {ctx.find_root().command_path} --help")
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class AbbreviatedGroup(_WithExamples, click.Group):
    """A group whose commands may be shortened as long as one command alone begins so.

    `elsewhere` maps the name of a command to ``module:attribute``: what is rarely used is imported
    when it is, and costs the others nothing.
    """

    def __init__(self, *args: Any, elsewhere: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._elsewhere = dict(elsewhere or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, and import it where it is somewhere else."""
        if found := self._elsewhere.get(cmd_name):
            module, _, attribute = found.partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)

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
        words = [text for text in args if text.startswith("@")]
        try:
            name_hosts(ctx, words)
        except ValueError as exc:
            if not ctx.resilient_parsing:
                said, word = exc.args
                raise click.BadParameter(said, ctx=ctx, param_hint=repr(word)) from exc
        return super().parse_args(ctx, [text for text in args if not text.startswith("@")])


class HostCommand(_WithExamples):
    """A command that needs at least one @HOST."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after seeing to it that there is somebody to ask."""
        if not (hosts_named(ctx) or ctx.resilient_parsing or _asks_help(ctx, args)):
            needs = " ".join(piece for param in self.params for piece in param.get_usage_pieces(ctx))
            example = f"{ctx.command_path} @localhost {needs}".rstrip()
            ctx.fail(f"No @HOST given. Name the gitopperd to ask with an @ before it: {example}")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the pieces of the usage line, hosts before the other arguments."""
        options, *rest = super().collect_usage_pieces(ctx)
        return [options, "@HOST...", *rest]


class LocalCommand(_WithExamples):
    """A command that works on files of this machine, and takes no @HOST."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after seeing to it that nobody expects this to happen elsewhere."""
        if (words := hosts_named(ctx)) and not (ctx.resilient_parsing or _asks_help(ctx, args)):
            ctx.fail(f"{ctx.command_path} works on this machine's files; leave out {' '.join(words)}.")
        return super().parse_args(ctx, args)


def service_argument(command: Decorated) -> Decorated:
    """Add the argument SERVICE."""
    return click.argument("service", callback=_service_name, shell_complete=_service_names)(command)


def commit_argument(command: Decorated) -> Decorated:
    """Add the argument HASH; the command gets it as `commit`, in lower case."""
    return click.argument("commit", metavar="HASH", callback=_commit)(command)


def optional_commit(name: str, metavar: str) -> Callable[[Decorated], Decorated]:
    """Add an argument for a hash that may be left out; the command gets it as `name`, or None."""
    return click.argument(
        name,
        metavar=metavar,
        required=False,
        callback=lambda ctx, param, value: None if value is None else _commit(ctx, param, value),
    )


def service_option(command: Decorated) -> Decorated:
    """Add the option --service; the command gets None where it is not given."""
    return click.option(
        "--service",
        metavar="SERVICE",
        callback=lambda ctx, param, value: None if value is None else _service_name(ctx, param, value),
        shell_complete=_service_names,
        help="Of this service alone.",
    )(command)


def _asks_help(ctx: click.Context, args: Sequence[str]) -> bool:
    return any(text in ctx.help_option_names for text in args)


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
    try:
        targets = targets_of(ctx)
    except BadSettings:
        # A shell that completes a line is no place to tell.
        return []
    outcomes = ask_all(
        targets,
        Request(method="GET", segments=("list", "services"), shape="services"),
        timeout_seconds=COMPLETION_TIMEOUT_SECONDS,
    )
    answers = [outcome for outcome in outcomes.values() if not isinstance(outcome, AskError)]
    names = {str(item.get("service", "")) for answer in answers for item in answer["services"]}
    return [name for name in sorted(names) if _completes(name, incomplete)]


def _completes(name: str, incomplete: str) -> bool:
    """Tell whether `name` may be put into a shell's line: nothing that the shell would take apart."""
    return name.startswith(incomplete) and re.fullmatch(r"[\w@.:-]+", name) is not None
