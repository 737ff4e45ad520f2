"""Why a commit did, or did not, touch a service: the planner's own reasons, with what happened. Pure."""

from __future__ import annotations

import enum

from attrs import frozen

from libgitopper.deciding import Decision
from libgitopper.model import Deployed, Intent, IntentKind
from libgitopper.planner import Plan, Reason, Verb
from libgitopper.records import Deploy, Result
from libgitopper.repository import Commit, FileChange
from libgitopper.requests import Drift
from libgitopper.status import SourceHealth, drifted, joined

__all__ = ["POLLED", "Effect", "Explanation", "Standing"]

SHORT = 12
POLLED = SourceHealth(polled=True)


class Standing(enum.Enum):
    """Where a commit stands to what is deployed."""

    DEPLOYED = "deployed"
    """It is what the service is in line with."""
    PAST = "past"
    """What is deployed descends from it."""
    AHEAD = "ahead"
    """It descends from what is deployed, or nothing is."""
    ASIDE = "aside"
    """Neither: history was rewritten, or it is of another branch."""


@frozen(kw_only=True)
class Effect:
    """What a commit changes for a service, compared with its first parent."""

    plan: Plan | None = None
    """What a pass does for a service that is in line with the parent; None where it can do nothing."""
    files: tuple[FileChange, ...] = ()
    """Those below the mapped paths that it changes."""
    trouble: str = ""
    """Why it can't be deployed for this service, as a path that it lacks."""


