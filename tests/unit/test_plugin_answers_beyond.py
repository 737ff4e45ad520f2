"""What is raised and is no error ends the call that it was raised in, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gitopperd.work.threads import Threads
from libgitopper import (
    Outcome,
    PluginError,
    Reloaded,
    ReloadError,
    ReloadRequest,
    Service,
    StepError,
    Verify,
    hookimpl,
)
from libgitopper.errors import unforeseen
from tests.support.answers import CALLS, answering
from tests.support.simulatedgit import SimulatedStore
from tests.support.simulatedhost import SimulatedHost


class Own(BaseException):
    pass


BEYOND = [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, Own]
OLD = pytest.mark.filterwarnings("ignore::pluggy.PluggyTeardownRaisedWarning")
RELOAD = CALLS["gitopper_reload"]


def elsewhere(call: Callable[[], object]) -> object:
    """Make `call` in another thread, where nothing comes from outside."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def wrapped(before: Callable[[], object], after: Callable[[], object], *, old: bool = False) -> Any:
    """Return hooks with a plugin that reloads, and one that wraps it."""

    class Wrapping:
        @hookimpl(wrapper=not old, hookwrapper=old)
        def gitopper_reload(self, request: ReloadRequest) -> Any:
            before()
            found = yield
            after()
            return found  # an old one has nothing to return

    hooks = answering("gitopper_reload", lambda: Reloaded(did="done"))
    hooks.register(Wrapping(), name="wrapping")
    return hooks


def nothing() -> None:
    pass


def raising(exc: BaseException) -> Callable[[], object]:
    def throw() -> None:
        raise exc

    return throw


@OLD
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", BEYOND)
def test_a_wrapper_can_not_end_the_program_either(kind: type[BaseException], late: bool, old: bool) -> None:
    enough = raising(kind("enough"))
    hooks = wrapped(*((nothing, enough) if late else (enough, nothing)), old=old)
    with pytest.raises(PluginError, match=r"plugin 'wrapping' wants to end .*enough.* in gitopper_reload"):
        elsewhere(lambda: RELOAD(hooks))


@OLD
@pytest.mark.parametrize("old", [False, True])
def test_what_a_wrapper_lets_pass_is_another_plugin_s(old: bool) -> None:
    class Wrapping:
        @hookimpl(wrapper=not old, hookwrapper=old)
        def gitopper_reload(self, request: ReloadRequest) -> Any:
            return (yield)

    hooks = answering("gitopper_reload", raising(KeyError("realm")))
    hooks.register(Wrapping(), name="wrapping")
    with pytest.raises(KeyError) as caught:
        RELOAD(hooks)
    assert unforeseen(caught.value).endswith("(in gitopper_reload of plugin 'acme')")


def test_a_wrapper_s_own_error_is_told_with_its_name() -> None:
    with pytest.raises(KeyError) as caught:
        RELOAD(wrapped(nothing, raising(KeyError("realm"))))
    assert unforeseen(caught.value).endswith("(in gitopper_reload of plugin 'wrapping')")


def test_a_wrapper_may_answer_for_what_failed() -> None:
    class Lenient:
        @hookimpl(wrapper=True)
        def gitopper_reload(self, request: ReloadRequest) -> Any:
            try:
                return (yield)
            except ReloadError as exc:
                return Reloaded(did="nothing", note=str(exc))

    hooks = answering("gitopper_reload", raising(ReloadError("busy")))
    hooks.register(Lenient())
    assert RELOAD(hooks) == Reloaded(did="nothing", note="busy")


@pytest.mark.parametrize("yields", [0, 2])
def test_a_wrapper_that_does_not_yield_once_is_named(yields: int) -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def gitopper_reload(self, request: ReloadRequest) -> Any:
            for _ in range(yields):
                yield
            return Reloaded(did="done")

    hooks = answering("gitopper_reload", lambda: Reloaded(did="done"))
    hooks.register(Wrapping())
    with pytest.raises(RuntimeError, match=f"'gitopper_reload' {__file__}:"):
        RELOAD(hooks)


@pytest.mark.parametrize("hook", CALLS)
def test_the_end_of_some_iterator_is_an_error_like_any_other(hook: str) -> None:
    """A future does not take it, so whoever waits would wait for ever."""

    async def wait() -> None:
        threads = Threads()
        async with asyncio.timeout(10):
            await threads.poll(CALLS[hook], answering(hook, lambda: next(iter(()))))

    with pytest.raises(PluginError, match=rf"plugin 'acme' raises StopIteration in {hook}; mend"):
        asyncio.run(wait())


@pytest.mark.parametrize("kind", [*BEYOND, StopIteration])
def test_who_waits_for_a_thread_is_told_what_ended_its_call(kind: type[BaseException]) -> None:
    async def wait() -> None:
        threads = Threads()
        async with asyncio.timeout(10):
            await threads.inquire(raising(kind("enough")))

    with pytest.raises(PluginError, match=rf"wants to end more than the call .*enough.* at {__file__}:\d"):
        asyncio.run(wait())


@pytest.mark.parametrize("kind", [*BEYOND, StopIteration])
def test_a_store_can_not_end_a_pass_but_by_an_error(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    web = host.service()
    host.deploy(web)
    revision = host.upstream.commit({"web/conf": "2"})
    with monkeypatch.context() as patched:
        patched.setattr(SimulatedStore, "content", lambda *_: raising(kind("enough"))())
        outcome = elsewhere(lambda: host.pass_(web))
    assert isinstance(outcome, Outcome)
    assert "enough" in str(outcome.error)
    assert host.pass_(web).error is None
    host.assert_in_line(web, revision)


def test_ctrl_c_ends_a_pass(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(SimulatedStore, "content", lambda *_: raising(KeyboardInterrupt())())
    with pytest.raises(KeyboardInterrupt):
        host.pass_(host.service())


@pytest.fixture
def followers(host: SimulatedHost) -> tuple[Service, Service, str]:
    """Two services that a commit leaves alone, the first of which is verified; and the commit."""
    web, app = host.service(verify=Verify(keyring=Path("/ring"))), host.service("webapp")
    host.deploy(web)
    host.deploy(app)
    return web, app, host.upstream.commit({"elsewhere": "2"})


def follow(host: SimulatedHost, *services: Service) -> list[str]:
    store = host.fetch(services[0])
    assert store is not None
    store.path.mkdir(parents=True, exist_ok=True)
    done = host.reconciler.advance(services, store, still=lambda _: True)
    return [outcome.service.name for outcome in done]


@pytest.mark.parametrize("step", ["verify web", "observe web", "checkout web"])
def test_who_fails_in_a_way_that_nobody_foresaw_is_left_behind_by_those_who_follow(
    host: SimulatedHost, followers: tuple[Service, Service, str], step: str
) -> None:
    web, app, revision = followers
    host.script.on(step, KeyError("realm"))
    assert follow(host, web, app) == ["webapp"]
    host.assert_in_line(app, revision)
    error = host.pass_(web).error
    assert isinstance(error, StepError)
    assert "KeyError: 'realm'" in str(error)


def test_a_store_that_fails_in_a_way_that_nobody_foresaw_leaves_all_to_their_passes(
    host: SimulatedHost, followers: tuple[Service, Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, app, revision = followers
    with monkeypatch.context() as patched:
        patched.setattr(SimulatedStore, "content", lambda *_: raising(SystemExit(3))())
        assert follow(host, web, app) == []
    assert host.pass_(web).error is None
    host.assert_in_line(web, revision)
