"""When to try next: spread over the interval, and backed off while something fails."""

from __future__ import annotations

import random

__all__ = ["back_off", "next_delay", "next_look"]

FIRST_RETRY_SECONDS = 5.0
CEILING_SECONDS = 600.0
JITTER = 0.1


def next_delay(*, interval_seconds: float, polls: int, failures: int, rng: random.Random) -> float:
    """Return how many seconds to wait before the next poll.

    Args:
        interval_seconds: what the config asks for.
        polls: how many polls there were since the start, at least 1.
        failures: how many of the last ones failed in a row.
        rng: source of the jitter.

    Hosts that start together poll together once; the second poll comes at a random point of the
    interval, so from there on a thousand hosts are spread evenly. While the upstream is down the
    delay doubles from 5 s (never more than the interval to begin with) up to ten minutes, or the
    interval where that is longer.
    """
    if failures:
        return back_off(interval_seconds=interval_seconds, failures=failures, rng=rng)
    if polls == 1:
        return interval_seconds * rng.random()
    return interval_seconds * rng.uniform(1 - JITTER, 1 + JITTER)


def next_look(*, resync_seconds: float, rng: random.Random) -> float:
    """Return how many seconds after a pass a service is looked at again, though nothing moved.

    It is never more than the config asks for, and so much less at random that services whose passes
    came together are spread over half of that time.
    """
    return resync_seconds * rng.uniform(0.5, 1.0)


def back_off(*, interval_seconds: float, failures: int, rng: random.Random) -> float:
    """Return how many seconds to wait after so many failures in a row: twice as long after each."""
    first = min(FIRST_RETRY_SECONDS, interval_seconds)
    ceiling = max(CEILING_SECONDS, interval_seconds)
    # The exponent is bounded, or a host that is off the net for a month overflows.
    return float(min(ceiling, first * 2 ** min(failures - 1, 30)) * rng.uniform(0.5, 1.0))
