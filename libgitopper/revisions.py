"""Which commit an operator means by a hash."""

from __future__ import annotations

import re

from libgitopper.errors import AmbiguousRevision, UnknownRevision
from libgitopper.model import Service
from libgitopper.repository import Store
from libgitopper.state import StateStore

__all__ = ["check_full", "find_revision"]

MIN_DIGITS = 4
"""A shorter hash names too much by chance."""
SHOWN_DIGITS = 12
FULL_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def check_full(service: str, revision: str | None) -> None:
    """Refuse what is no full hash: a pass could not find it, and would blame the store.

    Raises:
        UnknownRevision: it is none; the text says how to find one.
    """
    if not FULL_HASH.fullmatch(revision or ""):
        raise UnknownRevision(
            f"{service} can't go to {revision!r}, which is no full hash; resolve() finds it"
        )


def find_revision(service: Service, prefix: str, store: Store | None, state: StateStore) -> str:
    """Return the full hash that `prefix` names for a rollback of `service`.

    It may be in the history of its branch, or the revision of a release that is still kept.

    Raises:
        UnknownRevision: it is neither; the text says what it is.
        AmbiguousRevision: it names several.
    """
    releases = _kept(service, state)
    kept = {r for r in releases if len(prefix) >= MIN_DIGITS and r.startswith(prefix.lower())}
    if kept == {prefix.lower()}:
        return kept.pop()  # in full, so there is nothing to ask upstream's history
    try:
        found = kept | {_in_history(service, prefix, store, releases)}
    except AmbiguousRevision:
        raise
    except UnknownRevision:
        if not kept:
            raise
        found = kept
    if len(found) > 1:
        names = ", ".join(sorted(revision[:SHOWN_DIGITS] for revision in found))
        raise AmbiguousRevision(f"{prefix} stands for several commits: {names}; give more digits")
    return found.pop()


def _kept(service: Service, state: StateStore) -> list[str]:
    """Revisions of the releases that are on disk, newest first."""
    releases = state.releases(service.name, service.keep)
    return [revision for release, revision in releases if (service.releases / release).is_dir()]


def _in_history(service: Service, prefix: str, store: Store | None, kept: list[str]) -> str:
    if store is None:
        known = ", ".join(revision[:SHOWN_DIGITS] for revision in kept) or "none"
        raise UnknownRevision(
            f"{prefix!r}: no release that is kept has this hash (kept: {known}),"
            " and upstream was never fetched"
        )
    return store.resolve(prefix, service.source.branch)
