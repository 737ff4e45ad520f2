"""What can go wrong between gitopperctl and a daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Answer", "AskError", "SettingsError"]

Answer = Mapping[str, Any]


class AskError(Exception):
    """A daemon could not be asked, or refused; the text says what to do, not which host it was.

    `code` is the daemon's (``not-found``), or one of ours: ``unreachable``, ``timeout``,
    ``bad-answer``, ``tls``, ``ssh``, ``credentials``.
    """

    def __init__(
        self, code: str, message: str, answer: Answer | None = None, problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.problems = tuple(problems)
        """What the daemon found wrong, one by one; safe to print."""
        self._answer = answer

    def as_answer(self) -> Answer:
        """Return what the daemon answered, or the like of it where it did not."""
        return self._answer or {"error": {"code": self.code, "message": str(self)}}


class SettingsError(Exception):
    """Our own settings can't be used: `problems` has all that is wrong, each with its remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
