"""The reconciler: what the library can do for a service, safe to be asked from several threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from attrs import frozen

from libgitopper.advancing import Advancing
from libgitopper.answering import contained
from libgitopper.deciding import Deciding, Peer, is_touched, showing, unfinished
from libgitopper.deploying import Deploying
from libgitopper.drifting import Drifting
from libgitopper.errors import GitopperError, StepError, unforeseen
from libgitopper.heads import Heads
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents
from libgitopper.ledger import Ledger
from libgitopper.locks import NamedLocks
from libgitopper.model import Attempt, Deployed, Intent, IntentKind, Service, Watch
from libgitopper.passes import Found, Pass, Passes
from libgitopper.planner import Plan
from libgitopper.publishing import Publishing
from libgitopper.repository import Store
from libgitopper.requests import Drift, Event, FetchRequest
from libgitopper.restoring import Restoring
from libgitopper.revisions import check_full, find_revision
from libgitopper.state import StateStore
from libgitopper.watching import HealthWatch

__all__ = ["Outcome", "Reconciler", "utc_now"]

log = logging.getLogger(__name__)


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
    unfinished: Attempt | None = None
    """What its paths show where it has not taken that: a reload failed, or is under way."""
    plan: Plan | None = None
    """What the pass decided; None when it failed before that."""
    drift: Drift | None = None
    """How the published files differ from their revision; None where they don't, or nobody looked."""
    error: GitopperError | None = None
    """Why the pass failed; None when it went well."""

    @property
    def shown(self) -> Deployed | Attempt | None:
        """What the service's files are of; None where nothing was published."""
        return self.unfinished or self.deployed


