"""To look into a service and change nothing: why it is as it is, what differs, how far it is behind."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from datetime import datetime

from attrs import field, frozen

from libgitopper.deciding import Deciding, Decision, Peer, needed, showing
from libgitopper.errors import AmbiguousRevision, CheckoutError, SourceError, StepError, UnknownRevision
from libgitopper.explaining import POLLED, Effect, Explanation, Standing
from libgitopper.hooks import Hooks
from libgitopper.model import Attempt, Content, Deployed, IntentKind, Service
from libgitopper.orders import View
from libgitopper.planner import Plan, Reason, Verb, make_plan
from libgitopper.reconciler import Reconciler, utc_now
from libgitopper.records import Deploy
from libgitopper.repository import Commit, FileChange, Store
from libgitopper.requests import Drift, Published
from libgitopper.revisions import find_revision
from libgitopper.state import StateStore
from libgitopper.status import SourceHealth

__all__ = ["Behind", "Compared", "Difference", "Inspector"]

MOST_COMMITS = 1000
"""So many are counted; a service that is further behind is that far behind at least."""
MIN_DIGITS = 4


class Compared(enum.Enum):
    """What is compared with what."""

    DRIFT = "drift"
    """The revision that is published with the files that are there."""
    KEPT_DRIFT = "kept-drift"
    """The same, as it was found at some time before."""
    UPSTREAM = "upstream"
    """The revision that is published with the tip of the branch: what would come."""
    REVISIONS = "revisions"
    """One revision with another."""


@frozen(kw_only=True)
class Difference:
    """What differs below the mapped paths of a service."""

    service: str
    kind: Compared
    before: str | None
    """A full hash; None for nothing at all."""
    after: str | None
    """A full hash; None for the files on disk."""
    changes: tuple[FileChange, ...] = ()
    patch: bytes = field(default=b"", repr=False)
    """For ``git apply``: makes the files of `before` into those of `after`."""
    complete: bool = True
    """False where the patch lacks something."""
    at: datetime | None = None
    """When drift was found; UTC."""
    healed: bool = False
    """True where a fresh release took the place of what had drifted."""
    kept: int = 0
    """How many patches of drift are kept for the service, healed or not."""


@frozen(kw_only=True)
class Behind:
    """How far what is published lies behind the tip of its branch."""

    upstream: str
    """The tip."""
    commits: int
    """Those of the tip that what is published does not have; 1000 means at least so many."""
    touching: int
    """How many of these change the paths of the service."""


class Inspector:
    """Answers what an operator wants to know. Safe to use from several threads, also during passes.

    Methods raise `SourceError` where something has to come from upstream, and does not; `CheckoutError`
    where the repository can't give it; `UnknownRevision` for a hash that names no commit.
    """

    def __init__(
        self,
        *,
        hooks: Hooks,
        state: StateStore,
        reconciler: Reconciler,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._hooks = hooks
        self._state = state
        self._reconciler = reconciler
        self._deciding = Deciding(hooks=hooks, state=state, now=now)

    def explain(
        self,
        service: Service,
        store: Store | None,
        commit: str | None = None,
        *,
        peers: Sequence[Peer] = (),
        source: SourceHealth = POLLED,
        drift: Drift | None = None,
    ) -> Explanation:
        """Tell why `commit` did, or did not, touch `service`.

        Args:
            service: the service.
            store: what the last poll of its upstream returned; None where it was never fetched.
            commit: the first digits of a hash, four or more; None for the tip of the branch.
            peers: the services that `service.after` names.
            source: how the last poll of its upstream went.
            drift: what the last pass found of it.
        """
        view = self._deciding.look(service)
        revision = self.resolve(service, commit, store) if commit else _newest(service, store, view)
        read = _read(store, revision)
        aim = self._deciding.aim(service, store, view)
        now, trouble = self._decide(aim, service, store, view, peers)
        standing = _standing(revision, store, view.deployed)
        own: Decision | None = None
        if view.intent.kind is IntentKind.TRACK and standing is not Standing.DEPLOYED:
            if revision == aim:
                own = now
            elif revision and standing is Standing.AHEAD:
                own, _ = self._decide(revision, service, store, view, peers)
        deploys = self._state.deploys(service.name)
        return Explanation(
            service=service.name, revision=revision, commit=read, standing=standing,
            effect=_effect(read, service, store) if read and store else None, decision=own,
            deploys=tuple(deploy for deploy in deploys if deploy.after == revision),
            came_with=_came_with(revision, store, deploys) if standing is Standing.PAST else None,
            intent=view.intent, deployed=view.deployed, aim=aim if isinstance(aim, str) else None,
            tip=store.tips.get(service.source.branch) if store else None, now=now, trouble=trouble,
            published=view.shown.revision if view.shown else None, source=source, drift=drift,
        )  # fmt: skip

    def drift(self, service: Service, store: Store | None) -> Difference:
        """Compare every published file with its revision, by content; what differs is kept."""
        drift = self._reconciler.drift(service, store)
        shown = showing(self._hooks, self._state, service.name)
        return Difference(
            service=service.name, kind=Compared.DRIFT, after=None,
            before=shown.revision if shown else None, changes=drift.changes if drift else (),
            patch=drift.patch if drift else b"", complete=drift.complete if drift else True,
            kept=len(self._state.drifts(service.name)),
        )  # fmt: skip

    def kept_drift(self, service: Service, number: int = 1) -> Difference:
        """Return drift that was found before: the last one is number 1. Empty where there is none."""
        kept = self._state.drifts(service.name)
        if not 1 <= number <= len(kept):
            return Difference(
                service=service.name, kind=Compared.KEPT_DRIFT, before=None, after=None, kept=len(kept)
            )
        record = kept[number - 1]
        return Difference(
            service=service.name, kind=Compared.KEPT_DRIFT, before=record.revision, after=None,
            changes=record.changes, patch=record.patch, complete=record.complete,
            at=record.at, healed=record.healed, kept=len(kept),
        )  # fmt: skip

    def upstream(self, service: Service, store: Store | None) -> Difference:
        """Compare what is published with the tip of the branch: what would come."""
        shown = showing(self._hooks, self._state, service.name)
        before = shown.revision if shown else None
        return self._compare(service, store, before, _tip(service, store), shown, Compared.UPSTREAM)

    def revisions(
        self, service: Service, store: Store | None, before: str | None, after: str | None
    ) -> Difference:
        """Compare two revisions, each given by four or more digits of its hash.

        Without `before` it is what is published, without `after` the tip of the branch.
        """
        shown = showing(self._hooks, self._state, service.name)
        here = shown.revision if shown else None
        first = self.resolve(service, before, store) if before else here
        second = self.resolve(service, after, store) if after else _tip(service, store)
        return self._compare(service, store, first, second, shown, Compared.REVISIONS)

    def behind(self, service: Service, store: Store | None) -> Behind | None:
        """Count the commits that what is published does not have; None where that can't be told."""
        shown = showing(self._hooks, self._state, service.name)
        tip = store.tips.get(service.source.branch) if store else None
        if store is None or tip is None or shown is None:
            return None
        here = shown.revision
        if not store.is_ancestor(here, here):  # it is not in the store: all of history would be counted
            return None
        ahead = store.commits(tip, exclude=[here], limit=MOST_COMMITS)
        contents: dict[str, Content | None] = {}
        touching = sum(_touches(commit, service, store, contents) for commit in ahead)
        return Behind(upstream=tip, commits=len(ahead), touching=touching)

    def resolve(self, service: Service, prefix: str, store: Store | None) -> str:
        """Return the commit that `prefix` names: of the branch, of a kept release, or of the history.

        Raises:
            UnknownRevision: none, or several.
        """
        try:
            return find_revision(service, prefix, store, self._state)
        except AmbiguousRevision:
            raise
        except UnknownRevision:
            wanted = prefix.lower()
            found = {d.after for d in self._state.deploys(service.name) if d.after.startswith(wanted)}
            if len(found) != 1 or len(prefix) < MIN_DIGITS:
                raise
            return found.pop()

    def _decide(
        self, aim: str | Reason, service: Service, store: Store | None, view: View, peers: Sequence[Peer]
    ) -> tuple[Decision | None, str]:
        """Return what a pass that aims there would do; or why it would fail."""
        if isinstance(aim, Reason):
            return Decision(plan=Plan(verb=Verb.WAIT, reasons=(aim,))), ""
        try:
            return self._deciding.decide(aim, service, store, view, peers), ""
        except StepError as exc:
            return None, str(exc)

    def _compare(
        self, service: Service, store: Store | None, before: str | None, after: str,
        shown: Deployed | Attempt | None, kind: Compared,
    ) -> Difference:  # fmt: skip
        there = needed(store, service)
        old = self._deciding.target(before, service, store, shown) if before else None
        new = self._deciding.target(after, service, store, shown)
        changes = tuple(there.changes(old, new))
        return Difference(
            service=service.name, kind=kind, before=before, after=after, changes=changes,
            patch=there.patch(old, new, service) if changes else b"",
            kept=len(self._state.drifts(service.name)),
        )  # fmt: skip


