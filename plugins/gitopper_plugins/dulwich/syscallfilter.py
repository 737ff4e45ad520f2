"""What the fetcher can't ask of the kernel: a seccomp filter (seccomp(2)), as numbers and a small program.

A list of what is refused, and not of what is allowed: Python, ssh and git with all their libraries need
several hundred calls, and other ones next year. Refused is what has no business in reading from a network,
and is where kernels had their holes; and what would hold memory that no limit counts, or run from there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct

__all__ = ["SyscallFilterError", "install", "program"]

# Number on x86-64, number on arm64; None where there is no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "fanotify_init": (300, 262),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "lookup_dcookie": (212, 18), "vmsplice": (278, 75), "modify_ldt": (154, None), "iopl": (172, None),
    "ioperm": (173, None), "uselib": (134, None), "personality": (135, 92), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "syslog": (103, 116),
}  # fmt: skip
_SOCKET, _CLONE, _CLONE3 = (41, 198), (56, 220), (435, 435)
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""Netlink, since the resolver looks which addresses this host has."""
_NAMESPACES = 0x7E020080
"""The flags of clone(2) that make a namespace."""
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Name to column above, and number of the architecture (linux/audit.h)."""
_X32_BIT = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_SET_SECCOMP, _MODE_FILTER = 22, 2


class SyscallFilterError(Exception):
    """There is no filter for this machine."""


def program(machine: str) -> bytes:
    """The filter for `machine`, as the kernel takes it.

    Raises:
        SyscallFilterError: the numbers of its calls are not known here.
    """
    if machine not in _MACHINES:
        raise SyscallFilterError(f"the numbers of system calls on {machine} are not known")
    column, architecture = _MACHINES[machine]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        steps += [_step(_AT_LEAST, _X32_BIT, no=1), _step(_RETURN, _KILL)]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            steps += [_step(_EQUAL, number, no=1), _refuse(errno.EPERM)]
    # Its flags are out of reach of a filter. Libraries then take the older call.
    steps += [_step(_EQUAL, _CLONE3[column], no=1), _refuse(errno.ENOSYS)]
    steps += [_step(_EQUAL, _CLONE[column], no=4), _step(_LOAD, _FIRST_ARGUMENT)]
    steps += [_step(_ANY_OF, _NAMESPACES, no=1), _refuse(errno.EPERM), _step(_RETURN, _ALLOW)]
    steps += [_step(_EQUAL, _SOCKET[column], no=2 + len(_FAMILIES)), _step(_LOAD, _FIRST_ARGUMENT)]
    steps += [_step(_EQUAL, family, yes=len(_FAMILIES) - at) for at, family in enumerate(_FAMILIES)]
    steps += [_refuse(errno.EAFNOSUPPORT), _step(_RETURN, _ALLOW)]
    return b"".join(steps)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERROR | number)


def install() -> None:
    """Filter the calls of this thread, and of all that comes of it; needs no_new_privs.

    By prctl(2): a unit with ``SystemCallFilter=@system-service`` does not allow seccomp(2).

    Raises:
        OSError: the kernel has no filters.
        SyscallFilterError: there is none for this machine.
    """
    machine = platform.machine()
    code = ctypes.create_string_buffer(program(machine), len(program(machine)))
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), head, ctypes.c_ulong(0), ctypes.c_ulong(0))
        != 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
