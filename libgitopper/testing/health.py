"""The contract of `gitopper_health`, as tests to run on a plugin of your own.

class TestMyHealth(HealthContract):
    words = "replication is behind"

    @pytest.fixture
    def plugin(self):
        return my_package.my_plugin

    @pytest.fixture
    def healthy(self):
        return service_for_tests("database", health=Health(command=("true",)))

    ...
"""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from libgitopper import Accepted, HealthError, HealthRequest, Hooks, Service
from libgitopper.testing.contract import PluginContract
from libgitopper.testing.reload import request_for, service_for_tests

__all__ = ["HealthContract", "probe_of", "service_for_tests"]


def probe_of(service: Service, *, timeout_seconds: float = 20.0) -> HealthRequest:
    """Return the request for one probe of `service`, which was reloaded just now."""
    release = request_for(service).release
    return HealthRequest(
        service=service, release=release, since=datetime.now(UTC), timeout_seconds=timeout_seconds
    )


class HealthContract(PluginContract):
    """Subclass it, name the subclass ``Test...``, and give it the fixtures and `words`."""

    words: str
    """What is seen of the service that is not healthy; the operator must get to read it."""

    @pytest.fixture
    def healthy(self) -> Service:
        """A service that is watched, and is healthy."""
        raise NotImplementedError

    @pytest.fixture
    def unhealthy(self) -> Service:
        """A service that is watched, and is not, as `words` tell."""
        raise NotImplementedError

    @pytest.fixture
    def slow(self) -> Service:
        """A service that a probe would have to wait for, a minute or more."""
        raise NotImplementedError

    @pytest.fixture
    def other(self, healthy: Service) -> Service:
        """A service that this plugin does not watch."""
        return evolve(healthy, health=None)

    def test_a_healthy_service_is_accepted_each_time(self, hooks: Hooks, healthy: Service) -> None:
        """It is asked again and again."""
        for _ in range(3):
            (accepted,) = hooks.health(probe_of(healthy))
            assert isinstance(accepted, Accepted)
            assert "\n" not in accepted.note

    def test_what_was_seen_is_told(self, hooks: Hooks, unhealthy: Service) -> None:
        """The last of these texts is shown beside the state, and kept."""
        for _ in range(2):
            with pytest.raises(HealthError) as caught:
                hooks.health(probe_of(unhealthy))
            assert self.words in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_a_probe_ends_at_its_deadline(self, hooks: Hooks, slow: Service) -> None:
        """Else the watch would be longer than the operator allows."""
        started = time.monotonic()
        with pytest.raises(HealthError):
            hooks.health(probe_of(slow, timeout_seconds=0.5))
        assert time.monotonic() - started < 5

    def test_other_services_are_left_alone(self, plugin: Any, other: Service) -> None:
        """None means "nothing to judge": to accept would vouch for a service that nobody looked at."""
        assert plugin.gitopper_health(request=probe_of(other)) is None