def _tip(service: Service, store: Store | None) -> str:
    branch = service.source.branch
    tip = needed(store, service).tips.get(branch)
    if tip is None:
        raise SourceError(f"upstream has no branch {branch!r}", service=service.name)
    return tip


def _newest(service: Service, store: Store | None, view: View) -> str | None:
    tip = store.tips.get(service.source.branch) if store else None
    return tip or (view.deployed.revision if view.deployed else None)


def _read(store: Store | None, revision: str | None) -> Commit | None:
    if store is None or revision is None:
        return None
    try:
        return store.commits(revision, limit=1)[0]
    except CheckoutError:
        return None


def _standing(revision: str | None, store: Store | None, deployed: Deployed | None) -> Standing | None:
    if revision is None:
        return None
    if deployed is None:
        return Standing.AHEAD
    if deployed.revision == revision:
        return Standing.DEPLOYED
    if store is not None and store.is_ancestor(revision, deployed.revision):
        return Standing.PAST
    if store is not None and store.is_ancestor(deployed.revision, revision):
        return Standing.AHEAD
    return Standing.ASIDE


def _content(revision: str, service: Service, store: Store) -> Content | None:
    """What a revision has for the service; None where it is not here, or lacks a path."""
    try:
        return store.content(revision, service)
    except CheckoutError:
        return None


