"""The program ``gitopperd``: loads the daemon so that little more than what it needs is kept, and runs it.

What is decided here holds for the whole process, so it is nothing for a module that others import.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import linecache
import os
import signal
from collections.abc import Iterator

__all__ = ["main"]

AUTHORITIES_VARIABLE = "SSL_CERT_FILE"
"""Where OpenSSL reads the certificate authorities from that are trusted when nobody names any."""

M_ARENA_MAX = -8
"""Of mallopt(3)."""
ARENAS = 2
"""Of malloc, for all threads: each keeps what its threads once needed, and by itself glibc makes eight for
each processor. One fewer saves nothing more, and lets threads wait for each other."""


def main() -> None:
    """Run the daemon's command line; it ends the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # by itself it would end us; see signals.py
    _share_arenas()
    gc.disable()  # nothing that is loaded is garbage, and looking for some takes 40 ms
    with _no_authorities():
        from gitopperd.main import main as run
    linecache.clearcache()  # attrs keeps the source of what it generates there, 0.6 MB, for debuggers
    gc.freeze()  # it is there to stay: no later collection has to go through it
    gc.enable()
    _reap()
    run(prog_name="gitopperd")


def _reap() -> None:
    """Take leave of what this process started before it began anew: it is their parent still.

    They ended when the sockets to them were closed, long before the daemon was loaded.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _share_arenas() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none, and no arenas either
        libc.mallopt(M_ARENA_MAX, ARENAS)


@contextlib.contextmanager
def _no_authorities() -> Iterator[None]:
    """Trust no certificate authority that is loaded in the block.

    `aiohttp` reads all of the host when it is imported, for a client that the daemon has no use for: 1.7 MB
    that stay, and 40 ms. Contexts that are made later know them.
    """
    before = os.environ.get(AUTHORITIES_VARIABLE)
    os.environ[AUTHORITIES_VARIABLE] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[AUTHORITIES_VARIABLE]
        else:
            os.environ[AUTHORITIES_VARIABLE] = before
