"""One pass of one service: what is there is compared with what should be, and the difference acted on.

    look -> aim -> plan -> (wait | keep | advance | deploy) -> drift

Every pass compares what should be with what is, so a pass repairs what a crash, or an operator's
umount, left behind. What must not be lost is persisted in an order that leans to the safe side:
the attempt before anything is published, `deployed` after the service took the release.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import frozen

from libgitopper.deciding import Deciding, Peer, needed, unfinished
from libgitopper.deploying import Deploying
from libgitopper.drifting import Drifting
from libgitopper.errors import CheckoutError, GitopperError, PublishError, StepError
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents, Superseded
from libgitopper.ledger import Ledger
from libgitopper.model import Attempt, Deployed, IntentKind, Service
from libgitopper.orders import Order
from libgitopper.planner import Plan, Reason, Verb
from libgitopper.publishing import Publishing, has_all, is_whole, placed_as, release_of
from libgitopper.records import Rejection
from libgitopper.repository import Store
from libgitopper.requests import Drift, Published
from libgitopper.safeguards import DriftPolicy
from libgitopper.state import StateStore

__all__ = ["Found", "Pass", "Passes"]

log = logging.getLogger(__name__)

REPLANS = 3
"""How often a pass starts over because the operator changed their mind while it ran."""


@frozen(kw_only=True)
class Pass:
    """A pass that is to be made."""

    service: Service
    store: Store | None
    """None where the upstream was never fetched."""
    peers: Sequence[Peer]
    asked: str
    """Who or what asked for it, for the history."""
    still: Callable[[], bool]
    """False once the settings of the service are past."""


@frozen(kw_only=True)
class Found:
    """What a pass decided, and the drift that it left."""

    plan: Plan | None = None
    drift: Drift | None = None


@frozen(kw_only=True, eq=False)
class Passes:
    """Makes passes. The caller sees to it that those of one service don't overlap."""

    _hooks: Hooks
    _state: StateStore
    _intents: Intents
    _publishing: Publishing
    _deploying: Deploying
    _drifting: Drifting
    _deciding: Deciding
    _ledger: Ledger

    def make(self, this: Pass) -> Found:
        """Make a pass.

        Raises:
            GitopperError: it failed; what was published before still is.
        """
        service = this.service
        self._bring_back(service, lambda: self.restore(service))
        self._intents.thaw(service.name)
        # First: a deploy replaces the files, and the difference must not be lost with them.
        drift = self._drifting.seen(service, this.store)
        before = self._state.deployed(service.name) if drift else None
        self._bring_back(service, lambda: self._make_whole(this))
        try:
            plan = self._settle_tidily(this)
        except StepError:
            try:
                self._left(this, drift, before)
            except GitopperError as exc:  # what failed first is to be told, and mended, first
                log.warning("%s: its drift could not be healed: %s", service.name, exc)
            except Exception:
                log.exception("%s: its drift could not be healed", service.name)
            raise
        return Found(plan=plan, drift=self._left(this, drift, before))

    def _bring_back(self, service: Service, step: Callable[[], None]) -> None:
        """Take a `step` that brings back what is deployed.

        Raises:
            StepError: it can't be, in the place where it is wanted now, too.
        """
        try:
            step()
        except StepError as exc:
            deployed = self._state.deployed(service.name)
            if deployed is None or deployed.service.placement == service.placement:
                raise
            # Where it was may be lost for good: that is no reason against where it shall be now.
            log.warning("%s: the deployed release could not be restored: %s", service.name, exc)

    def restore(self, service: Service) -> None:
        """Publish what is deployed again, as it was placed then, where its paths show something else.

        It needs neither upstream nor store, nor room on the disk, and comes before all that does: after a
        reboot with the upstream gone, or with a tip that can't be deployed, the service gets its files. An
        attempt that is published whole, or was cut short, is left to the pass, which ends it.
        """
        deployed = self._state.deployed(service.name)
        if deployed is None:
            self._restore_ill(service)
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
        with self._intents.hold(service.name):
            self._publishing.restore(placed, release, deployed)
        self._deploying.restored(
            placed, release, Reason.UNPUBLISHED.value,
            start=attempt is not None,  # what was begun may have ended the service
            ended=self._ended(service, seen.release) if attempt else None,
        )  # fmt: skip

    def _restore_ill(self, service: Service) -> None:
        """Show again what the service was ill with, and kept, because there was nothing before it."""
        attempt = self._state.attempt(service.name)
        if attempt is None or attempt.service.places != service.places or not is_whole(attempt):
            return
        known = self._ended(service, attempt.release)
        if known is None or unfinished(self._hooks, attempt):
            return
        release = release_of(attempt)
        with self._intents.hold(service.name):
            self._publishing.restore(service, release, None)
        self._deploying.reload(service, release)

    def _make_whole(self, this: Pass) -> None:
        """Make what is deployed afresh where paths of its release are gone, whatever becomes of the tip."""
        service, store = this.service, this.store
        deployed, attempt = self._state.deployed(service.name), self._state.attempt(service.name)
        if deployed is None or store is None or is_whole(deployed):
            return
        placed = placed_as(service, deployed)
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
        with self._intents.hold(service.name):
            self._publishing.restore(placed, release, deployed)
        self._deploying.restored(placed, release, Reason.UNPUBLISHED.value, start=attempt is not None)

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

    def _settle_tidily(self, this: Pass) -> Plan | None:
        """Settle; afterwards, however it went, clear what a crash may have left."""
        try:
            return self._settle(this)
        finally:
            if this.store:
                self._deploying.tidy(this.service, this.store)

    def _settle(self, this: Pass) -> Plan | None:
        for _ in range(REPLANS):
            if not this.still():
                break
            with suppress(Superseded):
                return self._attend(this)
        return None  # the operator is still at it; their last word brings a pass of its own

    def _left(self, this: Pass, drift: Drift | None, before: Deployed | None) -> Drift | None:
        """Return the drift that is left at the end of a pass, healed where that is the policy."""
        if not (drift and before and this.store):
            return None
        deployed = self._state.deployed(this.service.name)
        if deployed is None or deployed.release != before.release:
            return None
        if self._state.attempt(this.service.name):
            # Its paths show something newer, or are to: what was there before does not come back for this.
            return None
        if this.service.drift is not DriftPolicy.HEAL or not this.still():
            return drift
        return self._drifting.heal(this.service, this.store, drift, deployed)

    def _attend(self, this: Pass) -> Plan:
        service, store, view = this.service, this.store, self._deciding.look(this.service)
        revision = self._deciding.aim(service, store, view)
        if isinstance(revision, Reason):
            return Plan(verb=Verb.WAIT, reasons=(revision,))
        try:
            decision = self._deciding.decide(revision, service, store, view, this.peers)
        except CheckoutError as exc:
            self._ledger.impossible(service, view, revision, this.asked, str(exc))
            raise
        plan = decision.meanwhile or decision.plan
        if plan.verb is Verb.KEEP or plan.target is None:
            self._deploying.install(service)
            return plan
        order = Order(
            service=service, store=needed(store, service), target=plan.target, plan=plan, view=view,
            asked=this.asked, still=this.still, stays=decision.meanwhile is not None,
        )  # fmt: skip
        if plan.verb is Verb.ADVANCE and view.deployed:
            self._deploying.advance(order, view.deployed)
            return plan
        if decision.rejection:
            self._deploying.stand_by(order, decision.rejection)
        if decision.waits and not decision.meanwhile:
            return decision.waits
        self._deploying.deploy(order)
        # With other settings: what had to wait still has to, perhaps.
        return self._attend(this) if decision.meanwhile else plan

    def _publish_anew(self, attempt: Attempt, deployed: Deployed) -> bool:
        """Show a release whose publishing was cut short: forward, because some may have seen it already."""
        service = attempt.service
        release = release_of(attempt)
        if service.places != deployed.service.places or not is_whole(attempt):
            return False
        try:
            with self._intents.hold(service.name):
                self._publishing.restore(service, release, deployed)
        except PublishError as exc:
            log.warning("%s: %s can't be published, going back: %s", service.name, release.id, exc)
            return False
        return True
