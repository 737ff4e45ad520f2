"""To show again what a service had, and have it take that: from this disk where it can be, or the store."""

from __future__ import annotations

import logging

from attrs import frozen

from libgitopper.deciding import unfinished
from libgitopper.deploying import Deploying
from libgitopper.errors import PublishError, StepError
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents
from libgitopper.model import Attempt, Deployed, IntentKind, Release, Service
from libgitopper.planner import Reason
from libgitopper.publishing import Publishing, has_all, is_whole, placed_as, release_of
from libgitopper.records import Rejection
from libgitopper.repository import Store
from libgitopper.requests import Published
from libgitopper.state import StateStore

__all__ = ["Restoring"]

log = logging.getLogger(__name__)


@frozen(kw_only=True, eq=False)
class Restoring:
    """Brings back what is deployed. The caller sees to it that nobody else works for the service."""

    _hooks: Hooks
    _state: StateStore
    _intents: Intents
    _publishing: Publishing
    _deploying: Deploying

    def restore(self, service: Service) -> None:
        """Publish what is deployed again, as it was placed then, where its paths show something else.

        It needs neither upstream nor store, nor room on the disk, and comes before all that does: after a
        reboot with the upstream gone, or with a tip that can't be deployed, the service gets its files. An
        attempt that is published whole, or was cut short, is left to the pass, which ends it.
        """
        deployed = self._state.deployed(service.name)
        if deployed is None:
            self._restore_untaken(service)
            return
        if not is_whole(deployed):
            return  # the pass makes it afresh
        placed = placed_as(service, deployed)
        seen = self._hooks.observe(placed)
        if seen.release == deployed.release:
            return
        attempt = self._state.attempt(service.name)
        if unfinished(self._hooks, attempt):
            return
        forward = attempt is not None and self._goes_on(service, seen, attempt, deployed)
        if attempt and forward and self._publish_anew(attempt, deployed):
            return
        release = release_of(deployed)
        self._show(placed, release, deployed)
        self._deploying.restored(
            placed, release, Reason.UNPUBLISHED.value,
            start=attempt is not None,  # what was begun may have ended the service
            ended=self._ended(service, seen.release) if attempt else None,
        )  # fmt: skip

    def make_whole(self, service: Service, store: Store | None) -> None:
        """Make what is deployed afresh where paths of its release are gone, whatever becomes of the tip."""
        deployed = self._state.deployed(service.name)
        if deployed is None or store is None or is_whole(deployed):
            return
        placed, attempt = placed_as(service, deployed), self._state.attempt(service.name)
        seen = self._hooks.observe(placed)
        if unfinished(self._hooks, attempt) or (attempt and (seen.release or seen.partly)):
            return  # something newer may have been seen already; the pass ends it
        try:
            release = self._deploying.release(placed, store, deployed.content)
        except StepError as exc:
            log.warning("%s: what is deployed lost files, and can't be made afresh: %s", service.name, exc)
            return
        if not has_all(release.path, placed):
            return  # nobody compares files here; the pass tells
        self._show(placed, release, deployed)
        self._deploying.restored(placed, release, Reason.UNPUBLISHED.value, start=attempt is not None)

    def owed(self, service: Service) -> Attempt | None:
        """Return the attempt by which the service is to take what is deployed already, and is shown."""
        if (attempt := self._state.attempt(service.name)) is None:
            return None  # so it is in nearly every pass
        deployed = self._state.deployed(service.name)
        if deployed is None or attempt.release != deployed.release:
            return None
        if attempt.service.placement != deployed.service.placement:
            return None
        return unfinished(self._hooks, attempt)

    def pay(self, service: Service, owed: Attempt) -> None:
        """Have the service take what it was owed when the pass began, if that is so still."""
        deployed = self._state.deployed(service.name)
        if deployed and self.owed(service) == owed:
            placed = placed_as(service, deployed)
            self._deploying.restored(placed, release_of(owed), Reason.UNFINISHED.value, start=False)

    def _restore_untaken(self, service: Service) -> None:
        """Show again what the service saw, did not take, and kept, for there was nothing before it."""
        attempt = self._state.attempt(service.name)
        if attempt is None or attempt.service.places != service.places or not is_whole(attempt):
            return
        ill = self._ended(service, attempt.release)
        if not (ill or self._was_seen(attempt)) or unfinished(self._hooks, attempt):
            return
        release = release_of(attempt)
        self._show(service, release, None)
        if ill:  # else it is owed, and the pass sees to it
            self._deploying.reload(service, release)

    def _was_seen(self, attempt: Attempt) -> bool:
        """Tell whether it is known that `attempt` was shown: a deploy of it got as far as its reload."""
        last = next(iter(self._state.deploys(attempt.service.name, 1)), None)
        return last is not None and last.release == attempt.release and "reload" in last.seconds

    def _goes_on(self, service: Service, seen: Published, attempt: Attempt, deployed: Deployed) -> bool:
        """Tell whether to go forward to `attempt`, which is not shown whole, not back to what is deployed.

        So it is where some of it is `seen`. Where a release is that is neither, it is of an attempt that
        this one overtook, and that nobody knows any more: the service has seen it, so there is no way back
        past it, except from what is known to be no good. And where the service was frozen with it: an
        operator was told that it stays, also after a boot, when nothing is seen.
        """
        if seen.partly:
            return True
        frozen = self._state.intent(service.name).kind is IntentKind.FREEZE
        if seen.release is None and not frozen:
            return False
        return attempt.release != deployed.release and not self._ended(service, attempt.release)

    def _ended(self, service: Service, shown: str | None) -> Rejection | None:
        """Return why what is shown was to be taken back; None where it was not."""
        return self._state.rejection(service.name, shown, service.fingerprint) if shown else None

    def _publish_anew(self, attempt: Attempt, deployed: Deployed) -> bool:
        """Show a release whose publishing was cut short: forward, because some may have seen it already."""
        service = attempt.service
        release = release_of(attempt)
        if service.places != deployed.service.places or not is_whole(attempt):
            return False
        try:
            self._show(service, release, deployed)
        except PublishError as exc:
            log.warning("%s: %s can't be published, going back: %s", service.name, release.id, exc)
            return False
        return True

    def _show(self, service: Service, release: Release, deployed: Deployed | None) -> None:
        with self._intents.hold(service.name):
            self._publishing.restore(service, release, deployed)
