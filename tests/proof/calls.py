"""The calls by which a program changes something, and the errors with which each can fail in the field."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.proof.seccomp import NUMBERS, Notification, opened, text

__all__ = ["ERRORS", "SHOWING", "WATCHED", "Call", "described"]

_DISK: Final = ("ENOSPC", "EIO", "EROFS", "EACCES", "ENOMEM")
_SYNC: Final = ("EIO", "ENOSPC", "EINTR")
_FEW: Final = ("EMFILE", "ENOMEM")
_MOUNT: Final = ("EBUSY", "EACCES", "ENOMEM", "EROFS")
_PROCESS: Final = ("EAGAIN", "ENOMEM")
_OWN: Final = ("EIO", "EROFS", "EACCES")

ERRORS: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("EMFILE", "ENOSPC", "EIO", "EACCES", "EROFS", "ENOMEM", "EINTR"),
    "read": ("EMFILE", "EIO", "EACCES", "ENOMEM"),
    "write": ("ENOSPC", "EIO", "EINTR"),
    "ftruncate": ("EIO", "EINTR", "ENOSPC"),
    "fallocate": ("ENOSPC", "EIO", "EINTR"),
    "rename": ("ENOSPC", "EIO", "EROFS", "EACCES", "EBUSY", "ENOMEM"),
    "link": _DISK,
    "symlink": _DISK,
    "mkdir": _DISK,
    "unlink": ("EIO", "EROFS", "EACCES", "EBUSY", "ENOMEM"),
    "rmdir": ("EIO", "EROFS", "EACCES", "EBUSY", "ENOMEM"),
    "chmod": _OWN,
    "chown": _OWN,
    "fsync": _SYNC,
    "flock": ("EINTR", "ENOLCK"),
    "mount": _MOUNT,
    "umount2": ("EBUSY", "ENOMEM"),
    "open_tree": ("EMFILE", "ENOMEM", "EACCES"),
    "move_mount": _MOUNT,
    "mount_setattr": ("EBUSY", "EACCES"),
    "unshare": ("ENOMEM", "EPERM", "ENOSPC"),
    "clone": _PROCESS,
    "execve": ("EACCES", "ENOMEM", "EIO", "EMFILE"),
    "socket": _FEW,
    "pipe2": _FEW,
    "memfd_create": _FEW,
    "pidfd_open": _FEW,
    "connect": ("ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT", "EACCES", "EINTR"),
    "sendto": ("EPIPE", "ECONNRESET", "ENOMEM", "EINTR"),
}
"""Kind of call to the names of the errors. `read` is an open for reading, of a file of ours."""

_KINDS: Final = {
    "openat": "open", "creat": "open", "pwrite64": "write", "writev": "write",
    "renameat": "rename", "renameat2": "rename", "linkat": "link", "symlinkat": "symlink",
    "unlinkat": "unlink", "mkdirat": "mkdir", "fchmod": "chmod", "fchmodat": "chmod", "fchown": "chown",
    "lchown": "chown", "fchownat": "chown", "fdatasync": "fsync", "syncfs": "fsync", "fork": "clone",
    "vfork": "clone", "clone3": "clone", "socketpair": "socket",
}  # fmt: skip

WATCHED: Final = tuple(NUMBERS)
"""The calls to be announced."""
SHOWING: Final = tuple(
    name
    for name in (
        "rename", "renameat", "renameat2", "symlink", "symlinkat", "unlink", "unlinkat", "mount", "umount2",
        "move_mount",
    )
    if name in NUMBERS
)  # fmt: skip
"""Those by which what a service reads becomes something else, in a daemon that works as it should."""

# Which argument is a path, or two, for the calls that have any.
_PATHS: Final = {
    "open": (0,), "creat": (0,), "openat": (1,), "rename": (1,), "renameat": (3,), "renameat2": (3,),
    "link": (1,), "linkat": (3,), "symlink": (1,), "symlinkat": (2,), "unlink": (0,), "unlinkat": (1,),
    "rmdir": (0,), "mkdir": (0,), "mkdirat": (1,), "chmod": (0,), "fchmodat": (1,), "chown": (0,),
    "lchown": (0,), "fchownat": (1,), "execve": (0,), "mount": (1,), "umount2": (0,), "move_mount": (3,),
    "open_tree": (1,),
}  # fmt: skip
_BY_DESCRIPTOR: Final = frozenset(
    ("write", "pwrite64", "writev", "fsync", "fdatasync", "syncfs", "ftruncate", "fallocate", "fchmod",
     "fchown", "flock", "sendto", "connect")
)  # fmt: skip
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@frozen(kw_only=True)
class Call:
    """A call that counts."""

    kind: str
    """A key of `ERRORS`."""
    what: str
    """On what, as far as that can be told: a path mostly."""

    def __str__(self) -> str:
        return f"{self.kind} {self.what}".rstrip()


def described(call: Notification, home: Path) -> Call | None:
    """Return the call as one that counts; None where it changes nothing, or nothing of ours.

    What the commands of a service meet is theirs to tell, by their exit codes.
    """
    if not _is_ours(call):
        return None
    what = _what(call)
    kind = _KINDS.get(call.name, call.name)
    if kind == "open" and not _opens_for_writing(call):
        kind = "read"
    if kind in ("open", "read") and not what.startswith(str(home)):
        return None
    if (kind == "mkdir") == os.path.lexists(what) and kind in ("mkdir", "execve"):
        return None  # it fails by itself: what is to be made is there, or what is to be run is not
    if kind == "write" and not _is_file(call):
        return None
    if kind == "unlink" and call.name == "unlinkat" and call.arguments[2] & 0x200:
        kind = "rmdir"
    return Call(kind=kind, what=what)


def _is_ours(call: Notification) -> bool:
    """Tell whether the call is made by the daemon or by a program of its own, and not by a service's."""
    try:
        program = opened(call, "exe")
    except OSError:
        return False
    return os.path.basename(program).startswith(("python", "git"))  # noqa: PTH119


def _opens_for_writing(call: Notification) -> bool:
    if call.name == "creat":
        return True
    return bool(call.arguments[1 if call.name == "open" else 2] & _WRITING)


def _is_file(call: Notification) -> bool:
    """Tell whether a write goes to a file, and not to the log or to a pipe."""
    if call.arguments[0] in (1, 2):
        return False
    try:
        status = os.stat(f"/proc/{call.pid}/fd/{call.arguments[0]}")  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode)


def _what(call: Notification) -> str:
    try:
        if call.name in _BY_DESCRIPTOR:
            return opened(call, call.arguments[0])
        return " ".join(_path(call, at) for at in _PATHS.get(call.name, ()))
    except OSError:
        return ""


def _path(call: Notification, at: int) -> str:
    path = text(call, at)
    if path.startswith("/") or not call.name.endswith(("at", "at2")):
        return path
    # Relative to the descriptor before it; AT_FDCWD is a negative number.
    directory = call.arguments[at - 1] & 0xFFFFFFFF
    return f"{opened(call, 'cwd' if directory > 0x7FFFFFFF else directory)}/{path}"


def number_of(name: str) -> int:
    """Return the number of an error, as ``ENOSPC``."""
    number: int = getattr(errno, name)
    return number
