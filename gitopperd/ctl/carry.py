"""From a question to what is printed, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import click

from gitopperd.ctl.client import Request
from gitopperd.ctl.errors import Answer, AskError
from gitopperd.ctl.fleet import Outcomes, ask_all
from gitopperd.ctl.options import interactive, machine_readable, targets_of, timeout_of
from gitopperd.ctl.text import Terminal, visible

__all__ = ["Render", "ask_hosts", "carry_out", "print_errors", "print_json", "show_error"]

Render = Callable[[Mapping[str, Answer], Terminal], list[str]]


def carry_out(ctx: click.Context, request: Request, render: Render) -> int:
    """Ask all hosts, print what they say, and return the exit code."""
    outcomes = ask_hosts(ctx, request)
    if machine_readable(ctx):
        print_json(outcomes)
    else:
        _print(outcomes, render)
    return int(any(isinstance(outcome, AskError) for outcome in outcomes.values()))


def ask_hosts(ctx: click.Context, request: Request) -> Outcomes:
    """Ask all hosts on the line, and return what each said."""
    targets = targets_of(ctx)
    return ask_all(targets, request, timeout_seconds=timeout_of(ctx), interactive=interactive(targets))


def print_json(outcomes: Outcomes) -> None:
    """Print what the hosts said as JSON, errors too."""
    click.echo(_as_json(outcomes))


def print_errors(outcomes: Outcomes) -> None:
    """Print, on standard error, what kept hosts from answering well."""
    for host, outcome in outcomes.items():
        if isinstance(outcome, AskError):
            show_error(host.label, outcome)


def show_error(label: str, error: AskError, more: str = "") -> None:
    """Print an error of one host on standard error, with whatever the daemon found wrong beneath."""
    click.echo(f"gitopperctl: {visible(label)}: {error}{more}", err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)


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
    terminal = replace(Terminal.of(sys.stdout), hosts=len(outcomes) > 1)
    for line in render(answers, terminal):
        click.echo(line, color=terminal.colour)
    # The table comes first where both go to the same place, and standard error has no buffer.
    sys.stdout.flush()
    print_errors(outcomes)
