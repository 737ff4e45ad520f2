"""The moments at which a program may be killed: right before each call that changes something.

A program is run with its calls held up (see `seccomp`). They are counted over all its threads and
children, in the one order in which they come. Between two of them nothing that anybody else could see is
changed, so to be killed before the 1st, the 2nd, the 3rd … is to be killed at every moment that matters.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.proof.seccomp import NUMBERS, Notification, answer, install, receive

__all__ = ["Point", "Run", "adopt_orphans", "descendants", "start"]

# The argument that names what a call is about: a path, or a descriptor.
_PATHS: Final = {
    "open": 0, "creat": 0, "openat": 1, "rename": 1, "renameat": 3, "renameat2": 3, "link": 1, "linkat": 3,
    "symlink": 1, "symlinkat": 2, "unlink": 0, "unlinkat": 1, "rmdir": 0, "mkdir": 0, "mkdirat": 1,
    "chmod": 0, "fchmodat": 1, "chown": 0, "lchown": 0, "fchownat": 1, "mount": 1, "umount2": 0,
    "open_tree": 1, "move_mount": 3, "execve": 0,
}  # fmt: skip
_DESCRIPTORS: Final = (
    "write", "pwrite64", "writev", "fchmod", "fchown", "fsync", "fdatasync", "syncfs", "ftruncate",
    "fallocate", "sendto",
)  # fmt: skip
# Before their path comes the descriptor of the directory that it is relative to.
_RELATIVE: Final = (
    "openat", "renameat", "renameat2", "linkat", "symlinkat", "unlinkat", "mkdirat", "fchmodat", "fchownat",
    "open_tree", "move_mount",
)  # fmt: skip
_OTHERS: Final = ("connect", "mount_setattr", "unshare", "clone", "fork", "vfork", "clone3")
_HELD_UP: Final = tuple(name for name in (*_PATHS, *_DESCRIPTORS, *_OTHERS) if name in NUMBERS)

_OPEN_FLAGS: Final = {"open": 1, "openat": 2}
_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PATH_LIMIT_BYTES = 4096

_libc = ctypes.CDLL(None, use_errno=True)


@frozen(kw_only=True)
class Point:
    """A call that is about to be made."""

    number: int
    """The how manieth it is, from 1."""
    call: str
    about: str
    """The path that it names, or that its descriptor leads to; empty where there is none."""

    def __str__(self) -> str:
        return f"before {self.number}: {self.call} {self.about}".rstrip()


@frozen(kw_only=True)
class Run:
    """How a program ended."""

    code: int
    """Exit code; ``-N`` when signal N ended it."""
    points: tuple[Point, ...]
    """All that it came to."""
    left: tuple[str, ...]
    """Command lines of its children that lived on for longer than they were given."""

    @property
    def killed(self) -> bool:
        """True when it was killed at a point."""
        return self.code == -signal.SIGKILL


def adopt_orphans() -> None:
    """Become the parent of what descendants of this process leave behind."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    body: Callable[[], int],
    *,
    kill_at: int = 0,
    alone: bool = False,
    silent: Path | None = None,
    patience_seconds: float = 20.0,
) -> Run:
    """Run `body` in a child to its end, or kill it before its call number `kill_at`.

    The caller has adopted orphans, and has no other children.

    Args:
        body: what the child does; returns its exit code.
        kill_at: number of the point; 0 for none.
        alone: kill only the child itself, and let its own children live; else they go with it.
        silent: a file that may be written to without that being a point: the log.
        patience_seconds: how long children may live after the program has ended.
    """
    child, listener = _fork_held_up(body)
    try:
        return _Watched(child, listener, kill_at, alone, str(silent), patience_seconds).follow()
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
                listener = install(_HELD_UP)
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


