"""What to do for a service, and why: pure functions of what is wanted and what is there.

Nothing here does I/O, and nothing asks "what did the last pull bring": what should be is compared
with what is, so the next pass repairs whatever a crash left.
"""

from __future__ import annotations

import enum
from datetime import datetime
from pathlib import Path

from attrs import evolve, frozen

from libgitopper.model import Attempt, Content, Deployed, Intent, IntentKind, Service
from libgitopper.requests import Published

__all__ = ["Plan", "Reason", "Stale", "Verb", "aim", "in_line", "make_plan", "may_wait"]


class Verb(enum.Enum):
    """What a pass does."""

    WAIT = "wait"
    """Nothing can be done now: no revision to be at is known, or its time has not come."""
    KEEP = "keep"
    """Nothing needs to be done."""
    ADVANCE = "advance"
    """The mapped paths are the same in both commits: only the commit that is shown moves on."""
    DEPLOY = "deploy"
    """Check out, publish, reload."""


class Reason(enum.Enum):
    """Why a plan does what it does; the text is what an operator reads."""

    NO_TIP = "the tip of the branch is not known, and nothing was deployed before"
    FROZEN_EMPTY = "frozen before its first deploy"
    IN_LINE = "its commit is deployed"
    ELSEWHERE = "the commit changes other paths only"
    FIRST = "first deploy"
    CONTENT = "mapped paths changed"
    SETTINGS = "the service's settings changed"
    UNPUBLISHED = "its paths do not show its release"
    UNFINISHED = "an earlier deploy was not finished"
    REJECTED = "this content failed before, and is not tried again"
    HELD = "new content has to wait"
    AFTER = "another service comes first"


@frozen(kw_only=True)
class Plan:
    """A decision, with its reasons in the order in which they weigh."""

    verb: Verb
    reasons: tuple[Reason, ...]
    target: Content | None = None
    """What to be at; None for WAIT."""
    changed: tuple[str, ...] = ()
    """The links whose content differs from what is deployed."""
    note: str = ""
    """For WAIT: what it waits for, in one line."""
    until: datetime | None = None
    """For WAIT: when it is worth while to look again, UTC; None for each poll."""

    @property
    def why(self) -> str:
        """The reasons as one line."""
        return "; ".join(self._told(reason) for reason in self.reasons)

    def _told(self, reason: Reason) -> str:
        if reason is Reason.CONTENT and self.changed:
            return f"{reason.value}: {', '.join(self.changed)}"
        return reason.value


def aim(
    *,
    intent: Intent,
    tip: str | None,
    deployed: Deployed | None,
    unfinished: Attempt | None,
    former: str | None = None,
) -> str | Reason:
    """Return the revision that the service should be at, or the reason why there is none.

    A service that is frozen, or tracks a branch whose tip is unknown, stays with what it shows: that is
    the `unfinished` attempt where there is one, and its reload is owed all the same. One that was
    withdrawn while frozen, and is back, is frozen at `former`, what it last took.
    """
    shown = unfinished or deployed
    if intent.kind is IntentKind.ROLLBACK and intent.revision:
        return intent.revision
    tracks = intent.kind is IntentKind.TRACK
    if tracks and tip:
        return tip
    if shown:
        return shown.revision
    return Reason.NO_TIP if tracks else former or Reason.FROZEN_EMPTY


def make_plan(
    *,
    service: Service,
    target: Content,
    deployed: Deployed | None,
    attempt: Attempt | None,
    published: Published,
) -> Plan:
    """Return what brings `service` to `target`, given what is deployed and what its paths show."""
    if deployed is None:
        return Plan(verb=Verb.DEPLOY, reasons=(Reason.FIRST,), target=target)
    release = target.release_id(service)
    changed = _changed(deployed.content, target)
    # Before the pass the paths showed the deployed release, or an attempt's: what it replaces is no reason.
    known = {release, deployed.release, attempt.release if attempt else release}
    tests = (
        (bool(changed), Reason.CONTENT),
        (_settings_changed(service, deployed, release, changed), Reason.SETTINGS),
        (published.release not in known, Reason.UNPUBLISHED),
        (attempt is not None, Reason.UNFINISHED),
    )
    reasons = tuple(reason for holds, reason in tests if holds)
    if reasons:
        return Plan(verb=Verb.DEPLOY, reasons=reasons, target=target, changed=changed)
    if target.revision != deployed.revision:
        return Plan(verb=Verb.ADVANCE, reasons=(Reason.ELSEWHERE,), target=target)
    return Plan(verb=Verb.KEEP, reasons=(Reason.IN_LINE,), target=target)


def may_wait(plan: Plan, *, intent: Intent, deployed: Deployed | None, published: Published) -> bool:
    """Tell whether a deploy is news that can come later without harm.

    An operator's rollback is not, nor is what has to be put right: a service whose paths show
    something else than what it took.
    """
    if intent.kind is not IntentKind.TRACK:
        return False
    if deployed is None:
        return published.release is None and not published.partly
    return Reason.CONTENT in plan.reasons and published.release == deployed.release


def in_line(*, intent: Intent, tip: str | None, deployed: Deployed | None, attempt: Attempt | None) -> bool:
    """Tell whether a service is where it should be, so that those which come after it may go on."""
    wanted = aim(intent=intent, tip=tip, deployed=deployed, unfinished=None)
    return deployed is not None and attempt is None and deployed.revision == wanted


def _changed(before: Content, after: Content) -> tuple[str, ...]:
    old = {entry.link: entry for entry in before.entries}
    return tuple(entry.link for entry in after.entries if old.get(entry.link) != entry)


def _settings_changed(service: Service, deployed: Deployed, release: str, changed: tuple[str, ...]) -> bool:
    """A change of mappings, owner or publisher; one of content alone is not a change of settings."""
    if service.placement != deployed.service.placement:
        return True
    return release != deployed.release and not changed


@frozen(kw_only=True)
class Stale:
    """What is shown for a service and no longer wanted, because its settings changed."""

    in_the_way: Service | None = None
    """To withdraw before the new is published: another publisher's, or a path above or below a new one."""
    aside: Service | None = None
    """To withdraw after the new is published: paths that the service no longer maps."""
    moved: bool = False
    """True when the publisher or the mount directory changed, so that all of the old must go."""

    @classmethod
    def of(cls, old: Service | None, service: Service) -> Stale:
        """Compare where `old`, the service as it was, has its files with where `service` wants them."""
        if old is None:
            return cls()
        if (old.publish, old.mount) != (service.publish, service.mount):
            return cls(in_the_way=old, moved=True)
        # A file can't be swapped for a directory, so that is a path which goes, too.
        wanted = {(mapping.local, mapping.file) for mapping in service.mappings}
        gone = [mapping for mapping in old.mappings if (mapping.local, mapping.file) not in wanted]
        blocking = tuple(m for m in gone if any(_overlap(m.local, local) for local, _ in wanted))
        rest = tuple(m for m in gone if m not in blocking)
        return cls(
            in_the_way=evolve(old, mappings=blocking) if blocking else None,
            aside=evolve(old, mappings=rest) if rest else None,
        )


def _overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents
