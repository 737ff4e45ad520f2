"""How a process that was started as root gives up all that it could do, for good.

To become another account is never optional. What else the kernel or the unit refuses is told, and the rest
holds all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
import struct
from collections.abc import Callable

from attrs import frozen

from gitopper_plugins.dulwich import syscallfilter

__all__ = ["HOME", "Bounds", "SandboxError", "enter"]

HOME = "/tmp"  # noqa: S108 - a file system of our own
"""The only directory that can be written to: in memory, private, gone with the process."""

_NEW_NAMESPACE = 0x00020000
_RECURSIVE, _SLAVE = 0x4000, 1 << 19
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _RDONLY = 442, -100, 0x8000, 1
_SET_DUMPABLE, _SET_NAME, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 4, 15, 24, 38, 47
_CLEAR_ALL = 4
_FIRST_TO_GO = 1000
_LAST_CAPABILITY = 63


class SandboxError(Exception):
    """The rights can't be given up."""


@frozen(kw_only=True)
class Bounds:
    """What the process may take."""

    memory_bytes: int
    """Of its own, for itself and for each process that it starts."""
    files: int = 1024

    @property
    def file_bytes(self) -> int:
        """Of all its files, which are in memory, too, and so of one: the index of a pack, and keys.

        Of an object an index holds at most 36 bytes, and who makes it holds more than twice as many.
        """
        return self.memory_bytes // 2


def enter(account: str, bounds: Bounds) -> list[str]:
    """Become `account`, with no rights and within `bounds`; return what of it all was refused, and why.

    Raises:
        SandboxError: there is no such account, it is root, or its rights can't be taken on.
    """
    try:
        user = pwd.getpwnam(account)
    except KeyError:
        raise SandboxError(f"there is no account {account} on this host") from None
    if user.pw_uid == 0:
        raise SandboxError(f"{account} is root by another name")
    missing: list[str] = []
    # Before the view: from within that it can't be taken back.
    _try("being ended first where memory is short", _volunteer, missing)
    _try("a view of the file system without a writable place", lambda: _seclude(user, bounds), missing)
    _limit(bounds)
    _become(user)
    _try("no_new_privs", lambda: _prctl(_SET_NO_NEW_PRIVS, 1), missing)
    _try("a filter of system calls", syscallfilter.install, missing)
    _prctl(_SET_DUMPABLE, 0)
    _check(user)
    return missing


def _try(what: str, do: Callable[[], None], missing: list[str]) -> None:
    try:
        do()
    except (OSError, syscallfilter.SyscallFilterError) as exc:
        missing.append(f"{what} ({exc.strerror if isinstance(exc, OSError) else exc})")


def _volunteer() -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(str(_FIRST_TO_GO))


def _seclude(user: pwd.struct_passwd, bounds: Bounds) -> None:
    """See the host read-only, and a directory of our own at `HOME`."""
    _call("unshare", _NEW_NAMESPACE)
    # What the host unmounts goes here, too: a namespace that keeps it would hold the disk.
    _call("mount", None, b"/", None, _RECURSIVE | _SLAVE, None)
    how = struct.pack("=QQQQ", _RDONLY, 0, 0, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, how, len(how))
    options = f"mode=0700,uid={user.pw_uid},gid={user.pw_gid},size={bounds.file_bytes},nr_inodes=4096"
    flags = _NOSUID | _NODEV | _NOEXEC
    _call("mount", b"gitopper-fetch", HOME.encode(), b"tmpfs", flags, options.encode())


def _limit(bounds: Bounds) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: bounds.memory_bytes,
        resource.RLIMIT_FSIZE: bounds.file_bytes,
        resource.RLIMIT_NOFILE: bounds.files,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _become(user: pwd.struct_passwd) -> None:
    os.umask(0o077)
    for capability in range(_LAST_CAPABILITY):
        # Refused without CAP_SETPCAP: then no_new_privs alone keeps them away.
        with contextlib.suppress(OSError):
            _prctl(_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        _prctl(_CAP_AMBIENT, _CLEAR_ALL)
    try:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as exc:
        remedy = "leave CAP_SETUID and CAP_SETGID in the unit's CapabilityBoundingSet="
        raise SandboxError(f"can't become {user.pw_name}: {exc.strerror}; {remedy}") from exc
    _call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))


def _check(user: pwd.struct_passwd) -> None:
    """Look whether it is so: what was not given up must not meet a network."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    none = {"CapInh", "CapPrm", "CapEff", "CapAmb"}
    held = [name for name in sorted(none) if int(status[name], 16)]
    if (
        held
        or os.getresuid() != (user.pw_uid,) * 3
        or os.getresgid() != (user.pw_gid,) * 3
        or os.getgroups()
    ):
        raise SandboxError(f"root's rights are not gone: {', '.join(held) or 'user or groups'}")


def _prctl(*arguments: int) -> None:
    _call("prctl", *arguments, *[0] * (5 - len(arguments)))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # A plain int is passed in 32 bits, which is not what a variadic call reads.
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
