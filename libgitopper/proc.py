"""The one place that runs other programs: argv, no shell, own session, a deadline, a group kill."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from attrs import frozen

from libgitopper.errors import CommandError

__all__ = ["Completed", "end", "run", "spawn"]

OUTPUT_LIMIT_BYTES = 64 * 1024
GRACE_SECONDS = 2.0


@frozen(kw_only=True)
class Completed:
    """A command that ended by itself."""

    argv: tuple[str, ...]
    code: int
    """Exit code; ``-N`` when signal N ended it."""
    output: str
    """The last 64 KiB of what it printed to either stream, decoded leniently."""
    seconds: float

    def check(self) -> Completed:
        """Return self when the code is 0.

        Raises:
            CommandError: it is not; the text names the command, the code and the last line printed.
        """
        if self.code == 0:
            return self
        how = f"exit code {self.code}" if self.code >= 0 else f"ended by signal {-self.code}"
        message = f"{shlex.join(self.argv)}: {how}"
        if last := last_line(self.output):
            message += f": {last}"
        raise CommandError(message, output=self.output, code=self.code)


def last_line(output: str) -> str:
    """Return the last line of `output` that says anything; empty when none does."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")


def run(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
) -> Completed:
    """Run `argv` to its end and return how it ended; its whole process group goes with it.

    Output goes to a file, not a pipe: a grandchild that keeps the stream open can't hold us up.

    Raises:
        CommandError: it could not be started, or had not ended after `timeout_seconds`.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        with spawn(argv, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                code = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                end(process)
                text = _tail(output)
                message = f"{shlex.join(argv)}: not done after {timeout_seconds:g} s, ended"
                raise CommandError(message, output=text) from None
        return Completed(
            argv=tuple(argv), code=code, output=_tail(output), seconds=time.monotonic() - started
        )


@contextlib.contextmanager
def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `argv` in a session of its own; on leaving the block it is ended, and reaped, with its group.

    Raises:
        CommandError: it could not be started.
    """
    try:
        process = subprocess.Popen(
            list(argv), cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as exc:  # ValueError: a null byte, which no program can be given
        retryable = not isinstance(exc, FileNotFoundError | PermissionError | ValueError)
        message = f"{shlex.join(argv)}: can't be started: {_reason(exc, cwd)}"
        raise CommandError(message, retryable=retryable) from exc
    try:
        yield process
    finally:
        end(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # unflushed input of a process that is gone
                    stream.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group: asked first, killed after two seconds; and reap it."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    # Children of a leader that is gone are still in its group.
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _reason(exc: OSError | ValueError, cwd: Path | None) -> str:
    if not isinstance(exc, OSError) or exc.strerror is None:
        return str(exc)
    # The same error for a missing program and a missing directory: say which.
    return f"{exc.strerror}: {cwd}" if cwd and str(exc.filename) == str(cwd) else exc.strerror


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - OUTPUT_LIMIT_BYTES))
    return output.read().decode(errors="replace")
