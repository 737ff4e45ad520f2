"""A share of the random walk that is the same each time; ``python -m tests.proof walk`` goes on and on."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

from tests.proof.walk import Walk

TestAnythingInAnyOrderOnRealParts = Walk.TestCase
TestAnythingInAnyOrderOnRealParts.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
