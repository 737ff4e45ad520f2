"""The words of the model: how a service stands, what is around it, how a pass may end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import define, evolve, field, frozen

from libgitopper import DriftPolicy, GitopperError, IntentKind
from libgitopper import Mapping as Mapped
from tests.proof.walkgit import File

__all__ = ["ILL", "UNFIT", "End", "Key", "Placed", "Setup", "Standing", "Wish", "World"]

UNFIT, ILL = b"UNFIT", b"ILL"
"""A file with the one fails the check of a service, with the other its health."""

Key = tuple[tuple[tuple[str, object], ...], int]
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
    partly: bool = False
    """Whether that is so although some of the paths of what is deployed show one."""
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
    held: bool
    """Whether new content has to wait."""
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
