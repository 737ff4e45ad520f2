"""Who or what asked for something that is not begun yet, in the words that the history keeps."""

from __future__ import annotations

__all__ = ["Asked"]

MOST = 5
"""So many are named; they are all that a person reads."""


class Asked:
    """Collects who asked, each once, in their order. Lives on the event loop."""

    def __init__(self, *first: str) -> None:
        self._who: dict[str, None] = dict.fromkeys(first)

    def add(self, who: str) -> None:
        """Note that `who` asked, too."""
        if who and len(self._who) < MOST:
            self._who[who] = None

    def take(self) -> str:
        """Return all who asked, as ``pull by alice, webhook github``, and begin anew; empty for nobody."""
        who, self._who = self._who, {}
        return ", ".join(who)
