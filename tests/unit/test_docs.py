"""The reference pages say all that there is, and nothing that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import click
import pytest

from gitopperd.main import main as gitopperd
from libgitopper import AuthRequest, State
from libgitopper.hookspecs import HOOKS
from libgitopper.planner import Reason
from tests.proof.__main__ import PARTS

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_documented(hook: str) -> None:
    assert f"{hook}(" in page("reference/hooks.md")


def test_no_hook_is_documented_that_is_not_there() -> None:
    assert set(re.findall(r"\bgitopper_\w+(?=\()", page("reference/hooks.md"))) <= set(HOOKS)


@pytest.mark.parametrize("state", State)
def test_each_state_is_documented(state: State) -> None:
    assert f"`{state.value}`" in page("reference/states.md")


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_of_a_plan_is_documented_in_its_own_words(reason: Reason) -> None:
    assert reason.value in page("reference/states.md")


@pytest.mark.parametrize("field", attrs.fields(AuthRequest))
def test_each_field_that_an_auth_plugin_sees_is_documented(field: attrs.Attribute[object]) -> None:
    assert f"| `{field.name}` |" in page("howto/auth-plugin.md")


@pytest.mark.parametrize("option", [p for p in gitopperd.params if isinstance(p, click.Option)])
def test_each_option_of_the_daemon_is_documented(option: click.Option) -> None:
    for name in option.opts:
        assert f"`{name}" in page("reference/gitopperd.md"), name


def test_each_metric_is_documented_and_no_other() -> None:
    code = "".join(path.read_text() for path in sorted((DOCS.parent / "gitopperd").rglob("*metrics.py")))
    # A counter is named there with or without the end that it gets.
    there = {name.removesuffix("_total") for name in re.findall(r'"(gitopper_\w+)"', code)}
    text = page("reference/metrics.md")
    table = re.findall(r"^\| `(gitopper_\w+)`", text, re.MULTILINE)
    assert {name.removesuffix("_total") for name in table} == there
    assert set(re.findall(r"\bgitopper_\w+", text)) == set(table)


PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]


def anchors(path: Path) -> set[str]:
    """The names that a forge gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_link_leads_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_each_test_that_a_page_names_is_there() -> None:
    named = {name for path in PAGES for name in re.findall(r"`(tests/[\w/]+\.py)`", path.read_text())}
    assert named
    assert [name for name in sorted(named) if not (DOCS.parent / name).exists()] == []


def test_each_part_of_the_proof_that_a_page_names_is_there_and_none_is_missing() -> None:
    named = set(re.findall(r"python -m tests\.proof ([a-z]+)", page("explanation/proof.md")))
    assert named == set(PARTS)
