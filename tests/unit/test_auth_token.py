"""Tokens: what a file of them may look like, who may touch it, and when a change counts."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins import tokenfile
from gitopper_plugins.token import TokenAuth
from gitopper_plugins.tokenfile import Token, TokenFileError
from libgitopper import AccessDenied, Grant, Identity, Role
from libgitopper.testing.auth import request_for_tests

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTRY = f'[[tokens]]\nname = "a"\nsha256 = "{"0" * 64}"\nrole = "read"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


@pytest.fixture
def auth() -> TokenAuth:
    return TokenAuth(now=lambda: NOW)


def add(file: Path, name: str = "deploy", expires: datetime | None = None, **grant: Any) -> str:
    """Add a token as gitopperctl does, and return it."""
    secret = tokenfile.new_token()
    made = Grant(**{"role": Role.OPERATE, **grant})
    with tokenfile.editing(file) as tokens:
        tokens.append(Token(name=name, sha256=tokenfile.hash_of(secret), grant=made, expires=expires))
    return secret


def ask(auth: TokenAuth, file: Path, token: str, scheme: str = "Bearer ") -> Identity | None:
    headers = {"authorization": scheme + token}
    request = request_for_tests(plugin="token", settings={"file": str(file)}, headers=headers)
    return auth.gitopper_auth(request)


def test_a_token_is_known_by_its_hash_and_has_its_role(auth: TokenAuth, file: Path) -> None:
    token = add(file, services=("web*",))
    identity = ask(auth, file, token)
    assert identity == Identity(name="token:deploy", grants=(Grant(role=Role.OPERATE, services=("web*",)),))
    assert token not in file.read_text()
    assert hashlib.sha256(token.encode()).hexdigest() in file.read_text()


def test_a_token_has_256_random_bits_and_a_prefix_that_scanners_know() -> None:
    tokens = {tokenfile.new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("gitopper_") and len(token) == 9 + 43 for token in tokens)


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer   "])
def test_the_scheme_is_read_as_the_standard_says(auth: TokenAuth, file: Path, scheme: str) -> None:
    assert ask(auth, file, add(file), scheme) is not None


@pytest.mark.parametrize("scheme", ["", "Basic ", "Bearer x", "Token ", "Bearer\t"])
def test_what_is_no_token_of_ours_is_left_to_others(auth: TokenAuth, file: Path, scheme: str) -> None:
    assert ask(auth, file, add(file), scheme) is None


def test_the_first_word_of_two_headers_lets_nobody_in(auth: TokenAuth, file: Path) -> None:
    token = add(file)
    with pytest.raises(AccessDenied, match="not valid here"):
        ask(auth, file, f"{token}, Bearer {token}")


def test_an_expired_token_says_so_to_its_bearer_alone(auth: TokenAuth, file: Path) -> None:
    good = add(file, "good", expires=NOW + timedelta(seconds=1))
    expired = add(file, "expired", expires=NOW)
    assert ask(auth, file, good) is not None
    with pytest.raises(AccessDenied, match=r"has expired \(2026-03-01 12:00 UTC\).*token create"):
        ask(auth, file, expired)
    with pytest.raises(AccessDenied, match=r"^this token is not valid here$"):
        ask(auth, file, tokenfile.new_token())


def test_every_change_of_the_file_counts_from_the_next_request_on(auth: TokenAuth, file: Path) -> None:
    tokens = []
    for number in range(50):  # far more often than the clock of the file system ticks
        tokens.append(add(file, f"t{number}"))
        assert all(ask(auth, file, token) for token in tokens)
    with tokenfile.editing(file) as kept:
        del kept[10:]
    assert ask(auth, file, tokens[9]) is not None
    with pytest.raises(AccessDenied):
        ask(auth, file, tokens[10])


def test_a_change_in_place_within_one_tick_of_the_clock_counts(
    auth: TokenAuth, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitopper_plugins.token._stamp", lambda _: (1,))  # a clock that stands still
    one, two = add(file, "a"), tokenfile.new_token()
    text = file.read_text()
    other = text.replace(tokenfile.hash_of(one), tokenfile.hash_of(two))
    for _ in range(50):
        for written, good, bad in ((other, two, one), (text, one, two)):
            file.write_text(written)  # the same inode and size, and often the same times
            assert ask(auth, file, good) is not None
            with pytest.raises(AccessDenied):
                ask(auth, file, bad)


def test_a_file_that_did_not_change_is_not_read_again(
    auth: TokenAuth, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = add(file)
    reads: list[Path] = []
    read = tokenfile.parse

    def counted(path: Path, descriptor: int) -> tuple[Token, ...]:
        reads.append(path)
        return read(path, descriptor)

    monkeypatch.setattr("gitopper_plugins.token.parse", counted)
    monkeypatch.setattr("gitopper_plugins.token.SETTLED_NANOSECONDS", -1)
    for _ in range(10):
        assert ask(auth, file, token)
    assert len(reads) == 1
    file.chmod(0o400)
    assert ask(auth, file, token)
    assert len(reads) == 2


# --- who may touch it --------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602, 0o666, 0o601])
def test_a_file_that_others_may_read_or_write_lets_nobody_in(
    auth: TokenAuth, file: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    token = add(file)
    assert ask(auth, file, token)
    file.chmod(mode)
    with pytest.raises(AccessDenied, match="the daemon's log says why"):
        ask(auth, file, token)
    assert f"{mode:04o}" in caplog.text
    assert "chmod 600" in caplog.text
    file.chmod(0o600)
    assert ask(auth, file, token)


def test_its_group_may_read_it_for_a_daemon_that_is_not_root(auth: TokenAuth, file: Path) -> None:
    token = add(file)
    file.chmod(0o640)
    assert ask(auth, file, token)
    assert add(file, "second")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.root
def test_a_file_of_another_user_lets_nobody_in(
    auth: TokenAuth, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = add(file)
    os.chown(file, 12345, -1)
    with pytest.raises(AccessDenied, match="the daemon's log says why"):
        ask(auth, file, token)
    assert "belongs to uid 12345" in caplog.text


@pytest.mark.root
def test_an_edit_keeps_owner_and_group(file: Path) -> None:
    add(file)
    os.chown(file, 0, 4321)
    file.chmod(0o640)
    add(file, "second")
    assert (file.stat().st_uid, file.stat().st_gid) == (0, 4321)


def _make_directory(path: Path) -> None:
    path.mkdir()


def _make_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _make_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _make_nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("make", [_make_directory, _make_pipe, _make_link_to_itself, _make_nothing])
def test_what_is_no_file_is_told_and_never_waited_for(
    auth: TokenAuth, file: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(file)
    with pytest.raises(AccessDenied, match="the daemon's log says why"):
        ask(auth, file, tokenfile.new_token())
    assert str(file) in caplog.text


# --- what may be in it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[tokens", "not valid TOML"),
        ("tokens = 5", "write [[tokens]]"),
        ("tokens = [5]", "write [[tokens]]"),
        ("token = []", "unknown key"),
        (ENTRY.replace('"read"', '"root"'), "'root' is no role"),
        (ENTRY.replace("role", "rolle"), "tokens[0].rolle: unknown key"),
        (ENTRY.replace('"a"', '"a b"'), "tokens[0].name"),
        (ENTRY.replace("0" * 64, "0" * 63), "tokens[0].sha256"),
        (ENTRY.replace("0" * 64, "A" * 64), "tokens[0].sha256"),
        (ENTRY + "services = []", "tokens[0].services"),
        (ENTRY + 'services = [""]', "tokens[0].services"),
        (ENTRY + "expires = 2026-01-01T00:00:00", "tokens[0].expires"),
        (ENTRY + 'expires = "soon"', "tokens[0].expires"),
        (ENTRY + ENTRY, "a is there twice"),
        ("a = " + "[" * 2000, "not"),
        ("#" * (tokenfile.MOST_BYTES + 1), "more than"),
        ("x = '\udcff'", "not TOML in UTF-8"),
    ],
)
def test_a_file_with_mistakes_lets_nobody_in_and_is_told_once(
    auth: TokenAuth, file: Path, text: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = add(file)
    assert ask(auth, file, token)
    file.write_text(text, errors="surrogateescape")
    for _ in range(5):
        with pytest.raises(AccessDenied, match="the daemon's log says why"):
            ask(auth, file, token)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert says in record.getMessage()
    assert str(file) in record.getMessage()
    assert "0" * 60 not in record.getMessage()
    caplog.set_level(logging.INFO)
    file.unlink()
    token = add(file)
    assert ask(auth, file, token)
    assert "good again" in caplog.text


@pytest.mark.parametrize("text", ["", "tokens = []", "# nothing\n"])
def test_a_file_without_tokens_knows_nobody(auth: TokenAuth, file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(AccessDenied, match="not valid here"):
        ask(auth, file, tokenfile.new_token())


# --- writing -----------------------------------------------------------------------------


def test_what_is_written_is_what_is_read(file: Path) -> None:
    services = ('we"b*', "a\\b", "ü\x7f\n", "[a-z]?")
    add(file, "first", expires=NOW, services=services)
    add(file, "second@host_1.x-y")
    first, second = tokenfile.read(file)
    assert (first.name, first.grant.services, first.expires) == ("first", services, NOW)
    assert (second.name, second.grant.services, second.expires) == ("second@host_1.x-y", ("*",), None)
    assert tomllib.loads(file.read_text())["tokens"][0]["expires"] == NOW


def test_a_new_file_is_for_its_owner_alone_and_nothing_else_is_left(file: Path) -> None:
    before = os.umask(0)
    try:
        add(file.parent / "deep" / "er" / "tokens.toml")
    finally:
        os.umask(before)
    made = file.parent / "deep" / "er" / "tokens.toml"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert [path.name for path in made.parent.iterdir()] == ["tokens.toml"]


def test_an_edit_that_fails_changes_nothing(file: Path) -> None:
    add(file)
    before = file.read_bytes()
    with pytest.raises(ZeroDivisionError), tokenfile.editing(file):
        raise ZeroDivisionError
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["tokens.toml"]


def test_a_link_stays_a_link(file: Path) -> None:
    real = file.with_name("real.toml")
    add(real)
    file.symlink_to(real)
    add(file, "second")
    assert file.is_symlink()
    assert len(tokenfile.read(real)) == 2


def test_an_unsafe_file_is_not_edited_either(file: Path) -> None:
    add(file)
    file.chmod(0o644)
    with pytest.raises(TokenFileError, match="chmod 600"):
        add(file, "second")


def test_two_that_edit_at_once_come_one_after_the_other(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gitopper_plugins import tokenfile as t;"
        "from libgitopper import Grant, Role\n"
        "for n in range(10):\n"
        "  with t.editing(Path(sys.argv[1])) as tokens:\n"
        "    tokens.append(t.Token(name=f'{sys.argv[2]}{n}', sha256='0'*64, grant=Grant(role=Role.READ)))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(file), name]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(tokenfile.read(file)) == 30


def test_where_tokens_are_when_nobody_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert tokenfile.default_file() == Path("/etc/gitopper/tokens.toml")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert tokenfile.default_file() == tmp_path / ".config/gitopper/tokens.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert tokenfile.default_file() == Path("/xdg/gitopper/tokens.toml")
