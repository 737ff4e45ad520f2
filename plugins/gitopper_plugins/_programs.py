"""What every program that runs for a service gets from the daemon, and what is told of it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from libgitopper import Release, Service

__all__ = ["DAEMONS_OWN", "environment", "last_words", "shown"]

# What systemd gave the daemon for itself. A command that inherits it would speak in the daemon's name.
DAEMONS_OWN = (
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",
    "JOURNAL_STREAM", "INVOCATION_ID", "MAINPID",
)  # fmt: skip

WORDS_LINES = 5
WORDS_LIMIT = 600
SHOWN_LIMIT = 160

# Colours and the like, ECMA-48 5.4: without the escape character what is left of them would be in the way.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def environment(service: Service, release: Release, **more: str) -> dict[str, str]:
    """Return the daemon's environment without what is its own, and what tells of the service."""
    inherited = {name: value for name, value in os.environ.items() if name not in DAEMONS_OWN}
    return {
        **inherited,
        "GITOPPER_SERVICE": service.name,
        "GITOPPER_REVISION": release.content.revision,
        "GITOPPER_RELEASE": str(release.path),
        **more,
    }


def last_words(output: str) -> str:
    """Return the last few lines of `output` that say something, as ``one | two``, 600 characters at most.

    It may be anything still, control characters included: what prints it makes it safe.
    """
    lines = (line.strip() for line in _ESCAPES.sub("", output).splitlines())
    telling = [line for line in lines if any(character.isalnum() for character in line)]
    words = " | ".join(telling[-WORDS_LINES:])
    return words if len(words) <= WORDS_LIMIT else f"…{words[1 - WORDS_LIMIT :]}"


def shown(argv: Sequence[str]) -> str:
    """Return a command as somebody would type it, 160 characters at most."""
    command = shlex.join(argv)
    return command if len(command) <= SHOWN_LIMIT else f"{command[: SHOWN_LIMIT - 1]}…"
