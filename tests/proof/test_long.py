"""A small fleet for some seconds, and a few hundred fetches; more: ``python -m tests.proof long``."""

from __future__ import annotations

import pytest

from tests.proof import longfetches
from tests.proof.long import run_fleet
from tests.proof.longjudge import FIGURES, Points, judged

# Nine seconds are all warming up: what may not rise takes minutes to be told from it.
LATER = "does not stay flat"


def test_a_fleet_in_turmoil_comes_to_rest_within_its_bounds_and_leaves_nothing() -> None:
    rows = run_fleet(seconds=9, services=20, upstreams=4, rate=4, interval_seconds=2)
    failures = [failure for row in rows for failure in row.failures]
    assert not [failure for failure in failures if LATER not in failure]
    assert sum(row.points for row in rows) > 100


def test_fetches_pile_nothing_up() -> None:
    row = longfetches.prove(120, timed=False)
    assert not row.failures
    assert row.points == 120


def rising(start: float, an_hour: float, seconds: int = 600) -> Points:
    """Samples of ten minutes, with the noise of a busy host."""
    noise = (0.0, 0.02, -0.01, 0.3, -0.02, 0.01, 0.0)
    return [(at, start * (1 + noise[at % 7]) + an_hour * at / 3600) for at in range(0, seconds, 3)]


@pytest.mark.parametrize(
    ("name", "usual"), [("memory", 60e6), ("descriptors", 40), ("answer of REST", 0.01)]
)
def test_what_only_varies_is_flat(name: str, usual: float) -> None:
    assert not judged(name, rising(usual, 0.0)).failures


@pytest.mark.parametrize(
    ("name", "usual", "an_hour"),
    [
        ("memory", 60e6, 120e6),
        ("descriptors", 40, 150),
        ("threads", 30, 150),
        ("answer of REST", 0.01, 0.4),
    ],
)
def test_what_rises_is_told(name: str, usual: float, an_hour: float) -> None:
    [failure] = judged(name, rising(usual, an_hour)).failures
    assert failure.startswith(name)
    assert "does not stay flat" in failure


def test_what_was_taken_while_warming_up_does_not_count() -> None:
    points = [(at, 10 + min(at, 120) / 120 * 80) for at in range(0, 600, 3)]
    assert not judged("descriptors", points).failures


def test_a_single_sample_above_what_there_may_ever_be_is_told() -> None:
    points = [*rising(3, 0), (601, 9)]
    [failure] = judged("releases of one service", points).failures
    assert "at its worst" in failure


def test_too_few_samples_are_no_proof() -> None:
    assert "it takes" in judged("memory", rising(60e6, 0)[:3]).failures[0]


def test_every_figure_says_why_it_may_vary() -> None:
    assert all(figure.why and figure.share >= 0 and figure.more >= 0 for figure in FIGURES.values())
