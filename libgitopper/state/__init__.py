"""What survives a restart: intent, deployed, attempts, history, shown, audit; in one SQLite file."""

from libgitopper.state.audit import AuditEntry
from libgitopper.state.store import StateStore

__all__ = ["AuditEntry", "StateStore"]
