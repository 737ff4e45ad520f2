"""What operators want of services: persisted before it is acknowledged, and never overtaken by a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from attrs import evolve

from libgitopper.hooks import Hooks
from libgitopper.locks import NamedLocks
from libgitopper.model import Intent
from libgitopper.requests import Event
from libgitopper.state import AuditEntry, StateStore

__all__ = ["Intents", "Superseded"]


class Superseded(Exception):  # noqa: N818 - not an error: the operator changed their mind
    """The intent changed between planning and acting."""


class Intents:
    """The intent of each service, with a gate before it that a pass and an operator share."""

    def __init__(self, *, hooks: Hooks, state: StateStore, now: Callable[[], datetime]) -> None:
        self._hooks = hooks
        self._state = state
        self._now = now
        self._gates = NamedLocks()

    def want(self, service: str, intent: Intent) -> Intent:
        """Persist what the operator wants, and return it as it stands: with its time."""
        stands = evolve(intent, since=self._now())
        with self._gates.of(service):
            self._state.set_intent(service, stands)
        self._tell(service, stands)
        return stands

    def thaw(self, service: str) -> Intent:
        """Track again where the time of the intent is over; return the intent that stands now."""
        now = self._now()
        with self._gates.of(service):
            intent = self._state.intent(service)
            if not intent.expired(now):
                return intent
            over = f"the time of this {intent.kind.value} is over"
            stands = Intent(since=now, reason=over)
            entry = AuditEntry(
                at=now, who="", action="expiry", service=service, origin="itself", status=200, reason=over
            )
            self._state.set_intent(service, stands, entry)
        self._tell(service, stands)
        return stands

    @contextmanager
    def hold(self, service: str) -> Iterator[None]:
        """Let nobody change the intent of `service` meanwhile."""
        with self._gates.of(service):
            yield

    @contextmanager
    def gate(self, service: str, planned_for: Intent) -> Iterator[None]:
        """Act on a plan only while the intent that it was made for still stands.

        `want` waits here for microseconds to milliseconds, never for a reload or the network.

        Raises:
            Superseded: another intent stands by now.
        """
        with self._gates.of(service):
            if self._state.intent(service) != planned_for:
                raise Superseded
            yield

    def _tell(self, service: str, intent: Intent) -> None:
        until = intent.until.isoformat() if intent.until else None
        extra = {"reason": intent.reason, "until": until, "by": intent.by}
        details = {"intent": intent.kind.value, "revision": intent.revision}
        details |= {key: value for key, value in extra.items() if value}
        self._hooks.event(Event(kind="intent", service=service, details=details))
