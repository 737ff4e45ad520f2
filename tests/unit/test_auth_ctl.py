"""``gitopperctl token``: what it writes, prints and refuses."""

from __future__ import annotations

import json
import shlex
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gitopper_plugins import tokenfile
from gitopperd.ctl.commands import cli
from libgitopper import Grant, Role


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "tokens.toml"


def run(line: str, file: Path | None = None) -> Result:
    words = [*shlex.split(line), *(["--file", str(file)] if file else [])]
    result = CliRunner().invoke(cli, words, prog_name="gitopperctl", standalone_mode=False)
    if isinstance(result.return_value, int) and not result.exception:
        result.exit_code = result.return_value
    return result


def usage_error(line: str, file: Path) -> str:
    result = CliRunner().invoke(cli, [*shlex.split(line), "--file", str(file)], prog_name="gitopperctl")
    assert result.exit_code == 2
    assert not file.exists()
    return result.stderr


def test_create_prints_the_token_alone_and_keeps_its_hash(file: Path) -> None:
    result = run("token create deploy --role operate --services 'web*, db' --expires 90d", file)
    assert result.exit_code == 0
    secret = result.stdout.strip()
    (kept,) = tokenfile.read(file)
    assert kept.name == "deploy"
    assert kept.sha256 == tokenfile.hash_of(secret)
    assert kept.grant == Grant(role=Role.OPERATE, services=("web*", "db"))
    assert kept.created is not None
    assert kept.expires == kept.created + timedelta(days=90)
    assert abs(datetime.now(UTC) - kept.created) < timedelta(minutes=1)
    assert secret not in file.read_text()
    assert secret not in result.stderr
    assert "only time" in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_list_shows_all_but_the_tokens(file: Path) -> None:
    secrets = [
        run(f"token create {line}", file).stdout.strip() for line in ("a --role admin", "b --role read")
    ]
    with tokenfile.editing(file) as tokens:
        past = datetime(2020, 1, 2, 3, 4, tzinfo=UTC)
        grant = Grant(role=Role.READ, services=("x",))
        tokens.append(tokenfile.Token(name="old", sha256="0" * 64, grant=grant, expires=past))
    lines = run("token list", file).stdout.splitlines()
    assert lines[0].split() == ["NAME", "ROLE", "SERVICES", "CREATED", "EXPIRES"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["a", "admin", "*"],
        ["b", "read", "*"],
        ["old", "read", "x"],
    ]
    assert lines[1].endswith("never")
    assert lines[3].endswith("2020-01-02 03:04 (expired)")
    answer = json.loads(run("-m token list", file).stdout)
    assert answer == json.loads(run("token list -m", file).stdout)
    assert answer["tokens"][2] == {
        "name": "old",
        "role": "read",
        "services": ["x"],
        "created": None,
        "expires": "2020-01-02T03:04:00+00:00",
        "expired": True,
    }
    for secret in secrets:
        assert secret not in json.dumps(answer)
        assert tokenfile.hash_of(secret) not in json.dumps(answer)


def test_revoke_takes_one_away(file: Path) -> None:
    for name in ("a", "b"):
        run(f"token create {name} --role read", file)
    assert run("token revoke a", file).stdout == "revoked a\n"
    assert [token.name for token in tokenfile.read(file)] == ["b"]
    result = run("token revoke a", file)
    assert result.exit_code == 1
    assert "there is no token 'a'" in result.stderr
    assert "there are: b" in result.stderr


def test_a_script_gets_json(file: Path) -> None:
    answer = json.loads(run("-m token create a --role read --expires 1d12h", file).stdout)
    assert tokenfile.hash_of(answer["token"]) == tokenfile.read(file)[0].sha256
    assert answer["name"] == "a"
    answer = json.loads(run("-m token create a --role read", file).stdout)
    assert answer["error"]["code"] == "tokens"
    assert json.loads(run("-m token revoke a", file).stdout) == {"revoked": "a"}


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "ä", "a\n", ".", "a/b"])
def test_a_name_is_plain(file: Path, name: str) -> None:
    result = run(f"token create --role read -- {shlex.quote(name)}")
    assert result.exit_code == 1
    assert "is no name for a token" in result.stderr


def test_no_name_is_given_twice(file: Path) -> None:
    run("token create a --role read", file)
    before = file.read_bytes()
    result = run("token create a --role admin", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "choose another name, or revoke that one" in result.stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("token create a", "--role"),
        ("token create a --role root", "'root' is not one of"),
        ("token create a --role read --expires 0d", "of no use"),
        ("token create a --role read --expires soon", 'write "90d" or "12h"'),
        ("token create a --role read --expires -1d", "--expires"),
        ("token create a --role read --expires 999999d", "duration"),
        ("token create a --role read @web1", "leave out @web1"),
        ("token list @web1", "leave out @web1"),
        ("token frobnicate", "frobnicate"),
    ],
)
def test_bad_usage_is_told_and_nothing_is_written(file: Path, line: str, says: str) -> None:
    assert says in usage_error(line, file)


def test_a_token_that_would_end_after_the_calendar_is_refused(file: Path) -> None:
    result = run("token create a --role read --expires 100000000h", file)
    assert result.exit_code == 1
    assert "leave --expires out" in result.stderr
    assert not file.exists()


@pytest.mark.parametrize("line", ["token list", "token revoke a"])
def test_a_file_that_is_not_there_is_told_with_the_remedy(file: Path, line: str) -> None:
    result = run(line, file)
    assert result.exit_code == 1
    assert "token" in result.stderr
    assert not file.exists()


def test_a_file_that_others_may_read_is_refused(file: Path) -> None:
    run("token create a --role read", file)
    file.chmod(0o644)
    for line in ("token list", "token revoke a", "token create b --role read"):
        result = run(line, file)
        assert result.exit_code == 1
        assert "chmod 600" in result.stderr


def test_it_reads_and_writes_the_daemons_own_file_when_nobody_says(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenfile, "default_file", lambda: file)
    assert run("token create a --role read").exit_code == 0
    assert "a" in run("token list").stdout
    assert file.exists()


def test_every_help_ends_with_examples(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenfile, "default_file", lambda: file)
    for words in ("token", "token create", "token list", "token revoke"):
        examples = run(f"{words} --help").stdout.partition("Examples:\n")[2].splitlines()
        assert examples
        for example in examples:
            file.unlink(missing_ok=True)
            if "create deploy" not in example:
                run("token create deploy --role read")
            assert run(example.strip().removeprefix("gitopperctl ")).exit_code == 0, example