def _effect(commit: Commit, service: Service, store: Store) -> Effect:
    """Plan for a service that is in line with the parent, and has nothing else to be done."""
    try:
        after = store.content(commit.revision, service)
    except CheckoutError as exc:
        return Effect(trouble=str(exc))
    before = _content(commit.parents[0], service, store) if commit.parents else None
    deployed = _in_line_with(before, service, commit.at) if before else None
    published = Published(release=deployed.release if deployed else None)
    plan = make_plan(service=service, target=after, deployed=deployed, attempt=None, published=published)
    files = store.changes(before, after) if plan.verb is Verb.DEPLOY else ()
    return Effect(plan=plan, files=tuple(files))


def _in_line_with(content: Content, service: Service, at: datetime) -> Deployed:
    release = content.release_id(service)
    return Deployed(revision=content.revision, release=release, content=content, service=service, at=at)


def _touches(commit: Commit, service: Service, store: Store, known: dict[str, Content | None]) -> bool:
    """Tell whether a commit changes the paths of the service; `known` saves reading each twice."""
    for revision in (commit.revision, *commit.parents[:1]):
        if revision not in known:
            known[revision] = _content(revision, service, store)
    after = known[commit.revision]
    before = known[commit.parents[0]] if commit.parents else None
    return (before.entries if before else None) != (after.entries if after else None)


def _came_with(revision: str | None, store: Store | None, deploys: Sequence[Deploy]) -> str | None:
    """Return the deploy that brought the commit here along with later ones: the first that has it."""
    if store is None or revision is None:
        return None
    came = None
    for deploy in deploys:  # newest first
        if deploy.error:
            continue
        if not store.is_ancestor(revision, deploy.after):
            break
        came = deploy.after
    return came if came != revision else None
