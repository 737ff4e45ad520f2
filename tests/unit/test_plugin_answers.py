"""What a plugin answers wrongly is its own fault, by its name, and no one else's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, cast

import pytest
from attrs import evolve

from libgitopper import (
    Accepted,
    AuthRequest,
    CheckError,
    Event,
    Grant,
    Hold,
    Hooks,
    Identity,
    Installed,
    Intent,
    PluginError,
    Published,
    PublishError,
    Reloaded,
    ReloadRequest,
    Role,
    hookimpl,
)
from libgitopper.errors import unforeseen
from tests.support.answers import CALLS, RELEASE, SERVICE, answering


@pytest.mark.parametrize("hook", CALLS)
@pytest.mark.parametrize("wrong", ["because", True, ["text"]])
def test_an_answer_of_another_kind_is_told_with_plugin_and_hook(hook: str, wrong: object) -> None:
    with pytest.raises(PluginError, match=rf"plugin 'acme' answers {hook} with {type(wrong).__name__}, "):
        CALLS[hook](answering(hook, lambda: wrong))


@pytest.mark.parametrize("hook", CALLS)
def test_a_plugin_can_not_end_the_program(hook: str) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(PluginError, match=rf"plugin 'acme' wants to end the program .*3.* in {hook}"):
        CALLS[hook](answering(hook, leave))


class Own(BaseException):
    pass


@pytest.mark.parametrize("hook", CALLS)
@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, Own])
def test_what_is_no_error_is_not_taken_for_a_cancellation_or_a_signal(
    hook: str, kind: type[BaseException]
) -> None:
    def leave() -> None:
        raise kind("enough")

    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(PluginError, match=rf"plugin 'acme' wants to end .*{kind.__name__}.* in {hook}"),
    ):
        pool.submit(CALLS[hook], answering(hook, leave)).result()


def test_ctrl_c_is_none_of_a_plugin_s_doing() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CALLS["gitopper_reload"](answering("gitopper_reload", interrupted))


@pytest.mark.parametrize("hook", CALLS)
def test_an_error_that_has_no_text_fails_nobody_who_shows_it(hook: str) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            return str(self.args[5])

    def fail() -> None:
        raise MuteError

    with pytest.raises(
        PluginError, match=rf"plugin 'acme' raises MuteError in {hook}, whose text can't be had"
    ):
        CALLS[hook](answering(hook, fail))


@pytest.mark.parametrize("hook", CALLS)
def test_an_error_that_nobody_foresaw_is_told_with_plugin_and_hook(hook: str) -> None:
    wrong = KeyError("realm")

    def fail() -> None:
        raise wrong

    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            CALLS[hook](answering(hook, fail))
        assert unforeseen(caught.value) == f"internal error: KeyError: 'realm' (in {hook} of plugin 'acme')"


def test_an_error_that_is_raised_on_purpose_is_told_as_it_is() -> None:
    def refuse() -> None:
        raise CheckError("line 3: no such directive")

    with pytest.raises(CheckError, match=r"^line 3: no such directive$") as caught:
        CALLS["gitopper_check"](answering("gitopper_check", refuse))
    assert not hasattr(caught.value, "__notes__")


def test_an_observer_can_not_end_the_program_either(caplog: pytest.LogCaptureFixture) -> None:
    class Acme:
        @hookimpl
        def gitopper_event(self, event: Event) -> None:
            raise SystemExit

    hooks = Hooks()
    hooks.register(Acme(), name="acme")
    hooks.event(Event(kind="poll"))
    assert "'acme' failed to observe poll" in caplog.text


def test_problems_of_settings_are_a_list_and_not_a_text(caplog: pytest.LogCaptureFixture) -> None:
    class Acme:
        @hookimpl
        def gitopper_auth(self, request: AuthRequest) -> None: ...

        @hookimpl
        def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> str:
            return "realm: missing"

    hooks = Hooks()
    hooks.register(Acme(), name="acme")
    (problem,) = hooks.auth_problems("acme", {})
    assert "failed to judge" in problem
    assert "answers gitopper_auth_settings with str, where list or tuple" in caplog.text


def test_a_wrapper_answers_for_others_and_is_left_alone() -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def gitopper_reload(self, request: ReloadRequest) -> Any:
            return evolve((yield), note="wrapped")

    hooks = answering("gitopper_reload", lambda: Reloaded(did="done"))
    hooks.register(Wrapping())
    assert CALLS["gitopper_reload"](hooks) == Reloaded(did="done", note="wrapped")


@pytest.mark.parametrize("shown", [None, "another"])
def test_what_was_to_be_shown_and_by_the_plugin_s_own_word_is_not_counts_as_not_published(
    shown: str | None,
) -> None:
    hooks = answering("gitopper_mount", lambda: Published(release=shown))
    with pytest.raises(PublishError, match="was to show release r, and says that it shows"):
        hooks.publish(SERVICE, RELEASE)
    hooks = answering("gitopper_mount", lambda: Published(release="r"))
    assert hooks.publish(SERVICE, RELEASE) == Published(release="r")


# --- values ------------------------------------------------------------------------------

NAIVE = datetime(2026, 1, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hold(reason="x", until=NAIVE),
        lambda: Intent(until=NAIVE),
    ],
)
def test_a_time_without_a_zone_is_refused_where_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"until is .*, which has no time zone; as datetime\.now\(UTC\)"):
        make()


def test_a_text_is_no_list_of_globs() -> None:
    with pytest.raises(TypeError, match=r"Grant\.services is 'web\*'"):
        Grant(role=Role.READ, services=cast(Any, "web*"))
    with pytest.raises(TypeError, match=r"Accepted\.judged is 'check'"):
        Accepted(judged=cast(Any, "check"))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": "", "grants": ()}, ValueError),
        ({"name": "evil\nline", "grants": ()}, ValueError),
        ({"name": "\x1b[31mred", "grants": ()}, ValueError),
        ({"name": None, "grants": ()}, TypeError),
        ({"name": "alice", "grants": None}, TypeError),
        ({"name": "alice", "grants": ["read"]}, TypeError),
        ({"name": "alice", "grants": ("read",)}, TypeError),
    ],
)
def test_an_identity_has_a_name_to_show_and_grants(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Identity\."):
        Identity(**fields)


def test_a_grant_has_a_role() -> None:
    with pytest.raises(TypeError, match=r"Grant\.role is 'operate'.*Role\.named"):
        Grant(role=cast(Any, "operate"))
    with pytest.raises(ValueError, match="5 is no role"):
        Role.named(cast(Any, 5))


@pytest.mark.parametrize(
    "told",
    [
        lambda text: Accepted(note=text).note,
        lambda text: Published(release=None, note=text).note,
        lambda text: Reloaded(did=text).did,
        lambda text: Reloaded(did="", note=text).note,
        lambda text: Installed(did=text).did,
        lambda text: Hold(reason=text).reason,
        lambda text: str(CheckError(text)),
    ],
)
def test_a_name_that_is_no_utf_8_can_be_told_and_kept(told: Callable[[str], str]) -> None:
    assert told(os.fsdecode(b"caf\xe9 \xc3\xa9")) == "caf\\udce9 é"


def test_what_an_operator_reads_is_a_text() -> None:
    with pytest.raises(TypeError, match="5 is to be shown to an operator, and must be a str"):
        Hold(reason=cast(Any, 5))
