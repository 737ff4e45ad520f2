"""What the hooks take and give: one frozen value for each job, one for each answer."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from libgitopper.limits import DEFAULT_LIMITS, Limits
from libgitopper.model import Content, Credentials, Intent, Release, Service
from libgitopper.repository import FileChange, Store
from libgitopper.valid import has_zone, is_texts, writable

__all__ = [
    "Accepted", "CheckRequest", "CheckoutRequest", "Drift", "DriftRequest", "Event", "FetchRequest",
    "HealthRequest", "Hold", "HoldRequest", "InstallRequest", "Installed", "MountRequest", "MountVerb",
    "Published", "ReloadRequest", "Reloaded", "VerifyRequest",
]  # fmt: skip


@frozen(kw_only=True)
class FetchRequest:
    """Bring the store of one upstream up to date, or open it as it is."""

    upstream: str
    """URL without credentials."""
    credentials: Credentials
    branches: frozenset[str]
    """The branches to follow; a branch that upstream lacks is absent from the tips."""
    stores: Path
    """Directory that holds the stores; each plugin names its own below it."""
    offline: bool = False
    """True: no network; answer with what the last successful fetch brought."""
    timeout_seconds: float = 90.0
    """Deadline for the whole exchange."""
    limits: Limits = DEFAULT_LIMITS
    """What upstream may send."""
    fetch_user: str | None = None
    """The account that is to read it; None for the process's own, and in that process."""


@frozen(kw_only=True)
class CheckoutRequest:
    """Make the release of `content` for `service`."""

    service: Service
    store: Store
    content: Content
    sync: bool = True
    """False: where the release is there, and only follows another commit, that need not be on the disk yet.
    The caller brings the file system of `store` there before it relies on it, for many services at once."""


class MountVerb(enum.Enum):
    """What a `MountRequest` asks for."""

    PUBLISH = "publish"
    """Make `release` the one that the service sees, at all its mappings."""
    WITHDRAW = "withdraw"
    """Stop showing any release at the mappings; what stood there before shows again."""
    OBSERVE = "observe"
    """Look, touch nothing."""
    JUDGE = "judge"
    """Tell, by the error that PUBLISH would raise, what keeps `release` from being shown once `former` is
    withdrawn; touch nothing."""


@frozen(kw_only=True)
class MountRequest:
    """What to do at the mappings of `service`."""

    service: Service
    verb: MountVerb
    release: Release | None = None
    """For PUBLISH and JUDGE."""
    former: Service | None = None
    """For JUDGE: what is shown still, and would have to make way, perhaps another publisher's."""
    keep_live: bool = False
    """For WITHDRAW: the service goes on with other mappings, so the link to its live release stays."""


@frozen(kw_only=True)
class Published:
    """What stands at a service's mappings now, as observed, not as assumed."""

    release: str | None
    """Id of the release that all mappings show; None when they show none, or not the same."""
    partly: bool = False
    """True when `release` is None although some mapping shows a release of this service: publishing was
    cut short, or somebody took a mapping away."""
    changed: bool = False
    """True when this call changed what the service sees."""
    note: str = field(default="", converter=writable)
    """What an operator should know, as a limitation that applies; one line."""


@frozen(kw_only=True)
class ReloadRequest:
    """Make a service take the release that was just published."""

    service: Service
    release: Release
    first: bool
    """True when this service never had a release before: then start what does not run."""
    start: bool = False
    """True when it has to run, whatever is found: it may have ended by a release that is taken back."""


@frozen(kw_only=True)
class Reloaded:
    """What was done to make the service take the release."""

    did: str = field(converter=writable)
    """For the log, as ``systemctl reload nginx``; empty when there was nothing to do."""
    note: str = field(default="", converter=writable)
    """What an operator should see beside the state, as ``the unit is stopped``."""
    idle: bool = False
    """True: the service does not run, and is not meant to. So nobody watches whether it is healthy."""


@frozen(kw_only=True)
class Event:
    """Something happened. Observers get each one; what they raise is logged and harms nobody."""

    kind: str
    """One of: ``poll``, ``poll-failed``, ``deployed``, ``advanced``, ``withdrawn``, ``failed``, ``state``,
    ``intent``, ``refused``, ``config-loaded``, ``config-refused``, ``rejected``, ``taken-back``, ``drift``,
    ``healed``, ``installed``."""
    service: str | None = None
    upstream: str | None = None
    details: Mapping[str, Any] = field(factory=dict)
    """Plain values (str, int, float, bool, None), for logs; never a secret."""


@frozen(kw_only=True)
class HoldRequest:
    """May new content of a service be deployed now?"""

    service: Service
    revision: str
    """What would be deployed."""
    now: datetime
    """UTC."""


@frozen(kw_only=True)
class Hold:
    """Why it has to wait."""

    reason: str = field(converter=writable)
    """One line, as ``outside of Mon-Fri 09:00-17:00``."""
    until: datetime | None = field(default=None, validator=has_zone)
    """When to ask again, with its time zone; None for the next poll."""


@frozen(kw_only=True)
class VerifyRequest:
    """May a service go to `revision`? Asked before anything is written."""

    service: Service
    store: Store
    revision: str
    accepted: str | None
    """The commit that was accepted before: what lies between is new. None at the first deploy."""
    floor: str | None
    """The same, of this very branch: what history must not go behind. None where there is none, as
    after a change of the branch in the config."""
    intent: Intent
    """A `ROLLBACK` is an operator's own word."""


@frozen(kw_only=True)
class InstallRequest:
    """Have the package of a service installed; never upgrade one that is."""

    service: Service
    """`package` is set."""


@frozen(kw_only=True)
class Installed:
    """The package is installed."""

    did: str = field(default="", converter=writable)
    """For the log, as ``apt-get install nginx``; empty when it was there already."""


@frozen(kw_only=True)
class CheckRequest:
    """Is a release fit to be published?"""

    service: Service
    release: Release


@frozen(kw_only=True)
class HealthRequest:
    """Is a service healthy, right now? One probe: it is asked again and again."""

    service: Service
    release: Release
    """The one that it runs with."""
    since: datetime
    """When its reload was done; UTC."""
    timeout_seconds: float
    """Deadline for this probe."""
    since_monotonic: float = field(factory=time.monotonic)
    """The same in seconds of CLOCK_MONOTONIC, which nobody sets; as systemd's ``…Monotonic`` have it."""


@frozen(kw_only=True)
class Accepted:
    """A plugin judged, and has no objection."""

    judged: tuple[str, ...] = field(default=(), validator=is_texts)
    """The service's own settings that it judged by, as ``("check",)``. It is an error if nobody judged by
    one that is set: a veto of another kind does not stand in for a plugin that is missing."""
    note: str = field(default="", converter=writable)
    """What an operator should see beside the state, as a limitation that applies; one line."""


@frozen(kw_only=True)
class DriftRequest:
    """Do the files of a release still have the content of its revision?"""

    service: Service
    store: Store
    release: Release
    thorough: bool = False
    """False: files whose size, times and inode are as they were written are taken as unchanged."""


@frozen(kw_only=True)
class Drift:
    """How the files of a release differ from their revision."""

    changes: tuple[FileChange, ...] = ()
    """Sorted by path; empty where nothing differs."""
    patch: bytes = field(default=b"", repr=False)
    """For ``git apply``: makes the files of the revision into those that are there. What a patch can't
    tell (owners, modes other than executable or not) stands in lines before its first diff."""
    complete: bool = True
    """False where the patch lacks the content of some file, as one that is too large: then nothing is
    healed, because the edit would be lost."""
