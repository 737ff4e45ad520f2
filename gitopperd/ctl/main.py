"""The entry point of gitopperctl: what goes to which stream, and the exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from types import FrameType

import click

from gitopperd.ctl.commands import cli
from gitopperd.ctl.options import MACHINE_READABLE, BadSettings
from gitopperd.openfiles import allow_open_files

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
    _end_in_order()
    _print_anywhere()
    allow_open_files()  # all hosts are asked at once
    try:
        return _run()
    except OSError as exc:
        if not isinstance(exc, BrokenPipeError):  # There whoever reads has enough, as `head` does.
            click.echo(f"gitopperctl: can't write the answer: {exc.strerror}", err=True)
        # The interpreter flushes once more at its end, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run() -> int:
    try:
        code = int(cli.main(prog_name="gitopperctl", standalone_mode=False) or 0)
    except click.ClickException as exc:
        _show_error(exc)
        code = exc.exit_code
    except click.Abort:
        return INTERRUPTED
    sys.stdout.flush()
    return code


def _print_anywhere() -> None:
    """See to it that what was carried out does not end in a traceback for want of somewhere to tell it."""
    if sys.stdout is None:  # Closed by whoever started us.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as we run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale without UTF-8 can't show every reason or name.
            stream.reconfigure(errors="backslashreplace")


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as SIGINT does: an ssh of ours must not outlive us."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # Under nohup it is ignored, and stays so.
            signal.signal(number, leave)


def _show_error(exc: click.ClickException) -> None:
    """Print the error; as JSON where the answer would have been JSON."""
    # The line could not be parsed, so whether -m was given is seen in the words themselves.
    if not any(word in MACHINE_READABLE for word in sys.argv[1:]):
        exc.show()
        return
    error: dict[str, object] = {"code": "usage", "message": exc.format_message()}
    if isinstance(exc, BadSettings):
        error |= {"code": "settings", "problems": exc.problems}
    click.echo(json.dumps({"error": error}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
