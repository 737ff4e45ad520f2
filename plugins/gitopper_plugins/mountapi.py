"""The one place that makes mount system calls.

The calls of the kernel's newer mount interface have no wrappers in Python or in older C
libraries, so they are made by number; the numbers are the same on every architecture but alpha.
Each function raises `OSError`, with the path that the call was about.

The program that prepares a view for a check starts with this module, so it imports little.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping

__all__ = [
    "attach",
    "attach_beneath",
    "attach_through_peer",
    "clone",
    "detach",
    "has_beneath",
    "make_private",
    "make_root",
    "mount_proc",
    "new_overlay",
    "new_tmpfs",
    "set_readonly",
    "unshare",
]

OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, MOUNT_SETATTR = 428, 429, 430, 431, 432, 442

AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT = -100, 0x1000, 0x100, 0x800
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_BENEATH = 0x4, 0x200
FSOPEN_CLOEXEC, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC = 1, 1, 6, 1
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000

StrPath = str | os.PathLike[str]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def clone(
    path: StrPath, *, readonly: bool = False, recursive: bool = False, directory: int = AT_FDCWD
) -> int:
    """Return a descriptor of a new mount of `path`, attached nowhere yet; close it when done.

    Mounts below `path` are part of it only if it is `recursive`. It is private: what is later mounted
    on it does not appear at `path`. Where it is attached to a shared mount, the kernel shares it anew.
    A relative `path` is looked up in the opened `directory`.
    """
    whole = AT_RECURSIVE if recursive else 0
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | whole
    tree = _syscall(OPEN_TREE, directory, os.fsencode(path), flags, about=path)
    try:
        # Now: on a mount that is attached it would not reach the namespaces of services.
        _set_attributes(tree, MOUNT_ATTR_RDONLY if readonly else 0, MS_PRIVATE, whole, about=path)
    except OSError:
        os.close(tree)
        raise
    return tree


def new_tmpfs(*, size_bytes: int, mode: int, about: StrPath) -> int:
    """Return a descriptor of a new file system in memory, attached nowhere yet; close it when done."""
    options = {"size": str(size_bytes), "mode": f"{mode:o}"}
    return _new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, about=about)


def new_overlay(*, lower: StrPath, upper: StrPath, work: StrPath, about: StrPath) -> int:
    """Return a descriptor of a new overlay, attached nowhere yet; close it when done.

    It shows `lower`, and keeps what is written in `upper`; see mount(8) for `work`. All three must be
    short, as ``/proc/self/fd/3``, and be mounted in this namespace.
    """
    options = {"lowerdir": lower, "upperdir": upper, "workdir": work}
    return _new("overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, about=about)


def set_readonly(tree: int, about: StrPath) -> None:
    """Make the mount `tree` read-only; mounts below it stay as they are."""
    _set_attributes(tree, MOUNT_ATTR_RDONLY, 0, 0, about=about)


def attach(tree: int, target: StrPath, *, directory: int = AT_FDCWD) -> None:
    """Show the mount `tree` at `target`, on top of what is there.

    A relative `target` is looked up in the opened `directory`.
    """
    _move_mount(tree, target, 0, directory)


def attach_beneath(tree: int, target: StrPath) -> None:
    """Put the mount `tree` under the mount that is visible at `target`; nothing changes to the eye."""
    _move_mount(tree, target, MOVE_MOUNT_BENEATH)


def attach_through_peer(tree: int, target: StrPath) -> None:
    """Do as `attach_beneath` on kernels without it, where the mount that `target` is on is shared.

    A mount that arrives by propagation is put under what stands there (Linux 4.11 and later). So
    a thread takes a mount namespace of its own, has there a peer of the directory around
    `target`, and mounts on that. The namespace goes with the thread, whatever happens, and its
    end does not propagate. With more than one mount at `target` it goes under the lowest.
    """
    import threading

    failed: list[OSError] = []
    around, _, name = os.fspath(target).rpartition("/")
    # Cloned before the thread leaves: from elsewhere, a directory that is held open can't be.
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC
    peer = _syscall(OPEN_TREE, AT_FDCWD, os.fsencode(around or "/"), flags, about=around)

    def body() -> None:
        try:
            _attach_elsewhere(tree, peer, name)
        except OSError as exc:
            exc.filename = os.fspath(target)
            failed.append(exc)

    try:
        thread = threading.Thread(target=body, name="mount-through-peer")
        thread.start()
        thread.join()
    finally:
        os.close(peer)
    if failed:
        raise failed[0]


def detach(target: StrPath) -> None:
    """Remove the visible mount at `target`; who has files of it open keeps them."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW) < 0:
        raise _error(target)


