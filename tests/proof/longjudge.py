"""Whether a figure that was taken again and again stays flat, or rises.

Of each, the time of warming up is left out: pools of threads, caches and the allocator take what they
need by then. The rest is cut into three parts of equal length, and the median of the last may not be
above that of the first by more than is allowed. Medians, because a burst of commits, or another
program on the same host, shows in single samples. The slope that is told is the median of those between
any two samples (Theil and Sen): it is for the reader; a length of its own decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from attrs import field, frozen

from tests.proof.table import Row

__all__ = ["FIGURES", "Figure", "Points", "judged"]

Points = Sequence[tuple[float, float]]
"""When, in seconds, and how much."""

WARM_UP = 0.25
"""Share of the run."""
FEWEST = 6
"""Samples without which nothing can be told."""
SLOPES = 120
"""Of how many samples the slope is taken; more are thinned out."""


@frozen(kw_only=True)
class Figure:
    """What is allowed of a figure, and why."""

    unit: str
    scale: float = 1.0
    """What one `unit` is in the figure's own."""
    share: float
    """How much more the last third may have than the first, as a share."""
    more: float
    """And how much beyond that, in `unit`."""
    most: float = field(default=float("inf"))
    """What no sample may be above, in `unit`, from the first on."""
    why: str


FIGURES: Mapping[str, Figure] = {
    "memory": Figure(
        unit="MB", scale=1e6, share=0.1, more=2.0,
        why="the allocator fills its arenas for half an hour, ever slower; history in memory would go on",
    ),
    "mapped files": Figure(
        unit="MB", scale=1e6, share=0.25, more=3.0,
        why="pages of packs and programs that were read; the system takes them back when it needs them",
    ),
    "descriptors": Figure(unit="", share=0.0, more=8.0, why="connections that are open at that moment"),
    "descriptors of each pack": Figure(
        unit="", share=0.1, more=0.4, most=8.0,
        why="four for one that is open twice; packs come and go, and `packs of one store` has their number",
    ),
    "threads": Figure(
        unit="", share=0.0, more=8.0, most=304.0,
        why="a pool makes another thread at the busiest moment so far, up to what the pools have at most",
    ),
    "children": Figure(unit="", share=0.0, more=1.0, most=64.0, why="passes that run at that moment"),
    "mounts": Figure(unit="", share=0.0, more=0.0, why="links are published, so there is none of ours"),
    "CPU": Figure(
        unit="ms/s", scale=1e-3, share=0.3, more=10.0, why="the host is shared, and chance spreads events"
    ),
    "commit to published": Figure(
        unit="ms", scale=1e-3, share=0.5, more=50.0, why="as CPU; and the machine may be shared"
    ),
    "answer of REST": Figure(unit="ms", scale=1e-3, share=0.5, more=10.0, why="as above"),
    "releases of one service": Figure(
        unit="", share=0.0, more=1.0, most=6.0, why="keep, one that is being made, and one that is going"
    ),
    "packs of one store": Figure(
        unit="", share=0.2, more=12.0, most=30.0, why="a saw: merged at rest above eight, else above twelve"
    ),
    "files of one store": Figure(
        unit="", share=0.2, more=36.0, most=120.0, why="three for each pack, and some"
    ),
    "files of releases": Figure(unit="", share=0.05, more=1.0, why="as many as the branch has"),
    "bytes per byte of upstream": Figure(
        unit="", share=0.15, more=0.1, why="a store may grow with its upstream, and by nothing else"
    ),
    "bytes of the journal": Figure(
        unit="MB", scale=1e6, share=0.0, more=5.0, most=32.0, why="SQLite begins it anew at 4 MB"
    ),
}  # fmt: skip


def judged(name: str, points: Points) -> Row:
    """Return the row of the table for the figure `name`."""
    figure = FIGURES[name]
    warm = _after_warm_up(points)
    if len(warm) < FEWEST:
        return Row(part="long", case=name, points=len(points), promises=1, failures=[
            f"{name}: {len(warm)} samples after warming up, and it takes {FEWEST} to tell anything"
        ])  # fmt: skip
    third = len(warm) // 3
    first, last = (median(value for _, value in part) for part in (warm[:third], warm[-third:]))
    most = max(value for _, value in points)
    first, last, most = (value / figure.scale for value in (first, last, most))
    shown = f"{name}: {first:.4g} then {last:.4g} {figure.unit}".rstrip()
    slope = _slope(warm) * 3600 / figure.scale
    failures = []
    if last > first * (1 + figure.share) + figure.more:
        failures.append(f"{shown}, {slope:+.4g} an hour: it does not stay flat")
    if most > figure.most:
        failures.append(f"{name}: {most:.4g} {figure.unit} at its worst; at most {figure.most:g} are right")
    case = f"{shown} ({slope:+.3g} an hour, at most {most:.4g})"
    return Row(part="long", case=case, points=len(points), promises=2, failures=failures)


def _after_warm_up(points: Points) -> Points:
    begin, end = points[0][0], points[-1][0]
    return [point for point in points if point[0] >= begin + WARM_UP * (end - begin)]


def _slope(points: Points) -> float:
    """Return how much a figure rises in a second."""
    some = points[:: len(points) // SLOPES + 1]
    slopes = [
        (value - before) / (at - then)
        for number, (at, value) in enumerate(some)
        for then, before in some[:number]
        if at > then
    ]
    return median(slopes) if slopes else 0.0
