"""The contract of `gitopper_hold`, as tests to run on a plugin of your own.

class TestMyHold(HoldContract):
    @pytest.fixture
    def plugin(self):
        return my_package.my_plugin

    @pytest.fixture
    def held(self):
        return service_for_tests("database")

    @pytest.fixture
    def free(self):
        return service_for_tests("web")
"""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from libgitopper import Hold, HoldRequest, Hooks, Service
from libgitopper.testing.contract import PluginContract
from libgitopper.testing.reload import service_for_tests

__all__ = ["HoldContract", "hold_request", "service_for_tests"]


def hold_request(service: Service, now: datetime) -> HoldRequest:
    """Return the request for some new commit of `service` at `now` (UTC)."""
    return HoldRequest(service=service, revision="a" * 40, now=now)


class HoldContract(PluginContract):
    """Subclass it, name the subclass ``Test...``, and give it the fixtures."""

    @pytest.fixture
    def now(self) -> datetime:
        """The time at which `held` is held, and `free` is not; UTC."""
        return datetime.now(UTC)

    @pytest.fixture
    def held(self) -> Service:
        """A service whose new content has to wait."""
        raise NotImplementedError

    @pytest.fixture
    def free(self) -> Service:
        """A service whose new content need not."""
        raise NotImplementedError

    def test_what_has_to_wait_is_told_why(self, hooks: Hooks, held: Service, now: datetime) -> None:
        """The reason is shown beside the state, and the same is answered as long as it holds."""
        for _ in range(2):
            hold = hooks.hold(hold_request(held, now))
            assert isinstance(hold, Hold)
            assert hold.reason
            assert hold.reason.isprintable()

    def test_the_time_to_ask_again_is_to_come(self, hooks: Hooks, held: Service, now: datetime) -> None:
        """One that is past would have the core ask all the time."""
        hold = hooks.hold(hold_request(held, now))
        assert hold
        assert hold.until is None or hold.until > now

    def test_what_need_not_wait_is_not_held(self, hooks: Hooks, free: Service, now: datetime) -> None:
        """Any answer but None holds."""
        assert hooks.hold(hold_request(free, now)) is None

    def test_it_is_quick(self, hooks: Hooks, held: Service, free: Service, now: datetime) -> None:
        """It is asked at each pass."""
        for service in (held, free):
            started = time.monotonic()
            hooks.hold(hold_request(service, now))
            assert time.monotonic() - started < 1
