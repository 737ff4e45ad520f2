"""How much a repository may ask of a host: values only; who reads what upstream sends keeps to them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

__all__ = ["Limits"]

MIB = 1024 * 1024
GIB = 1024 * MIB


@frozen(kw_only=True)
class Limits:
    """What is larger is refused before it fills a disk or the memory."""

    file_bytes: int = 100 * MIB
    """Largest file that is checked out. What it takes in memory to make it is bounded by this, too."""
    release_bytes: int = GIB
    """Largest sum of the files of one release."""
    fetch_bytes: int = 4 * GIB
    """Most that one exchange with the upstream may bring, as it is on the wire (compressed)."""

    @classmethod
    def largest(cls, limits: Iterable[Limits]) -> Limits:
        """Return what none of `limits`, of which there is at least one, forbids in any member."""
        every = list(limits)
        return cls(
            file_bytes=max(limit.file_bytes for limit in every),
            release_bytes=max(limit.release_bytes for limit in every),
            fetch_bytes=max(limit.fetch_bytes for limit in every),
        )


DEFAULT_LIMITS = Limits()
