"""The contract of `gitopper_reload`, as tests to run on a plugin of your own.

    class TestMyReload(ReloadContract):
        words = "no such worker"

        @pytest.fixture
        def plugin(self):
            return my_package.my_plugin

        @pytest.fixture
        def taken(self):
            return service_for_tests(name="worker", reload="mine")

        ...

Each test gets a service from one of the fixtures, so that the plugin meets the real thing: a service
manager, a program, whatever it reloads.
"""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from libgitopper import (
    Content,
    Hooks,
    Mapping,
    Release,
    Reloaded,
    ReloadError,
    ReloadRequest,
    Service,
    Source,
    TreeEntry,
)
from libgitopper.testing.contract import PluginContract

__all__ = ["ReloadContract", "request_for", "service_for_tests"]


def service_for_tests(name: str, **fields: Any) -> Service:
    """Return a service `name` that maps ``etc`` to ``/etc/<name>``; `fields` are those of `Service`."""
    defaults: dict[str, Any] = {
        "source": Source(upstream="https://git.example.net/config", branch="main"),
        "mappings": (Mapping(link="etc", local=Path("/etc", name)),),
        "mount": Path("/var/lib/gitopper"),
        "timeout_seconds": 20.0,
    }
    return Service(name=name, **{**defaults, **fields})


def request_for(service: Service, *, first: bool = False, start: bool = False) -> ReloadRequest:
    """Return the request that follows the publication of some release of `service`."""
    entries = tuple(TreeEntry(link=m.link, id="b" * 40, mode=0o040000) for m in service.mappings)
    content = Content(revision="a" * 40, entries=entries)
    identity = content.release_id(service)
    path = service.releases / identity
    release = Release(service=service.name, id=identity, path=path, content=content)
    return ReloadRequest(service=service, release=release, first=first, start=start)


class ReloadContract(PluginContract):
    """Subclass it, name the subclass ``Test...``, and give it the fixtures and `words`."""

    words: str
    """What the reloaded thing itself says when it refuses; the operator must get to read it."""

    @pytest.fixture
    def taken(self) -> Service:
        """A service that runs, and takes every release."""
        raise NotImplementedError

    @pytest.fixture
    def refused(self) -> Service:
        """A service that runs, and refuses every release, saying `words`."""
        raise NotImplementedError

    @pytest.fixture
    def slow(self) -> Service:
        """A service with `timeout_seconds` of at most 2, whose reload takes a minute or more."""
        raise NotImplementedError

    @pytest.fixture
    def ended(self) -> Service | None:
        """A service that does not run. None: what the plugin reloads is nothing that runs."""
        return None

    @pytest.mark.parametrize("first", [True, False])
    def test_a_release_is_taken(self, hooks: Hooks, taken: Service, first: bool) -> None:
        """The answer names what was done, for the log."""
        reloaded = hooks.reload(request_for(taken, first=first))
        assert isinstance(reloaded, Reloaded)
        assert reloaded.did
        assert "\n" not in reloaded.did + reloaded.note

    def test_it_can_be_repeated(self, hooks: Hooks, taken: Service) -> None:
        """A crash before the record is written repeats the reload, also the first one."""
        for first in (True, True, False, False):
            assert hooks.reload(request_for(taken, first=first)).did

    def test_what_does_not_run_is_left_so_until_it_has_to(
        self, hooks: Hooks, ended: Service | None
    ) -> None:
        """`start` comes with a release that is taken back: its successor may have ended the service."""
        if ended is not None:
            assert hooks.reload(request_for(ended)).idle
            assert not hooks.reload(request_for(ended, start=True)).idle
            assert not hooks.reload(request_for(ended)).idle

    def test_what_does_not_run_is_started_with_its_first_release(
        self, hooks: Hooks, ended: Service | None
    ) -> None:
        """It could not run before: what it runs with was not there."""
        if ended is not None:
            assert not hooks.reload(request_for(ended, first=True)).idle
            assert not hooks.reload(request_for(ended)).idle

    def test_a_refusal_has_the_services_own_words(self, hooks: Hooks, refused: Service) -> None:
        """The error is what an operator reads first; and it is no less true the second time."""
        for _ in range(2):
            with pytest.raises(ReloadError) as caught:
                hooks.reload(request_for(refused))
            assert self.words in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_it_ends_at_its_deadline(self, hooks: Hooks, slow: Service) -> None:
        """A service that hangs holds up nobody."""
        started = time.monotonic()
        with pytest.raises(ReloadError) as caught:
            hooks.reload(request_for(slow))
        assert time.monotonic() - started < slow.timeout_seconds + 15
        assert caught.value.retryable

    def test_services_of_other_plugins_are_left_alone(self, plugin: Any, taken: Service) -> None:
        """None means "not mine"; to answer would keep the right plugin from being asked."""
        other = evolve(taken, reload="a-plugin-that-nobody-wrote")
        assert plugin.gitopper_reload(request=request_for(other)) is None
