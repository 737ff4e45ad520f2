"""What a pass would do for a service, decided from what is seen; touches nothing.

    look -> aim -> target -> plan -> rejected before? -> has to wait?

Passes act on it, and whoever wants to know why gets the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from attrs import evolve, frozen

from libgitopper.errors import GitopperError, SourceError, StepError
from libgitopper.hooks import Hooks
from libgitopper.model import Attempt, Content, Deployed, Service
from libgitopper.orders import View
from libgitopper.planner import Plan, Reason, Verb, aim, in_line, make_plan, may_wait
from libgitopper.records import Rejection
from libgitopper.repository import Store
from libgitopper.requests import HoldRequest, Published
from libgitopper.state import StateStore

__all__ = ["Deciding", "Decision", "Peer", "is_touched", "needed", "showing", "unfinished"]


@frozen(kw_only=True)
class Peer:
    """A service that another one comes after, with the store of its upstream."""

    service: Service
    store: Store | None


@frozen(kw_only=True)
class Decision:
    """What is to be done for a service."""

    plan: Plan
    rejection: Rejection | None = None
    """Why the plan's target must not be deployed; None where nothing is known against it."""
    waits: Plan | None = None
    """The plan to wait, in the place of `plan`; None where it can be carried out now."""
    meanwhile: Plan | None = None
    """What is done while that waits, for the commit that is deployed: other settings, or a reload."""

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why nothing is done, where that is so; else why something is."""
        if self.rejection:
            return (Reason.REJECTED,)
        return (self.waits or self.plan).reasons


@frozen(kw_only=True, eq=False)
class Deciding:
    """Decides what is to be done for a service, by the planner's rules."""

    _hooks: Hooks
    _state: StateStore
    _now: Callable[[], datetime]

    def look(self, service: Service) -> View:
        """Return what is wanted of `service`, what is on record, and what its paths show."""
        attempt = self._state.attempt(service.name)
        return View(
            intent=self._state.intent(service.name),
            deployed=self._state.deployed(service.name),
            attempt=attempt,
            published=self._hooks.observe(service),
            unfinished=unfinished(self._hooks, attempt),
        )

    def aim(self, service: Service, store: Store | None, view: View) -> str | Reason:
        """Return the revision that `service` should be at, or the reason why there is none."""
        return aim(
            intent=view.intent,
            tip=_tip(service, store),
            deployed=view.deployed,
            unfinished=view.unfinished,
            former=None if view.deployed else self._former(service),
        )

    def decide(
        self, revision: str, service: Service, store: Store | None, view: View, peers: Sequence[Peer]
    ) -> Decision:
        """Return what brings `service` to `revision`.

        Raises:
            SourceError: its upstream was never fetched, and `revision` is not what is deployed.
            CheckoutError: `revision` is not here, or lacks a mapped path.
        """
        target = self.target(revision, service, store, view.deployed)
        plan = make_plan(
            service=service,
            target=target,
            deployed=view.deployed,
            attempt=view.attempt,
            published=view.published,
        )
        if plan.verb is not Verb.DEPLOY:
            return Decision(plan=plan)
        if rejection := self._rejection(service, target):
            return Decision(plan=plan, rejection=rejection)
        waits = self._waits(plan, target, service, view, peers)
        meanwhile = self._meanwhile(service, store, view) if waits else None
        if meanwhile and meanwhile.target and (known := self._rejection(service, meanwhile.target)):
            return Decision(plan=meanwhile, rejection=known)
        return Decision(plan=plan, waits=waits, meanwhile=meanwhile)

    def target(
        self, revision: str, service: Service, store: Store | None, deployed: Deployed | Attempt | None
    ) -> Content:
        """Return what `revision` has for `service`; known without the store where it is deployed already.

        Raises:
            SourceError, CheckoutError: as `decide`.
        """
        if deployed is None or _paths(deployed.service) != _paths(service):
            return needed(store, service).content(revision, service)
        if deployed.revision == revision:
            return deployed.content
        content = needed(store, service).content(revision, service)
        if content.entries == deployed.content.entries:
            return evolve(content, generation=deployed.content.generation)
        return content

    def _waits(
        self, plan: Plan, target: Content, service: Service, view: View, peers: Sequence[Peer]
    ) -> Plan | None:
        """Return the plan to wait, where new content has to."""
        deployed = view.deployed
        if deployed and deployed.revision == target.revision:
            return None  # a path that is mapped newly is no news of the repository's
        shown = self._shown(service, view)
        if not may_wait(plan, intent=view.intent, deployed=deployed, published=shown):
            return None
        for peer in peers:
            if not self._in_line(peer):
                note = f"for {peer.service.name}, which is not in line with its upstream"
                return evolve(plan, verb=Verb.WAIT, reasons=(Reason.AFTER,), note=note)
        if Reason.FIRST in plan.reasons:
            return None  # a window is for changes; a host without its files waits for nobody's office hours
        hold = self._hooks.hold(HoldRequest(service=service, revision=target.revision, now=self._now()))
        if hold is None:
            return None
        return evolve(plan, verb=Verb.WAIT, reasons=(Reason.HELD,), note=hold.reason, until=hold.until)

    def _shown(self, service: Service, view: View) -> Published:
        """Return what is shown of the service, in the place where that was published."""
        deployed = view.deployed
        if deployed is None:
            return view.published
        if view.unfinished and view.unfinished.revision == deployed.revision:
            return Published(release=deployed.release)
        moved = deployed.service.placement != service.placement
        return self._hooks.observe(deployed.service) if moved else view.published

    def _meanwhile(self, service: Service, store: Store | None, view: View) -> Plan | None:
        """Return the plan for what is deployed, where its settings are others now, or its reload is owed.

        None also where it can't be: what needs the new commit waits with it.
        """
        deployed = view.deployed
        if deployed is None or (deployed.service.placement == service.placement and not view.unfinished):
            return None
        try:
            target = self.target(deployed.revision, service, store, deployed)
        except StepError:
            return None
        return make_plan(
            service=service, target=target, deployed=deployed, attempt=view.attempt,
            published=view.published,
        )  # fmt: skip

    def _rejection(self, service: Service, target: Content) -> Rejection | None:
        return self._state.rejection(service.name, target.release_id(service), service.fingerprint)

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


