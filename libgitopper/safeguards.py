"""What a service asks for beyond its files: to be checked, watched, verified, kept from drifting.

Values only. A service that asks for none of it costs none of it.
"""

from __future__ import annotations

import enum
from pathlib import Path

from attrs import frozen

__all__ = ["Check", "DriftPolicy", "Health", "Verify"]


@frozen(kw_only=True)
class Check:
    """Commands that must accept a release before it is published."""

    commands: tuple[tuple[str, ...], ...]
    """One argv each, run in their order; the first that does not end with 0 refuses the release."""
    user: str | None = None
    """Who they run as; None for the daemon's own user."""
    timeout_seconds: float = 60.0
    """Deadline for all of them together."""


@frozen(kw_only=True)
class Health:
    """What must hold after a reload; everything that is given must, at the same time."""

    command: tuple[str, ...] = ()
    """An argv that ends with 0 while the service is healthy."""
    http: str = ""
    """A URL that answers with 2xx or 3xx."""
    tcp: str = ""
    """``host:port``, or ``[address]:port``, that takes a connection."""
    unit: bool = False
    """The service's unit is active, and has not been started again since the reload."""
    within_seconds: float = 30.0
    """How long after the reload until it must be found healthy, `stable_for_seconds` included."""
    interval_seconds: float = 1.0
    """From the end of one probe to the next."""
    stable_for_seconds: float = 0.0
    """How long it must be healthy without interruption."""


@frozen(kw_only=True)
class Verify:
    """Whose signatures are trusted. A commit must be signed by a key in one of the files."""

    allowed_signers: Path | None = None
    """For ssh signatures; see ALLOWED SIGNERS in ssh-keygen(1)."""
    keyring: Path | None = None
    """For OpenPGP signatures: a keyring as gpgv(1) reads it."""


class DriftPolicy(enum.Enum):
    """What is done about published files that no longer are what their revision has."""

    OFF = "off"
    """They are not looked at, unless somebody asks."""
    REPORT = "report"
    """Looked at in each pass; shown as DIFF, and the difference kept as a patch."""
    HEAL = "heal"
    """As REPORT; then a fresh release is published in their place."""
