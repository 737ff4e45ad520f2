"""Directories that services can read, and bringing what was written to the disk."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["make_directory", "sync_filesystem"]


def make_directory(path: Path) -> None:
    """Make `path` and its missing parents, open to be passed through (0755) whatever the umask."""
    try:
        path.mkdir()
    except FileNotFoundError:
        make_directory(path.parent)
        make_directory(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o755)


def sync_filesystem(path: Path) -> None:
    """Bring everything written to the file system of `path` to the disk: one call, however many files.

    Raises:
        OSError: the disk refused something that was written.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.syncfs(fd) != 0:
            code = ctypes.get_errno() or errno.EIO
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)
