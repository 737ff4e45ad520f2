"""To watch a service after its reload: one probe after another, until it is healthy or out of time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from attrs import evolve, frozen

from libgitopper.errors import GitopperError, HealthError, PluginError, unforeseen
from libgitopper.hooks import Hooks
from libgitopper.model import Release, Service
from libgitopper.requests import Accepted, HealthRequest
from libgitopper.safeguards import Health
from libgitopper.status import one_line

__all__ = ["HealthWatch", "WatchEnded"]

log = logging.getLogger(__name__)

NAP_SECONDS = 0.2
"""How long at most until a change of mind is noticed between two probes."""

PROBE_SECONDS = 10.0
"""The longest probe, or a third of `within` where that is longer: one that hangs shall not be the last."""

LAST_LOOK_SECONDS = 1.0
"""How long before the end there is one more probe, however long the interval."""

SHORTEST_SECONDS = 0.1
"""A probe with less time than this would tell nothing but that it had none."""


class WatchEnded(Exception):  # noqa: N818 - not an error: something else is wanted now
    """The watch was ended before its time, without a verdict."""


@frozen(kw_only=True)
class _Seen:
    """What the probes have shown so far."""

    good_since: float | None = None
    """Since when every probe was good; None when the last one was not."""
    trouble: str = ""
    """What the last probe that was not good told."""

    def then(self, answers: tuple[Accepted, ...] | str, now: float) -> _Seen:
        """Return what is known after one more probe, which ended at `now`."""
        if isinstance(answers, str):
            return _Seen(trouble=answers)
        return self if self.good_since is not None else _Seen(good_since=now, trouble=self.trouble)


class HealthWatch:
    """Probes a service until it is healthy without interruption for as long as it has to be."""

    def __init__(
        self,
        *,
        hooks: Hooks,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        watching: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`watching` is entered for as long as a watch takes."""
        self._hooks = hooks
        self._watching = watching
        self._clock = clock
        self._sleep = sleep

    def run(
        self,
        service: Service,
        release: Release,
        *,
        since: datetime,
        since_monotonic: float,
        still: Callable[[], bool],
    ) -> tuple[Accepted, ...]:
        """Watch `service`, which took `release` at `since` (UTC); return what the last probe answered.

        `since_monotonic` is the same moment on ``time.monotonic``: that on the wall may be set meanwhile.
        It is over at once where nobody watches. `still` is asked before each probe, and at least
        every 0.2 s between them: False ends the watch.

        Raises:
            HealthError: the service was not healthy in time; not retryable.
            PluginError: the service asks to be watched, and no plugin does.
            WatchEnded: `still` said so.
        """
        health = service.health or Health()
        _check_possible(health)
        longest = min(service.timeout_seconds, max(PROBE_SECONDS, health.within_seconds / 3))
        request = HealthRequest(
            service=service, release=release, since=since, since_monotonic=since_monotonic,
            timeout_seconds=longest,
        )  # fmt: skip
        with self._watching():
            return self._watch(request, health, still)

    def _watch(
        self, request: HealthRequest, health: Health, still: Callable[[], bool]
    ) -> tuple[Accepted, ...]:
        service, longest = request.service, request.timeout_seconds
        left, seen = health.within_seconds, _Seen()
        deadline = self._clock() + left
        while left >= SHORTEST_SECONDS:
            _check(still, service)
            answers = self._probe(evolve(request, timeout_seconds=min(left, longest)))
            seen = seen.then(answers, self._clock())
            owed = self._owed(seen, health)
            if isinstance(answers, tuple) and owed <= 0:
                return answers
            self._pause(min(health.interval_seconds, owed), deadline, lambda: _check(still, service))
            left = deadline - self._clock()
        raise HealthError(_verdict(seen, health, self._clock()), service=service.name)

    def _probe(self, request: HealthRequest) -> tuple[Accepted, ...] | str:
        """Return the answers of the plugins (none, where nobody watches), or what is wrong."""
        try:
            return self._hooks.health(request)
        except PluginError:
            raise  # nobody can tell, and waiting will not change that
        except GitopperError as exc:
            return one_line(str(exc))
        except Exception as exc:
            name = request.service.name
            log.exception("%s: a probe of its health failed in a way that nobody foresaw", name)
            return unforeseen(exc)

    def _owed(self, seen: _Seen, health: Health) -> float:
        """Seconds that it still has to stay healthy."""
        if seen.good_since is None:
            return math.inf
        return max(seen.good_since + health.stable_for_seconds - self._clock(), 0.0)

    def _pause(self, seconds: float, deadline: float, check: Callable[[], None]) -> None:
        """Sleep `seconds`, but not over the last look before the deadline, nor over the deadline."""
        now = self._clock()
        last_look = deadline - LAST_LOOK_SECONDS
        until = min(now + seconds, last_look if now < last_look else deadline)
        while (left := until - self._clock()) > 0:
            check()
            self._sleep(min(left, NAP_SECONDS))


def _check(still: Callable[[], bool], service: Service) -> None:
    if not still():
        raise WatchEnded(service.name)


def _check_possible(health: Health) -> None:
    if health.stable_for_seconds and health.stable_for_seconds >= health.within_seconds:
        raise HealthError(
            f"it can't be healthy for stable_for = {health.stable_for_seconds:g}s within ="
            f" {health.within_seconds:g}s: make within the longer one"
        )


def _verdict(seen: _Seen, health: Health, now: float) -> str:
    if seen.good_since is None:
        return f"not healthy within {health.within_seconds:g}s: {seen.trouble}"
    before = f"; before that: {seen.trouble}" if seen.trouble else ""
    return (
        f"not healthy for {health.stable_for_seconds:g}s without interruption within"
        f" {health.within_seconds:g}s: at the end it had been for {now - seen.good_since:.1f}s{before}"
    )
