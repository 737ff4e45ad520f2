"""The commands of gitopperctl."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from gitopperd.ctl import show
from gitopperd.ctl.cli import (
    AbbreviatedGroup,
    HostCommand,
    RootGroup,
    commit_argument,
    common_options,
    hosts_of,
    machine_readable,
    service_argument,
    sockets_of,
    timeout_of,
)
from gitopperd.ctl.client import Answer, AskError, Request
from gitopperd.ctl.fleet import Outcomes, ask_all
from gitopperd.ctl.text import Terminal, visible

__all__ = ["cli"]

Render = Callable[[Mapping[str, Answer], Terminal], list[str]]


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=(
        "gitopperctl list services @localhost",
        "gitopperctl list services @web1 @web2",
        "gitopperctl state freeze @web1 grafana-server",
        "gitopperctl state rollback @web1 grafana-server 606eb57",
        "gitopperctl do pull @web1 grafana-server",
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _param, wanted: _print_version(ctx) if wanted else None,
    help="Print the version, and end.",
)
@common_options
def cli() -> None:
    """See and steer gitopperd, on one host or on many.

    @HOST is @name[:port] (port 8000 unless given), @[IPv6]:port, or
    @unix:/path; @localhost without a port tries the Unix socket first. It may
    stand anywhere, and there may be several. Commands may be shortened as long
    as they stay unambiguous.

    Exit code: 0 when every host answered well, 1 when one did not, 2 for a
    command line that can't be understood.
    """


@cli.group(
    "list",
    cls=AbbreviatedGroup,
    examples=(
        "gitopperctl list services @web1 @web2",
        "gitopperctl list service @web1 grafana-server",
    ),
)
@common_options
def list_() -> None:
    """List machines or services."""


@list_.command("machines", cls=HostCommand, examples=("gitopperctl list machines @localhost",))
@common_options
@click.pass_context
def list_machines(ctx: click.Context) -> int:
    """List the machines in the host's config."""
    request = Request(method="GET", segments=("list", "machines"), member="machines")
    return _carry_out(ctx, request, show.machines)


@list_.command(
    "services",
    cls=HostCommand,
    examples=(
        "gitopperctl list services @localhost",
        "gitopperctl -m list services @web1 @web2:8001 @unix:/run/gitopper/gitopperd.sock",
    ),
)
@common_options
@click.pass_context
def list_services(ctx: click.Context) -> int:
    """List services, with their commit and state."""
    request = Request(method="GET", segments=("list", "services"), member="services")
    return _carry_out(ctx, request, show.services)


@list_.command("service", cls=HostCommand, examples=("gitopperctl list service @web1 grafana-server",))
@service_argument
@common_options
@click.pass_context
def list_service(ctx: click.Context, service: str) -> int:
    """Show all that is known of a service."""
    request = Request(method="GET", segments=("list", "service", service), member="service")
    return _carry_out(ctx, request, show.service)


@cli.group(
    "state",
    cls=AbbreviatedGroup,
    examples=(
        "gitopperctl state freeze @web1 @web2 grafana-server",
        "gitopperctl state rollback @web1 grafana-server 606eb57",
    ),
)
@common_options
def state() -> None:
    """Freeze, unfreeze or roll back a service."""


@state.command("freeze", cls=HostCommand, examples=("gitopperctl state freeze @web1 grafana-server",))
@service_argument
@common_options
@click.pass_context
def freeze(ctx: click.Context, service: str) -> int:
    """Keep a service at its commit, whatever is pushed."""
    return _steer(ctx, "state", "freeze", service)


@state.command("unfreeze", cls=HostCommand, examples=("gitopperctl state unfreeze @web1 grafana-server",))
@service_argument
@common_options
@click.pass_context
def unfreeze(ctx: click.Context, service: str) -> int:
    """Let a service track its branch again."""
    return _steer(ctx, "state", "unfreeze", service)


@state.command(
    "rollback", cls=HostCommand, examples=("gitopperctl state rollback @web1 grafana-server 606eb57",)
)
@service_argument
@commit_argument
@common_options
@click.pass_context
def rollback(ctx: click.Context, service: str, commit: str) -> int:
    """Take a service to another commit, and keep it there.

    HASH is a commit's hash, in full or its first digits (4 or more). When the
    service is there its state is FREEZE; unfreeze lets it go on.
    """
    return _steer(ctx, "state", "rollback", service, commit)


@cli.group("do", cls=AbbreviatedGroup, examples=("gitopperctl do pull @web1 grafana-server",))
@common_options
def do() -> None:
    """Act on a service: pull; the rest is as in state."""


@do.command("pull", cls=HostCommand, examples=("gitopperctl do pull @web1 @web2 grafana-server",))
@service_argument
@common_options
@click.pass_context
def pull(ctx: click.Context, service: str) -> int:
    """Look at a service's upstream now.

    The daemon answers at once; what comes of it, `list service` shows.
    """
    return _steer(ctx, "do", "pull", service)


for alias in (freeze, unfreeze, rollback):
    do.add_command(alias)


def _steer(ctx: click.Context, group: str, verb: str, service: str, target: str = "") -> int:
    segments = (group, verb, service, target) if target else (group, verb, service)
    request = Request(method="POST", segments=segments, member="service")
    return _carry_out(ctx, request, partial(show.acknowledged, verb, target))


def _carry_out(ctx: click.Context, request: Request, render: Render) -> int:
    """Ask all hosts, print what they say, and return the exit code."""
    hosts = hosts_of(ctx)
    outcomes = ask_all(hosts, request, sockets=sockets_of(ctx), timeout_seconds=timeout_of(ctx))
    if machine_readable(ctx):
        click.echo(_as_json(outcomes))
    else:
        _print(outcomes, render)
    return int(any(isinstance(outcome, AskError) for outcome in outcomes.values()))


def _as_json(outcomes: Outcomes) -> str:
    """Return the answer of one host as it is; those of several by host.

    All in ASCII, so that nothing in it can play tricks on a terminal.
    """
    answers: dict[str, Any] = {
        host.label: outcome.as_answer() if isinstance(outcome, AskError) else outcome
        for host, outcome in outcomes.items()
    }
    [first, *others] = answers.values()
    return json.dumps(answers if others else first, indent=2)


def _print(outcomes: Outcomes, render: Render) -> None:
    answers = {host.label: out for host, out in outcomes.items() if not isinstance(out, AskError)}
    terminal = Terminal.of(sys.stdout)
    for line in render(answers, terminal):
        click.echo(line, color=terminal.colour)
    # The table comes first where both go to the same place, and standard error has no buffer.
    sys.stdout.flush()
    for host, outcome in outcomes.items():
        if isinstance(outcome, AskError):
            click.echo(f"gitopperctl: {visible(host.label)}: {outcome}", err=True)


def _print_version(ctx: click.Context) -> None:
    # Imported here alone: the library costs more than all else that this command does.
    from libgitopper import __version__

    click.echo(f"gitopperctl {__version__}")
    ctx.exit()
