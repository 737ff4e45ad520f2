"""What a row gets: how large to be, where the repositories are, and places to work in."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve, frozen

from tests.benchmarks.repositories import CONFIG, LARGE, Shape, copy, scratch
from tests.benchmarks.served import GitHttp, git_http

__all__ = ["Bench", "Size", "Stage"]


class Size(enum.Enum):
    """How much is done."""

    FULL = "full"
    """The figures that count."""
    QUICK = "quick"
    """Smaller repositories and fewer services, for a first look: the figures are other ones."""
    TINY = "tiny"
    """Just enough to see that every row works: the figures mean nothing."""


@frozen(kw_only=True)
class Stage:
    """A repository of one's own behind a server of one's own, and a directory to work in."""

    home: Path
    repository: Path
    server: GitHttp

    @property
    def url(self) -> str:
        """The address of the repository."""
        return self.server.url(self.repository)


@frozen(kw_only=True)
class Bench:
    """What every row gets."""

    size: Size
    rounds: int
    cache: Path

    def pick(self, full: int, quick: int, tiny: int) -> int:
        """Return the number for this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self.size]

    @property
    def services(self) -> int:
        """How many services the rows have that speak of a hundred."""
        return self.pick(100, 20, 3)

    @property
    def config(self) -> Shape:
        """The repository of many services' settings."""
        directories, commits = self.pick(200, 40, 6), self.pick(2_000, 400, 5)
        return evolve(CONFIG, directories=directories, commits=commits, files=self.pick(20, 20, 3))

    @property
    def large(self) -> Shape:
        """The repository that is large."""
        directories, commits = self.pick(250, 100, 6), self.pick(20_000, 2_000, 20)
        return evolve(LARGE, directories=directories, commits=commits, files=self.pick(20, 20, 3))

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """A directory for the time of the block, on the disk that the cache is on."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with scratch(self.cache) as home:
            yield home

    @contextlib.contextmanager
    def stage(self, shape: Shape) -> Iterator[Stage]:
        """A copy of `shape`, served over http, for the time of the block."""
        with self.directory() as home:
            repository = copy(shape, self.cache, home / "served" / f"{shape.name}.git")
            with git_http(repository.parent) as server:
                yield Stage(home=home, repository=repository, server=server)
