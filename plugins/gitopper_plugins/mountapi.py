"""The one place that makes mount system calls.

The calls of the kernel's newer mount interface have no wrappers in Python or in older C
libraries, so they are made by number; the numbers are the same on every architecture but alpha.
Each function raises `OSError`, with the path that the call was about.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from pathlib import Path

__all__ = ["attach", "attach_beneath", "attach_through_peer", "clone", "detach", "has_beneath"]

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442

AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x100
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_BENEATH = 0x4, 0x200
MOUNT_ATTR_RDONLY = 1
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def clone(path: Path, *, readonly: bool) -> int:
    """Return a descriptor of a new mount of `path`, attached nowhere yet; close it when done.

    Mounts below `path` are not part of it. It is private: what is later mounted on it does not
    appear at `path`. Where it is attached to a shared mount, the kernel shares it anew.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_SYMLINK_NOFOLLOW
    tree = _syscall(OPEN_TREE, AT_FDCWD, os.fsencode(path), flags, about=path)
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd. Read-only is set now: on a
    # mount that is attached it would not reach the namespaces of services.
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY if readonly else 0, 0, MS_PRIVATE, 0)
    try:
        size = ctypes.sizeof(attributes)
        _syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, ctypes.byref(attributes), size, about=path)
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, target: Path) -> None:
    """Show the mount `tree` at `target`, on top of what is there."""
    _move_mount(tree, target, 0)


def attach_beneath(tree: int, target: Path) -> None:
    """Put the mount `tree` under the mount that is visible at `target`; nothing changes to the eye."""
    _move_mount(tree, target, MOVE_MOUNT_BENEATH)


def attach_through_peer(tree: int, target: Path) -> None:
    """Do as `attach_beneath` on kernels without it, where the mount that `target` is on is shared.

    A mount that arrives by propagation is put under what stands there (Linux 4.11 and later). So
    a thread takes a mount namespace of its own, sees there a peer of the directory around
    `target`, and mounts on that. The namespace goes with the thread, whatever happens, and its
    end does not propagate. With more than one mount at `target` it goes under the lowest.
    """
    failed: list[OSError] = []

    def body() -> None:
        try:
            _attach_from_elsewhere(tree, target)
        except OSError as exc:
            failed.append(exc)

    thread = threading.Thread(target=body, name="mount-through-peer")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def detach(target: Path) -> None:
    """Remove the visible mount at `target`; who has files of it open keeps them."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW) < 0:
        raise _error(target)


def has_beneath() -> bool:
    """Tell whether the kernel knows MOVE_MOUNT_BENEATH. Asked for real: versions are no guide.

    Raises:
        PermissionError: this process may not mount.
    """
    try:
        _move_mount(-1, Path("/"), MOVE_MOUNT_BENEATH)
    except OSError as exc:
        if exc.errno == errno.EPERM:
            raise
        return exc.errno == errno.EBADF  # the flag was taken, the descriptor was not
    return False


def _attach_from_elsewhere(tree: int, target: Path) -> None:
    around = target.parent
    if _libc.unshare(CLONE_NEWNS) < 0:  # of this thread only
        raise _error(target)
    # Cloned while it is shared: it stays a peer of the host's when all else here turns private.
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC
    peer = _syscall(OPEN_TREE, AT_FDCWD, os.fsencode(around), flags, about=around)
    try:
        if _libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) < 0:
            raise _error(Path("/"))
        attach(peer, around)
        attach(tree, target)
    finally:
        os.close(peer)


def _move_mount(tree: int, target: Path, flags: int) -> None:
    flags |= MOVE_MOUNT_F_EMPTY_PATH
    _syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), flags, about=target)


def _syscall(number: int, *arguments: object, about: Path) -> int:
    # Variadic: plain integers would be passed as 32 bits, and the upper half be left to chance.
    wide = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise _error(about)
    return result


def _error(about: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(about))
