"""How a command line is read."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gitopperd.ctl import commands, inquiries
from gitopperd.ctl.cli import RootGroup
from gitopperd.ctl.client import Request
from gitopperd.ctl.commands import cli
from gitopperd.ctl.options import machine_readable, targets_of, timeout_of

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference/gitopperctl.md"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/*/*.md"))]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the person who runs the tests has set up for himself must not matter."""
    for name in [name for name in os.environ if name.startswith("GITOPPERCTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("gitopperd.ctl.config.SYSTEM_FILE", str(tmp_path / "none.toml"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[click.Context, Request]]:
    """Every question that would have been asked, instead of asking it."""
    questions: list[tuple[click.Context, Request]] = []

    def remember(ctx: click.Context, request: Request, render: object) -> int:
        questions.append((ctx, request))
        return 0

    monkeypatch.setattr(commands, "carry_out", remember)
    monkeypatch.setattr(inquiries, "carry_out", remember)
    monkeypatch.setattr(inquiries, "ask_hosts", lambda ctx, request: remember(ctx, request, None) or {})
    return questions


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[click.Context]:
    """Every command that would have been carried out, instead of doing it."""
    contexts: list[click.Context] = []

    def remember(command: click.Command, ctx: click.Context) -> int:
        if not isinstance(command, click.Group):
            contexts.append(ctx)
        return 0

    monkeypatch.setattr(click.Command, "invoke", remember)
    return contexts


def run(line: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, shlex.split(line), prog_name="gitopperctl")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("line", "method", "path"),
    [
        ("list machines @h", "GET", "/list/machines"),
        ("list services @h", "GET", "/list/services"),
        ("list service @h nginx", "GET", "/list/service/nginx"),
        ("state freeze @h nginx", "POST", "/state/freeze/nginx"),
        ("state unfreeze @h nginx", "POST", "/state/unfreeze/nginx"),
        ("state rollback @h nginx 606EB57", "POST", "/state/rollback/nginx/606eb57"),
        ("do pull @h nginx", "POST", "/do/pull/nginx"),
        ("do freeze @h nginx", "POST", "/state/freeze/nginx"),
        ("do unfreeze @h nginx", "POST", "/state/unfreeze/nginx"),
        ("do rollback @h nginx 606eb57", "POST", "/state/rollback/nginx/606eb57"),
        ("l m @h", "GET", "/list/machines"),
        ("l service @h nginx", "GET", "/list/service/nginx"),
        ("s f @h nginx", "POST", "/state/freeze/nginx"),
        ("st unf @h nginx", "POST", "/state/unfreeze/nginx"),
        ("do p @h nginx", "POST", "/do/pull/nginx"),
        ("do ro @h nginx 606e", "POST", "/state/rollback/nginx/606e"),
        ("do retry @h nginx", "POST", "/do/retry/nginx"),
        ("do ret @h nginx", "POST", "/do/retry/nginx"),
        ("history @h nginx", "GET", "/history/nginx?limit=50"),
        ("h nginx @h --limit 3", "GET", "/history/nginx?limit=3"),
        ("explain @h nginx", "GET", "/explain/nginx"),
        ("e @h nginx 606EB57", "GET", "/explain/nginx?commit=606eb57"),
        ("diff @h nginx", "GET", "/diff/nginx"),
        ("di @h nginx --drift", "GET", "/diff/nginx?kind=drift"),
        ("diff --upstream @h nginx", "GET", "/diff/nginx?kind=upstream"),
        ("diff --kept @h nginx", "GET", "/diff/nginx?kind=kept-drift"),
        ("diff @h nginx --kept --number 2", "GET", "/diff/nginx?kind=kept-drift&number=2"),
        ("diff @h nginx 606e", "GET", "/diff/nginx?to=606e"),
        ("diff @h nginx 606e 7ab0", "GET", "/diff/nginx?from=606e&to=7ab0"),
        ("do reload-config @h", "POST", "/do/reload-config"),
        (
            "state freeze @h nginx --reason 'a&b=c d' --for 2h",
            "POST",
            "/state/freeze/nginx?reason=a%26b%3Dc+d&for=2h",
        ),
        ("do freeze @h nginx --for 30m", "POST", "/state/freeze/nginx?for=30m"),
        ("audit @h", "GET", "/audit?limit=100"),
        ("a @h --service nginx --limit 7", "GET", "/audit?limit=7&service=nginx"),
        ("list service @h 'a/../b c@d.é%'", "GET", "/list/service/a%2F..%2Fb%20c%40d.%C3%A9%25"),
    ],
)
def test_each_command_asks_its_question(
    asked: list[tuple[click.Context, Request]], line: str, method: str, path: str
) -> None:
    assert run(line) == (0, "")
    [(_, request)] = asked
    assert (request.method, request.path) == (method, path)


@pytest.mark.parametrize(
    "line",
    [
        "@a @b:1 list service nginx",
        "list @a service @b:1 nginx",
        "list service nginx @a @b:1",
        "list service @a nginx @b:1 @a",
    ],
)
def test_hosts_may_stand_anywhere_and_count_once(
    asked: list[tuple[click.Context, Request]], line: str
) -> None:
    assert run(line) == (0, "")
    [(ctx, request)] = asked
    assert [target.host.label for target in targets_of(ctx)] == ["a", "b:1"]
    assert request.segments[-1] == "nginx"


@pytest.mark.parametrize(
    "line",
    [
        "-m --timeout 3 --socket /s list services @h",
        "list -m --timeout 3 services --socket /s @h",
        "list services @h --timeout 3 --socket /s --machine-readable",
        "--timeout 9 list services @h --timeout 3 --socket /s -m",
    ],
)
def test_options_may_stand_at_any_level_and_the_last_counts(
    asked: list[tuple[click.Context, Request]], line: str
) -> None:
    assert run(line) == (0, "")
    [(ctx, _)] = asked
    [target] = targets_of(ctx)
    assert (machine_readable(ctx), timeout_of(ctx), target.settings.socket) == (True, 3.0, "/s")


def test_without_options_the_answer_is_for_a_person_and_waits_ten_seconds(
    asked: list[tuple[click.Context, Request]],
) -> None:
    assert run("list services @h") == (0, "")
    [(ctx, _)] = asked
    assert (machine_readable(ctx), timeout_of(ctx)) == (False, 10.0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("list serv @h", "'serv' is ambiguous: it can mean service or services."),
        ("list s @h nginx", "'s' is ambiguous: it can mean service or services."),
        ("frobnicate @h", "No such command 'frobnicate'"),
        ("list '' @h", "No such command ''"),
        ("list services", "No @HOST given."),
        ("list services web1", "gitopperctl list services @localhost"),
        ("state rollback nginx 606eb57", "gitopperctl state rollback @localhost SERVICE HASH"),
        ("list services @h nginx", "unexpected extra argument (nginx)"),
        ("list service @h", "Missing argument 'SERVICE'"),
        ("list service @h ..", "'..' is not the name of a service"),
        ("list service @h ''", "'' is not the name of a service"),
        ("state rollback @h nginx", "Missing argument 'HASH'"),
        ("state rollback @h nginx main", "'main' is not the hash of a commit"),
        ("state rollback @h nginx 606", "write 4 or more"),
        ("list services @web1:http", "'http' is not a port"),
        ("list services @h --timeout 0", "more than 0"),
        ("list services @h --timeout nan", "'nan' is not a time"),
        ("list services @h --timeout soon", "'soon' is not a time"),
        ("do r @h nginx 606e", "'r' is ambiguous: it can mean reload-config, retry or rollback."),
        ("d p @h nginx", "'d' is ambiguous: it can mean diff or do."),
        ("history @h", "Missing argument 'SERVICE'"),
        ("history @h nginx --limit 201", "201 is not in the range"),
        ("explain nginx", "No @HOST given."),
        ("explain @h nginx HEAD", "'HEAD' is not the hash of a commit"),
        ("diff @h nginx 606e 7ab0 8bc0", "unexpected extra argument"),
        ("diff @h nginx 606e --drift", "go without a HASH"),
        ("diff @h nginx --number 2", "--number goes with --kept"),
        ("diff @h nginx --drift --upstream", "--drift, --upstream and --kept exclude each other"),
        ("diff @h nginx --kept --drift --number 2", "exclude each other"),
        ("list services @h @@", "'@@' is not a group"),
        ("list services @h @https://", "the name is missing"),
        ("list services @h --token secret", "Did you mean"),
        ("audit @h --limit 0", "0 is not in the range"),
        ("audit @h --service ..", "'..' is not the name of a service"),
        ("watch", "No @HOST given."),
        ("do reload-config", "gitopperctl do reload-config @localhost"),
        ("token list @h", "leave out @h"),
    ],
)
def test_bad_usage_is_told_and_ends_with_2(
    asked: list[tuple[click.Context, Request]], line: str, says: str
) -> None:
    code, output = run(line)
    assert code == 2
    assert says in output
    assert asked == []


