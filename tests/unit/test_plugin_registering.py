"""What is no plugin, or would be one in vain, is refused where it is registered, with the remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from libgitopper import CheckRequest, Event, Hooks, PluginError, ReloadRequest, hookimpl


class Secretive:
    @hookimpl
    def gitopper_event(self, event: Event) -> None: ...

    def __repr__(self) -> str:
        return "hunter2"


def test_a_class_whose_hooks_need_an_instance_is_refused() -> None:
    class Acme:
        @hookimpl
        def gitopper_reload(self, request: ReloadRequest) -> None: ...

    hooks = Hooks()
    with pytest.raises(PluginError, match=r"plugin 'Acme' of this program is a class.*plugin = MyPlugin"):
        hooks.register(Acme)
    hooks.register(Acme())


def test_a_hook_that_is_not_marked_is_refused_beside_one_that_is() -> None:
    class Acme:
        @hookimpl
        def gitopper_reload(self, request: ReloadRequest) -> None: ...

        def gitopper_check(self, request: CheckRequest) -> None: ...

    with pytest.raises(PluginError, match="has gitopper_check, and does not mark it"):
        Hooks().register(Acme())


def test_of_two_plugins_with_one_name_both_distributions_are_told_and_nothing_that_they_hold() -> None:
    hooks = Hooks()
    hooks.register(Secretive(), name="acme", distribution="one")
    with pytest.raises(PluginError, match="plugin 'acme' of two: one has one of that name") as refused:
        hooks.register(Secretive(), name="acme", distribution="two")
    assert "hunter2" not in str(refused.value)


def _observer(function: Callable[..., Any], **options: bool) -> object:
    return type("Acme", (), {"gitopper_event": hookimpl(function, **options)})()  # type: ignore[call-overload]


async def _asynchronous(self: object, event: Event) -> None: ...


async def _streaming(self: object, event: Event) -> AsyncIterator[None]:
    yield


def _yielding(self: object, event: Event) -> Iterator[None]:
    yield


def _by_keyword(self: object, *, event: Event) -> None: ...


def _with_default(self: object, event: Event | None = None) -> None: ...


def _any(self: object, *args: object) -> None: ...


def _named(self: object, **kwargs: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_asynchronous, "has gitopper_event as `async def`, and hooks are synchronous; write `def`"),
        (_streaming, "has gitopper_event as `async def`"),
        (_yielding, "has a `yield` in gitopper_event"),
        (_by_keyword, r"is never given `event: .*` in gitopper_event; write `def gitopper_event\(event\)`"),
        (_with_default, "is never given `event: .* = None` in gitopper_event"),
        (_any, r"is never given `\*args: "),
        (_named, r"is never given `\*\*kwargs: "),
    ],
)
def test_what_would_be_called_in_vain_is_refused_with_the_remedy(
    function: Callable[..., Any], words: str
) -> None:
    with pytest.raises(PluginError, match=f"plugin 'acme' of acme-dist {words}"):
        Hooks().register(_observer(function), name="acme", distribution="acme-dist")


def test_a_wrapper_is_refused_where_nobody_would_call_it() -> None:
    with pytest.raises(PluginError, match="wraps gitopper_event, which is asked of one plugin at a time"):
        Hooks().register(_observer(_yielding, wrapper=True))


def test_what_a_hook_does_not_give_may_have_a_default_and_what_it_gives_may_be_left() -> None:
    seen: list[str] = []
    hooks = Hooks()
    hooks.register(_observer(lambda self, event, name="more", **others: seen.append(name)), name="more")
    hooks.register(_observer(lambda self: seen.append("less")), name="less")
    hooks.event(Event(kind="poll"))
    assert sorted(seen) == ["less", "more"]


def test_a_plugin_is_registered_once_and_nothing_that_it_holds_is_told() -> None:
    hooks, acme = Hooks(), Secretive()
    hooks.register(acme, name="one", distribution="acme-dist")
    with pytest.raises(PluginError, match="'two' of b: the same is registered already as 'one'") as refused:
        hooks.register(acme, name="two", distribution="b")
    assert "hunter2" not in str(refused.value)
