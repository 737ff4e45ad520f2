"""What is written down of deploys: their history, and the contents that were rejected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from attrs import frozen

from libgitopper.errors import CheckError, GitopperError, HealthError, StepError
from libgitopper.hooks import Hooks
from libgitopper.model import Deployed, Service
from libgitopper.orders import Course, Order, View
from libgitopper.planner import Reason
from libgitopper.records import Deploy, Rejection, Result
from libgitopper.repository import FileChange
from libgitopper.requests import Event
from libgitopper.state import StateStore

__all__ = ["FILES_KEPT", "Ledger", "rejected"]

log = logging.getLogger(__name__)

SHORT = 12
FILES_KEPT = 1000
AGAIN = "; not tried again before a change, or `do retry`"


@frozen(kw_only=True, eq=False)
class Ledger:
    """Writes down how deploys went."""

    _hooks: Hooks
    _state: StateStore
    _now: Callable[[], datetime]

    def reject(self, order: Order, step: str, reason: str) -> Rejection:
        """Persist that the content of the target is not to be tried again."""
        rejection = Rejection(
            service=order.service.name, release=order.release, revision=order.target.revision,
            fingerprint=order.service.fingerprint, step=step, reason=reason, at=self._now(),
        )  # fmt: skip
        self._state.reject(rejection)
        details = {"revision": rejection.revision, "step": step, "error": reason}
        self._hooks.event(Event(kind="rejected", service=rejection.service, details=details))
        return rejection

    def failed(self, order: Order, course: Course, error: str) -> None:
        """Put a deploy that failed on record; it has failed, whether that can be written or not."""
        self._enter(self.entry(order, course, Result.FAILED, error=error))

    def impossible(self, service: Service, view: View, revision: str, asked: str, error: str) -> None:
        """Put on record that a revision can't be deployed at all, as one that lacks a path."""
        deployed = view.deployed
        entry = Deploy(
            service=service.name, at=self._now(), before=deployed.revision if deployed else None,
            after=revision, release="", asked=asked, result=Result.FAILED, error=error,
            why=(Reason.CONTENT if deployed else Reason.FIRST).value,
        )  # fmt: skip
        self._enter(entry)

    def taken_back(self, rejection: Rejection, deployed: Deployed) -> Deploy:
        """Return what the history is to say of a deploy whose process was ended while it was taken back."""
        return Deploy(
            service=rejection.service, at=deployed.at, before=deployed.revision, after=rejection.revision,
            release=rejection.release, asked="", why=Reason.UNFINISHED.value, result=Result.TAKEN_BACK,
            error=rejection.reason,
        )  # fmt: skip

    def entry(
        self, order: Order, course: Course, result: Result, *, error: str = "", release: str = ""
    ) -> Deploy:
        """Return what the history is to say of a deploy."""
        deployed, files = order.view.deployed, _files(order)
        return Deploy(
            service=order.service.name, at=course.at, before=deployed.revision if deployed else None,
            after=order.target.revision, release=release or order.release,
            asked=order.asked, why=order.plan.why, files=tuple(files[:FILES_KEPT]),
            files_total=len(files), seconds=course.seconds, result=result, error=error,
        )  # fmt: skip

    def _enter(self, entry: Deploy) -> None:
        try:
            self._state.add_deploy(entry)
        except GitopperError as exc:
            log.warning("%s: its history could not be written: %s", entry.service, exc)


def rejected(rejection: Rejection, deployed: Deployed | None) -> StepError:
    """Return the error that shows a rejection: the same at once, in later passes, and after a restart."""
    revision, reason = rejection.revision[:SHORT], rejection.reason
    here = deployed.revision[:SHORT] if deployed else ""
    if rejection.step == "check":
        where = f"stays at {here}" if here else "nothing is deployed"
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
