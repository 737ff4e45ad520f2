"""What must be, in plain values: what a pass ends with, and what an operator is then shown.

The model does not know how anything is done. It knows what a commit has (`walkgit`), what an operator and
the config want, and what was there before; where trouble leaves more than one right end, it names each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from attrs import define, evolve, field, frozen

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

__all__ = ["ILL", "UNFIT", "End", "Model", "Placed", "Setup", "StandBy", "Standing", "Wish", "World"]

UNFIT, ILL = b"UNFIT", b"ILL"
"""A file with the one fails the check of a service, with the other its health."""

Key = tuple[tuple[object, ...], int]
"""What a release has, and how often it was made afresh."""


@frozen(kw_only=True)
class Setup:
    """A service as the config has it."""

    mappings: tuple[Mapped, ...]
    branch: str = "main"
    drift: DriftPolicy = DriftPolicy.REPORT
    check: bool = False
    health: bool = False
    no_rewind: bool = False
    keep: int = 3

    @property
    def fitness(self) -> object:
        """The settings that bear on whether a release is fit."""
        return self.mappings, self.check, self.health


@frozen(kw_only=True)
class Placed:
    """A release, of a commit, at the paths of some mappings."""

    revision: str
    key: Key
    mappings: tuple[Mapped, ...]

    def same(self, other: Placed | None) -> bool:
        """Tell whether the same files stand at the same paths, whatever commit they are named after."""
        return other is not None and (self.key, self.mappings) == (other.key, other.mappings)


@frozen(kw_only=True)
class Wish:
    """What an operator wants of a service."""

    kind: IntentKind = IntentKind.TRACK
    revision: str | None = None
    until: datetime | None = None


@define(kw_only=True)
class Standing:
    """How a service stands: on record, on the host, and in memory."""

    deployed: Placed | None = None
    attempt: Placed | None = None
    shown: Placed | None = None
    """None where its paths show no release, or not one alone."""
    wish: Wish = Wish()
    former: str | None = None
    """The commit of the last release that was recorded."""
    accepted: Mapping[str, str] = field(factory=dict)
    """Branch to the commit that was accepted last."""
    rejected: Mapping[Key, tuple[object, str]] = field(factory=dict)
    """What failed, to the settings then, and the commit that brought it."""
    edits: Mapping[Key, Mapping[str, File | None]] = field(factory=dict)
    """What somebody did to the files of a release, by path in the repository."""

    def shows(self, placed: Placed | None) -> bool:
        """Tell whether its paths show just that."""
        return placed is not None and placed.same(self.shown)

    def copy(self) -> Standing:
        """Return one that can be changed."""
        return evolve(
            self, accepted=dict(self.accepted), rejected=dict(self.rejected), edits=dict(self.edits)
        )


@frozen(kw_only=True)
class World:
    """What is around a service during a pass."""

    now: datetime
    tips: Mapping[str, str]
    """As of the last poll."""
    polled: bool | None
    """How the last poll went; None before the first."""
    fetched: bool
    """Whether there is a store at all."""
    reachable: bool
    reloads: bool
    """Whether services take a reload."""
    taken_paths: frozenset[str] = frozenset()
    """Paths that show something of another service."""


@frozen(kw_only=True)
class End:
    """One right end of a pass."""

    standing: Standing
    error: type[GitopperError] | None = None
    drifted: bool = False
    reloads: bool = False
    """Whether the service was made to reload."""
    result: str = ""
    """What the last entry of the history has to say, where there is a new one."""
    target: str | None = None


class _Stop(Exception):
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
        try:
            this.restore()
        except _Stop:
            pass
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
        if drifted and self.setup.drift is DriftPolicy.HEAL and s.deployed:
            if s.deployed.mappings == self.setup.mappings:
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
        self._publish(here, here)
        self._reload(here)
        self._record(here)

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
            raise _Stop(CheckoutError)
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
        if s.wish.kind is IntentKind.TRACK:
            return self.world.tips.get(self.setup.branch) or here
        if s.attempt and s.attempt.mappings == self.setup.mappings and s.shows(s.attempt):
            return s.attempt.revision
        return here or s.former

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
        release = target
        while release.key in s.edits and not (shown and shown.key == release.key):
            release = evolve(release, key=(release.key[0], release.key[1] + 1))
        if setup.check and not (shown and shown.key == release.key) and self.model.has(release, UNFIT):
            self._reject(target)
            raise self._stand_by("failed")
        self._publish(release, here)
        try:
            self._reload(release)
        except _Stop:
            if not (setup.health and here and news):
                raise
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
            raise _Stop(PublishError, "failed")
        self.s.shown = placed

    def _reload(self, placed: Placed) -> None:
        if not self.world.reloads:
            raise _Stop(ReloadError, "failed")
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
        fresh = here
        while fresh.key in self.s.edits:
            fresh = evolve(fresh, key=(fresh.key[0], fresh.key[1] + 1))
        self._publish(fresh, here)
        self._reload(fresh)
        self._record(fresh)
        return False

    def _ended(self, error: type[GitopperError] | None, result: str, *, drifted: bool) -> End:
        return End(
            standing=self.s, error=error, drifted=drifted, reloads=self.reloads, result=result,
            target=self.target,
        )  # fmt: skip


class StandBy(CheckError, HealthError):
    """In the model: content was refused, by its check or its health."""


def _paths(mappings: tuple[Mapped, ...]) -> list[tuple[str, bool]]:
    return [(mapping.link, mapping.file) for mapping in mappings]
