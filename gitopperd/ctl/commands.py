"""The commands of gitopperctl."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import click

from gitopperd.ctl import show
from gitopperd.ctl.carry import carry_out
from gitopperd.ctl.cli import (
    AbbreviatedGroup,
    HostCommand,
    RootGroup,
    commit_argument,
    service_argument,
    service_option,
)
from gitopperd.ctl.client import Request
from gitopperd.ctl.options import common_options, root_options

__all__ = ["cli"]


@click.group(
    cls=RootGroup,
    # What few need is imported when it is asked for.
    elsewhere={
        "token": "gitopperd.ctl.tokens:token",
        "watch": "gitopperd.ctl.watch:watch",
        "history": "gitopperd.ctl.inquiries:history",
        "explain": "gitopperd.ctl.inquiries:explain",
        "diff": "gitopperd.ctl.inquiries:diff",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=(
        "gitopperctl list services @localhost",
        "gitopperctl list services @web1 @ssh://ops@web2",
        "gitopperctl state freeze @web1 grafana-server",
        "gitopperctl state rollback @web1 grafana-server 606eb57",
        "gitopperctl do pull @web1 grafana-server",
        "gitopperctl explain @web1 grafana-server 606eb57",
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
@root_options
def cli() -> None:
    """See and steer gitopperd, on one host or on many.

    @HOST is @name[:port] (port 8000 unless given), @https://name[:port],
    @ssh://[user@]name, @unix:/path, or @@GROUP of ctl.toml; @localhost without
    a port tries the Unix socket first. It may stand anywhere, and there may be
    several. Commands may be shortened as long as they stay unambiguous.

    Exit code: 0 when every host answered well, 1 when one did not, 2 for a
    command line or settings that can't be understood.
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
    request = Request(method="GET", segments=("list", "machines"), shape="machines")
    return carry_out(ctx, request, show.machines)


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
    request = Request(method="GET", segments=("list", "services"), shape="services")
    return carry_out(ctx, request, show.services)


@list_.command("service", cls=HostCommand, examples=("gitopperctl list service @web1 grafana-server",))
@service_argument
@common_options
@click.pass_context
def list_service(ctx: click.Context, service: str) -> int:
    """Show all that is known of a service."""
    request = Request(method="GET", segments=("list", "service", service), shape="service")
    return carry_out(ctx, request, show.service)


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


@state.command(
    "freeze",
    cls=HostCommand,
    examples=(
        "gitopperctl state freeze @web1 grafana-server",
        "gitopperctl state freeze @web1 grafana-server --reason 'disks are swapped' --for 2h",
    ),
)
@service_argument
@click.option("--reason", metavar="TEXT", help="Why; shown wherever the state is.")
@click.option("--for", "duration", metavar="TIME", help="It thaws by itself after 30m, 2h, …")
@common_options
@click.pass_context
def freeze(ctx: click.Context, service: str, reason: str | None, duration: str | None) -> int:
    """Keep a service at its commit, whatever is pushed."""
    return _steer(ctx, "state", "freeze", service, query={"reason": reason, "for": duration})


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


@cli.group(
    "do",
    cls=AbbreviatedGroup,
    examples=("gitopperctl do pull @web1 grafana-server", "gitopperctl do reload-config @web1"),
)
@common_options
def do() -> None:
    """Act: pull, retry, reload-config; the rest is as in state."""


@do.command("pull", cls=HostCommand, examples=("gitopperctl do pull @web1 @web2 grafana-server",))
@service_argument
@common_options
@click.pass_context
def pull(ctx: click.Context, service: str) -> int:
    """Look at a service's upstream now.

    The daemon answers at once; what comes of it, `list service` shows.
    """
    return _steer(ctx, "do", "pull", service)


@do.command("retry", cls=HostCommand, examples=("gitopperctl do retry @web1 grafana-server",))
@service_argument
@common_options
@click.pass_context
def retry(ctx: click.Context, service: str) -> int:
    """Try again what failed its check or its health.

    A commit that failed is not tried again by itself until another one comes.
    """
    return _steer(ctx, "do", "retry", service)


@do.command("reload-config", cls=HostCommand, examples=("gitopperctl do reload-config @web1",))
@common_options
@click.pass_context
def reload_config(ctx: click.Context) -> int:
    """Let a daemon read its configuration again.

    One that is not valid is refused with all its problems, and the daemon
    stays with the one that it has.
    """
    request = Request(method="POST", segments=("do", "reload-config"), shape="reloaded")
    return carry_out(ctx, request, show.reloaded)


for alias in (freeze, unfreeze, rollback):
    do.add_command(alias)


@cli.command(
    "audit",
    cls=HostCommand,
    examples=(
        "gitopperctl audit @web1",
        "gitopperctl audit @web1 @web2 --service grafana-server --limit 20",
    ),
)
@service_option
@click.option("--limit", type=click.IntRange(1, 1000), metavar="N", help="At most so many; default 100.")
@common_options
@click.pass_context
def audit(ctx: click.Context, service: str | None, limit: int | None) -> int:
    """Show who did what, newest first; refusals too."""
    query = {"limit": str(limit or 100), "service": service}
    request = Request(method="GET", segments=("audit",), query=query, shape="audit")
    return carry_out(ctx, request, show.audit)


def _steer(
    ctx: click.Context,
    group: str,
    verb: str,
    service: str,
    target: str = "",
    query: Mapping[str, str | None] | None = None,
) -> int:
    segments = (group, verb, service, target) if target else (group, verb, service)
    request = Request(method="POST", segments=segments, query=query, shape="service")
    return carry_out(ctx, request, partial(show.acknowledged, verb, target))


def _print_version(ctx: click.Context) -> None:
    # Imported here alone: the library costs more than all else that this command does.
    from libgitopper import __version__

    click.echo(f"gitopperctl {__version__}")
    ctx.exit()
