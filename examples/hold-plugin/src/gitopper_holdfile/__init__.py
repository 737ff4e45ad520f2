"""New content waits while a file says so: one named after the service, or ``all``."""

from __future__ import annotations

import os
from pathlib import Path

from libgitopper import Hold, HoldRequest, hookimpl

# Not below /run: what was told to wait must still wait after a reboot.
DIRECTORY = Path(os.environ.get("GITOPPER_HOLD_DIRECTORY", "/etc/gitopper/hold.d"))
WORDS_LIMIT = 200


@hookimpl
def gitopper_hold(request: HoldRequest) -> Hold | None:
    """Hold the service while there is a file for it; its first line is the reason."""
    for name in (request.service.name, "all"):
        reason = _reason(DIRECTORY / name)
        if reason is not None:
            return Hold(reason=reason)
    return None


def _reason(path: Path) -> str | None:
    try:
        with path.open(errors="replace") as file:
            line = file.readline(WORDS_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as exc:
        # In doubt it waits: somebody put something there.
        return f"{path}: {exc.strerror}"
    words = "".join(c if c.isprintable() else " " for c in line).strip()
    return f"{words} ({path})" if words else f"{path} is there"
