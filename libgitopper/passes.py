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
from datetime import datetime

from attrs import evolve, frozen

from libgitopper.deploying import Deploying
from libgitopper.drifting import Drifting
from libgitopper.errors import PublishError, SourceError, StepError
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents, Superseded
from libgitopper.model import Attempt, Content, Deployed, Service
from libgitopper.orders import Order, View
from libgitopper.planner import Plan, Reason, Verb, aim, in_line, make_plan, may_wait
from libgitopper.publishing import Publishing, placed_as, release_of
from libgitopper.repository import Store
from libgitopper.requests import Drift, HoldRequest
from libgitopper.safeguards import DriftPolicy
from libgitopper.state import StateStore

__all__ = ["Found", "Pass", "Passes", "Peer"]

log = logging.getLogger(__name__)

REPLANS = 3
"""How often a pass starts over because the operator changed their mind while it ran."""


@frozen(kw_only=True)
class Peer:
    """A service that another one comes after, with the store of its upstream."""

    service: Service
    store: Store | None


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


class Passes:
    """Makes passes. The caller sees to it that those of one service don't overlap."""

    def __init__(
        self,
        *,
        hooks: Hooks,
        state: StateStore,
        intents: Intents,
        publishing: Publishing,
        deploying: Deploying,
        drifting: Drifting,
        now: Callable[[], datetime],
    ) -> None:
        self._hooks = hooks
        self._state = state
        self._intents = intents
        self._publishing = publishing
        self._deploying = deploying
        self._drifting = drifting
        self._now = now

    def make(self, this: Pass) -> Found:
        """Make a pass.

        Raises:
            GitopperError: it failed; what was published before still is.
        """
        service = this.service
        self._intents.thaw(service.name)
        try:
            self.restore(service)
        except StepError as exc:
            deployed = self._state.deployed(service.name)
            if deployed is None or deployed.service.placement == service.placement:
                raise
            # Where it was may be lost for good: that is no reason against where it shall be now.
            log.warning("%s: the deployed release could not be restored: %s", service.name, exc)
        before = self._state.deployed(service.name)
        # First: a deploy replaces the files, and the difference must not be lost with them.
        drift = self._drifting.seen(service, this.store)
        try:
            plan = self._settle(this)
        except StepError:
            with suppress(StepError):
                self._left(this, drift, before)
            raise
        return Found(plan=plan, drift=self._left(this, drift, before))

    def restore(self, service: Service) -> None:
        """Publish what is deployed again, as it was placed then, where its paths show something else.

        It needs neither upstream nor store, and comes before all that does: after a reboot with
        the upstream gone, or with a tip that can't be deployed, the service gets its files. An
        attempt that is published whole, or was cut short in that, is left to the pass, which ends it.
        """
        deployed = self._state.deployed(service.name)
        if deployed is None or not deployed.release_path.is_dir():
            return
        placed = placed_as(service, deployed)
        seen = self._hooks.observe(placed)
        if seen.release == deployed.release:
            return
        attempt = self._state.attempt(service.name)
        if attempt and self._hooks.observe(attempt.service).release == attempt.release:
            return
        if attempt and seen.partly and self._publish_anew(attempt, deployed):
            return
        release = release_of(deployed)
        with self._intents.hold(service.name):
            self._publishing.publish(placed, release, deployed)
        self._deploying.restored(placed, release, Reason.UNPUBLISHED.value)

    def _settle(self, this: Pass) -> Plan | None:
        for _ in range(REPLANS):
            if not this.still():
                break
            with suppress(Superseded):
                return self._attend(this)
        return None  # the operator is still at it; their last word brings a pass of its own

    def _left(self, this: Pass, drift: Drift | None, before: Deployed | None) -> Drift | None:
        """Return the drift that is left at the end of a pass, healed where that is the policy."""
        deployed = self._state.deployed(this.service.name)
        if not (drift and before and deployed and this.store) or deployed.release != before.release:
            return None
        if this.service.drift is not DriftPolicy.HEAL:
            return drift
        return self._drifting.heal(this.service, this.store, drift, deployed)

    def _attend(self, this: Pass) -> Plan:
        service, store, view = this.service, this.store, self._look(this.service)
        revision = aim(
            intent=view.intent,
            tip=_tip(service, store),
            deployed=view.deployed,
            attempt=view.attempt,
            published=view.published,
            former=None if view.deployed else self._former(service),
        )
        if isinstance(revision, Reason):
            return Plan(verb=Verb.WAIT, reasons=(revision,))
        target = self._target(revision, service, store, view.deployed)
        plan = make_plan(
            service=service,
            target=target,
            deployed=view.deployed,
            attempt=view.attempt,
            published=view.published,
        )
        if plan.verb is Verb.KEEP:
            self._deploying.install(service)
            return plan
        order = Order(
            service=service, store=_needed(store, service), target=target, plan=plan, view=view,
            asked=this.asked, still=this.still,
        )  # fmt: skip
        if plan.verb is Verb.ADVANCE and view.deployed:
            self._deploying.advance(order, view.deployed)
            return plan
        return self._deploy(order, this.peers)

    def _deploy(self, order: Order, peers: Sequence[Peer]) -> Plan:
        service = order.service
        release = order.target.release_id(service)
        if rejection := self._state.rejection(service.name, release, service.fingerprint):
            self._deploying.stand_by(order, rejection)
        if waits := self._waits(order, peers):
            return waits
        self._deploying.deploy(order)
        return order.plan

    def _waits(self, order: Order, peers: Sequence[Peer]) -> Plan | None:
        """Return the plan to wait, where new content has to."""
        view, plan = order.view, order.plan
        if not may_wait(plan, intent=view.intent, deployed=view.deployed, published=view.published):
            return None
        for peer in peers:
            if not self._in_line(peer):
                note = f"for {peer.service.name}, which is not in line with its upstream"
                return evolve(plan, verb=Verb.WAIT, reasons=(Reason.AFTER,), note=note)
        if Reason.FIRST in plan.reasons:
            return None  # a window is for changes; a host without its files waits for nobody's office hours
        request = HoldRequest(service=order.service, revision=order.target.revision, now=self._now())
        hold = self._hooks.hold(request)
        if hold is None:
            return None
        return evolve(plan, verb=Verb.WAIT, reasons=(Reason.HELD,), note=hold.reason, until=hold.until)

    def _in_line(self, peer: Peer) -> bool:
        name = peer.service.name
        return in_line(
            intent=self._state.intent(name),
            tip=_tip(peer.service, peer.store),
            deployed=self._state.deployed(name),
            attempt=self._state.attempt(name),
        )

    def _former(self, service: Service) -> str | None:
        """Return the revision that the service last took, before it was withdrawn."""
        return next((revision for _, revision in self._state.releases(service.name, 1)), None)

    def _look(self, service: Service) -> View:
        return View(
            intent=self._state.intent(service.name),
            deployed=self._state.deployed(service.name),
            attempt=self._state.attempt(service.name),
            published=self._hooks.observe(service),
        )

    def _target(
        self, revision: str, service: Service, store: Store | None, deployed: Deployed | None
    ) -> Content:
        """What `revision` has for `service`; known without the store where it is deployed already."""
        if deployed is None or _paths(deployed.service) != _paths(service):
            return _needed(store, service).content(revision, service)
        if deployed.revision == revision:
            return deployed.content
        content = _needed(store, service).content(revision, service)
        if content.entries == deployed.content.entries:
            return evolve(content, generation=deployed.content.generation)
        return content

    def _publish_anew(self, attempt: Attempt, deployed: Deployed) -> bool:
        """Show a release whose publishing was cut short: forward, because some may have seen it already."""
        service = attempt.service
        release = release_of(attempt)
        if service.placement != deployed.service.placement or not release.path.is_dir():
            return False
        try:
            with self._intents.hold(service.name):
                self._publishing.publish(service, release, deployed)
        except PublishError as exc:
            log.warning("%s: %s can't be published, going back: %s", service.name, release.id, exc)
            return False
        return True


def _tip(service: Service, store: Store | None) -> str | None:
    return store.tips.get(service.source.branch) if store else None


def _paths(service: Service) -> list[tuple[str, bool]]:
    return [(mapping.link, mapping.file) for mapping in service.mappings]


def _needed(store: Store | None, service: Service) -> Store:
    if store is None:
        raise SourceError(f"{service.source.upstream} was never fetched", service=service.name)
    return store
