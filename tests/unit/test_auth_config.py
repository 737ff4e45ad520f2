"""``[auth]``: who is asked in which order, and how mistakes in a plugin's own table are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gitopper_plugins import mtls, peercred
from gitopper_plugins.token import TokenAuth
from libgitopper import AuthSettings, ConfigError, Hooks, hookimpl
from libgitopper.config.loading import parse_config

HEAD = "services = []\n"


@pytest.fixture
def hooks() -> Hooks:
    hooks = Hooks()
    for name, plugin in (("peercred", peercred), ("token", TokenAuth()), ("mtls", mtls)):
        hooks.register(plugin, name=name)
    return hooks


def read(text: str, hooks: Hooks | None = None) -> tuple[AuthSettings, ...]:
    judge = hooks.auth_problems if hooks else None
    config = parse_config(
        HEAD + text,
        origin="gitopper.toml",
        hosts=frozenset({"web1"}),
        root=True,
        environ={},
        judge_auth=judge,
    )
    return config.auth


def mistakes(text: str, hooks: Hooks) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, hooks)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "plugins"),
    [
        ("", ["peercred"]),
        ("[auth]\n", ["peercred"]),
        ("[auth.token]\n", ["peercred", "token"]),
        ("[auth.mtls]\n[auth.token]\n", ["peercred", "mtls", "token"]),
        ("[auth.token]\n[auth.peercred]\n", ["peercred", "token"]),
        ('[auth]\nplugins = ["token"]\n', ["token"]),
        ('[auth]\nplugins = ["token", "peercred"]\n[auth.peercred]\n', ["token", "peercred"]),
    ],
)
def test_who_is_asked_in_which_order(text: str, plugins: list[str], hooks: Hooks) -> None:
    assert [auth.plugin for auth in read(text, hooks)] == plugins


def test_a_plugin_gets_its_table_as_it_is_written(hooks: Hooks) -> None:
    (_, token) = read('[auth.token]\nfile = "/srv/tokens.toml"\n', hooks)
    assert token.settings == {"file": "/srv/tokens.toml"}
    assert "/srv" not in repr(token)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("auth = 5", "auth: 5 is not a table"),
        ("[auth]\nplugins = []", "auth.plugins: "),
        ('[auth]\nplugins = "token"', "auth.plugins: "),
        ('[auth]\nplugins = ["to ken"]', "auth.plugins[0]: "),
        ('[auth]\nplugins = ["token", "token"]', "auth.plugins: token is named twice"),
        ('[auth]\nplugin = ["token"]', 'auth.plugin: unknown key; did you mean "plugins"?'),
        ('[auth]\nplugins = ["peercred"]\n[auth.token]', "auth.token: not among plugins"),
        ("[auth.tokn]", "auth.tokn: no such auth plugin; installed: mtls, peercred, token"),
        ("[auth.token]\nfile = 5", "auth.token.file: "),
        ("[auth.token]\nfiles = 5", "auth.token.files: unknown key"),
        ("[auth.mtls]\nclients = [{}]", "auth.mtls.clients[0]: say who it is by one of"),
        ('[auth.mtls]\nclients = [{ subject = "CN=x" }]', "auth.mtls.clients[0].role: missing"),
        ('[auth.peercred]\ngroups = [{ name = "x", role = 5 }]', "auth.peercred.groups[0].role: "),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, problem: str, hooks: Hooks) -> None:
    found = mistakes(text, hooks)
    assert any(line.startswith(problem) for line in found), found


def test_mistakes_of_a_plugins_table_stand_among_the_others_in_file_order(hooks: Hooks) -> None:
    text = '[auth.token]\nfile = 5\n[globl]\n[api]\nanonymous = "all"\n'
    places = [line.partition(":")[0] for line in mistakes(text, hooks)]
    assert places == ["auth.token.file", "globl", "api.anonymous"]


class Judge:
    """A third party's plugin that judges in its own way."""

    def __init__(self, problems: object) -> None:
        self.problems = problems

    @hookimpl
    def gitopper_auth(self, request: object) -> None:
        return None

    @hookimpl
    def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
        if isinstance(self.problems, Exception):
            raise self.problems
        return self.problems  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("problems", "told"),
    [
        (None, []),
        ([], []),
        (["the directory is closed on Sundays"], ["auth.ldap: the directory is closed on Sundays"]),
        (["host: not a name: write one"], ["auth.ldap.host: not a name: write one"]),
        (["a.b[3].c: bad"], ["auth.ldap.a.b[3].c: bad"]),
        (["in all: bad"], ["auth.ldap: in all: bad"]),
        (ValueError("password=hunter2"), ["auth.ldap: its plugin failed to judge it: ValueError; "]),
    ],
)
def test_whatever_a_plugin_says_becomes_a_problem_with_a_place(
    problems: object, told: list[str], hooks: Hooks
) -> None:
    hooks.register(Judge(problems), name="ldap")
    if not told:
        assert read("[auth.ldap]\nx = 1\n", hooks)[1].plugin == "ldap"
        return
    found = mistakes("[auth.ldap]\nx = 1\n", hooks)
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True)), found
    assert "hunter2" not in str(found)


def test_a_plugin_judges_its_own_table_alone(hooks: Hooks) -> None:
    hooks.register(Judge(["mine: bad"]), name="ldap")
    assert [auth.plugin for auth in read("[auth.token]\n", hooks)] == ["peercred", "token"]


def test_a_plugin_that_judges_nothing_takes_any_table(hooks: Hooks) -> None:
    class Plain:
        @hookimpl
        def gitopper_auth(self) -> None:
            return None

    hooks.register(Plain(), name="plain")
    assert read("[auth.plain]\nx = 1\n", hooks)[1].settings == {"x": 1}
