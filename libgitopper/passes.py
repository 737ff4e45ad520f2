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

from libgitopper.deciding import Deciding, Peer, needed
from libgitopper.deploying import Deploying
from libgitopper.drifting import Drifting
from libgitopper.errors import CheckoutError, GitopperError, HealthError, ReloadError, StepError
from libgitopper.intents import Intents, Superseded
from libgitopper.ledger import Ledger
from libgitopper.model import Deployed, Service
from libgitopper.orders import Order
from libgitopper.planner import Plan, Reason, Verb
from libgitopper.repository import Store
from libgitopper.requests import Drift
from libgitopper.restoring import Restoring
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

    _state: StateStore
    _intents: Intents
    _restoring: Restoring
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
        self._bring_back(service, lambda: self._restoring.restore(service))
        self._intents.thaw(service.name)
        # First: a deploy replaces the files, and the difference must not be lost with them.
        drift = self._drifting.seen(service, this.store)
        before = self._state.deployed(service.name) if drift else None
        self._bring_back(service, lambda: self._restoring.make_whole(service, this.store))
        owed = self._restoring.owed(service)
        try:
            plan = self._settle_tidily(this)
        except StepError as exc:
            if owed and not isinstance(exc, HealthError | ReloadError):  # it came as far as a reload
                self._aside(service, "its reload is still owed", lambda: self._restoring.pay(service, owed))
            self._aside(service, "its drift could not be healed", lambda: self._left(this, drift, before))
            raise
        return Found(plan=plan, drift=self._left(this, drift, before))

    def _aside(self, service: Service, failed: str, step: Callable[[], object]) -> None:
        """Take a `step` in a pass that failed: why it did is to be told, and mended, first."""
        try:
            step()
        except GitopperError as exc:
            log.warning("%s: %s: %s", service.name, failed, exc)
        except Exception:
            log.exception("%s: %s", service.name, failed)

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
