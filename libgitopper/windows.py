"""Sync windows: the times of the week in which new commits are deployed. Pure."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Window"]


@frozen(kw_only=True)
class Window:
    """A span of local time on some days of the week, as ``Mon-Fri 09:00-17:00 Europe/Amsterdam``."""

    text: str
    """As it is written in the configuration; what an operator is shown."""
    days: frozenset[int]
    """0 for Monday to 6 for Sunday: the days on which it begins."""
    start_minute: int
    """Minutes after local midnight; 0 to 1439."""
    end_minute: int
    """As `start_minute`, exclusive; up to 1440. Not after `start_minute`: it ends on the next day."""
    zone: str
    """IANA name of the time zone, as ``Europe/Amsterdam``; ``UTC`` where none is written."""
