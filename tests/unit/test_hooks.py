"""Plugins: how they are found, refused and called; and the signatures that they rely on."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint, PathDistribution, entry_points
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from libgitopper import (
    HOOK_API,
    BrokenPlugin,
    CheckoutRequest,
    Content,
    Credentials,
    Event,
    FetchRequest,
    Hooks,
    MountRequest,
    MountVerb,
    PluginError,
    Published,
    Release,
    Reloaded,
    ReloadRequest,
    Service,
    Source,
    Store,
    hookimpl,
    hookspecs,
    limits,
    load_plugins,
    repository,
    requests,
    safeguards,
)
from libgitopper.access import AuthRequest, Grant, Identity, TlsPeer, UnixPeer

SNAPSHOT = Path(__file__).with_name("hook_api_snapshot.json")

SERVICE = Service(name="web", source=Source(upstream="u", branch="b"), mappings=(), mount=Path("/m"))
CONTENT = Content(revision="a" * 40, entries=())
RELEASE = Release(service="web", id="r", path=Path("/r"), content=CONTENT)
FETCH = FetchRequest(
    upstream="ftp://x",
    credentials=Credentials(userinfo="me:hunter2"),
    branches=frozenset(),
    stores=Path("/s"),
)
STORE = cast(Store, None)  # nobody looks at it: no plugin takes the job
RELOAD = ReloadRequest(service=SERVICE, release=RELEASE, first=False)


class Reloading:
    def __init__(self, did: str | None) -> None:
        self.did = did
        self.calls = 0

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        self.calls += 1
        return None if self.did is None else Reloaded(did=self.did)


# --- loading -----------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], EntryPoint]:
    """Write a distribution with one plugin, and return its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> EntryPoint:
        module = f"simulated_plugin_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{name}_dist-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gitopper]\n{name} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (point,) = PathDistribution(info).entry_points.select(group="gitopper")
        return point

    return write


GOOD = """
from libgitopper import Reloaded, hookimpl
@hookimpl
def gitopper_reload(request):
    return Reloaded(did=__name__)
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import no_such_module_anywhere",
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        ),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit('goodbye')", "SystemExit: goodbye"),
    ],
)
def test_a_broken_plugin_is_named_with_its_distribution_and_the_others_load(
    plugin: Callable[[str, str], EntryPoint], source: str, reason: str
) -> None:
    hooks = load_plugins([plugin("bad", source), plugin("good", GOOD)])
    (broken,) = hooks.broken
    assert (broken.name, broken.distribution) == ("bad", "bad-dist")
    assert broken.reason.startswith(reason)
    assert str(broken).startswith(f"plugin 'bad' of bad-dist can't be loaded: {reason}")
    assert hooks.names == ("good",)
    assert hooks.reload(RELOAD).did == "simulated_plugin_good"


def test_a_plugin_with_a_hook_that_does_not_exist_fails_the_start_by_name(
    plugin: Callable[[str, str], EntryPoint],
) -> None:
    source = "from libgitopper import hookimpl\n@hookimpl\ndef gitopper_relaod(request): pass\n"
    with pytest.raises(PluginError, match=r"plugin 'typo' of typo-dist .*gitopper_relaod"):
        load_plugins([plugin("typo", source)])


@pytest.mark.parametrize("source", ["", "def gitopper_reload(request): pass", "gitopper_reload = 1"])
def test_a_plugin_without_any_hook_fails_the_start_and_is_told_the_remedy(
    plugin: Callable[[str, str], EntryPoint], source: str
) -> None:
    with pytest.raises(
        PluginError, match=r"plugin 'empty' of empty-dist implements no hook;.*gitopper_fetch"
    ):
        load_plugins([plugin("empty", source)])


def test_a_hook_with_an_argument_that_does_not_exist_fails_the_start(
    plugin: Callable[[str, str], EntryPoint],
) -> None:
    source = "from libgitopper import hookimpl\n@hookimpl\ndef gitopper_reload(service): pass\n"
    with pytest.raises(PluginError, match=r"(?s)plugin 'args' of args-dist.*service"):
        load_plugins([plugin("args", source)])


def test_an_entry_point_without_a_distribution_is_named_too() -> None:
    hooks = load_plugins([EntryPoint(name="lost", value="no_such_module_anywhere", group="gitopper")])
    assert hooks.broken[0].distribution == "an unknown distribution"


def test_without_being_told_it_loads_what_is_installed() -> None:
    installed = {point.name for point in entry_points(group="gitopper")}
    hooks = load_plugins()
    assert set(hooks.names) | {broken.name for broken in hooks.broken} == installed


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
def test_a_job_that_nobody_takes_names_the_job_and_every_plugin(
    call: Callable[[Hooks], Any], text: str
) -> None:
    with pytest.raises(PluginError) as nobody:
        call(Hooks())
    assert str(nobody.value) == f"no plugin takes {text}; loaded: none"
    hooks = Hooks(broken=(BrokenPlugin(name="bad", distribution="bad-dist", reason="ImportError: x"),))
    hooks.register(Reloading(None), name="passing")
    with pytest.raises(PluginError) as nobody:
        call(hooks)
    assert str(nobody.value) == (
        f"no plugin takes {text}; loaded: passing; plugin 'bad' of bad-dist can't be loaded: ImportError: x"
    )
    assert "hunter2" not in str(nobody.value)


def test_the_facade_asks_for_what_its_methods_say() -> None:
    asked: list[MountRequest] = []

    class Mounting:
        @hookimpl
        def gitopper_mount(self, request: MountRequest) -> Published:
            asked.append(request)
            return Published(release=None)

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


# --- the snapshot ------------------------------------------------------------------------


def _fields(kind: type) -> dict[str, str]:
    return {
        field.name: f"{field.type}{'' if field.default is attrs.NOTHING else ' (has a default)'}"
        for field in attrs.fields(kind)
    }


def _members(protocol: type) -> dict[str, str]:
    found = {}
    for name, member in vars(protocol).items():
        function = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and callable(function):
            found[name] = ("property " if isinstance(member, property) else "") + str(
                inspect.signature(function)
            )
    return found


def current_api() -> dict[str, Any]:
    """Everything that a plugin's code relies on."""
    specs = {name: getattr(hookspecs.Specs, name) for name in hookspecs.HOOKS}
    values = [AuthRequest, Identity, Grant, UnixPeer, TlsPeer]
    for module in (requests, repository, safeguards, limits):
        values += [v for name in module.__all__ if attrs.has(v := getattr(module, name))]
    return {
        "version": HOOK_API,
        "hooks": {
            name: {
                "signature": str(inspect.signature(spec)),
                "first result": spec.gitopper_spec["firstresult"],
            }
            for name, spec in specs.items()
        },
        "values": {kind.__name__: _fields(kind) for kind in values},
        "store": _members(repository.Store),
        "verbs": {verb.name: verb.value for verb in MountVerb},
    }


def test_the_signatures_are_those_of_the_snapshot() -> None:
    """What only adds (a hook, a field with a default) needs a new snapshot; the rest a new HOOK_API, too.

    To write it: ``python -m tests.unit.test_hooks``.
    """
    assert current_api() == json.loads(SNAPSHOT.read_text())


def test_hooks_have_neither_keyword_only_parameters_nor_defaults() -> None:
    # pluggy drops the one, and mishandles the other.
    for name in hookspecs.HOOKS:
        for parameter in inspect.signature(getattr(hookspecs.Specs, name)).parameters.values():
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            assert parameter.default is inspect.Parameter.empty


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(current_api(), indent=2) + "\n")