def is_touched(service: Service, store: Store, deployed: Deployed | None) -> bool:
    """Tell whether the tip has other content for `service` than what is deployed, or none."""
    tip = _tip(service, store)
    if deployed is None or tip is None:
        return True
    if deployed.revision == tip:
        return False
    try:
        return store.content(tip, service).entries != deployed.content.entries
    except GitopperError:
        return True


def unfinished(hooks: Hooks, attempt: Attempt | None) -> Attempt | None:
    """Return `attempt` where the paths of its service show its release: its reload, or its health, is owed.

    Raises:
        PublishError: what they show can't be told.
    """
    return attempt if attempt and hooks.observe(attempt.service).release == attempt.release else None


def showing(hooks: Hooks, state: StateStore, service: str) -> Deployed | Attempt | None:
    """Return what the files of `service` are of, whether it took that or not.

    Raises:
        PublishError, StateError: what its paths show can't be told.
    """
    return unfinished(hooks, state.attempt(service)) or state.deployed(service)


def needed(store: Store | None, service: Service) -> Store:
    """Return `store`, where there is one.

    Raises:
        SourceError: there is none.
    """
    if store is None:
        raise SourceError(f"{service.source.upstream} was never fetched", service=service.name)
    return store


def _tip(service: Service, store: Store | None) -> str | None:
    return store.tips.get(service.source.branch) if store else None


def _paths(service: Service) -> list[tuple[str, bool]]:
    return [(mapping.link, mapping.file) for mapping in service.mappings]
