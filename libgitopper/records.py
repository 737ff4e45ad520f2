"""What is remembered: deploys, rejected contents, drift. Values only; the state store keeps them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from libgitopper.repository import FileChange

__all__ = ["Deploy", "DriftRecord", "Rejection", "Result"]


class Result(enum.Enum):
    """How a deploy ended."""

    DEPLOYED = "deployed"
    FAILED = "failed"
    """In one of its steps; what was published before that step still is."""
    TAKEN_BACK = "taken back"
    """It was published, was not healthy, and the former release is published again."""
    HEALED = "healed"
    """The files of the deployed revision were published afresh, because they had drifted."""


@frozen(kw_only=True)
class Deploy:
    """One try to bring a service to a revision. Tries that fail in the same way are one, with a number."""

    service: str
    at: datetime
    """When it began, the first time; UTC."""
    before: str | None
    """The revision that it started from; None at the first deploy."""
    after: str
    """The revision that it was to be."""
    release: str
    asked: str
    """Who or what asked for it, as ``poll`` or ``rollback by alice (uid 1000)``."""
    why: str
    """The planner's reasons; one line."""
    files: tuple[FileChange, ...] = ()
    """What differs between the two revisions below the mapped paths; the first thousand."""
    files_total: int = 0
    """How many they are."""
    seconds: Mapping[str, float] = field(factory=dict)
    """Step to how long it took, in order; the last one is where it ended."""
    result: Result = Result.DEPLOYED
    error: str = ""
    """Why it failed; empty when it did not."""
    tries: int = 1
    last: datetime | None = None
    """When the last of several tries began; UTC; None for one."""


@frozen(kw_only=True)
class Rejection:
    """Content that failed its check or health, and is not tried again.

    It is known by the release, so that a later commit which changes other paths does not try it anew.
    """

    service: str
    release: str
    revision: str
    """The commit that brought it."""
    fingerprint: str
    """The service's settings then, as `Service.fingerprint`; with others it is tried again."""
    step: str
    """``check``, ``reload`` or ``health``."""
    reason: str
    """In the words of what rejected it."""
    at: datetime
    """UTC."""


@frozen(kw_only=True)
class DriftRecord:
    """Drift that was found, with its patch."""

    service: str
    release: str
    revision: str
    """What the files should have been."""
    at: datetime
    """When it was found in this form; UTC."""
    changes: tuple[FileChange, ...]
    patch: bytes = field(repr=False)
    complete: bool = True
    """False where the patch lacks the content of some file."""
    healed: bool = False
    """True once a fresh release took its place."""
