"""Both sides on one upstream: a gitopperd that runs, and git's clones beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from attrs import frozen

from tests.benchmarks.bench import Bench, Stage
from tests.benchmarks.ours import NEVER, Followed, Ours, followed
from tests.benchmarks.theirs import Theirs

__all__ = ["Sides", "side_by_side"]


@frozen(kw_only=True)
class Sides:
    """What follows the same services, in two ways."""

    stage: Stage
    services: list[Followed]
    ours: Ours
    theirs: Theirs


@contextlib.contextmanager
def side_by_side(bench: Bench, *, interval: str = NEVER, stamping: bool = False) -> Iterator[Sides]:
    """Have as many services of *config* as the rows speak of, deployed on both sides."""
    with bench.stage(bench.config) as stage:
        services = followed(stage.url, bench.services)
        theirs = Theirs(stage.home / "git", services)
        theirs.clone()
        with Ours(stage.home / "ours", services, interval=interval, stamping=stamping) as ours:
            ours.start()
            yield Sides(stage=stage, services=services, ours=ours, theirs=theirs)
