"""`gitopperctl history`, `explain` and `diff`: what happened to a service, why, and what differs."""

from __future__ import annotations

import sys

import click

from gitopperd.ctl import past
from gitopperd.ctl.carry import ask_hosts, carry_out, print_errors, print_json
from gitopperd.ctl.cli import HostCommand, optional_commit, service_argument
from gitopperd.ctl.client import Request
from gitopperd.ctl.errors import AskError
from gitopperd.ctl.options import common_options, machine_readable
from gitopperd.ctl.text import Terminal

__all__ = ["diff", "explain", "history"]


@click.command(
    "history",
    cls=HostCommand,
    examples=("gitopperctl history @web1 nginx", "gitopperctl history @web1 @web2 nginx --limit 5"),
)
@service_argument
@click.option("--limit", type=click.IntRange(1, 200), metavar="N", help="At most so many; default 50.")
@common_options
@click.pass_context
def history(ctx: click.Context, service: str, limit: int | None) -> int:
    """Show what was deployed when, why, and how it went.

    Newest first; what failed, too.
    """
    query = {"limit": str(limit or 50)}
    request = Request(method="GET", segments=("history", service), query=query, shape="history")
    return carry_out(ctx, request, past.history)


@click.command(
    "explain",
    cls=HostCommand,
    examples=("gitopperctl explain @web1 nginx", "gitopperctl explain @web1 nginx 606eb57"),
)
@service_argument
@optional_commit("commit", "[HASH]")
@common_options
@click.pass_context
def explain(ctx: click.Context, service: str, commit: str | None) -> int:
    """Tell why a commit did, or did not, touch a service.

    HASH is a commit's hash, or its first digits (4 or more); without it, it is
    the tip of the service's branch.
    """
    query = {"commit": commit}
    request = Request(method="GET", segments=("explain", service), query=query, shape="explanation")
    return carry_out(ctx, request, past.explanation)


@click.command(
    "diff",
    cls=HostCommand,
    examples=(
        "gitopperctl diff @web1 nginx",
        "gitopperctl diff @web1 nginx --kept",
        "gitopperctl diff @web1 nginx 606eb57 7ab0f1e",
    ),
)
@service_argument
@optional_commit("first", "[HASH]")
@optional_commit("second", "[HASH]")
@click.option("--drift", is_flag=True, help="What was changed on the host.")
@click.option("--upstream", is_flag=True, help="What the tip of the branch would bring.")
@click.option("--kept", is_flag=True, help="The last drift that was found, healed or not.")
@click.option(
    "--number", type=click.IntRange(1, 1000), metavar="N", help="With --kept: the Nth from the last."
)
@common_options
@click.pass_context
def diff(
    ctx: click.Context,
    service: str,
    first: str | None,
    second: str | None,
    drift: bool,
    upstream: bool,
    kept: bool,
    number: int | None,
) -> int:
    """Show what differs, as a patch for `git apply`.

    Without options it is what was changed on the host, if anything was; else what
    the tip of the branch would bring. With one HASH it is what that commit
    would bring, with two what differs between them. Which one it is, standard error tells.
    """
    wanted = {"drift": drift, "upstream": upstream, "kept-drift": kept}
    kinds = [kind for kind, is_wanted in wanted.items() if is_wanted]
    if len(kinds) > 1:
        raise click.UsageError("--drift, --upstream and --kept exclude each other.", ctx)
    if first and kinds:
        raise click.UsageError("--drift, --upstream and --kept go without a HASH.", ctx)
    if number and not kept:
        raise click.UsageError("--number goes with --kept.", ctx)
    before, after = (first, second) if second else (None, first)
    query = {
        "kind": next(iter(kinds), None),
        "number": str(number) if number else None,
        "from": before,
        "to": after,
    }
    request = Request(method="GET", segments=("diff", service), query=query, shape="difference")
    outcomes = ask_hosts(ctx, request)
    if machine_readable(ctx):
        print_json(outcomes)
    else:
        terminal = Terminal.of(sys.stdout)
        for host, outcome in outcomes.items():
            if not isinstance(outcome, AskError):
                _print_patch(str(outcome["patch"]), terminal)
                sys.stdout.flush()
                click.echo(f"gitopperctl: {past.heading(host.label, outcome)}", err=True)
        print_errors(outcomes)
    return int(any(isinstance(outcome, AskError) for outcome in outcomes.values()))


def _print_patch(patch: str, terminal: Terminal) -> None:
    """Print a patch: to a terminal as it can be read, to anything else byte by byte as it is."""
    if sys.stdout.isatty():
        for line in past.patch(patch, terminal):
            click.echo(line, color=terminal.colour)
    else:
        sys.stdout.flush()
        # Bytes that are no UTF-8 come as lone surrogates; no other surrogate can be encoded, or is sent.
        sys.stdout.buffer.write(patch.encode("utf-8", "surrogateescape"))
