"""The fetcher: a process as another account that reads what upstreams send. How it is started, and ended.

It has no way into our store, and gets no secret but the one that a session needs. See `readers` for what it
is asked, and `unprivileged` for its own side.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field

from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.failures import UnusableError
from gitopper_plugins.dulwich.frames import Conversation, GoneError
from gitopper_plugins.dulwich.pkt import readable
from libgitopper import ended, spawn

__all__ = ["Fetcher", "cant"]

log = logging.getLogger(__name__)

MEMORY_BYTES = 512 * 1024 * 1024
START_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""How much later than the deadline an answer may come; it is at most to say that the time is over."""
MOST_HELLO_BYTES = 4096
MOST_LINES = 4
"""So many are kept for the next conversation; each is a thread of the fetcher."""
# What it needs to find its way. No more: our environment may hold what is not for it.
_ENVIRONMENT = re.compile(
    r"PATH|LANG|LC_\w+|TZ|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR)|GIT_SSH_COMMAND|RES_OPTIONS|LOCALDOMAIN",
    re.IGNORECASE,
)


@define(eq=False)
class _Process:
    """A fetcher that runs."""

    account: str
    pid: int
    control: socket.socket
    _process: subprocess.Popen[bytes]
    _stack: contextlib.ExitStack
    _lines: list[Conversation] = field(factory=list)
    """To where it waits for the next conversation."""

    @classmethod
    def start(cls, account: str, memory_bytes: int, told: set[str], *, programs: bool) -> _Process:
        """Start one, and wait until it has given up its rights.

        Raises:
            UnusableError: it can't.
        """
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            argv = [sys.executable, "-I", "-m", "gitopper_plugins.dulwich.unprivileged"]
            environment = {k: v for k, v in os.environ.items() if _ENVIRONMENT.fullmatch(k)}
            # In memory: what it complains of must not fill a disk; its limits hold for this, too.
            with theirs, os.fdopen(os.memfd_create("said"), "w+b") as said:
                process = stack.enter_context(
                    spawn(
                        [*argv, account, str(memory_bytes), *(["programs"] if programs else [])],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=said,
                        env=environment | {"MALLOC_ARENA_MAX": "1"},
                    )
                )
                theirs.close()
                hello = _hello(ours, account)
                if hello is None:
                    stack.close()
                    said.seek(0)
                    words = said.read(64 * 1024).decode(errors="replace").strip().rpartition("\n")[2]
                    why = readable(words) or f"exit code {process.returncode}"
                    raise cant(account, f"its process does not start: {why}")
            if "refused" in hello:
                raise cant(account, readable(str(hello["refused"])))
            _tell_missing(account, hello.get("missing"), told)
            return cls(account, process.pid, ours, process, stack.pop_all())

    @property
    def alive(self) -> bool:
        """True as long as it runs."""
        return not ended(self._process)

    def end(self) -> None:
        """End it, and all that it runs."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        while self._lines:
            self._lines.pop().close()
        self._stack.close()

    def keep(self, line: Conversation) -> None:
        """Take back a line whose conversation ended well, for the next one."""
        if len(self._lines) < MOST_LINES and self.alive:
            self._lines.append(line)
        else:
            line.close()

    def converse(self, deadline: Deadline, files: Sequence[int]) -> Conversation:
        """Begin a conversation, about the open `files`.

        Raises:
            OSError: it is gone.
        """
        while self._lines and not files:
            line = self._lines.pop()
            if line.silent:
                line.channel.deadline = Deadline(deadline.at + GRACE_SECONDS)
                return line
            line.close()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.control, [b"."], [theirs.fileno(), *files])
            except BaseException:
                ours.close()
                raise
        return Conversation(Channel(ours, Deadline(deadline.at + GRACE_SECONDS)))


def _hello(control: socket.socket, account: str) -> dict[str, Any] | None:
    control.settimeout(START_SECONDS)
    try:
        hello = json.loads(control.recv(MOST_HELLO_BYTES) or "null")
    except TimeoutError:
        raise cant(account, f"its process is not ready within {START_SECONDS:g} s") from None
    except (OSError, ValueError):
        return None
    return hello if isinstance(hello, dict) else None


def cant(account: str, why: str) -> UnusableError:
    """The error of a fetcher that there can't be."""
    remedy = (
        "see `fetch_user`; with root there, nothing stands between a hole in what fetches and this host"
    )
    return UnusableError(f"can't fetch as {account}: {why}; {remedy}")


def _tell_missing(account: str, missing: object, told: set[str]) -> None:
    for part in missing if isinstance(missing, list) else []:
        if (what := readable(str(part))) not in told:
            told.add(what)
            log.warning("what fetches as %s has to do without %s", account, what)


@define(eq=False)
class Fetcher:
    """One account's fetcher: started at first need, and again when it ended."""

    account: str
    programs: bool = False
    """It is to run ssh or git."""
    memory_bytes: int = MEMORY_BYTES
    _told: set[str] = field(factory=set)
    """What of its sandbox was told to be missing."""
    _process: _Process | None = None
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def pid(self) -> int | None:
        """Of its process; None when there is none."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End its process; the next conversation starts another one."""
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.end()

    @contextlib.contextmanager
    def conversation(self, deadline: Deadline, *files: int) -> Iterator[Conversation]:
        """Talk, until the block ends.

        Raises:
            UnusableError: its process can't be started, or ended.
            TimeoutError: it does not answer in time, and was ended.
        """
        process, line = self._begin(deadline, files)
        well = False
        try:
            yield line
            well = not files
        except TimeoutError:
            # Its own deadline was before ours: had it met that, it would have said so.
            if deadline.at + GRACE_SECONDS <= _now():
                self._drop(process)
            raise
        except GoneError as exc:
            self._drop(process)
            raise UnusableError(
                f"the process that fetches as {self.account} failed: {exc}; the next try starts another one"
            ) from exc
        finally:
            self._end(process, line, well=well)

    def _end(self, process: _Process, line: Conversation, *, well: bool) -> None:
        with self._lock:
            if well and self._process is process:
                process.keep(line)
                return
        line.close()

    def _begin(self, deadline: Deadline, files: Sequence[int]) -> tuple[_Process, Conversation]:
        with self._lock:
            for _ in range(2):
                process = self._process
                if process is None or not process.alive:
                    if process:
                        process.end()
                    process = self._process = _Process.start(
                        self.account, self.memory_bytes, self._told, programs=self.programs
                    )
                # It may end at any moment: then there is another one to be started.
                with contextlib.suppress(OSError):
                    return process, process.converse(deadline, files)
                process.end()
                self._process = None
        raise UnusableError(f"the process that fetches as {self.account} ends at once")

    def _drop(self, process: _Process) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
        process.end()


def _now() -> float:
    return Deadline.after(0).at
