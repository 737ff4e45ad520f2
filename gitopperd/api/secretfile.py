"""A secret in a file of its own: read at each use, so that rotation is a matter of writing the file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from libgitopper import GitopperError

__all__ = ["SecretError", "read_secret"]

MAX_BYTES = 4096
OTHERS = stat.S_IROTH | stat.S_IWOTH


class SecretError(GitopperError):
    """A secret that can't be used. The text names the file and the remedy, never the secret."""


def read_secret(path: Path) -> bytes:
    """Return the first line of a file, without the white space around it.

    Raises:
        SecretError: the file can't be read, others may read or write it, or its first line is empty.
    """
    try:
        # Without waiting: a FIFO in its place must not hold a thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - what is checked is what is read
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise SecretError(f"{path}: not a file; put the secret into one")
            if mode & OTHERS:
                raise SecretError(f"{path}: every user of this host may read or write it; chmod 600 {path}")
            line = file.readline(MAX_BYTES + 1).strip()
    except OSError as exc:
        raise SecretError(f"{path}: {exc.strerror or exc}; write the secret there, mode 600") from exc
    if not line or len(line) > MAX_BYTES:
        what = "its first line is empty" if not line else f"its first line is longer than {MAX_BYTES} bytes"
        raise SecretError(f"{path}: {what}; write the secret there")
    return line
