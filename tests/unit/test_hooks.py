"""Plugins: how they are registered, refused and called."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from libgitopper import (
    BrokenPlugin,
    CheckoutRequest,
    Credentials,
    Event,
    FetchRequest,
    Hooks,
    MountRequest,
    MountVerb,
    PluginError,
    Published,
    Reloaded,
    ReloadRequest,
    Store,
    hookimpl,
)
from tests.support.hooked import CONTENT, RELEASE, RELOAD, SERVICE

FETCH = FetchRequest(
    upstream="ftp://x",
    credentials=Credentials(userinfo="me:hunter2"),
    branches=frozenset(),
    stores=Path("/s"),
)
STORE = cast(Store, None)  # nobody looks at it: no plugin takes the job


class Reloading:
    def __init__(self, did: str | None) -> None:
        self.did = did
        self.calls = 0

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        self.calls += 1
        return None if self.did is None else Reloaded(did=self.did)


# --- registering -------------------------------------------------------------------------


class Nothing:
    pass


class Unknown:
    @hookimpl
    def gitopper_nothing(self) -> None: ...


class Misfit:
    @hookimpl
    def gitopper_reload(self, nonsense: object) -> None: ...


@pytest.mark.parametrize("bad", [Nothing(), Unknown(), Misfit()])
def test_a_plugin_that_is_refused_leaves_nothing_behind(bad: object) -> None:
    hooks = Hooks()
    with pytest.raises(PluginError, match=type(bad).__name__):
        hooks.register(bad)
    assert hooks.names == ()
    hooks.register(Reloading("good"))
    assert hooks.reload(RELOAD).did == "good"


def test_a_name_that_is_taken_is_refused_and_its_owner_stays() -> None:
    hooks = Hooks()
    hooks.register(Reloading("first"), name="same")
    with pytest.raises(PluginError, match=r"plugin 'same' of this program: this program has one of"):
        hooks.register(Reloading("second"), name="same")
    assert hooks.reload(RELOAD).did == "first"
    assert hooks.names == ("same",)


def test_a_plugin_is_refused_the_second_time_and_stays_from_the_first() -> None:
    hooks, plugin = Hooks(), Reloading("once")
    hooks.register(plugin, name="one")
    with pytest.raises(PluginError, match="two"):
        hooks.register(plugin, name="two")
    hooks.reload(RELOAD)
    assert plugin.calls == 1


def test_a_module_or_class_is_named_after_itself_and_an_object_after_its_class() -> None:
    module = types.ModuleType("a_module")
    module.gitopper_event = hookimpl(lambda event: None)  # type: ignore[attr-defined]

    class Static:
        @hookimpl
        @staticmethod
        def gitopper_event(event: Event) -> None: ...

    hooks = Hooks()
    for plugin in (module, Static, Reloading("x")):
        hooks.register(plugin)
    assert hooks.names == ("Reloading", "Static", "a_module")


def test_two_sets_of_hooks_share_nothing() -> None:
    one, two = Hooks(), Hooks()
    one.register(Reloading("x"))
    assert two.names == ()


# --- calling -----------------------------------------------------------------------------


def test_the_first_result_ends_the_search_and_the_latest_plugin_is_asked_first() -> None:
    hooks = Hooks()
    early, passing, late = Reloading("early"), Reloading(None), Reloading("late")
    for name, plugin in (("a", early), ("b", late), ("c", passing)):
        hooks.register(plugin, name=name)
    assert hooks.reload(RELOAD).did == "late"
    assert (early.calls, late.calls, passing.calls) == (0, 1, 1)


def test_an_answer_that_is_empty_is_an_answer() -> None:
    hooks = Hooks()
    hooks.register(Reloading("early"), name="a")
    hooks.register(Reloading(""), name="b")
    assert hooks.reload(RELOAD).did == ""


def test_what_a_plugin_raises_reaches_the_caller_and_no_other_plugin_is_asked() -> None:
    class Failing:
        @hookimpl
        def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
            raise KeyError("x")

    hooks, other = Hooks(), Reloading("other")
    hooks.register(other)
    hooks.register(Failing())
    with pytest.raises(KeyError):
        hooks.reload(RELOAD)
    assert other.calls == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda hooks: hooks.fetch(FETCH), "gitopper_fetch for upstream ftp://x"),
        (
            lambda hooks: hooks.checkout(CheckoutRequest(service=SERVICE, store=STORE, content=CONTENT)),
            "gitopper_checkout for service web",
        ),
        (lambda hooks: hooks.publish(SERVICE, RELEASE), "gitopper_mount for publish = 'bind'"),
        (lambda hooks: hooks.withdraw(SERVICE), "gitopper_mount for publish = 'bind'"),
        (lambda hooks: hooks.observe(SERVICE), "gitopper_mount for publish = 'bind'"),
        (lambda hooks: hooks.reload(RELOAD), "gitopper_reload for reload = 'systemd'"),
    ],
)
def test_a_job_that_nobody_takes_names_the_job_and_every_plugin_that_was_asked(
    call: Callable[[Hooks], Any], text: str
) -> None:
    with pytest.raises(PluginError) as nobody:
        call(Hooks())
    assert str(nobody.value) == f"no plugin takes {text}; asked: none"
    hooks = Hooks(broken=(BrokenPlugin(name="bad", distribution="bad-dist", reason="ImportError: x"),))
    hooks.register(Reloading(None), name="passing")
    with pytest.raises(PluginError) as nobody:
        call(hooks)
    asked = "passing" if "gitopper_reload" in text else "none"
    assert str(nobody.value) == (
        f"no plugin takes {text}; asked: {asked}; plugin 'bad' of bad-dist can't be loaded: ImportError: x"
    )
    assert "hunter2" not in str(nobody.value)


def test_the_facade_asks_for_what_its_methods_say() -> None:
    asked: list[MountRequest] = []

    class Mounting:
        @hookimpl
        def gitopper_mount(self, request: MountRequest) -> Published:
            asked.append(request)
            return Published(release=request.release.id if request.release else None)

    hooks = Hooks()
    hooks.register(Mounting())
    hooks.publish(SERVICE, RELEASE)
    hooks.withdraw(SERVICE, keep_live=True)
    hooks.withdraw(SERVICE)
    hooks.observe(SERVICE)
    hooks.judge(SERVICE, RELEASE, SERVICE)
    assert asked == [
        MountRequest(service=SERVICE, verb=MountVerb.PUBLISH, release=RELEASE),
        MountRequest(service=SERVICE, verb=MountVerb.WITHDRAW, keep_live=True),
        MountRequest(service=SERVICE, verb=MountVerb.WITHDRAW),
        MountRequest(service=SERVICE, verb=MountVerb.OBSERVE),
        MountRequest(service=SERVICE, verb=MountVerb.JUDGE, release=RELEASE, former=SERVICE),
    ]


def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    class Raising:
        @hookimpl
        def gitopper_event(self, event: Event) -> None:
            raise RuntimeError("boom")

    class Hearing:
        @hookimpl
        def gitopper_event(self, event: Event) -> None:
            heard.append(event.kind)

    class Deaf:
        @hookimpl
        def gitopper_event(self) -> None:
            heard.append("something")

    hooks = Hooks()
    for name, plugin in (("a", Hearing()), ("b", Raising()), ("c", Deaf()), ("d", Hearing())):
        hooks.register(plugin, name=name)
    hooks.event(Event(kind="poll"))
    assert sorted(heard) == ["poll", "poll", "something"]
    assert "plugin 'b' failed to observe poll" in caplog.text
    assert "boom" in caplog.text


def test_events_need_no_observer() -> None:
    Hooks().event(Event(kind="poll"))
