"""The moments at which a program may be killed: right before each call that changes something.

Between two of them nothing that anybody else could see is changed, so to be killed before the 1st, the
2nd, the 3rd … is to be killed at every moment that matters. How a program is held up at them: `heldup`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import Final

from attrs import frozen

from tests.proof.seccomp import NUMBERS, Notification, memory, opened, text

__all__ = ["HELD_UP", "Point", "about"]

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
HELD_UP: Final = tuple(name for name in (*_PATHS, *_DESCRIPTORS, *_OTHERS) if name in NUMBERS)
"""The calls that change something; some of them only with some arguments."""

_OPEN_FLAGS: Final = {"open": 1, "openat": 2}
_CLONE_THREAD = 0x10000


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


def about(call: Notification, *, silent: str = "", talk: bool = False) -> str | None:
    """Return what a call is about; None where it changes nothing that anybody else could see.

    Args:
        call: the call.
        silent: a file that may be written to without that being a point: the log.
        talk: what the processes of a program say to each other counts, too.
    """
    # Of one that is gone nothing is known, nor of one in a user namespace of its own, but by root.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        if call.name in _DESCRIPTORS:
            return _about_descriptor(call, silent, talk=talk)
        if call.name in _PATHS:
            path = _path(call)
            return path if path != silent and _changes(call, path) else None
        return None if _starts_thread(call) else ""
    return ""


def _about_descriptor(call: Notification, silent: str, *, talk: bool) -> str | None:
    target = opened(call, call.arguments[0])
    if target.startswith("socket:") and not talk:
        # Those of the event loop to itself are no business of anybody's.
        kind = os.getxattr(f"/proc/{call.pid}/fd/{call.arguments[0]}", "system.sockprotoname")
        return target if kind.startswith(b"TCP") else None
    inner = () if talk else ("pipe:",)
    own = target.startswith((*inner, "anon_inode:", "/memfd:", "/dev/null")) or target == silent
    return None if own else target


def _changes(call: Notification, path: str) -> bool:
    """Tell whether a call on `path` can change anything; some are tried just to see that they can't."""
    if call.name in _OPEN_FLAGS:
        flags = call.arguments[_OPEN_FLAGS[call.name]]
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)) and path != "/dev/null"
    if call.name == "execve":
        return os.path.exists(path)  # noqa: PTH110 - some hundred times in each run
    return not (call.name in {"mkdir", "mkdirat"} and os.path.exists(path))  # noqa: PTH110


def _starts_thread(call: Notification) -> bool:
    if call.name == "clone3":
        flags = int.from_bytes(memory(call, call.arguments[0], 8), sys.byteorder)
    else:
        flags = call.arguments[0] if call.name == "clone" else 0
    return bool(flags & _CLONE_THREAD)


def _path(call: Notification) -> str:
    """Return the path that a call names, by the directory that it is relative to."""
    at = _PATHS[call.name]
    path = text(call, at)
    if path.startswith("/") or at == 0:
        return path
    descriptor = ctypes.c_int(call.arguments[at - 1] & 0xFFFFFFFF).value
    if call.name not in _RELATIVE or descriptor < 0:
        return path
    return f"{opened(call, descriptor)}/{path}"
