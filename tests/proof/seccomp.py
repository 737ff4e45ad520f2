"""To stand between a program and the kernel: each call of some kinds is told of before it is made.

By seccomp's user notification (seccomp_unotify(2), Linux 5.5): the program's call waits until this side
has said whether it is carried out, or fails with an error number. In contrast to a debugger it knows one
order of the calls of all threads and children, and the calls of no interest cost nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Collection
from typing import Final

from attrs import frozen

__all__ = ["NUMBERS", "Notification", "answer", "install", "memory", "opened", "receive", "text"]

_X86: Final = {
    "open": 2, "creat": 85, "openat": 257, "write": 1, "pwrite64": 18, "writev": 20, "rename": 82,
    "renameat": 264, "renameat2": 316, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266,
    "unlink": 87, "unlinkat": 263, "rmdir": 84, "mkdir": 83, "mkdirat": 258, "chmod": 90, "fchmod": 91,
    "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "fsync": 74,
    "fdatasync": 75, "syncfs": 306, "ftruncate": 77, "fallocate": 285, "flock": 73, "mount": 165,
    "umount2": 166, "open_tree": 428, "move_mount": 429, "mount_setattr": 442, "unshare": 272,
    "clone": 56, "fork": 57, "vfork": 58, "clone3": 435, "execve": 59, "socket": 41, "socketpair": 53,
    "connect": 42, "sendto": 44, "pipe2": 293, "memfd_create": 319, "pidfd_open": 434,
}  # fmt: skip
_ARM: Final = {
    "openat": 56, "write": 64, "pwrite64": 68, "writev": 66, "renameat": 38, "renameat2": 276, "linkat": 37,
    "symlinkat": 36, "unlinkat": 35, "mkdirat": 34, "fchmod": 52, "fchmodat": 53, "fchown": 55,
    "fchownat": 54, "fsync": 82, "fdatasync": 83, "syncfs": 267, "ftruncate": 46, "fallocate": 47,
    "flock": 32, "mount": 40, "umount2": 39, "open_tree": 428, "move_mount": 429, "mount_setattr": 442,
    "unshare": 97, "clone": 220, "clone3": 435, "execve": 221, "socket": 198, "socketpair": 199,
    "connect": 203, "sendto": 206, "pipe2": 59, "memfd_create": 279, "pidfd_open": 434,
}  # fmt: skip

NUMBERS: Final = _X86 if platform.machine() == "x86_64" else _ARM
"""Name to number, for the calls that change something; without those that this machine lacks."""
_NAMES: Final = {number: name for name, number in NUMBERS.items()}

_SECCOMP: Final = 317 if platform.machine() == "x86_64" else 277
_SET_MODE_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 1, 1 << 3, 38
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARGUMENTS_AT = 0, 16
_FLAGS: Final = {"open": 1, "openat": 2}
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_PAGE_BYTES: Final = 4096
"""Of memory; and no path is longer."""
_NOTICE: Final = struct.Struct("=QIIiIQ6Q")
_RESPONSE: Final = struct.Struct("=QqiI")


@frozen(kw_only=True)
class Notification:
    """A call that waits for an answer."""

    id: int
    pid: int
    """The thread that makes it."""
    name: str
    arguments: tuple[int, ...]


def install(names: Collection[str], *, reading: bool = True) -> int:
    """Have the calls `names` of this process, and of all that come of it, wait; return the listener.

    With `reading` off, files that are opened for nothing else are not among them.

    Raises:
        OSError: the kernel is older, or a supervisor of this kind is there already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 and libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    program = [_instruction(_LOAD, _NUMBER_AT)]
    opening = () if reading else [name for name in _FLAGS if name in names]
    for name in opening:
        program += _only_writing(name)
    numbers = [NUMBERS[name] for name in names if name not in opening]
    # One comparison each, and at its hit a jump to the last instruction.
    program += [_instruction(_JUMP_IF_EQUAL, n, len(numbers) - at) for at, n in enumerate(numbers)]
    program += [_instruction(_RETURN, _ALLOW), _instruction(_RETURN, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("@HP", len(program), ctypes.addressof(code))
    listener: int = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, head)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _only_writing(name: str) -> list[bytes]:
    """The instructions for a call that opens a file: other calls go on behind them."""
    # The lower half of the argument: that comes first on machines of either kind.
    block = [
        _instruction(_LOAD, _ARGUMENTS_AT + 8 * _FLAGS[name]),
        _instruction(_JUMP_IF_ANY, _WRITING, 0, 1),
        _instruction(_RETURN, _NOTIFY),
        _instruction(_RETURN, _ALLOW),
    ]
    return [_instruction(_JUMP_IF_EQUAL, NUMBERS[name], 0, len(block)), *block]


def _instruction(code: int, value: int, jump: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump, otherwise, value)


def receive(listener: int) -> Notification | None:
    """Return the next call that waits; None when it is over already, as its thread was killed."""
    buffer = bytearray(_NOTICE.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, pid, _, call, _, _, *arguments = _NOTICE.unpack(buffer)
    return Notification(id=number, pid=pid, name=_NAMES[call], arguments=tuple(arguments))


def answer(listener: int, call: Notification, error: int = 0) -> None:
    """Let `call` be carried out; or, with `error`, let it fail with that number."""
    response = _RESPONSE.pack(call.id, 0, -error, 0 if error else _CONTINUE)
    with contextlib.suppress(FileNotFoundError):  # its thread is gone
        fcntl.ioctl(listener, _SEND, bytearray(response))


def opened(call: Notification, number: int | str) -> str:
    """Return what a descriptor of the caller leads to, or the name of another link: ``cwd``, ``exe``.

    Raises:
        OSError: there is none, or the caller is gone.
    """
    place = f"fd/{number}" if isinstance(number, int) else number
    return os.readlink(f"/proc/{call.pid}/{place}")  # noqa: PTH115 - some hundred times in each run


def memory(call: Notification, address: int, size: int) -> bytes:
    """Return what the caller has in memory.

    Raises:
        OSError: nothing is there, or the caller is gone.
    """
    file = os.open(f"/proc/{call.pid}/mem", os.O_RDONLY)
    try:
        return os.pread(file, size, address)
    finally:
        os.close(file)


def text(call: Notification, at: int) -> str:
    """Return the string that argument `at` points to.

    Raises:
        OSError: as `memory`.
    """
    found, address = b"", call.arguments[at]
    # Page by page: what follows the last one may not be there.
    while b"\0" not in found and len(found) < _PAGE_BYTES:
        begin = address + len(found)
        found += memory(call, begin, _PAGE_BYTES - begin % _PAGE_BYTES)
    return os.fsdecode(found.partition(b"\0")[0])
