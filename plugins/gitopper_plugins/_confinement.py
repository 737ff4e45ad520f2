"""What a process gives up before it runs a check: its rights, and to outlive who started it.

Without capabilities over mounts and other processes, and with no_new_privs, root can't undo a
read-only mount: an exec gives it no more than it had. That holds without the bounding set, so the daemon
needs no right to change that (capabilities(7), "Transformation of capabilities during execve()").
"""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["User", "adopt_orphans", "become", "die_with", "give_up_rights", "hide_from_children"]

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38

# linux/capability.h. What a service's own program may need to judge its files as its unit would, and that
# is no way to the files of a release. Not DAC_READ_SEARCH, which opens a file by its handle, whatever is
# mounted where; CHOWN, DAC_OVERRIDE, FOWNER and the like stop at a read-only mount.
KEPT = (
    0,  # CHOWN
    1,  # DAC_OVERRIDE
    3,  # FOWNER
    4,  # FSETID
    5,  # KILL
    6,  # SETGID
    7,  # SETUID
    10,  # NET_BIND_SERVICE
    11,  # NET_BROADCAST
    12,  # NET_ADMIN: nft --check
    13,  # NET_RAW
    14,  # IPC_LOCK
    15,  # IPC_OWNER
    18,  # SYS_CHROOT: named-checkconf -t
    23,  # SYS_NICE
    24,  # SYS_RESOURCE
)
_KEPT_BITS = sum(1 << number for number in KEPT)
_CAPABILITY_VERSION_3 = 0x20080522

User = tuple[int, int, tuple[int, ...]]
"""uid, gid, and all groups."""

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, process `parent`, ends; at once if it has.

    It holds until the user of this process changes.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent ends."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def hide_from_children() -> None:
    """Keep what this process has open and in memory from others of the same user."""
    _prctl(PR_SET_DUMPABLE, 0)


def give_up_rights() -> None:
    """Give up, for good and for all children, what could undo a view or reach around it."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Twice effective, permitted, inheritable: the lower 32 of each, then the upper.
    sets = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(header, sets))
    for half in (0, 1):
        kept = sets[3 * half + 1] & (_KEPT_BITS >> (32 * half)) & 0xFFFFFFFF
        sets[3 * half : 3 * half + 3] = [kept, kept, 0]
    _check(_libc.capset(header, sets))


def become(user: User) -> None:
    """Become another user, for good."""
    uid, gid, groups = user
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
