"""gitopperctl on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys

from tests.support.simulateddaemon import ROOT

__all__ = ["on_a_terminal"]


def on_a_terminal(*words: str, **environ: str) -> str:
    """Run it on a pseudo terminal, and return what the terminal got."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "gitopperd.ctl.main", *words]
        settings = {**os.environ, "TERM": "xterm", "COLUMNS": "90", "NO_COLOR": "", **environ}
        subprocess.run(command, cwd=ROOT, env=settings, stdout=theirs, timeout=30, check=True)
        os.close(theirs)
        theirs = -1
        said = b""
        with contextlib.suppress(OSError):  # EIO is how a terminal without a writer ends.
            while chunk := os.read(ours, 65536):
                said += chunk
        return said.decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
