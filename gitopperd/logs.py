"""Logs: for a terminal, for the journal (with its priorities), or as JSON lines; and the event log."""

from __future__ import annotations

import copy
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from gitopperd.api.guard import Attempted
from gitopperd.plaintext import as_json, visible
from libgitopper import Event, hookimpl
from libgitopper.status import one_line

__all__ = ["EventLog", "Lasting", "audit_log", "set_up_logging"]

log = logging.getLogger(__name__)

PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
"""Level and syslog priority, as sd-daemon(3) wants them at the start of a line."""

LEVELS = {
    "failed": logging.ERROR,
    "config-refused": logging.ERROR,
    "poll-failed": logging.WARNING,
    "rejected": logging.WARNING,
    "taken-back": logging.WARNING,
    "drift": logging.WARNING,
    "healed": logging.WARNING,
    "poll": logging.DEBUG,
}
"""Level of each kind of event; all others are INFO. What makes a pass fail is told as ``failed``, too."""


class PlainFormatter(logging.Formatter):
    r"""Text that is safe on a terminal. Only tracebacks have lines; a message has ``\n`` for them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text."""
        # Else whoever names a file could write lines into the log that look like our own.
        safe = copy.copy(record)
        safe.msg, safe.args = visible(record.getMessage()), None
        return visible(super().format(safe), keep="\n")


class JournalFormatter(PlainFormatter):
    """One line for the journal, which adds time, host and process by itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, its priority first. A traceback's lines each carry the priority too."""
        priority = next((p for level, p in PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object on a line: time, level, logger, message, and an event's own members."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = getattr(record, "event", None)
        if isinstance(event, Event):
            members = {"event": event.kind, "service": event.service, "upstream": event.upstream}
            entry |= {name: value for name, value in members.items() if value is not None}
            entry["details"] = dict(event.details)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return as_json(entry, default=str)


def set_up_logging(*, debug: bool, as_json: bool, journal: bool, stream: TextIO = sys.stderr) -> None:
    """Send our logs to `stream`, and the libraries' only where they warn."""
    handler = logging.StreamHandler(stream)
    if as_json:
        handler.setFormatter(JsonFormatter())
    elif journal:
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("libgitopper", "gitopper_plugins", "gitopperd"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


LASTING_SECONDS = 3600.0
"""How often what stays the same is said again."""


class Lasting:
    """Remembers what was said of whom, so that what lasts is not said at each try. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[str, float]] = {}

    def is_news(self, subject: str, text: str) -> bool:
        """Tell whether `text` is another than was said last of `subject`, or was said long ago; note it."""
        now = self._clock()
        before, at = self._said.get(subject, (None, now))
        if before == text and now - at < LASTING_SECONDS:
            return False
        self._said[subject] = text, now
        return True

    def over(self, subject: str) -> None:
        """Note that it is over: the same is news when it comes again."""
        self._said.pop(subject, None)


class EventLog:
    """Writes each event to the log, one line each; an observer like any plugin.

    A failure that stays the same is told once, and then once an hour; all of them at debug level.
    """

    def __init__(self, lasting: Lasting | None = None) -> None:
        self._failures = lasting or Lasting()

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        """Write `event` as ``subject: kind key=value …``."""
        if event.kind == "refused":
            return  # the audit has written its own line
        level = self._level(event)
        if not log.isEnabledFor(level):
            return
        subject = event.service or event.upstream or "gitopperd"
        details = " ".join(
            f"{key}={one_line(str(value))}"
            for key, value in event.details.items()
            if value is not None and value != ""
        )
        log.log(level, "%s: %s %s", subject, event.kind, details, extra={"event": event})

    def _level(self, event: Event) -> int:
        level, subject = LEVELS.get(event.kind, logging.INFO), event.service or event.upstream or ""
        error = str(event.details.get("error"))
        if event.kind in {"failed", "poll-failed"} and not self._failures.is_news(subject, error):
            return logging.DEBUG
        well = event.kind == "state" and event.details.get("after") in {"OK", "FREEZE"}
        if well or event.kind in {"deployed", "poll"}:
            self._failures.over(subject)
        return level


def audit_log(attempted: Attempted) -> None:
    """Write what somebody asked for to the log."""
    who = attempted.who or "somebody unknown"
    about = f" {attempted.service}" if attempted.service else ""
    reason = f": {attempted.reason}" if attempted.reason else ""
    level = logging.INFO if attempted.status < 400 else logging.WARNING
    line = f"{who} from {attempted.origin}: {attempted.action}{about}: {attempted.status}{reason}"
    log.log(level, "%s", one_line(line))
