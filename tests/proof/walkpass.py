"""One pass of a service, foreseen step by step: what it ends with, and what it does on the way."""

from __future__ import annotations

from collections.abc import Callable
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
    VerifyError,
)
from libgitopper import Mapping as Mapped
from tests.proof.walkcontents import Contents
from tests.proof.walkvalues import ILL, UNFIT, End, Placed, Setup, Standing, Wish, World

__all__ = ["Foreseen", "StandBy", "Stop"]


class Stop(Exception):  # noqa: N818 - it is no error: that is what must be
    """A step refused."""

    def __init__(self, error: type[GitopperError], result: str = "") -> None:
        super().__init__(error)
        self.error, self.result = error, result


class StandBy(CheckError, HealthError):  # noqa: N818 - it reads as what it is
    """In the model: content was refused, by its check or its health."""


class Foreseen:
    """One pass, foreseen. It changes its copy of how the service stands."""

    def __init__(
        self, contents: Contents, setup: Setup, standing: Standing, world: World, *, offline: bool
    ) -> None:
        self._contents, self.setup, self.world = contents, setup, world
        self.s = standing.copy()
        self.offline = offline
        """Whether file contents have to come from an upstream that is gone."""
        self.reloads = False
        self.target: str | None = None

    def end(self) -> End:
        """Make the pass."""
        s, error, result = self.s, None, ""
        try:
            self._bring_back(self.restore)
            if s.wish.until and self.world.now >= s.wish.until:
                s.wish = Wish()
            before = s.deployed
            self._bring_back(self.make_whole)
        except Stop as stop:
            return self._ended(stop.error, stop.result, drifted=False)
        owed = self._owed()
        try:
            result = self.settle()
        except Stop as stop:
            error, result = stop.error, stop.result
            if owed and self._owed() and not issubclass(error, ReloadError | HealthError):
                with suppress(Stop):  # the tip is told of
                    self._take(owed)
        drifted = self._drifted(before)
        heals = self.setup.drift is DriftPolicy.HEAL
        if drifted and heals and s.deployed and s.deployed.mappings == self.setup.mappings:
            try:
                drifted, result = self._heal(s.deployed), "healed"
            except Stop as stop:
                error = error or stop.error
        return self._ended(error, result, drifted=drifted and error is None)

    def _bring_back(self, step: Callable[[], None]) -> None:
        """What can't be restored where it was is no reason against where it shall be now."""
        try:
            step()
        except Stop:
            here = self.s.deployed
            if here is None or here.mappings == self.setup.mappings:
                raise

    def restore(self) -> None:
        """Show what is deployed, unless an unfinished attempt is shown."""
        s, here = self.s, self.s.deployed
        if here is None:
            self._restore_ill()
        elif not (s.shows(here) or self._unfinished()) and self._whole(here):
            if s.attempt and self._goes_forward(s.attempt, here):
                self._publish(s.attempt, here)
            else:
                self._publish(here, here)
                self._take(here)

    def _restore_ill(self) -> None:
        """Show what a service was ill with, and keeps: there was nothing before it."""
        attempt = self.s.attempt
        if attempt is None or attempt.mappings != self.setup.mappings or self._unfinished():
            return
        if self._whole(attempt) and self._is_rejected(attempt):
            self._publish(attempt, None)
            self._reload(attempt)

    def make_whole(self) -> None:
        """Make what is deployed afresh where it lost all of a path."""
        s, here = self.s, self.s.deployed
        if here is None or self._whole(here) or not self.world.fetched or self.offline:
            return
        begun = s.attempt and (s.partly or (s.shown and s.shown.mappings == here.mappings))
        if not (self._unfinished() or begun):
            fresh = self._fresh(here)
            self._publish(fresh, here)
            self._take(fresh)

    def _whole(self, placed: Placed) -> bool:
        return self._contents.whole(placed, self.s.edits.get(placed.key, {}))

    def _unfinished(self) -> Placed | None:
        """Return the attempt, where it is shown."""
        return self.s.attempt if self.s.shows(self.s.attempt) else None

    def _owed(self) -> Placed | None:
        """Return what is deployed already, and is to be taken once more."""
        unfinished = self._unfinished()
        return unfinished if unfinished and unfinished.same(self.s.deployed) else None

    def _goes_forward(self, attempt: Placed, here: Placed) -> bool:
        """Tell whether `attempt` is shown anew: some may have seen it, or another one that it overtook."""
        s = self.s
        if attempt.mappings != here.mappings or not self._whole(attempt):
            return False
        overtook = s.shown is not None and s.shown.mappings == here.mappings
        stays = overtook or s.wish.kind is IntentKind.FREEZE
        return s.partly or (stays and attempt.key not in {here.key, *s.rejected})

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
            raise Stop(SourceError)
        target = self._placed(revision)
        if target is None:
            raise Stop(CheckoutError, "failed")
        if here and target.same(here) and s.attempt is None and s.shows(here):
            return self._advance(here, target)
        if not world.fetched:
            raise Stop(SourceError)
        if self._is_rejected(target):
            raise self._stand_by("")
        if self._waits(target):
            return self._stay()
        return self._deploy(target)

    def _placed(self, revision: str) -> Placed | None:
        """Return what a commit has for the service, as what is deployed where that is the same."""
        placed, here = self._contents.placed(revision, self.setup.mappings), self.s.deployed
        same = placed and here and here.key[0] == placed.key[0]
        return evolve(placed, key=here.key) if placed and here and same else placed

    def _waits(self, target: Placed) -> bool:
        """Tell whether a deploy is news that has to wait."""
        s, here = self.s, self.s.deployed
        if here is None or here.revision == target.revision or s.wish.kind is not IntentKind.TRACK:
            return False
        unfinished, old = self._unfinished(), dict(here.key[0])
        shown = s.shows(here) or (unfinished is not None and unfinished.revision == here.revision)
        return self.world.held and shown and any(old.get(link) != files for link, files in target.key[0])

    def _stay(self) -> str:
        """While another commit waits, bring the one that is deployed to the settings of now."""
        here = self.s.deployed
        stays = here and (here.mappings != self.setup.mappings or self._unfinished())
        target = self._placed(here.revision) if here and stays else None
        if target is None:
            return ""
        if self._is_rejected(target):
            raise self._stand_by("")
        self.target = target.revision
        result = self._deploy(target, stays=True)
        try:
            later = self.settle()
        except Stop as stop:
            raise Stop(stop.error, self._newest(stop.result, target) or result) from None
        return self._newest(later, target) or result

    def _newest(self, later: str, target: Placed) -> str:
        """Return what the history has to say of what came later; if nothing, its newest is of `target`."""
        self.target = self.target if later else target.revision
        return later

    def _aim(self) -> str | None:
        s = self.s
        here = s.deployed.revision if s.deployed else None
        if s.wish.kind is IntentKind.ROLLBACK:
            return s.wish.revision
        tracks = s.wish.kind is IntentKind.TRACK
        if tracks and (tip := self.world.tips.get(self.setup.branch)):
            return tip
        if unfinished := self._unfinished():
            return unfinished.revision
        return here or (None if tracks else s.former)

    def _advance(self, here: Placed, target: Placed) -> str:
        if here.revision != target.revision:
            if not self.world.fetched:
                raise Stop(SourceError)
            self._verify(target)
            self.s.deployed = evolve(here, revision=target.revision)
            if self.s.shown:
                self.s.shown = evolve(self.s.shown, revision=target.revision)
        return ""

    def _deploy(self, target: Placed, *, stays: bool = False) -> str:
        s, setup, here = self.s, self.setup, self.s.deployed
        if not stays:
            self._verify(target, "failed")
        if self.offline:
            raise Stop(SourceError, "failed")
        shown = s.shown if s.shown and s.shown.mappings == setup.mappings else None
        news = not (here and here.same(target))
        release = target if shown and shown.key == target.key else self._fresh(target)
        if setup.check and not (shown and shown.key == release.key) and self._contents.has(release, UNFIT):
            self._reject(target)
            raise self._stand_by("failed")
        try:
            self._publish(release, here)
            self._reload(release)
        except Stop as stop:
            if stop.error is PublishError or not (setup.health and here and news):
                raise Stop(stop.error, "failed") from None
            self._reject(target)
            raise self._taken_back(here, "failed") from None
        if setup.health and news and self._contents.has(release, ILL, s.edits.get(release.key)):
            self._reject(target)
            raise self._taken_back(here, "failed") if here else Stop(HealthError, "failed")
        self._record(release)
        return "deployed"

    def _verify(self, target: Placed, result: str = "") -> None:
        s, branch = self.s, self.setup.branch
        floor = s.accepted.get(branch)
        if s.wish.kind is not IntentKind.TRACK:
            return
        if self.setup.no_rewind and floor and not self._contents.descends(target.revision, floor):
            raise Stop(VerifyError, result)
        if self.setup.no_rewind or floor:
            s.accepted = {**s.accepted, branch: target.revision}

    def _is_rejected(self, placed: Placed) -> bool:
        verdict = self.s.rejected.get(placed.key)
        return verdict is not None and verdict[0] == self.setup.fitness

    def _reject(self, target: Placed) -> None:
        self.s.rejected = {**self.s.rejected, target.key: (self.setup.fitness, target.revision)}

    def _stand_by(self, result: str) -> Stop:
        here = self.s.deployed
        if here and self.s.attempt:
            return self._taken_back(here, result)
        return Stop(StandBy, result)

    def _taken_back(self, here: Placed, result: str) -> Stop:
        if not self._whole(here):
            here = self._fresh(here)
        try:
            self._publish(here, here)
            self._reload(here)
        except Stop:
            return Stop(HealthError, result)
        self._record(here)
        return Stop(StandBy, "taken back")

    def _publish(self, placed: Placed, here: Placed | None) -> None:
        self.s.attempt = placed
        if any(str(mapping.local) in self.world.taken_paths for mapping in placed.mappings):
            raise Stop(PublishError)
        self.s.shown = placed

    def _reload(self, placed: Placed) -> None:
        if not self.world.reloads:
            raise Stop(ReloadError)
        self.reloads = True

    def _take(self, placed: Placed) -> None:
        self._reload(placed)
        self._record(placed)

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
        self._take(fresh)
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


def _paths(mappings: tuple[Mapped, ...]) -> list[tuple[str, bool]]:
    return [(mapping.link, mapping.file) for mapping in mappings]
