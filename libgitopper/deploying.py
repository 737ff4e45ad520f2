"""One deploy, step by step. Each step can refuse, and what came before it is not undone by that.

    verify -> install -> checkout -> check -> publish -> reload -> health -> record

Until *publish* nothing is seen of it. After it there is no way but on: to the record, or, where the
service is not healthy, back to the release before, which is published and watched in the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

from attrs import define, evolve, field, frozen

from libgitopper.errors import (
    CheckError,
    GitopperError,
    HealthError,
    ReloadError,
    StateError,
    StepError,
    unforeseen,
)
from libgitopper.heads import Heads
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents, Superseded
from libgitopper.ledger import SHORT, Ledger, rejected
from libgitopper.model import Content, Deployed, IntentKind, Release, Service
from libgitopper.orders import Course, Order
from libgitopper.publishing import Publishing, is_whole, placed_as, release_of
from libgitopper.records import Rejection, Result
from libgitopper.repository import Store
from libgitopper.requests import (
    Accepted,
    CheckoutRequest,
    CheckRequest,
    DriftRequest,
    Event,
    InstallRequest,
    Reloaded,
    ReloadRequest,
    VerifyRequest,
)
from libgitopper.state import StateStore
from libgitopper.watching import HealthWatch, WatchEnded

__all__ = ["Deploying"]

log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Taken:
    """A service took what is published."""

    deployed: Deployed
    """What is to be recorded of it."""
    reloaded: Reloaded
    since_monotonic: float
    """When the reload was done, on the clock that nobody sets; `deployed` has what the wall showed then."""


@define(kw_only=True, eq=False)
class Deploying:
    """Carries out what a pass decided."""

    _hooks: Hooks
    _state: StateStore
    _intents: Intents
    _heads: Heads
    _publishing: Publishing
    _ledger: Ledger
    _watch: HealthWatch
    _now: Callable[[], datetime]
    _installed: set[tuple[str, str]] = field(factory=set, init=False)
    _tidied: set[str] = field(factory=set, init=False)

    def advance(self, order: Order, deployed: Deployed) -> None:
        """Let the release's HEAD and `deployed` follow a commit that changes nothing for the service."""
        service, target = order.service, order.target
        self.verify(order)
        self._heads.move(order)
        with self._intents.gate(service.name, order.view.intent):
            self._heads.record(deployed.following(target))
        self.tell_advanced(service, deployed.revision, target.revision)

    def tell_advanced(self, service: Service, before: str, after: str) -> None:
        """Tell that the service is in line with another commit."""
        self._tell("advanced", service.name, before=before, after=after)

    def deploy(self, order: Order) -> None:
        """Bring the service to the target.

        Raises:
            StepError: a step refused; what that means is on record.
            Superseded: the operator changed their mind meanwhile.
        """
        course = Course(at=self._now())
        if order.view.deployed and order.view.deployed.release == order.release:
            self._heads.doubt(order.service.name)
        try:
            release = self._make(order, course)
            with course.step("publish"), self._intents.gate(order.service.name, order.view.intent):
                self._publishing.publish(order.service, release, order.view.deployed)
            self._take(order, release, course)
        except HealthError as exc:
            raise self._unhealthy(order, course, exc) from exc
        except ReloadError as exc:
            if order.service.health is None or not order.view.deployed or not order.is_news(order.release):
                self._ledger.failed(order, course, str(exc))
                raise
            # Who watches a service's health wants it up: it may be down by now, as after a restart.
            raise self._unhealthy(order, course, exc) from exc
        except CheckError as exc:
            self._unfit(order, course, exc)
        except WatchEnded:
            error = "ended while its health was watched: something else is wanted now"
            self._ledger.failed(order, course, error)
            raise Superseded from None
        except Exception as exc:
            self._failed(order, course, exc)
            raise
        self._heads.trust(order.service.name)
        self.discard(order.service, order.store)

    def stand_by(self, order: Order, rejection: Rejection) -> NoReturn:
        """Stay with what is deployed; bring it back where a crash, or a failed reload, left something else.

        Raises:
            StepError: always; it tells why the target is not deployed.
        """
        deployed = order.view.deployed
        if deployed and order.view.attempt:
            deployed = self._take_back(order, deployed, Course(at=self._now()), rejection.reason)
        raise rejected(rejection, deployed)

    def install(self, service: Service) -> None:
        """Have the package of the service installed; asked of the plugin once in the life of a process."""
        if not service.package or (service.name, service.package) in self._installed:
            return
        done = self._hooks.install(InstallRequest(service=service))
        self._installed.add((service.name, service.package))
        if done.did:
            self._tell("installed", service.name, package=service.package, did=done.did)

    def reload(
        self, service: Service, release: Release, *, first: bool = False, start: bool = False
    ) -> Taken:
        """Make the service take what is published; return what is to be recorded of it.

        Raises:
            ReloadError: it did not; the text says that it is the reload that failed.
        """
        request = ReloadRequest(service=service, release=release, first=first, start=start)
        try:
            reloaded = self._hooks.reload(request)
        except ReloadError as exc:  # else only the words of some program would be shown
            raise ReloadError(f"reload failed: {exc}", retryable=exc.retryable) from exc
        since_monotonic = time.monotonic()
        deployed = Deployed(
            revision=release.content.revision, release=release.id, content=release.content,
            service=service, at=self._now(), note=reloaded.note,
        )  # fmt: skip
        return Taken(deployed=deployed, reloaded=reloaded, since_monotonic=since_monotonic)

    def restored(
        self, service: Service, release: Release, why: str, *, start: bool, ended: Rejection | None = None
    ) -> None:
        """Make the service take what it had before and what is published again.

        `ended`: why what it saw until now was to be taken back, by a process that got no further.
        """
        taken = self.reload(service, release, start=start)
        # Written last: a crash before this line repeats the reload.
        self._state.record(
            taken.deployed, self._ledger.taken_back(ended, taken.deployed) if ended else None
        )
        self._tell(
            "deployed", service.name, revision=release.content.revision, release=release.id, why=why,
            did=taken.reloaded.did, note=taken.deployed.note,
        )  # fmt: skip

    def release(
        self, service: Service, store: Store, content: Content, *, shown: str | None = None
    ) -> Release:
        """Make the release. One of an earlier time is used again only while its files are what they were.

        `shown` is the release that is published now: in its place no other can be made.
        """
        while True:
            was_there = (service.releases / content.release_id(service)).is_dir()
            request = CheckoutRequest(service=service, store=store, content=content)
            release = self._hooks.checkout(request)
            if not was_there or release.id == shown:
                return release
            drift = self._hooks.drift(DriftRequest(service=service, store=store, release=release))
            if drift is None or not drift.changes:
                return release
            log.warning(
                "%s: release %s was changed meanwhile, and is made afresh", service.name, release.id
            )
            content = evolve(content, generation=content.generation + 1)

    def tidy(self, service: Service, store: Store) -> None:
        """Clear what the end of an earlier process left, once in the life of this one; and HEADs."""
        if service.name not in self._tidied:
            self.discard(service, store)
        self._heads.take_back(service, store)

    def discard(self, service: Service, store: Store) -> None:
        """Remove the releases that are past keeping; a failure costs disk, not the deploy."""
        self._tidied.add(service.name)
        try:
            seen = self._hooks.observe(service)
            if seen.partly:
                return  # some release is shown, and only the next publish tells which
            kept = {release for release, _ in self._state.releases(service.name, service.keep)}
            here = (self._state.deployed(service.name), self._state.attempt(service.name), seen)
            store.discard(service, kept | {known.release for known in here if known and known.release})
        except (GitopperError, OSError) as exc:
            log.warning("%s: old releases could not be removed: %s", service.name, exc)
        except Exception:
            log.exception("%s: old releases could not be removed", service.name)

    def _make(self, order: Order, course: Course) -> Release:
        """Do all that comes before anybody sees the release."""
        with course.step("verify"):
            self.verify(order)
        with course.step("install"):
            self.install(order.service)
        with course.step("checkout"):
            release = self.release(
                order.service, order.store, order.target, shown=order.view.published.release
            )
        if order.view.published.release != release.id:
            with course.step("check"):
                judged = self._hooks.check(CheckRequest(service=order.service, release=release))
            course.notes.extend(accepted.note for accepted in judged)
        return release

    def verify(self, order: Order) -> None:
        """Have the target judged; raises as the plugins do that refuse it."""
        service, source, intent = order.service, order.service.source, order.view.intent
        here = order.view.deployed
        # To stay is not to go back, though a later commit was accepted, and failed.
        floor = None if order.stays else self._state.accepted(service.name, source)
        request = VerifyRequest(
            service=service, store=order.store, revision=order.target.revision, intent=intent,
            accepted=floor or (here.revision if here else None), floor=floor,
        )  # fmt: skip
        judged = self._hooks.verify(request)
        # Also where nobody judges any more: an operator lets pass, by the config, what lies between.
        known = bool(judged) or floor is not None
        if known and not order.stays and intent.kind is IntentKind.TRACK and floor != request.revision:
            self._state.accept(service.name, source, request.revision)

    def _take(self, order: Order, release: Release, course: Course) -> None:
        """Make the service take the release; only when it is healthy with it, it is deployed."""
        service, name = order.service, order.service.name
        with course.step("reload"):
            taken = self.reload(service, release, first=order.view.deployed is None)
        with course.step("health"):
            judged = self._healthy(order, release, taken)
        course.notes.extend(accepted.note for accepted in judged)
        deployed = _noted(taken.deployed, course.notes)
        # Written last: a crash before this line repeats the reload.
        self._state.record(deployed, self._ledger.entry(order, course, Result.DEPLOYED, release=release.id))
        self._tell(
            "deployed", name, revision=deployed.revision, release=release.id, why=order.plan.why,
            asked=order.asked, did=taken.reloaded.did, note=deployed.note,
            seconds=round(sum(course.seconds.values()), 3),
        )  # fmt: skip

    def _healthy(self, order: Order, release: Release, taken: Taken) -> Sequence[Accepted]:
        """Watch until the service is healthy; if it is ill with what it had before, it stays."""
        try:
            return self._watched(order, order.service, release, taken)
        except HealthError as exc:
            if order.is_news(order.release):
                raise
            return (Accepted(note=str(exc)),)

    def _failed(self, order: Order, course: Course, error: Exception) -> None:
        """Put on record what a deploy failed by: not an operator, nor a state that can't be written."""
        if isinstance(error, Superseded | StateError):
            return
        told = str(error) if isinstance(error, GitopperError) else unforeseen(error)
        self._ledger.failed(order, course, told)

    def _unfit(self, order: Order, course: Course, error: CheckError) -> NoReturn:
        """Remember content that is not fit to be published, and stay with what is deployed."""
        self._ledger.failed(order, course, f"check failed: {error}")
        if error.retryable:
            raise CheckError(f"check failed: {error}", retryable=True) from error
        rejection = self._ledger.reject(order, "check", str(error))
        self.discard(order.service, order.store)
        self.stand_by(order, rejection)

    def _unhealthy(self, order: Order, course: Course, error: HealthError | ReloadError) -> HealthError:
        """Remember content that the service is not healthy with, and go back; return the error to show."""
        deployed = order.view.deployed
        # Before anything is changed: a crash from here on must not try it again, but go back.
        step = "health" if isinstance(error, HealthError) else "reload"
        rejection = self._ledger.reject(order, step, str(error))
        if deployed is None:
            self._ledger.failed(order, course, str(error))
            return HealthError(str(rejected(rejection, None)))
        try:
            back = self._take_back(order, deployed, course, str(error))
        except HealthError as exc:
            self._ledger.failed(order, course, str(exc))
            return exc
        self.discard(order.service, order.store)
        return HealthError(str(rejected(rejection, back)))

    def _take_back(self, order: Order, deployed: Deployed, course: Course, why: str) -> Deployed:
        """Publish what is deployed again, and make the service take it, watched in the same way.

        Raises:
            HealthError: it can't be done now; retryable. It is tried again, until it is done.
        """
        try:
            with course.step("take back"):
                again = self._take_again(order, deployed)
        except StepError as exc:
            here = f"{order.target.revision[:SHORT]}: {why}"
            message = f"{here}; it can't be taken back to {deployed.revision[:SHORT]} now: {exc}"
            raise HealthError(message, retryable=True) from exc
        why = f"{why}; {again.note}" if again.note else why
        self._state.record(again, self._ledger.entry(order, course, Result.TAKEN_BACK, error=why))
        self._tell(
            "taken-back",
            order.service.name,
            revision=deployed.revision,
            rejected=order.target.revision,
            error=why,
        )
        return again

    def _take_again(self, order: Order, deployed: Deployed) -> Deployed:
        """Bring back what is deployed, as it was placed then; return what is to be recorded of it."""
        service, release = placed_as(order.service, deployed), release_of(deployed)
        if not is_whole(deployed):
            release = self.release(service, order.store, deployed.content)
        with self._intents.hold(service.name):
            self._publishing.publish(service, release, deployed)
        taken = self.reload(service, release, start=True)
        try:
            notes = [accepted.note for accepted in self._watched(order, service, release, taken)]
        except HealthError as exc:
            notes = [f"with that {exc}"]
        except WatchEnded:
            notes = []  # something else is wanted now: the next pass sees to that
        return _noted(taken.deployed, notes)

    def _watched(
        self, order: Order, service: Service, release: Release, taken: Taken
    ) -> Sequence[Accepted]:
        if taken.reloaded.idle:
            return ()
        return self._watch.run(
            service, release, since=taken.deployed.at, since_monotonic=taken.since_monotonic,
            still=self._still(order),
        )  # fmt: skip

    def _still(self, order: Order) -> Callable[[], bool]:
        """Return what tells whether settings and intent are those that the order was given for."""
        name, intent = order.service.name, order.view.intent
        return lambda: order.still() and self._state.intent(name) == intent

    def _tell(self, kind: str, service: str, **details: object) -> None:
        self._hooks.event(Event(kind=kind, service=service, details=details))


def _noted(deployed: Deployed, notes: Sequence[str]) -> Deployed:
    """Return `deployed` with what there is to say of it: the reload's note, and these."""
    return evolve(deployed, note="; ".join(note for note in (deployed.note, *notes) if note))
