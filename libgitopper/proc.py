"""The one place that runs other programs: argv, no shell, own session, a deadline, a group kill."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from attrs import frozen

from libgitopper.errors import CommandError

__all__ = ["OUTPUT_LIMIT_BYTES", "Completed", "end", "ended", "run", "spawn"]

OUTPUT_LIMIT_BYTES = 64 * 1024
"""So much is kept of what a command prints, from its end."""
GRACE_SECONDS = 2.0

# How often to look whether a process has ended, where the kernel can't tell (before Linux 5.3).
LOOK_SECONDS = 0.05
# The kernel takes milliseconds, in 31 bits.
LONGEST_SECONDS = 3600.0
_SET_LIMIT = """\
import os, resource, sys
kind = resource.RLIMIT_DATA
hard = resource.getrlimit(kind)[1]
size = int(sys.argv[1]) if hard == resource.RLIM_INFINITY else min(int(sys.argv[1]), hard)
resource.setrlimit(kind, (size, size))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@frozen(kw_only=True)
class Completed:
    """A command that ended by itself."""

    argv: tuple[str, ...]
    code: int
    """Exit code; ``-N`` when signal N ended it."""
    output: str
    """The last `OUTPUT_LIMIT_BYTES` of what it printed to either stream, decoded leniently."""
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
    memory_bytes: int | None = None,
) -> Completed:
    """Run `argv` to its end and return how it ended; its whole process group goes with it.

    However much it prints, the last 64 KiB are kept and nothing is written to disk. It has ended
    when its first process has: a grandchild that keeps the stream open does not hold us up. With
    `memory_bytes`, none of its processes gets more memory of its own than that (RLIMIT_DATA).

    Raises:
        CommandError: it could not be started, or had not ended after `timeout_seconds`.
    """
    started = time.monotonic()
    started_as = argv if memory_bytes is None else _limited(argv, memory_bytes)
    with spawn(started_as, cwd=cwd, env=env, stdin=stdin, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe by default
        output = _Tail(process.stdout.fileno())
        if not _follow(process, output, started + timeout_seconds):
            _signal_group(process, signal.SIGTERM)
            # Still read: it may have something to say, and would hang on a full pipe.
            _follow(process, output, time.monotonic() + GRACE_SECONDS)
            _kill(process)
            message = f"{shlex.join(argv)}: not done after {timeout_seconds:g} s, ended"
            raise CommandError(message, output=output.finish())
        text, seconds = output.finish(), time.monotonic() - started
        _kill(process)
        return Completed(argv=tuple(argv), code=process.returncode, output=text, seconds=seconds)


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

    Within the block ask `ended`, and not the process: ``poll`` and ``wait`` reap it, and what is left of
    its group is then left alone.

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


def _limited(argv: Sequence[str], size: int) -> Sequence[str]:
    """Return what sets the limit and then becomes `argv`.

    By a program: code of ours between fork and exec is not safe where there are threads, and a limit that
    is set from outside comes too late.
    """
    return [sys.executable, "-I", "-S", "-c", _SET_LIMIT, str(size), *argv]


def ended(process: subprocess.Popen[bytes], within_seconds: float = 0.0) -> bool:
    """Wait so long for a process of `spawn` to end; True once it has.

    It is not reaped by that: until it is, nobody else gets its number, which is also that of its group.
    """
    if within_seconds > 0:
        return _follow(process, None, time.monotonic() + within_seconds)
    try:
        return _awaits_reaping(process)
    except ChildProcessError:
        return True


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group: asked first, killed after two seconds; and reap it."""
    if not ended(process):
        _signal_group(process, signal.SIGTERM)
        ended(process, GRACE_SECONDS)
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Children of a leader that is gone are still in its group.
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
        _awaits_reaping(process)  # once it is reaped, its number may be that of a stranger's group
        os.killpg(process.pid, number)


def _awaits_reaping(process: subprocess.Popen[bytes]) -> bool:
    """True when it has ended, False while it runs.

    Raises:
        ChildProcessError: it is reaped: by us, or by the kernel where who started us ignores SIGCHLD.
    """
    if process.returncode is not None:
        raise ChildProcessError
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class _Tail:
    """The end of what comes through a pipe, in bounded memory."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self._kept = bytearray()

    def take(self) -> bool:
        """Read what is there now; False at the end of the stream."""
        try:
            read = os.read(self.pipe, OUTPUT_LIMIT_BYTES)
        except BlockingIOError:
            return True
        self._kept += read
        if len(self._kept) > 8 * OUTPUT_LIMIT_BYTES:  # not each time: it moves what is kept
            del self._kept[:-OUTPUT_LIMIT_BYTES]
        return bool(read)

    def finish(self) -> str:
        """Read what is in the pipe, and return the end of it all.

        No more than that: some grandchild may never stop to write.
        """
        (left,) = struct.unpack("i", fcntl.ioctl(self.pipe, termios.FIONREAD, bytes(4)))
        for _ in range(0, left, OUTPUT_LIMIT_BYTES):
            self.take()
        return self._kept[-OUTPUT_LIMIT_BYTES:].decode(errors="replace")


def _follow(process: subprocess.Popen[bytes], output: _Tail | None, until: float) -> bool:
    """Gather output while the process runs; True once it has ended, False when it is `until` first."""
    with _ending(process) as ending:
        poll = select.poll()
        for descriptor in (*((output.pipe,) if output else ()), *ending):
            poll.register(descriptor, select.POLLIN)
        while not ended(process):
            left = until - time.monotonic()
            if left <= 0:
                return False
            ready = poll.poll(math.ceil(1000 * min(left, LONGEST_SECONDS if ending else LOOK_SECONDS)))
            if output and any(descriptor == output.pipe for descriptor, _ in ready) and not output.take():
                poll.unregister(output.pipe)
    return True


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[tuple[int, ...]]:
    """Hand out a descriptor that becomes readable when the process ends; none on old kernels."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        yield ()
        return
    try:
        yield (descriptor,)
    finally:
        os.close(descriptor)


def _reason(exc: OSError | ValueError, cwd: Path | None) -> str:
    if not isinstance(exc, OSError) or exc.strerror is None:
        return str(exc)
    # The same error for a missing program and a missing directory: say which.
    return f"{exc.strerror}: {cwd}" if cwd and str(exc.filename) == str(cwd) else exc.strerror
