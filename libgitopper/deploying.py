"""One deploy, step by step. Each step can refuse, and what came before it is not undone by that.

    verify -> install -> checkout -> check -> publish -> reload -> health -> record

Until *publish* nothing is seen of it. After it there is no way but on: to the record, or, where the
service is not healthy, back to the release before, which is published and watched in the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from attrs import evolve, field, frozen

from libgitopper.errors import CheckError, GitopperError, HealthError, ReloadError, StepError
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents, Superseded
from libgitopper.model import Attempt, Content, Deployed, Intent, IntentKind, Release, Service
from libgitopper.planner import Plan
from libgitopper.publishing import Publishing, placed_as, release_of
from libgitopper.records import Deploy, Rejection, Result
from libgitopper.repository import FileChange, Store
from libgitopper.requests import (
    CheckoutRequest,
    CheckRequest,
    DriftRequest,
    Event,
    InstallRequest,
    Published,
    ReloadRequest,
    VerifyRequest,
)
from libgitopper.state import StateStore
from libgitopper.watching import HealthWatch, WatchEnded

__all__ = ["Deploying", "Order", "View", "rejected"]

log = logging.getLogger(__name__)

SHORT = 12
FILES_KEPT = 1000
AGAIN = "; not tried again before a change, or `do retry`"


@frozen(kw_only=True)
class View:
    """What a pass sees before it decides."""

    intent: Intent
    deployed: Deployed | None
    attempt: Attempt | None
    published: Published


@frozen(kw_only=True)
class Order:
    """What is to be deployed, and what was there when that was decided."""

    service: Service
    store: Store
    target: Content
    plan: Plan
    view: View
    asked: str
    """Who or what asked for it."""
    still: Callable[[], bool]
    """False once the settings of the service are past."""


@frozen(kw_only=True)
class Taken:
    """A service took what is published."""

    deployed: Deployed
    """What is to be recorded of it."""
    did: str
    """What was done, for the log."""


@frozen(kw_only=True)
class _Course:
    """How a deploy goes: when it began, and how long each step took."""

    at: datetime
    seconds: dict[str, float] = field(factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 6)


class Deploying:
    """Carries out what a pass decided."""

    def __init__(
        self,
        *,
        hooks: Hooks,
        state: StateStore,
        intents: Intents,
        publishing: Publishing,
        watch: HealthWatch,
        now: Callable[[], datetime],
    ) -> None:
        self._hooks = hooks
        self._state = state
        self._intents = intents
        self._publishing = publishing
        self._watch = watch
        self._now = now
        self._installed: set[tuple[str, str]] = set()

    def advance(self, order: Order, deployed: Deployed) -> None:
        """Let the release's HEAD and `deployed` follow a commit that changes nothing for the service."""
        service, target = order.service, order.target
        self._verify(order)
        with self._intents.gate(service.name, order.view.intent):
            self._hooks.checkout(CheckoutRequest(service=service, store=order.store, content=target))
            self._state.advance(evolve(deployed, revision=target.revision, content=target))
        self._tell("advanced", service.name, before=deployed.revision, after=target.revision)

    def deploy(self, order: Order) -> None:
        """Bring the service to the target.

        Raises:
            StepError: a step refused; what that means is on record.
            Superseded: the operator changed their mind meanwhile.
        """
        course = _Course(at=self._now())
        try:
            release = self._make(order, course)
            with course.step("publish"), self._intents.gate(order.service.name, order.view.intent):
                self._publishing.publish(order.service, release, order.view.deployed)
            self._take(order, release, course)
        except HealthError as exc:
            raise self._unhealthy(order, course, exc) from exc
        except ReloadError as exc:
            if order.service.health is None or order.view.deployed is None:
                self._enter(order, course, Result.FAILED, str(exc))
                raise
            # Who watches a service's health wants it up: it may be down by now, as after a restart.
            raise self._unhealthy(order, course, exc) from exc
        except CheckError as exc:
            raise self._unfit(order, course, exc) from exc
        except WatchEnded:
            error = "ended while its health was watched: something else is wanted now"
            self._enter(order, course, Result.FAILED, error)
            raise Superseded from None
        except StepError as exc:
            self._enter(order, course, Result.FAILED, str(exc))
            raise
        self._discard(order, release.id)

    def stand_by(self, order: Order, rejection: Rejection) -> None:
        """Stay with what is deployed; bring it back where a crash came before that was done."""
        deployed = order.view.deployed
        if deployed and order.view.attempt:
            deployed = self._take_back(order, deployed, _Course(at=self._now()), rejection.reason)
        raise rejected(rejection, deployed)

    def install(self, service: Service) -> None:
        """Have the package of the service installed; asked of the plugin once in the life of a process."""
        if not service.package or (service.name, service.package) in self._installed:
            return
        done = self._hooks.install(InstallRequest(service=service))
        self._installed.add((service.name, service.package))
        if done.did:
            self._tell("installed", service.name, package=service.package, did=done.did)

    def reload(self, service: Service, release: Release, *, first: bool) -> Taken:
        """Make the service take what is published; return what is to be recorded of it."""
        reloaded = self._hooks.reload(ReloadRequest(service=service, release=release, first=first))
        deployed = Deployed(
            revision=release.content.revision, release=release.id, content=release.content,
            service=service, at=self._now(), note=reloaded.note,
        )  # fmt: skip
        return Taken(deployed=deployed, did=reloaded.did)

    def restored(self, service: Service, release: Release, why: str) -> None:
        """Make the service take what it had before and what is published again."""
        taken = self.reload(service, release, first=False)
        # Written last: a crash before this line repeats the reload.
        self._state.record(taken.deployed)
        self._tell(
            "deployed", service.name, revision=release.content.revision, release=release.id, why=why,
            did=taken.did, note=taken.deployed.note,
        )  # fmt: skip

    def release(
        self, service: Service, store: Store, content: Content, *, shown: str | None = None
    ) -> Release:
        """Make the release. One of an earlier time is used again only if its files are still what they were.

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

    def _make(self, order: Order, course: _Course) -> Release:
        """Do all that comes before anybody sees the release."""
        with course.step("verify"):
            self._verify(order)
        with course.step("install"):
            self.install(order.service)
        with course.step("checkout"):
            release = self.release(
                order.service, order.store, order.target, shown=order.view.published.release
            )
        if order.view.published.release != release.id:
            with course.step("check"):
                self._hooks.check(CheckRequest(service=order.service, release=release))
        return release

    def _verify(self, order: Order) -> None:
        service, source, intent = order.service, order.service.source, order.view.intent
        floor = self._state.accepted(service.name, source)
        here = order.view.deployed
        request = VerifyRequest(
            service=service, store=order.store, revision=order.target.revision, intent=intent,
            accepted=floor or (here.revision if here else None), floor=floor,
        )  # fmt: skip
        judged = self._hooks.verify(request)
        if judged and intent.kind is IntentKind.TRACK and floor != request.revision:
            self._state.accept(service.name, source, request.revision)

    def _take(self, order: Order, release: Release, course: _Course) -> None:
        """Make the service take the release; only when it is healthy with it, it is deployed."""
        service, name = order.service, order.service.name
        with course.step("reload"):
            taken = self.reload(service, release, first=order.view.deployed is None)
        with course.step("health"):
            notes = self._watch.run(
                service, release, since=taken.deployed.at,
                still=lambda: order.still() and self._state.intent(name) == order.view.intent,
            )  # fmt: skip
        told = [note for note in (taken.deployed.note, *(accepted.note for accepted in notes)) if note]
        deployed = evolve(taken.deployed, note="; ".join(told))
        # Written last: a crash before this line repeats the reload.
        self._state.record(deployed, self._entry(order, course, Result.DEPLOYED, release=release.id))
        self._tell(
            "deployed", name, revision=deployed.revision, release=release.id, why=order.plan.why,
            asked=order.asked, did=taken.did, note=deployed.note, seconds=sum(course.seconds.values()),
        )  # fmt: skip

    def _unfit(self, order: Order, course: _Course, error: CheckError) -> CheckError:
        """Remember content that is not fit to be published; return the error to show."""
        self._enter(order, course, Result.FAILED, str(error))
        if error.retryable:
            return error
        rejection = self._reject(order, "check", str(error))
        return CheckError(str(rejected(rejection, order.view.deployed)))

    def _unhealthy(self, order: Order, course: _Course, error: HealthError | ReloadError) -> HealthError:
        """Remember content that the service is not healthy with, and go back; return the error to show."""
        deployed = order.view.deployed
        # Before anything is changed: a crash from here on must not try it again, but go back.
        step = "health" if isinstance(error, HealthError) else "reload"
        rejection = self._reject(order, step, str(error))
        if deployed is None:
            self._enter(order, course, Result.FAILED, str(error))
            return HealthError(str(rejected(rejection, None)))
        back = self._take_back(order, deployed, course, str(error))
        return HealthError(str(rejected(rejection, back)))

    def _take_back(self, order: Order, deployed: Deployed, course: _Course, why: str) -> Deployed:
        """Publish what is deployed again, and make the service take it, watched in the same way.

        Raises:
            StepError: it can't be done now. It is tried again, until it is.
        """
        service, release = placed_as(order.service, deployed), release_of(deployed)
        with course.step("take back"):
            with self._intents.hold(service.name):
                self._publishing.publish(service, release, deployed)
            again = self.reload(service, release, first=False).deployed
            try:
                self._watch.run(service, release, since=again.at, still=lambda: True)
            except HealthError as exc:
                again = evolve(again, note=f"with that {exc}")
                why = f"{why}; {again.note}"
        self._state.record(again, self._entry(order, course, Result.TAKEN_BACK, error=why))
        self._tell(
            "taken-back",
            service.name,
            revision=deployed.revision,
            rejected=order.target.revision,
            error=why,
        )
        return again

    def _reject(self, order: Order, step: str, reason: str) -> Rejection:
        rejection = Rejection(
            service=order.service.name, release=order.target.release_id(order.service), revision=order.target.revision,
            fingerprint=order.service.fingerprint, step=step, reason=reason, at=self._now(),
        )  # fmt: skip
        self._state.reject(rejection)
        self._tell(
            "rejected", rejection.service, revision=rejection.revision, step=step, error=rejection.reason
        )
        return rejection

    def _enter(self, order: Order, course: _Course, result: Result, error: str) -> None:
        """Put a deploy that failed on record; it has failed, whether that can be written or not."""
        try:
            self._state.add_deploy(self._entry(order, course, result, error=error))
        except GitopperError as exc:
            log.warning("%s: its history could not be written: %s", order.service.name, exc)

    def _entry(
        self, order: Order, course: _Course, result: Result, *, error: str = "", release: str = ""
    ) -> Deploy:
        deployed, files = order.view.deployed, _files(order)
        return Deploy(
            service=order.service.name, at=course.at, before=deployed.revision if deployed else None,
            after=order.target.revision, release=release or order.target.release_id(order.service),
            asked=order.asked, why=order.plan.why, files=tuple(files[:FILES_KEPT]),
            files_total=len(files), seconds=course.seconds, result=result, error=error,
        )  # fmt: skip

    def _discard(self, order: Order, live: str) -> None:
        """Remove the releases that are past keeping; a failure costs disk, not the deploy."""
        service = order.service
        try:
            kept = {release for release, _ in self._state.releases(service.name, service.keep)}
            order.store.discard(service, kept | {live})
        except Exception:
            log.exception("%s: old releases could not be removed", service.name)

    def _tell(self, kind: str, service: str, **details: object) -> None:
        self._hooks.event(Event(kind=kind, service=service, details=details))


def rejected(rejection: Rejection, deployed: Deployed | None) -> StepError:
    """Return the error that shows a rejection: the same after the failure, in later passes, after a restart."""
    revision, reason = rejection.revision[:SHORT], rejection.reason
    here = deployed.revision[:SHORT] if deployed else ""
    if rejection.step == "check":
        where = f"stays at {here}" if here else "nothing is published"
        return CheckError(f"{revision} failed its check: {reason}; {where}{AGAIN}")
    if deployed is None:
        return HealthError(f"{revision}: {reason}; there is nothing to go back to{AGAIN}")
    note = f", {deployed.note}" if deployed.note else ""
    return HealthError(f"{revision}: {reason}; taken back to {here}{note}{AGAIN}")


def _files(order: Order) -> Sequence[FileChange]:
    """What the deploy changes; unknown where the store no longer has what was deployed."""
    deployed = order.view.deployed
    try:
        return order.store.changes(deployed.content if deployed else None, order.target)
    except Exception as exc:  # noqa: BLE001 - it is for the history alone, and must not fail a deploy
        log.warning("%s: which files changed is not known: %s", order.service.name, exc)
        return ()
