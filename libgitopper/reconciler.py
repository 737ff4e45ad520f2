"""The reconciler: brings services in line, one pass at a time. It reads top to bottom like the flow.

    look -> aim -> plan -> checkout -> publish -> reload -> record

Every pass compares what should be with what is, so a pass repairs what a crash, or an operator's
umount, left behind. What must not be lost is persisted in an order that leans to the safe side:
the attempt before anything is published, `deployed` after the service took the release.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from attrs import evolve, frozen

from libgitopper.errors import GitopperError, PublishError, SourceError, StepError
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents, Superseded
from libgitopper.locks import NamedLocks
from libgitopper.model import Attempt, Content, Deployed, Intent, Release, Service, Watch
from libgitopper.planner import Plan, Reason, Verb, aim, make_plan
from libgitopper.publishing import Publishing, release_of
from libgitopper.repository import Store
from libgitopper.requests import CheckoutRequest, Event, FetchRequest, Published, ReloadRequest
from libgitopper.revisions import find_revision
from libgitopper.state import StateStore

__all__ = ["Outcome", "Reconciler", "utc_now"]

log = logging.getLogger(__name__)

REPLANS = 3
"""How often a pass starts over because the operator changed their mind while it ran."""


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


def _always() -> bool:
    return True


@frozen(kw_only=True)
class Outcome:
    """What one pass found and did for one service."""

    service: Service
    intent: Intent
    deployed: Deployed | None
    plan: Plan | None = None
    """What the pass decided; None when it failed before that."""
    error: GitopperError | None = None
    """Why the pass failed; None when it went well."""


@frozen(kw_only=True)
class _View:
    """What a pass sees before it decides."""

    intent: Intent
    deployed: Deployed | None
    attempt: Attempt | None
    published: Published


class Reconciler:
    """Brings services in line with what is wanted of them.

    Safe to use from several threads: passes of one service never overlap, and an intent that
    `want` has acknowledged is never overtaken by a pass that was planned before it.
    """

    def __init__(self, *, hooks: Hooks, state: StateStore, now: Callable[[], datetime] = utc_now) -> None:
        self._hooks = hooks
        self._state = state
        self._now = now
        self._intents = Intents(hooks=hooks, state=state, now=now)
        self._publishing = Publishing(hooks=hooks, state=state)
        self._passes = NamedLocks()

    def poll(self, watch: Watch, *, offline: bool = False) -> Store:
        """Bring the store of `watch` up to date with its upstream (or only open it) and return it.

        Raises:
            SourceError: the upstream can't be reached; or, offline, was never fetched.
            PluginError: no plugin takes such an upstream.
        """
        request = FetchRequest(
            upstream=watch.upstream,
            credentials=watch.credentials,
            branches=watch.branches,
            stores=watch.stores,
            offline=offline,
            timeout_seconds=watch.timeout_seconds,
        )
        try:
            store = self._hooks.fetch(request)
        except GitopperError as exc:
            if not offline:
                self._tell("poll-failed", upstream=watch.upstream, error=str(exc))
            raise
        if not offline:
            self._tell("poll", upstream=watch.upstream, moved=store.moved)
        return store

    def reconcile(
        self, service: Service, store: Store | None, *, still: Callable[[], bool] = _always
    ) -> Outcome:
        """Bring `service` in line, once. Never raises for what can go wrong: the outcome tells.

        `store` is None where the upstream was never fetched; then only what was deployed before
        can be restored. `still` is asked once it is this pass's turn: False leaves everything as it is,
        for a pass that waited while the config moved on must not bring back what that took away.
        """
        with self._passes.of(service.name):
            if not still():
                return self.known(service)
            return self._guarded(service, lambda: self._pass(service, store))

    def restore(self, service: Service) -> Outcome:
        """Show the deployed release of `service` again where its paths do not; needs no upstream."""
        with self._passes.of(service.name):
            return self._guarded(service, lambda: self._restore(service))

    def known(self, service: Service) -> Outcome:
        """Return what is known of `service` without looking at the host."""
        return self._outcome(service, None, None)

    def want(self, service: str, intent: Intent) -> Intent:
        """Persist what the operator wants, and return it as it stands: with its time.

        On return it is on disk, and every later publish obeys it.
        """
        return self._intents.want(service, intent)

    def thaw(self, service: str) -> Intent:
        """Track again where the time of a freeze is over; return the intent that stands now.

        Every pass begins with this; who wants it to happen in time calls it then. The end of the
        freeze, and its entry in the audit trail, are on disk when this returns.
        """
        return self._intents.thaw(service)

    def resolve(self, service: Service, prefix: str, store: Store | None) -> str:
        """Return the full hash that `prefix` names for a rollback of `service`.

        Raises:
            UnknownRevision: it names no commit that the service may go to, or several.
        """
        return find_revision(service, prefix, store, self._state)

    def withdraw(self, orphan: Deployed | Attempt, *, still: Callable[[], bool] = _always) -> bool:
        """Stop showing what is there for a service that the config no longer has; keep its data.

        `still` is asked once no pass of the service runs any more: False, and it stays as it is. Returns
        whether it was withdrawn.

        Raises:
            PublishError: it can't be withdrawn now; it stays deployed, and can be tried again.
        """
        name = orphan.service.name
        with self._passes.of(name):
            if not still():
                return False
            # Read now: a pass that was under way may have published since the orphan was found.
            attempt, deployed = self._state.attempt(name), self._state.deployed(name)
            shown = [found for found in (attempt, deployed) if found]
            if not shown:
                return False
            for service in {found.service.placement: found.service for found in shown}.values():
                self._hooks.withdraw(service)
            self._state.forget(name)
        self._tell("withdrawn", name, release=shown[-1].release)
        return True

    def orphans(self, services: tuple[Service, ...]) -> tuple[Deployed | Attempt, ...]:
        """Return what is published for services that are not among `services`.

        That is what is deployed, and the attempts of services that never got as far: one under a
        mistyped name holds the paths which the right name needs.
        """
        found: dict[str, Deployed | Attempt] = {a.service.name: a for a in self._state.all_attempts()}
        found |= {d.service.name: d for d in self._state.all_deployed()}
        names = {service.name for service in services}
        return tuple(orphan for name, orphan in found.items() if name not in names)

    def _guarded(self, service: Service, step: Callable[[], Plan | None]) -> Outcome:
        """Run `step`; turn whatever it raises into an outcome."""
        plan, error = None, None
        try:
            plan = step()
        except GitopperError as exc:
            error = exc
        except Exception as exc:
            log.exception("%s: the pass failed in a way that nobody foresaw", service.name)
            error = StepError(f"internal error: {type(exc).__name__}: {exc}")
            error.__cause__ = exc
        if error is not None:
            if isinstance(error, StepError) and error.service is None:
                error.service = service.name
            self._tell("failed", service.name, error=str(error), kind_of_error=type(error).__name__)
        return self._outcome(service, plan, error)

    def _outcome(self, service: Service, plan: Plan | None, error: GitopperError | None) -> Outcome:
        try:
            intent = self._state.intent(service.name)
            deployed = self._state.deployed(service.name)
        except GitopperError as exc:
            return Outcome(service=service, intent=Intent(), deployed=None, error=error or exc)
        return Outcome(service=service, intent=intent, deployed=deployed, plan=plan, error=error)

    def _pass(self, service: Service, store: Store | None) -> Plan | None:
        self.thaw(service.name)
        try:
            self._restore(service)
        except StepError as exc:
            deployed = self._state.deployed(service.name)
            if deployed is None or deployed.service.placement == service.placement:
                raise
            # Where it was may be lost for good: that is no reason against where it shall be now.
            log.warning("%s: the deployed release could not be restored: %s", service.name, exc)
        for _ in range(REPLANS):
            with suppress(Superseded):
                return self._attend(service, store)
        return None  # the operator is still at it; their last word brings a pass of its own

    def _attend(self, service: Service, store: Store | None) -> Plan:
        view = self._look(service)
        revision = aim(
            intent=view.intent,
            tip=store.tips.get(service.source.branch) if store else None,
            deployed=view.deployed,
            attempt=view.attempt,
            published=view.published,
            former=None if view.deployed else self._former(service),
        )
        if isinstance(revision, Reason):
            return Plan(verb=Verb.WAIT, reasons=(revision,))
        target = self._content(revision, service, store, view.deployed)
        plan = make_plan(
            service=service,
            target=target,
            deployed=view.deployed,
            attempt=view.attempt,
            published=view.published,
        )
        if plan.verb is Verb.DEPLOY:
            self._deploy(service, _needed(store, service), target, view, plan.why)
        elif plan.verb is Verb.ADVANCE and view.deployed:
            self._advance(service, _needed(store, service), target, view.intent, view.deployed)
        return plan

    def _former(self, service: Service) -> str | None:
        """Return the revision that the service last took, before it was withdrawn."""
        return next((revision for _, revision in self._state.releases(service.name, 1)), None)

    def _look(self, service: Service) -> _View:
        return _View(
            intent=self._state.intent(service.name),
            deployed=self._state.deployed(service.name),
            attempt=self._state.attempt(service.name),
            published=self._hooks.observe(service),
        )

    def _content(
        self, revision: str, service: Service, store: Store | None, deployed: Deployed | None
    ) -> Content:
        """What `revision` has for `service`; known without the store where it is deployed already."""
        if deployed and deployed.revision == revision and _paths(deployed.service) == _paths(service):
            return deployed.content
        return _needed(store, service).content(revision, service)

    def _advance(
        self, service: Service, store: Store, target: Content, intent: Intent, deployed: Deployed
    ) -> None:
        """Let the release's HEAD and `deployed` follow a commit that changes nothing for the service."""
        with self._intents.gate(service.name, intent):
            self._hooks.checkout(CheckoutRequest(service=service, store=store, content=target))
            self._state.advance(evolve(deployed, revision=target.revision, content=target))
        self._tell("advanced", service.name, before=deployed.revision, after=target.revision)

    def _deploy(self, service: Service, store: Store, target: Content, view: _View, why: str) -> None:
        request = CheckoutRequest(service=service, store=store, content=target)
        release = self._hooks.checkout(request)
        with self._intents.gate(service.name, view.intent):
            self._publishing.publish(service, release, view.deployed)
        self._take(service, release, view.deployed, why)
        self._discard(service, store, release.id)

    def _restore(self, service: Service) -> None:
        """Publish what is deployed again, as it was placed then, where its paths show something else.

        It needs neither upstream nor store, and comes before all that does: after a reboot with
        the upstream gone, or with a tip that can't be deployed, the service gets its files. An
        attempt that is published whole, or was cut short in that, is left to the pass, which ends it.
        """
        deployed = self._state.deployed(service.name)
        if deployed is None or not deployed.release_path.is_dir():
            return
        then = deployed.service
        placed = evolve(
            service,
            mappings=then.mappings,
            mount=then.mount,
            publish=then.publish,
            readonly=then.readonly,
            user=then.user,
        )
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
        self._take(placed, release, deployed, Reason.UNPUBLISHED.value)

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

    def _take(self, service: Service, release: Release, deployed: Deployed | None, why: str) -> None:
        """Make the service take the release; only then is it deployed."""
        first = deployed is None
        reloaded = self._hooks.reload(ReloadRequest(service=service, release=release, first=first))
        # Written last: a crash before this line repeats the reload.
        self._state.record(
            Deployed(
                revision=release.content.revision,
                release=release.id,
                content=release.content,
                service=service,
                at=self._now(),
                note=reloaded.note,
            )
        )
        self._tell(
            "deployed",
            service.name,
            revision=release.content.revision,
            release=release.id,
            why=why,
            did=reloaded.did,
            note=reloaded.note,
        )

    def _discard(self, service: Service, store: Store, live: str) -> None:
        """Remove the releases that are past keeping; a failure costs disk, not the deploy."""
        kept = {release for release, _ in self._state.releases(service.name, service.keep)}
        try:
            store.discard(service, kept | {live})
        except Exception:
            log.exception("%s: old releases could not be removed", service.name)

    def _tell(
        self, kind: str, service: str | None = None, *, upstream: str | None = None, **details: object
    ) -> None:
        self._hooks.event(Event(kind=kind, service=service, upstream=upstream, details=details))


def _paths(service: Service) -> list[tuple[str, bool]]:
    return [(mapping.link, mapping.file) for mapping in service.mappings]


def _needed(store: Store | None, service: Service) -> Store:
    if store is None:
        raise SourceError(f"{service.source.upstream} was never fetched", service=service.name)
    return store
