"""To show a release where the service wants it now, and nowhere else any more."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from attrs import evolve

from libgitopper.errors import StateError
from libgitopper.hooks import Hooks
from libgitopper.model import Attempt, Deployed, Release, Service
from libgitopper.planner import Stale
from libgitopper.state import StateStore

__all__ = ["Publishing", "has_all", "is_whole", "placed_as", "release_of"]

log = logging.getLogger(__name__)


def release_of(known: Deployed | Attempt) -> Release:
    """Return the release that is deployed, or was to be, from what is recorded of it."""
    return Release(
        service=known.service.name,
        id=known.release,
        path=known.release_path,
        content=known.content,
    )


def is_whole(known: Deployed | Attempt) -> bool:
    """Tell whether its release still has every path that it shows; what is below may have drifted."""
    return has_all(known.release_path, known.service)


def has_all(release: Path, service: Service) -> bool:
    """Tell whether the directory of a release has every path that `service` maps."""
    return all(os.path.lexists(release / mapping.link) for mapping in service.mappings)


def placed_as(service: Service, deployed: Deployed) -> Service:
    """Return `service` as its settings are now, but placed as `deployed` was."""
    then = deployed.service
    return evolve(
        service, mappings=then.mappings, mount=then.mount, publish=then.publish, readonly=then.readonly,
        user=then.user,
    )  # fmt: skip


class Publishing:
    """Publishes releases, and withdraws what stands elsewhere because settings changed."""

    def __init__(self, *, hooks: Hooks, state: StateStore) -> None:
        self._hooks = hooks
        self._state = state

    def publish(self, service: Service, release: Release, deployed: Deployed | None) -> None:
        """Show `release`, and no longer show what was mapped elsewhere before.

        Raises:
            PublishError: it can't be shown; what is deployed is shown still.
            StateError: the attempt could not be written; nothing was published.
        """
        stale = Stale.of(deployed.service if deployed else None, service)
        if stale.in_the_way:
            # Asked first: what makes way and is put back again was gone for a moment, at each try.
            self._hooks.judge(service, release, stale.in_the_way)
        cleared = self._clear(service, deployed)
        # Written first: a crash from here on leaves the reload owed, and names what is published.
        self._state.begin(service.name, _attempt(service, release))
        if stale.in_the_way:
            self._hooks.withdraw(stale.in_the_way, keep_live=not stale.moved)
        try:
            self._hooks.publish(service, release)
        except Exception:
            if deployed and (cleared or stale.in_the_way):
                self._put_back(deployed)
            raise
        if stale.aside:
            self._hooks.withdraw(stale.aside, keep_live=True)

    def restore(self, service: Service, release: Release, deployed: Deployed | None) -> None:
        """Show again what the state has, as it was placed then; also where it can't be written now.

        On a disk that is full the service gets its files all the same. That it is to take them is then
        owed by this process alone: `record` ends it, which tells what is wrong for as long as it fails.

        Raises:
            PublishError: it can't be shown.
        """
        self._clear(service, deployed)
        attempt = _attempt(service, release)
        try:
            self._state.begin(service.name, attempt)
        except StateError as exc:
            log.warning("%s: its files are shown again all the same: %s", service.name, exc)
            self._state.owe(service.name, attempt)
        self._hooks.publish(service, release)

    def _clear(self, service: Service, deployed: Deployed | None) -> bool:
        """Withdraw what an unfinished attempt left at paths of settings that are past; tell whether it did.

        It comes before the next attempt is written, because nothing else remembers those paths.
        What is at the paths of the deployed release is left to `publish`, which has the new one.
        """
        attempt = self._state.attempt(service.name)
        if attempt is None or (deployed and attempt.service.placement == deployed.service.placement):
            return False
        stale = Stale.of(attempt.service, service)
        formers = [former for former in (stale.in_the_way, stale.aside) if former]
        for former in formers:
            self._hooks.withdraw(former, keep_live=not stale.moved)
        return bool(formers)

    def _put_back(self, deployed: Deployed) -> None:
        """Publish again what made way for a release that then could not be published."""
        try:
            if is_whole(deployed):
                self._hooks.publish(deployed.service, release_of(deployed))
        except Exception:
            log.exception("%s: its release could not be put back", deployed.service.name)


def _attempt(service: Service, release: Release) -> Attempt:
    content = release.content
    return Attempt(revision=content.revision, release=release.id, content=content, service=service)
