"""Logs: for a terminal, for the journal (with its priorities), or as JSON lines; and the event log."""

from __future__ import annotations

import copy
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from gitopperd.api.guard import Attempted
from gitopperd.plaintext import as_json, visible
from libgitopper import Event, hookimpl
from libgitopper.status import one_line

__all__ = ["EventLog", "audit_log", "set_up_logging"]

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


class EventLog:
    """Writes each event to the log, one line each; an observer like any plugin."""

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        """Write `event` as ``subject: kind key=value …``."""
        if event.kind == "refused":
            return  # the audit has written its own line
        level = LEVELS.get(event.kind, logging.INFO)
        if not log.isEnabledFor(level):
            return
        subject = event.service or event.upstream or "gitopperd"
        details = " ".join(
            f"{key}={one_line(str(value))}"
            for key, value in event.details.items()
            if value is not None and value != ""
        )
        log.log(level, "%s: %s %s", subject, event.kind, details, extra={"event": event})


def audit_log(attempted: Attempted) -> None:
    """Write what somebody asked for to the log."""
    who = attempted.who or "somebody unknown"
    about = f" {attempted.service}" if attempted.service else ""
    reason = f": {attempted.reason}" if attempted.reason else ""
    level = logging.INFO if attempted.status < 400 else logging.WARNING
    line = f"{who} from {attempted.origin}: {attempted.action}{about}: {attempted.status}{reason}"
    log.log(level, "%s", one_line(line))
