"""What can go wrong between us and a git server. The words are for the operator.

No error of the library is here: the process without rights that reads what servers send gets by without it.
`blobs.explained` makes errors of the library of these.
"""

from __future__ import annotations

__all__ = ["DeniedError", "GarbledError", "RefusedError", "UnusableError", "cut_short"]


class GarbledError(Exception):
    """The server's answer ends early, or is not git's protocol."""


class RefusedError(Exception):
    """The server said no, in words of its own."""


class UnusableError(Exception):
    """There is no talking to the server; the text names the upstream, and says it all.

    `retryable` tells whether trying the same again can help.
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class DeniedError(UnusableError):
    """The server does not take our credentials, or we don't take its."""


def cut_short(failure: Exception) -> str:
    """Say of an answer over http that it ended early, by the failure that told."""
    return f"the answer is cut short ({type(failure).__name__})"