class _Watched:
    """A program under way, and all that it started."""

    def __init__(
        self, child: int, listener: int, kill_at: int, alone: bool, silent: str, patience_seconds: float
    ) -> None:
        self._child = child
        self._listener = listener
        self._kill_at = kill_at
        self._alone = alone
        self._silent = silent
        self._patience_seconds = patience_seconds
        self._points: list[Point] = []
        self._code: int | None = None
        self._ended = 0.0

    def follow(self) -> Run:
        """Answer its calls until nobody is left who could make one."""
        poll, left = select.poll(), ()
        poll.register(self._listener, select.POLLIN)
        while True:
            ready = poll.poll(20)
            if ready and ready[0][1] & select.POLLIN and (call := receive(self._listener)):
                self._answer(call)
            self._reap()
            if ready and ready[0][1] & (select.POLLHUP | select.POLLERR):
                break
            if self._code is not None and time.monotonic() - self._ended > self._patience_seconds:
                left = tuple(_command(pid) for pid in descendants(os.getpid()))
                self._end_all()
                self._ended = time.monotonic()
        self._reap(0)  # those who let go last are still on their way out
        assert self._code is not None
        return Run(code=self._code, points=tuple(self._points), left=left)

    def _answer(self, call: Notification) -> None:
        about = self._about(call)
        if about is not None:
            self._points.append(Point(number=len(self._points) + 1, call=call.name, about=about))
            if len(self._points) == self._kill_at:
                # The call is never answered: it is not made.
                os.kill(self._child, signal.SIGKILL)
                if not self._alone:
                    self._end_all()
                    return
        answer(self._listener, call)

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
                if ended[0] == self._child:
                    self._code = os.waitstatus_to_exitcode(ended[1])
                    self._ended = time.monotonic()

    def _about(self, call: Notification) -> str | None:
        """Return what a call is about; None where it changes nothing that anybody else could see."""
        # Of one that is gone nothing is known, nor of one in a user namespace of its own, but by root.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if call.name in _DESCRIPTORS:
                return self._about_descriptor(call)
            if call.name in _PATHS:
                path = _path(call)
                return path if path != self._silent and _changes(call, path) else None
            return None if _starts_thread(call) else ""
        return ""

    def _about_descriptor(self, call: Notification) -> str | None:
        target = str(Path(f"/proc/{call.pid}/fd/{call.arguments[0]}").readlink())
        if target.startswith("socket:"):
            # Those of the event loop to itself are no business of anybody's.
            inode = target.removeprefix("socket:[").removesuffix("]")
            tables = (Path(f"/proc/{call.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
            return target if any(f" {inode} " in table for table in tables) else None
        own = target.startswith(("pipe:", "anon_inode:", "/memfd:", "/dev/null")) or target == self._silent
        return None if own else target


def _changes(call: Notification, path: str) -> bool:
    """Tell whether a call on `path` can change anything; some are tried just to see that they can't."""
    if call.name in _OPEN_FLAGS:
        flags = call.arguments[_OPEN_FLAGS[call.name]]
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)) and path != "/dev/null"
    if call.name == "execve":
        return Path(path).exists()
    return not (call.name in {"mkdir", "mkdirat"} and Path(path).exists())


def _starts_thread(call: Notification) -> bool:
    if call.name == "clone3":
        flags = int.from_bytes(_read(call.pid, call.arguments[0], 8), sys.byteorder)
    else:
        flags = call.arguments[0] if call.name == "clone" else 0
    return bool(flags & _CLONE_THREAD)


def _path(call: Notification) -> str:
    """Return the path that a call names, by the directory that it is relative to."""
    at = _PATHS[call.name]
    path = _text(call.pid, call.arguments[at])
    if path.startswith("/") or at == 0:
        return path
    descriptor = ctypes.c_int(call.arguments[at - 1] & 0xFFFFFFFF).value
    if call.name not in _RELATIVE or descriptor < 0:
        return path
    return str(Path(f"/proc/{call.pid}/fd/{descriptor}").readlink() / path)


def _read(pid: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _text(pid: int, address: int) -> str:
    """Return the string at `address`, read page by page: what follows the last one may not be there."""
    found = b""
    while b"\0" not in found and len(found) < _PATH_LIMIT_BYTES:
        at = address + len(found)
        found += _read(pid, at, 4096 - at % 4096)
    return os.fsdecode(found.partition(b"\0")[0])


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
