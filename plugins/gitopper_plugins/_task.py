"""What `check` and the program that it starts (`_stage`) tell each other, through a file in memory.

Plain classes: the program starts once for each check, and imports as little as it can.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is not light
    from typing import Any

__all__ = ["Report", "Task", "receive", "send"]


class Task:
    """What is to be done. All paths are absolute."""

    def __init__(
        self,
        *,
        commands: Sequence[Sequence[str]],
        timeout_seconds: float,
        private: bool,
        places: Sequence[tuple[str, str]],
        protected: Sequence[str],
        procs: Sequence[str],
        user: tuple[int, int, tuple[int, ...]] | None,
        separator: str,
        parent: int,
    ) -> None:
        self.commands = commands
        self.timeout_seconds = timeout_seconds
        """Deadline for all of them together."""
        self.private = private
        """Whether they get a view of their own; the next three are for that."""
        self.places = places
        """What is to be seen, and where."""
        self.protected = protected
        """Paths of which nothing may be changed."""
        self.procs = procs
        """Where a procfs is mounted."""
        self.user = user
        """uid, gid and all groups that the commands run with; None for those of the program."""
        self.separator = separator
        """What is printed between two commands."""
        self.parent = parent
        """Id of the process that started the program."""


class Report:
    """How it went."""

    ACCEPTED = "every command ended with 0"
    ENDED = "a command did not"
    LATE = "a command was not done in time"
    UNSTARTABLE = "a command could not be started"
    UNPREPARED = "the view could not be made"
    REFUSED = "this process may have no view of its own"

    def __init__(self, *, how: str, index: int = 0, code: int = 0, reason: str = "") -> None:
        self.how = how
        self.index = index
        """Which command."""
        self.code = code
        """For ENDED: its exit code, or ``-N`` when signal N ended it."""
        self.reason = reason
        """For the last three."""


def send(file: int, what: Task | Report) -> None:
    """Put `what` into the file, in place of all that is in it."""
    os.ftruncate(file, 0)
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.seek(0)
        stream.write(json.dumps({type(what).__name__: vars(what)}).encode())


def receive(file: int, kind: type[Task] | type[Report]) -> dict[str, Any]:
    """Return the members of what is in the file; empty where it is not of that `kind`, or was cut short."""
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(0)
        text = stream.read()
    try:
        members: dict[str, Any] = json.loads(text).get(kind.__name__, {})
    except ValueError:  # no room for all of it
        return {}
    return members
