"""The entry point of gitopperctl: what goes to which stream, and the exit code."""

from __future__ import annotations

import json
import os
import sys

import click

from gitopperd.ctl.cli import MACHINE_READABLE
from gitopperd.ctl.commands import cli

__all__ = ["main"]

COMPLETION = "_GITOPPERCTL_COMPLETE"
"""Set by the shell's completion function, never by a person."""
FAILED = 1
INTERRUPTED = 130
"""As a shell shows a command that ended by SIGINT."""


def main() -> int:
    """Run one command, and return the exit code: 0 well, 1 something failed, 2 bad usage."""
    if COMPLETION in os.environ:
        from gitopperd.ctl import completion

        completion.register()
    try:
        code = int(cli.main(prog_name="gitopperctl", standalone_mode=False) or 0)
        sys.stdout.flush()
    except click.ClickException as exc:
        _show_usage_error(exc)
        return exc.exit_code
    except click.Abort:
        return INTERRUPTED
    except OSError as exc:
        if not isinstance(exc, BrokenPipeError):  # There whoever reads has enough, as `head` does.
            click.echo(f"gitopperctl: can't write the answer: {exc.strerror}", err=True)
        # The interpreter flushes once more at its end, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _show_usage_error(exc: click.ClickException) -> None:
    """Print the error; as JSON where the answer would have been JSON."""
    # The line could not be parsed, so whether -m was given is seen in the words themselves.
    if any(word in MACHINE_READABLE for word in sys.argv[1:]):
        click.echo(json.dumps({"error": {"code": "usage", "message": exc.format_message()}}, indent=2))
    else:
        exc.show()


if __name__ == "__main__":
    sys.exit(main())