def unshare(flags: int) -> None:
    """Move this process (this thread, for a mount namespace) into new namespaces: ``CLONE_NEW…``."""
    if _libc.unshare(flags) < 0:
        raise _error("/")


def make_private() -> None:
    """Let what is mounted in this namespace from now on reach no other, nor come from one."""
    _mount(None, "/", None, MS_REC | MS_PRIVATE)


def mount_proc(target: StrPath) -> None:
    """Mount a procfs that shows the processes of this PID namespace."""
    _mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def make_root(tree: int) -> None:
    """Make the mount `tree`, which is attached, the root of this namespace; the former one is gone."""
    os.fchdir(tree)
    # Both are here: pivot_root(2) puts the old root on top of the new one, from where it is removed.
    if _libc.pivot_root(b".", b".") < 0:
        raise _error("/")
    if _libc.umount2(b".", MNT_DETACH) < 0:
        raise _error("/")
    os.chdir("/")


def has_beneath() -> bool:
    """Tell whether the kernel knows MOVE_MOUNT_BENEATH. Asked for real: versions are no guide.

    Raises:
        PermissionError: this process may not mount.
    """
    try:
        _move_mount(-1, "/", MOVE_MOUNT_BENEATH)
    except OSError as exc:
        if exc.errno == errno.EPERM:
            raise
        return exc.errno == errno.EBADF  # the flag was taken, the descriptor was not
    return False


def _attach_elsewhere(tree: int, peer: int, name: str) -> None:
    """Show `tree` at `name` in `peer`, in a mount namespace of this thread's own."""
    unshare(CLONE_NEWNS)
    make_private()  # not of `peer`, which is attached nowhere yet
    attach(peer, "/")
    attach(tree, name, directory=peer)


def _new(kind: str, options: Mapping[str, StrPath], attributes: int, *, about: StrPath) -> int:
    context = _syscall(FSOPEN, kind.encode(), FSOPEN_CLOEXEC, about=about)
    try:
        for key, value in options.items():
            words = key.encode(), os.fsencode(value)
            _syscall(FSCONFIG, context, FSCONFIG_SET_STRING, *words, 0, about=about)
        _syscall(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0, about=about)
        return _syscall(FSMOUNT, context, FSMOUNT_CLOEXEC, attributes, about=about)
    finally:
        os.close(context)


def _move_mount(tree: int, target: StrPath, flags: int, directory: int = AT_FDCWD) -> None:
    flags |= MOVE_MOUNT_F_EMPTY_PATH
    _syscall(MOVE_MOUNT, tree, b"", directory, os.fsencode(target), flags, about=target)


def _set_attributes(tree: int, attributes: int, propagation: int, flags: int, *, about: StrPath) -> None:
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, propagation, 0)
    size = ctypes.sizeof(wanted)
    _syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | flags, ctypes.byref(wanted), size, about=about)


def _mount(source: str | None, target: StrPath, kind: str | None, flags: int) -> None:
    words = (None if word is None else os.fsencode(word) for word in (source, target, kind))
    if _libc.mount(*words, ctypes.c_ulong(flags), None) < 0:
        raise _error(target)


def _syscall(number: int, *arguments: object, about: StrPath) -> int:
    # Variadic: plain integers would be passed as 32 bits, and the upper half be left to chance.
    wide = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise _error(about)
    return result


def _error(about: StrPath) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), os.fspath(about))
