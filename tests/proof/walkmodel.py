"""What must be, in plain values: what a pass ends with, and what an operator is then shown.

The model does not know how anything is done. It knows what a commit has (`walkgit`), what an operator and
the config want, and what was there before; where trouble leaves more than one right end, it names each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from attrs import evolve

from libgitopper import (
    CheckError,
    CheckoutError,
    DriftPolicy,
    GitopperError,
    HealthError,
    IntentKind,
    PublishError,
    ReloadError,
    SourceError,
    State,
    VerifyError,
)
from libgitopper import Mapping as Mapped
from tests.proof.walkgit import PLAIN, File, Files, Upstream, below
from tests.proof.walkvalues import ILL, UNFIT, End, Placed, Setup, Standing, Wish, World

__all__ = ["Model", "StandBy"]

PRESENT = File(PLAIN, b"")


class _Stop(Exception):  # noqa: N818 - it is no error: that is what must be
    """A step refused."""

    def __init__(self, error: type[GitopperError], result: str = "") -> None:
        super().__init__(error)
        self.error, self.result = error, result


class Model:
    """Foresees passes. It needs to know what commits have."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def ends(self, setup: Setup, standing: Standing, world: World) -> Iterator[End]:
        """Return each right end of a pass of a service."""
        yield _Pass(self, setup, standing, world, offline=False).end()
        if not world.reachable:
            yield _Pass(self, setup, standing, world, offline=True).end()

    def restored(self, setup: Setup, standing: Standing, world: World) -> Standing:
        """Return how a service stands after it was restored from this disk."""
        this = _Pass(self, setup, standing, world, offline=False)
        with suppress(_Stop):
            this.restore()
        return this.s

    def state(self, setup: Setup, end: End, world: World) -> State:
        """Return the state that must be shown after a pass with that end."""
        if end.error is not None:
            return State.DIFF if issubclass(end.error, SourceError | CheckoutError) else State.BROKEN
        if end.drifted:
            return State.DIFF
        wish, here = end.standing.wish, end.standing.deployed
        if wish.kind is IntentKind.FREEZE:
            return State.FREEZE if here else State.DIFF
        if wish.kind is IntentKind.ROLLBACK:
            return State.FREEZE if here and here.revision == wish.revision else State.ROLLBACK
        in_line = here is not None and here.revision == world.tips.get(setup.branch)
        return State.OK if world.polled and in_line else State.DIFF

    def placed(self, revision: str, mappings: tuple[Mapped, ...], fresh: int = 0) -> Placed | None:
        """Return what a commit has for the mappings; None where it lacks one of them."""
        shown = [(m.link, below(self._upstream.commits[revision].files, m)) for m in mappings]
        if any(files is None for _, files in shown):
            return None
        what = tuple((link, tuple(sorted((files or {}).items(), key=str))) for link, files in shown)
        return Placed(revision=revision, key=(what, fresh), mappings=mappings)

    def files(self, placed: Placed, mapping: Mapped, edits: Mapping[str, File | None]) -> Files:
        """Return what is to be read at `mapping`, by path below it, with what was done to it."""
        files = dict(self._upstream.commits[placed.revision].files)
        for name, file in edits.items():
            files.pop(name, None)
            if file is not None:
                files[name] = file
        return below(files, mapping) or {}

    def has(self, placed: Placed, word: bytes, edits: Mapping[str, File | None] | None = None) -> bool:
        """Tell whether a file of what is placed has a word."""
        shown = (self.files(placed, m, edits or {}) for m in placed.mappings)
        return any(word == file.data and file.mode & 0o170000 == PLAIN & 0o170000
                   for files in shown for file in files.values())  # fmt: skip

    def whole(self, placed: Placed, edits: Mapping[str, File | None]) -> bool:
        """Tell whether what was done to a release left something at each path that it shows."""
        return not any(edits.get(m.link, PRESENT) is None for m in placed.mappings)

    def descends(self, revision: str, ancestor: str) -> bool:
        """Tell whether a commit is another one, or came after it."""
        return self._upstream.descends(revision, ancestor)


