"""Drift: what is done about published files that are no longer what their revision has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from attrs import evolve, frozen

from libgitopper.deciding import unfinished
from libgitopper.deploying import Deploying
from libgitopper.errors import GitopperError
from libgitopper.hooks import Hooks
from libgitopper.intents import Intents
from libgitopper.ledger import FILES_KEPT
from libgitopper.model import Attempt, Deployed, Service
from libgitopper.publishing import Publishing, release_of
from libgitopper.records import Deploy, DriftRecord, Result
from libgitopper.repository import Store
from libgitopper.requests import Drift, DriftRequest, Event
from libgitopper.safeguards import DriftPolicy
from libgitopper.state import StateStore

__all__ = ["Drifting"]

log = logging.getLogger(__name__)


@frozen(kw_only=True, eq=False)
class Drifting:
    """Looks for drift of what is deployed, keeps it as a patch, and heals it where that is the policy."""

    _hooks: Hooks
    _state: StateStore
    _intents: Intents
    _publishing: Publishing
    _deploying: Deploying
    _now: Callable[[], datetime]

    def look(
        self, service: Service, store: Store | None, shown: Deployed | Attempt | None, *, thorough: bool
    ) -> Drift | None:
        """Return how the files of what is or was shown differ from their revision; None where they don't.

        What is found is kept as a patch before anybody can replace the files.
        """
        if store is None or shown is None or not shown.release_path.is_dir():
            return None
        # Owner and paths are those of the time when it was published.
        request = DriftRequest(
            service=evolve(shown.service, drift=service.drift),
            store=store, release=release_of(shown), thorough=thorough,
        )  # fmt: skip
        drift = self._hooks.drift(request)
        if drift is None or not drift.changes:
            return None
        now = (self._state.deployed(service.name), self._state.attempt(service.name))
        if all(known is None or known.release != shown.release for known in now):
            return None  # a pass replaced it while we looked, and may be removing its files
        self._keep(shown, drift)
        return drift

    def seen(self, service: Service, store: Store | None) -> Drift | None:
        """The same for a pass: by the policy, and never in the way of a deploy.

        What is shown and was not taken is looked at first, so that it is kept: people mend by hand what
        a service could not take. What is returned is the drift of what is deployed.
        """
        if service.drift is DriftPolicy.OFF:
            return None
        try:
            deployed = self._state.deployed(service.name)
            shown = unfinished(self._hooks, self._state.attempt(service.name))
            if shown and not (deployed and shown.release == deployed.release):
                self.look(service, store, shown, thorough=False)
            return self.look(service, store, deployed, thorough=False)
        except GitopperError as exc:
            log.warning("%s: its files could not be compared with their revision: %s", service.name, exc)
        except Exception:
            log.exception("%s: its files could not be compared with their revision", service.name)
        return None

    def heal(self, service: Service, store: Store, drift: Drift, deployed: Deployed) -> Drift | None:
        """Publish a fresh release in the place of one that drifted; return the drift that is left.

        What can't be kept as a patch is not thrown away, so it is not healed.

        Raises:
            StepError: no fresh release can be made, published or taken now.
        """
        if not drift.complete or deployed.service.placement != service.placement:
            return drift
        at = self._now()
        content = evolve(deployed.content, generation=deployed.content.generation + 1)
        release = self._deploying.release(service, store, content)
        with self._intents.hold(service.name):
            self._publishing.publish(service, release, deployed)
        taken = self._deploying.reload(service, release)
        entry = Deploy(
            service=service.name, at=at, before=deployed.revision, after=deployed.revision,
            release=release.id, asked="drift", why="published files had drifted",
            files=drift.changes[:FILES_KEPT], files_total=len(drift.changes), result=Result.HEALED,
        )  # fmt: skip
        self._state.record(taken.deployed, entry)
        self._tell("healed", deployed, drift)
        self._deploying.discard(service, store)
        return None

    def _keep(self, shown: Deployed | Attempt, drift: Drift) -> None:
        record = DriftRecord(
            service=shown.service.name, release=shown.release, revision=shown.revision,
            at=self._now(), changes=drift.changes, patch=drift.patch, complete=drift.complete,
        )  # fmt: skip
        if self._state.keep_drift(record):
            self._tell("drift", shown, drift)

    def _tell(self, kind: str, shown: Deployed | Attempt, drift: Drift) -> None:
        details = {
            "revision": shown.revision,
            "files": len(drift.changes),
            "first": drift.changes[0].path,
        }
        self._hooks.event(Event(kind=kind, service=shown.service.name, details=details))
