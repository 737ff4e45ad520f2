"""To hold up a program before each call that changes something: to look, to kill it, or to let it go on.

A program is run with its calls held up (see `seccomp`). They are counted over all its threads and
children, in the one order in which they come.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import define, field, frozen

from tests.proof.points import HELD_UP, Point, about
from tests.proof.seccomp import Notification, answer, install, receive

__all__ = ["GoneError", "HeldUp", "Run", "Whom", "adopt_orphans", "descendants", "start"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_POLL_MILLISECONDS = 20
_QUIET_SECONDS = 0.1

_libc = ctypes.CDLL(None, use_errno=True)


class GoneError(Exception):
    """The program has ended."""


class Whom(enum.Enum):
    """Who is killed at a point."""

    ALL = "all"
    """The program and all that it started, as by a service manager."""
    DAEMON = "daemon"
    """The program itself; its children are left to themselves."""
    CHILD = "child"
    """The child of the program that makes the call. Only calls of children are points then."""


@frozen(kw_only=True)
class Run:
    """How a program ended."""

    code: int
    """Exit code; ``-N`` when signal N ended it."""
    points: tuple[Point, ...]
    """All that it came to."""
    killed: bool
    """True when it came to the point at which somebody was to be killed."""
    left: tuple[str, ...]
    """Command lines of its children that lived on for longer than they were given."""
    seen: tuple[str, ...]
    """What `watch` found, each thing once, and where first."""


@define(kw_only=True)
class HeldUp:
    """A program under way, for a visitor: somebody in another thread who has to do with it."""

    pid: int
    counts: bool
    """Whether its calls are points by now."""
    last: float = field(factory=time.monotonic)
    """When it made a call last."""
    ended: float | None = None
    """When it ended."""

    def quiet(self) -> None:
        """Wait until it makes no more calls.

        Raises:
            GoneError: it has ended.
        """
        while time.monotonic() - self.last < _QUIET_SECONDS:
            time.sleep(_QUIET_SECONDS / 5)
            self.check()

    def check(self) -> None:
        """Make sure that it is there.

        Raises:
            GoneError: it has ended.
        """
        if self.ended is not None:
            raise GoneError


def adopt_orphans() -> None:
    """Become the parent of what descendants of this process leave behind."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    body: Callable[[], int],
    *,
    kill_at: int = 0,
    whom: Whom = Whom.ALL,
    silent: Path | None = None,
    patience_seconds: float = 20.0,
    watch: Callable[[], Sequence[str]] | None = None,
    visit: Callable[[HeldUp], None] | None = None,
) -> Run:
    """Run `body` in a child to its end, or kill it before its call number `kill_at`.

    The caller has adopted orphans, and has no other children.

    Args:
        body: what the child does; returns its exit code.
        kill_at: number of the point; 0 for none.
        whom: who is killed there.
        silent: a file that may be written to without that being a point: the log.
        patience_seconds: how long children may live after the program has ended.
        watch: called before each call, while nobody can change anything; returns what is wrong.
        visit: called in a thread. It ends the program in the end, and says when points begin to count.
    """
    child, listener = _fork_held_up(body)
    try:
        return _Supervisor(
            held=HeldUp(pid=child, counts=visit is None), listener=listener, kill_at=kill_at, whom=whom,
            silent=str(silent), patience_seconds=patience_seconds, watch=watch,
        ).follow(visit)  # fmt: skip
    finally:
        os.close(listener)


def _fork_held_up(body: Callable[[], int]) -> tuple[int, int]:
    """Start the child; return its process id, and the listener on its calls."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 111
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                os.setsid()
                ours.close()
                listener = install(HELD_UP, reading=False)
                with theirs:
                    socket.send_fds(theirs, [b"!"], [listener])  # by a call that is not held up
                os.close(listener)
                code = body()
        except BaseException:  # noqa: BLE001 - it must not return into the caller's code
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        _, [listener], *_ = socket.recv_fds(ours, 1, 1)
    return child, listener


@define(kw_only=True)
class _Supervisor:
    """Answers the calls of a program and of all that it started."""

    held: HeldUp
    listener: int
    kill_at: int
    whom: Whom
    silent: str
    patience_seconds: float
    watch: Callable[[], Sequence[str]] | None
    _points: list[Point] = field(factory=list, init=False)
    _seen: dict[str, str] = field(factory=dict, init=False)
    _code: int | None = field(default=None, init=False)

    def follow(self, visit: Callable[[HeldUp], None] | None) -> Run:
        """Answer calls until nobody is left who could make one."""
        visitor = threading.Thread(target=visit or (lambda _: None), args=[self.held])
        visitor.start()
        left: tuple[str, ...] = ()
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        patience_ends = float("inf")
        while True:
            ready = poll.poll(_POLL_MILLISECONDS)
            if ready and ready[0][1] & select.POLLIN and (call := receive(self.listener)):
                self._answer(call)
            self._reap()
            if ready and ready[0][1] & (select.POLLHUP | select.POLLERR):
                break
            if self.held.ended and patience_ends == float("inf"):
                patience_ends = self.held.ended + self.patience_seconds
            if time.monotonic() > patience_ends:
                left = tuple(_command(pid) for pid in descendants(os.getpid()))
                self._end_all()
        self._reap(0)  # those who let go last are still on their way out
        visitor.join()
        assert self._code is not None
        return Run(
            code=self._code, points=tuple(self._points), left=left, seen=tuple(self._seen.values()),
            killed=0 < self.kill_at <= len(self._points),
        )  # fmt: skip

    def _answer(self, call: Notification) -> None:
        self.held.last = time.monotonic()
        point = self._point(call)
        if point is not None:
            self._points.append(point)
            for wrong in self.watch() if self.watch else ():
                self._seen.setdefault(wrong, f"{point}: {wrong}")
            if point.number == self.kill_at:
                caller = _process(call)
                doomed = caller if self.whom is Whom.CHILD else self.held.pid
                os.kill(doomed, signal.SIGKILL)
                if self.whom is Whom.ALL:
                    self._end_all()
                if self.whom is Whom.ALL or caller == doomed:
                    return  # the call is never answered, and so it is not made
        answer(self.listener, call)

    def _point(self, call: Notification) -> Point | None:
        """Return the point that a call is; None where it is none."""
        only_children = self.whom is Whom.CHILD
        what = about(call, silent=self.silent, talk=only_children)
        if what is None or (only_children and _process(call) in (self.held.pid, 0)):
            return None
        if not self.held.counts:
            return None
        return Point(number=len(self._points) + 1, call=call.name, about=what)

    def _end_all(self) -> None:
        while family := descendants(os.getpid()):
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.001)

    def _reap(self, options: int = os.WNOHANG) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, options))[0]:
                if ended[0] == self.held.pid:
                    self._code = os.waitstatus_to_exitcode(ended[1])
                    self.held.ended = time.monotonic()


def _process(call: Notification) -> int:
    """Return the process of the thread that makes a call; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{call.pid}/status").read_text().splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return 0


def descendants(root: int) -> list[int]:
    """Return the living descendants of `root`, parents first."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
                living = 1 if state != "Z" else -1
                children.setdefault(int(parent), []).append(living * int(process.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(abs(waiting.pop(0)), [])
        waiting += below
        found += [pid for pid in below if pid > 0]
    return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return f"process {pid}"