class _Pass:
    """One pass, foreseen. It changes its copy of how the service stands."""

    def __init__(
        self, model: Model, setup: Setup, standing: Standing, world: World, *, offline: bool
    ) -> None:
        self.model, self.setup, self.world = model, setup, world
        self.s = standing.copy()
        self.offline = offline
        """Whether file contents have to come from an upstream that is gone."""
        self.reloads = False
        self.target: str | None = None

    def end(self) -> End:
        """Make the pass."""
        s, error, result = self.s, None, ""
        if s.wish.until and self.world.now >= s.wish.until:
            s.wish = Wish()
        before = None
        try:
            self.restore_or_go_on()
            before = s.deployed
            result = self.settle()
        except _Stop as stop:
            error, result = stop.error, stop.result
            if before is None and s.deployed is not None:
                return self._ended(error, result, drifted=False)
        drifted = self._drifted(before)
        heals = self.setup.drift is DriftPolicy.HEAL
        if drifted and heals and s.deployed and s.deployed.mappings == self.setup.mappings:
            try:
                drifted, result = self._heal(s.deployed), "healed"
            except _Stop as stop:
                error = error or stop.error
        return self._ended(error, result, drifted=drifted and error is None)

    def restore_or_go_on(self) -> None:
        """What can't be restored where it was is no reason against where it shall be now."""
        try:
            self.restore()
        except _Stop:
            here = self.s.deployed
            if here is None or here.mappings == self.setup.mappings:
                raise

    def restore(self) -> None:
        """Show what is deployed, unless an unfinished attempt is shown."""
        s, here = self.s, self.s.deployed
        if here is None or s.shows(here) or (s.attempt and s.shows(s.attempt)):
            return
        if not self.model.whole(here, s.edits.get(here.key, {})):
            return  # it can't be shown; the pass makes it afresh
        if s.attempt and self._goes_forward(s.attempt, here):
            self._publish(s.attempt, here)
            return
        self._publish(here, here)
        self._reload(here)
        self._record(here)

    def _goes_forward(self, attempt: Placed, here: Placed) -> bool:
        """Tell whether `attempt` is shown anew: some may have seen it, or another one that it overtook."""
        shown = self.s.shown
        if attempt.mappings != here.mappings:
            return False
        if not self.model.whole(attempt, self.s.edits.get(attempt.key, {})):
            return False
        overtook = shown is not None and shown.mappings == here.mappings
        return self.s.partly or (overtook and attempt.key not in {here.key, *self.s.rejected})

    def settle(self) -> str:
        """Bring the service to where it should be; return what the history has to say."""
        s, setup, world = self.s, self.setup, self.world
        revision = self._aim()
        if revision is None:
            return ""
        self.target = revision
        here = s.deployed
        known = here is not None and here.revision == revision
        if not (known and here and _paths(here.mappings) == _paths(setup.mappings)) and not world.fetched:
            raise _Stop(SourceError)
        target = self.model.placed(revision, setup.mappings)
        if target is None:
            raise _Stop(CheckoutError, "failed")
        if here and here.key[0] == target.key[0]:
            target = evolve(target, key=here.key)
        if here and target.same(here) and s.attempt is None and s.shows(here):
            return self._advance(here, target)
        if not world.fetched:
            raise _Stop(SourceError)
        return self._deploy(target)

    def _aim(self) -> str | None:
        s = self.s
        here = s.deployed.revision if s.deployed else None
        if s.wish.kind is IntentKind.ROLLBACK:
            return s.wish.revision
        tracks = s.wish.kind is IntentKind.TRACK
        if tracks and (tip := self.world.tips.get(self.setup.branch)):
            return tip
        if s.attempt and s.attempt.mappings == self.setup.mappings and s.shows(s.attempt):
            return s.attempt.revision
        return here or (None if tracks else s.former)

    def _advance(self, here: Placed, target: Placed) -> str:
        if here.revision != target.revision:
            if not self.world.fetched:
                raise _Stop(SourceError)
            self._verify(target)
            self.s.deployed = evolve(here, revision=target.revision)
            if self.s.shown:
                self.s.shown = evolve(self.s.shown, revision=target.revision)
        return ""

    def _deploy(self, target: Placed) -> str:
        s, setup, here = self.s, self.setup, self.s.deployed
        if (verdict := s.rejected.get(target.key)) and verdict[0] == setup.fitness:
            raise self._stand_by("")
        self._verify(target, "failed")
        if self.offline:
            raise _Stop(SourceError, "failed")
        shown = s.shown if s.shown and s.shown.mappings == setup.mappings else None
        news = not (here and here.same(target))
        release = target if shown and shown.key == target.key else self._fresh(target)
        if setup.check and not (shown and shown.key == release.key) and self.model.has(release, UNFIT):
            self._reject(target)
            raise self._stand_by("failed")
        try:
            self._publish(release, here)
            self._reload(release)
        except _Stop as stop:
            if stop.error is PublishError or not (setup.health and here and news):
                raise _Stop(stop.error, "failed") from None
            self._reject(target)
            raise self._taken_back(here, "failed") from None
        if setup.health and news and self.model.has(release, ILL, s.edits.get(release.key)):
            self._reject(target)
            raise self._taken_back(here, "failed") if here else _Stop(HealthError, "failed")
        self._record(release)
        return "deployed"

    def _verify(self, target: Placed, result: str = "") -> None:
        s, branch = self.s, self.setup.branch
        floor = s.accepted.get(branch)
        if s.wish.kind is not IntentKind.TRACK:
            return
        if self.setup.no_rewind and floor and not self.model.descends(target.revision, floor):
            raise _Stop(VerifyError, result)
        if self.setup.no_rewind or floor:
            s.accepted = {**s.accepted, branch: target.revision}

    def _reject(self, target: Placed) -> None:
        self.s.rejected = {**self.s.rejected, target.key: (self.setup.fitness, target.revision)}

    def _stand_by(self, result: str) -> _Stop:
        here = self.s.deployed
        if here and self.s.attempt:
            return self._taken_back(here, result)
        return _Stop(StandBy, result)

    def _taken_back(self, here: Placed, result: str) -> _Stop:
        if not self.model.whole(here, self.s.edits.get(here.key, {})):
            here = self._fresh(here)
        try:
            self._publish(here, here)
            self._reload(here)
        except _Stop:
            return _Stop(HealthError, result)
        self._record(here)
        return _Stop(StandBy, "taken back")

    def _publish(self, placed: Placed, here: Placed | None) -> None:
        self.s.attempt = placed
        if any(str(mapping.local) in self.world.taken_paths for mapping in placed.mappings):
            raise _Stop(PublishError)
        self.s.shown = placed

    def _reload(self, placed: Placed) -> None:
        if not self.world.reloads:
            raise _Stop(ReloadError)
        self.reloads = True

    def _record(self, placed: Placed) -> None:
        self.s.deployed, self.s.attempt = placed, None
        self.s.former = placed.revision

    def _drifted(self, before: Placed | None) -> bool:
        s = self.s
        if self.setup.drift is DriftPolicy.OFF or not (before and s.deployed and self.world.fetched):
            return False
        unchanged = s.deployed.key == before.key and s.attempt is None
        return unchanged and before.key in s.edits

    def _heal(self, here: Placed) -> bool:
        fresh = self._fresh(here)
        self._publish(fresh, here)
        self._reload(fresh)
        self._record(fresh)
        return False

    def _fresh(self, placed: Placed) -> Placed:
        """Return the same in a release that nobody has changed."""
        while placed.key in self.s.edits:
            placed = evolve(placed, key=(placed.key[0], placed.key[1] + 1))
        return placed

    def _ended(self, error: type[GitopperError] | None, result: str, *, drifted: bool) -> End:
        return End(
            standing=self.s, error=error, drifted=drifted, reloads=self.reloads, result=result,
            target=self.target,
        )  # fmt: skip


class StandBy(CheckError, HealthError):  # noqa: N818 - it reads as what it is
    """In the model: content was refused, by its check or its health."""


def _paths(mappings: tuple[Mapped, ...]) -> list[tuple[str, bool]]:
    return [(mapping.link, mapping.file) for mapping in mappings]
