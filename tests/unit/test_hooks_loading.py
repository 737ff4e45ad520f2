"""Plugins: how they are found, and what becomes of one that is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, PathDistribution, entry_points
from pathlib import Path

import pytest

from libgitopper import PluginError, load_plugins
from tests.support.hooked import RELOAD


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
        ("raise GeneratorExit('enough')", "GeneratorExit: enough"),
        ("from asyncio import CancelledError\nraise CancelledError", "CancelledError"),
        (
            "class MuteError(Exception):\n    def __str__(self): return self.gone\nraise MuteError",
            "MuteError",
        ),
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


def test_a_hook_that_does_not_exist_is_told_with_those_that_do_and_nothing_that_the_plugin_holds(
    plugin: Callable[[str, str], EntryPoint],
) -> None:
    source = """
from libgitopper import hookimpl
class Holding:
    __repr__ = lambda self: "hunter2"
    @hookimpl
    def gitopper_relaod(self, request): pass
plugin = Holding()
"""
    point = plugin("typo", source)
    named = EntryPoint(name=point.name, value=f"{point.value}:plugin", group=point.group)
    with pytest.raises(PluginError, match=r"unknown hook 'gitopper_relaod'; .*gitopper_reload") as refused:
        load_plugins([named])
    assert "hunter2" not in str(refused.value)


def test_an_entry_point_that_leads_to_nothing_fails_the_start_by_name(
    plugin: Callable[[str, str], EntryPoint],
) -> None:
    point = plugin("nothing", "plugin = None")
    named = EntryPoint(name=point.name, value=f"{point.value}:plugin", group=point.group)
    with pytest.raises(PluginError, match=r"plugin 'nothing' of .* is None; name a module, or an instance"):
        load_plugins([named])


def test_the_names_of_the_daemon_s_own_observers_are_not_to_be_had(
    plugin: Callable[[str, str], EntryPoint],
) -> None:
    point = plugin("own", GOOD)
    named = EntryPoint(name="gitopperd.metrics", value=point.value, group=point.group)
    with pytest.raises(PluginError, match=r"plugin 'gitopperd\.metrics' of .*; rename it"):
        load_plugins([named])


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
    with pytest.raises(PluginError, match=r"^plugin 'args' of args-dist.*service"):
        load_plugins([plugin("args", source)])


def test_an_entry_point_without_a_distribution_is_named_too() -> None:
    hooks = load_plugins([EntryPoint(name="lost", value="no_such_module_anywhere", group="gitopper")])
    assert hooks.broken[0].distribution == "an unknown distribution"


def test_without_being_told_it_loads_what_is_installed() -> None:
    installed = {point.name for point in entry_points(group="gitopper")}
    hooks = load_plugins()
    assert set(hooks.names) | {broken.name for broken in hooks.broken} == installed
