"""What a row found: figures with their spread, held against what was to be reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from attrs import asdict, frozen

__all__ = ["Figure", "percentile"]


@frozen(kw_only=True)
class Figure:
    """One measured quantity: ours, and where it can be compared, the way of the git command."""

    name: str
    unit: str
    ours: Sequence[float]
    """One value for each round, or the one that the round came down to."""
    git: Sequence[float] = ()
    """The same for the git command, taken in the same rounds."""
    limit: float | None = None
    """What our median must not exceed."""
    floor: float | None = None
    """What our median must reach."""
    ratio_limit: float | None = None
    """What our median divided by git's must not exceed."""
    note: str = ""

    @property
    def median(self) -> float:
        """Our median."""
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float | None:
        """Our median divided by that of git; None without one."""
        return self.median / base if self.git and (base := statistics.median(self.git)) else None

    @property
    def met(self) -> bool | None:
        """Whether all that was to be reached is; None where nothing was asked."""
        verdicts = []
        if self.limit is not None:
            verdicts.append(self.median <= self.limit)
        if self.floor is not None:
            verdicts.append(self.median >= self.floor)
        if self.ratio_limit is not None:
            verdicts.append(self.ratio is not None and self.ratio <= self.ratio_limit)
        return all(verdicts) if verdicts else None

    @property
    def target(self) -> str:
        """What was to be reached, in words."""
        words = []
        if self.limit is not None:
            words.append(f"≤ {short(self.limit)}")
        if self.floor is not None:
            words.append(f"≥ {short(self.floor)}")
        if self.ratio_limit is not None:
            words.append(f"≤ {times(self.ratio_limit)} of git")
        return ", ".join(words)

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with what follows from it, for a machine to read."""
        verdict = {"median": self.median, "ratio": self.ratio, "target": self.target, "met": self.met}
        return asdict(self) | verdict


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float]) -> str:
    """Return the median and, of several values, the least and the greatest."""
    if not values:
        return ""
    middle = short(statistics.median(values))
    return f"{middle} ({short(min(values))} to {short(max(values))})" if len(values) > 1 else middle


def times(ratio: float | None) -> str:
    """Return a ratio: below a half as a fraction."""
    if ratio is None:
        return ""
    return f"1/{short(1 / ratio)}" if 0 < ratio < 0.5 else f"{short(ratio)}x"


def short(value: float) -> str:
    """Return `value` with three digits that matter."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