class Reconciler:
    """Brings services in line with what is wanted of them.

    Safe to use from several threads: passes of one service never overlap, and an intent that
    `want` has acknowledged is never overtaken by a pass that was planned before it.
    """

    def __init__(
        self,
        *,
        hooks: Hooks,
        state: StateStore,
        now: Callable[[], datetime] = utc_now,
        watching: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`watching` is entered by a pass, in its thread, while it only watches a service's health.

        So who limits the passes that run side by side can let others go on.
        """
        self._hooks = hooks
        self._state = state
        self._now = now
        self._intents = Intents(hooks=hooks, state=state, now=now)
        publishing = Publishing(hooks=hooks, state=state)
        heads = Heads(hooks=hooks, state=state)
        ledger = Ledger(hooks=hooks, state=state, now=now)
        self._deploying = Deploying(
            hooks=hooks, state=state, intents=self._intents, heads=heads, publishing=publishing,
            ledger=ledger, watch=HealthWatch(hooks=hooks, watching=watching), now=now,
        )  # fmt: skip
        self._drifting = Drifting(
            hooks=hooks, state=state, intents=self._intents, publishing=publishing,
            deploying=self._deploying, now=now,
        )  # fmt: skip
        deciding = Deciding(hooks=hooks, state=state, now=now)
        self._restoring = Restoring(
            hooks=hooks, state=state, intents=self._intents, publishing=publishing,
            deploying=self._deploying,
        )  # fmt: skip
        self._passes = Passes(
            state=state, intents=self._intents, restoring=self._restoring,
            deploying=self._deploying, drifting=self._drifting, deciding=deciding,
            ledger=ledger,
        )  # fmt: skip
        self._turns = NamedLocks()
        self._advancing = Advancing(
            state=state, intents=self._intents, deciding=deciding, deploying=self._deploying, heads=heads,
            turns=self._turns,
        )  # fmt: skip
        self._told: dict[str, str] = {}
        """What was told last of a service that trying again can't help."""

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
            limits=watch.limits,
            fetch_user=watch.fetch_user,
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
        self,
        service: Service,
        store: Store | None,
        *,
        peers: Sequence[Peer] = (),
        asked: str = "",
        still: Callable[[], bool] = _always,
    ) -> Outcome:
        """Bring `service` in line, once. Never raises for what can go wrong: the outcome tells.

        Args:
            service: the service.
            store: what the last poll of its upstream returned; None where it was never fetched: then
                only what was deployed before can be restored.
            peers: the services that `service.after` names.
            asked: who or what asked for this pass, for the history.
            still: asked once it is this pass's turn, and while it waits: False leaves everything as it is,
                for a pass that waited while the config moved on must not bring back what that took away.
        """
        this = Pass(service=service, store=store, peers=peers, asked=asked, still=still)
        with self._turns.of(service.name):
            if not still():
                return self.known(service)
            return self._guarded(service, lambda: self._passes.make(this))

    def touched(self, outcomes: Iterable[Outcome], store: Store) -> frozenset[str]:
        """Return the services whose mapped paths are not the same at the tip as in what is deployed.

        It is a guess at which passes have something to do: local, cheap, without a look at the host.
        """
        return frozenset(
            outcome.service.name
            for outcome in outcomes
            if is_touched(outcome.service, store, outcome.deployed)
        )

    def advance(
        self, services: Iterable[Service], store: Store, *, still: Callable[[Service], bool]
    ) -> tuple[Outcome, ...]:
        """Let those of `services` follow the tip for which that is all there is to do; tell of them.

        It is for services that their last pass left in order, and that the tip changes nothing for.
        Whatever else is the case with one, it is left to a pass. `still`: as for `reconcile`.
        """
        try:
            with contained():
                done = self._advancing.advance(services, store, still)
        except (GitopperError, OSError) as exc:
            log.warning("services could not follow together, and do so one by one: %s", exc)
            return ()
        except Exception:
            log.exception("services could not follow together, and do so one by one")
            return ()
        return tuple(
            Outcome(
                service=one.order.service, intent=one.order.view.intent, deployed=one.deployed,
                plan=one.order.plan,
            )
            for one in done
        )  # fmt: skip

    def restore(self, service: Service) -> Outcome:
        """Show the deployed release of `service` again where its paths do not; needs no upstream."""
        with self._turns.of(service.name):
            return self._guarded(service, lambda: self._restore(service))

    def known(self, service: Service) -> Outcome:
        """Return what is on record of `service`; the host is looked at only where a deploy did not end."""
        return self._outcome(service, Found(), None)

    def want(self, service: str, intent: Intent) -> Intent:
        """Persist what the operator wants, and return it as it stands: with its time.

        On return it is on disk, and every later publish obeys it. Who asks for a rollback has a
        reason: where that very commit was rejected before, it is tried again.

        Raises:
            UnknownRevision: a rollback to what is no full hash; `resolve` finds it.
        """
        if intent.kind is IntentKind.ROLLBACK:
            check_full(service, intent.revision)
            self._state.pardon(service, intent.revision)
        return self._intents.want(service, intent)

    def retry(self, service: str) -> int:
        """Let what was rejected before be tried again, from the next pass on; return how much it was."""
        return self._state.pardon(service)

    def drift(self, service: Service, store: Store | None) -> Drift | None:
        """Compare every published file of `service` with its revision, by content; keep what is found.

        Raises:
            CheckoutError: they can't be compared.
        """
        shown = showing(self._hooks, self._state, service.name)
        return self._drifting.look(service, store, shown, thorough=True)

    def thaw(self, service: str) -> Intent:
        """Track again where the time of a freeze is over; return the intent that stands now.

        Every pass does this before it looks at what is wanted; who wants it to happen in time calls it
        then. The end of the freeze, and its entry in the audit trail, are on disk when this returns.
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
        with self._turns.of(name):
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

    def _restore(self, service: Service) -> Found:
        self._restoring.restore(service)
        return Found()

    def _guarded(self, service: Service, step: Callable[[], Found]) -> Outcome:
        """Run `step`; turn whatever it raises into an outcome."""
        found, error = Found(), None
        try:
            with contained():
                found = step()
        except GitopperError as exc:
            error = exc
        except Exception as exc:
            log.exception("%s: the pass failed in a way that nobody foresaw", service.name)
            error = StepError(unforeseen(exc))
            error.__cause__ = exc
        if isinstance(error, StepError) and error.service is None:
            error.service = service.name
        self._tell_failure(service.name, error)
        return self._outcome(service, found, error)

    def _tell_failure(self, service: str, error: GitopperError | None) -> None:
        """Tell of a failure; once, where it stays the same until somebody does something about it."""
        lasting = str(error) if isinstance(error, StepError) and not error.retryable else ""
        if error is not None and (not lasting or self._told.get(service) != lasting):
            self._tell("failed", service, error=str(error), kind_of_error=type(error).__name__)
        self._told[service] = lasting

    def _outcome(self, service: Service, found: Found, error: GitopperError | None) -> Outcome:
        try:
            intent = self._state.intent(service.name)
            deployed = self._state.deployed(service.name)
        except GitopperError as exc:
            return Outcome(service=service, intent=Intent(), deployed=None, error=error or exc)
        return Outcome(
            service=service,
            intent=intent,
            deployed=deployed,
            unfinished=self._unfinished(service.name),
            plan=found.plan,
            drift=found.drift,
            error=error,
        )

    def _unfinished(self, service: str) -> Attempt | None:
        """Return what is published and not taken; None also where nobody can tell, as a pass then says."""
        try:
            return unfinished(self._hooks, self._state.attempt(service))
        except Exception as exc:  # noqa: BLE001 - a plugin's, too: an outcome is told whatever happens
            log.debug("%s: what its paths show can't be told: %s", service, exc)
            return None

    def _tell(
        self, kind: str, service: str | None = None, *, upstream: str | None = None, **details: object
    ) -> None:
        self._hooks.event(Event(kind=kind, service=service, upstream=upstream, details=details))