def every_command(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from every_command(below, (*words, name))


@pytest.mark.parametrize("words", [*every_command(cli)], ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_at_every_level_ends_with_examples(words: tuple[str, ...], flag: str) -> None:
    code, output = run(shlex.join([*words, flag]))
    assert code == 0
    assert "Examples:\n  gitopperctl " in output
    # A summary that does not fit its line would be cut.
    assert "..." not in output.replace("@HOST...", "").replace("[ARGS]...", "")


@pytest.mark.parametrize(
    "words", [words for words in every_command(cli) if words and words[:1] != ("token",)], ids=" ".join
)
def test_help_that_does_not_show_every_option_says_where_they_are(words: tuple[str, ...]) -> None:
    output = run(shlex.join([*words, "--help"]))[1]
    assert "--ca" not in output
    assert "For settings, tokens and TLS: gitopperctl --help" in output


@pytest.mark.parametrize("words", [*every_command(cli)], ids=" ".join)
def test_every_example_of_the_help_can_be_run(parsed: list[click.Context], words: tuple[str, ...]) -> None:
    examples = run(shlex.join([*words, "--help"]))[1].partition("Examples:\n")[2].splitlines()
    for example in examples:
        assert run(example.strip().removeprefix("gitopperctl ")) == (0, "")
    assert len(parsed) == len(examples) > 0


def test_every_command_line_of_the_pages_can_be_run(parsed: list[click.Context]) -> None:
    lines = [line.strip().removeprefix("$ ") for page in PAGES for line in page.read_text().splitlines()]
    examples = [line for line in lines if line.startswith("gitopperctl ") and "[options]" not in line]
    # The tutorial is followed as a whole, by a test of its own.
    examples = [line for line in examples if "$PWD" not in line]
    for example in examples:
        command = re.split(r" +[|>#] ", example)[0]
        assert run(command.removeprefix("gitopperctl "))[0] == 0, example
    assert len(examples) == len(parsed) > 30


def test_the_reference_names_every_command_and_option() -> None:
    text = REFERENCE.read_text()
    for words in every_command(cli):
        if len(words) == 2:
            assert " ".join(words) in text
    assert isinstance(cli, RootGroup)
    for option in (*cli.params, *cli.commands["list"].params):
        assert all(f"`{name}" in text or f", `{name}" in text for name in option.opts), option.opts


def test_the_version_is_the_library_s() -> None:
    from libgitopper import __version__

    assert run("--version") == (0, f"gitopperctl {__version__}\n")