@frozen(kw_only=True)
class Explanation:
    """What there is to say of a commit and a service."""

    service: str
    revision: str | None
    """The commit, by its full hash; None where none is known."""
    commit: Commit | None
    """The same, read; None where it is not in the store."""
    standing: Standing | None
    """None without a commit."""
    effect: Effect | None
    """None where the commit is not in the store."""
    decision: Decision | None
    """What a pass would do with this commit, where the service tracks and does not have it."""
    deploys: tuple[Deploy, ...] = ()
    """What was done here to bring the service to this commit, newest first."""
    came_with: str | None = None
    """The later commit by whose deploy it came here; None where it came by its own, or did not."""
    intent: Intent
    deployed: Deployed | None
    aim: str | None
    """The commit that the service should be at; None where none is known."""
    tip: str | None
    """The tip of its branch."""
    now: Decision | None
    """What a pass would do now; None where it would fail at once."""
    trouble: str = ""
    """Why it would."""
    published: str | None = None
    """The commit whose files are published, taken by the service or not."""
    source: SourceHealth = POLLED
    """How the last poll of its upstream went."""
    drift: Drift | None = None
    """How the published files differ from their revision, as far as it was seen."""

    @property
    def unsettled(self) -> str:
        """What is not as it should be, though a pass may have nothing to deploy; in one line, or empty."""
        return joined(self._unasked(), drifted(self.drift) if self.drift and self.drift.changes else "")

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Every reason of the planner that has a part in it, each once."""
        plans = [self.effect.plan.reasons] if self.effect and self.effect.plan else []
        plans += [decision.reasons for decision in (self.decision, self.now) if decision]
        return tuple(dict.fromkeys(reason for reasons in plans for reason in reasons))

    @property
    def verdict(self) -> str:
        """All of it in one line; texts from the repository and from programs are not made safe to print."""
        if self.revision is None:
            return joined(f"{self.service}: {self._now()}", self.unsettled)
        return f"{self.revision[:SHORT]} {joined(self._changes(), self._fate(), self.unsettled)}"

    def _unasked(self) -> str:
        """Why what is known of the branch may not be what upstream has by now."""
        if self.source.error is not None:
            last = self.source.last_success
            since = f"since {last:%Y-%m-%dT%H:%M:%SZ}" if last else "since the start"
            return f"upstream can't be asked {since}: {self.source.error}"
        return "upstream has no such branch" if self.source.polled and self.tip is None else ""

    def _changes(self) -> str:
        if self.effect is None:
            return "is not in the store any more"
        plan = self.effect.plan
        if plan is None:
            return f"can't be deployed: {self.effect.trouble}"
        if Reason.FIRST in plan.reasons:
            new = not (self.commit and self.commit.parents)
            first = f"is the first commit that has the paths of {self.service}"
            return first if new else f"brings the paths of {self.service}, which the commit before it lacks"
        if plan.verb is not Verb.DEPLOY:
            return f"changes other paths only{self._all_the_same()}"
        files = len(self.effect.files)
        return f"changes {', '.join(plan.changed)} ({files} file{'s' if files != 1 else ''})"

    def _all_the_same(self) -> str:
        """What such a commit does: nothing, unless it came in the place of one that is not its parent.

        Of one that was tried for nothing, its failure tells.
        """
        done = next((deploy for deploy in self.deploys if deploy.result is Result.DEPLOYED), None)
        if done is None:
            return "" if self.deploys else f", so {self.service} is not touched for it"
        place = f" in the place of {self._of(done.before)}" if done.before else ""
        return f", and was deployed{place}: {done.why}"

    def _fate(self) -> str:
        if self.standing is Standing.DEPLOYED:
            return f"it is deployed; {self._now()}" if self._is_unsettled else "it is deployed"
        if self.standing is Standing.PAST:
            return self._past()
        if self.standing is Standing.ASIDE and self.revision != self.tip:
            return f"{self._of(self.aim)} is what {self.service} shall be at" if self.aim else ""
        return joined(self._failure(), self._prospects())

    def _failure(self) -> str:
        """How the last try to deploy it failed, where that is not said of it anyhow."""
        last = next(iter(self.deploys), None)
        decided = self._decided
        known = (self.effect.trouble if self.effect else "") or (decided and decided.rejection)
        if last is None or last.result is not Result.FAILED or known:
            return ""
        live = self.published == self.revision
        return f"it is published; {last.error}" if live else f"it failed: {last.error}"

    def _prospects(self) -> str:
        """What comes of a commit that is not deployed."""
        if self._failure() and self._is_next:
            return "the next pass tries again"
        if self.intent.kind is not IntentKind.TRACK and self.aim != self.revision:
            return _held_back(self.intent)
        decided = self._decided
        if decided is None:
            known = self.effect is not None and self.trouble == self.effect.trouble
            fails = "the next pass fails" if known else f"the next pass fails: {self.trouble}"
            return fails if self.trouble else ""
        later = f"; {self._of(self.aim)} comes after it" if self.aim != self.revision else ""
        return _told(decided) + later

    @property
    def _decided(self) -> Decision | None:
        """What a pass would do with this commit, also where an operator wants the service to be at it."""
        return self.decision or (self.now if self.aim == self.revision else None)

    @property
    def _is_next(self) -> bool:
        """True where the next pass deploys this very commit."""
        now = self.now
        deploys = now is not None and now.plan.verb is Verb.DEPLOY and not (now.waits or now.rejection)
        return deploys and self.aim == self.revision

    @property
    def _is_unsettled(self) -> bool:
        """True where the service is at the right commit, and not all is as it should be."""
        return self.now is None or self.now.plan.verb is Verb.DEPLOY

    def _past(self) -> str:
        deployed = self.deployed.revision if self.deployed else None
        here = f"{self._of(deployed)} is deployed, which descends from it"
        last = next(iter(self.deploys), None)
        if last is not None and last.result in {Result.FAILED, Result.TAKEN_BACK}:
            return f"it failed: {last.error}; {here}"
        touched = self.effect and self.effect.plan and self.effect.plan.verb is Verb.DEPLOY
        if self.came_with and touched:
            return f"it came with {self._of(self.came_with)}; {here}"
        return here

    def _now(self) -> str:
        if self.now is None:
            return f"a pass fails: {self.trouble}"
        return _told(self.now, "it" if self.aim in {None, self.revision} else self._of(self.aim))

    def _of(self, revision: str | None) -> str:
        return (revision or "nothing")[:SHORT]


def _told(decision: Decision, commit: str = "it") -> str:
    """What a pass does, and why, in words; `commit` is what they call the commit that it is about."""
    if decision.rejection:
        failed = decision.rejection
        where = f" as part of {failed.revision[:SHORT]}"
        what = f"failed its {failed.step}{where}: {failed.reason}"
        content = "this content" if commit == "it" else "its content"
        return f"{commit} is not tried again, because {content} {what}; `do retry` tries it again"
    if decision.waits:
        colon = "" if Reason.AFTER in decision.waits.reasons else ":"
        return f"{commit} waits{colon} {decision.waits.note}"
    plan = decision.plan
    to = f" {plan.target.revision[:SHORT]}" if plan.target else ""
    does = {Verb.DEPLOY: f"deploys{to}", Verb.ADVANCE: f"advances to{to}", Verb.KEEP: "changes nothing"}
    return f"the next pass {does.get(plan.verb, 'waits')}: {plan.why}"


def _held_back(intent: Intent) -> str:
    by = f" by {intent.by}" if intent.by else ""
    if intent.kind is IntentKind.ROLLBACK:
        return f"it has to wait for an unfreeze: rolled back to {(intent.revision or '')[:SHORT]}{by}"
    why = f": {intent.reason}" if intent.reason else ""
    return f"it has to wait for an unfreeze: frozen{by}{why}"
