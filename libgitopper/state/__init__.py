"""What survives a restart: intent, deployed, attempts, history and shown states, in one SQLite file."""

from libgitopper.state.store import StateStore

__all__ = ["StateStore"]
