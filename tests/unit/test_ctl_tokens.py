"""When gitopperctl uses TLS, where it sends a token, and what can be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.ctl.errors import AskError
from gitopperd.ctl.hosts import Ssh, parse_host
from gitopperd.ctl.places import Port, Target, Through, Tls
from gitopperd.ctl.private import check_private, read_token, token_in
from gitopperd.ctl.settings import Settings, Token
from tests.support.ctlsettings import SECRET, no_settings, written

__all__ = ["no_settings"]  # fixtures


def place(host: str, **settings: Any) -> Port:
    [*_, found] = Target(host=parse_host(host), settings=Settings(**settings)).places
    assert isinstance(found, Port)
    return found


TOKEN = Token(text=SECRET, origin="here")


@pytest.mark.parametrize(
    ("host", "settings", "secure"),
    [
        ("@web1", {}, False),
        ("@web1", {"ca": "/ca"}, True),
        ("@web1", {"token": TOKEN}, True),
        ("@web1", {"certificate": "/c"}, True),
        ("@web1", {"tls": True}, True),
        ("@web1", {"tls": False, "ca": "/ca"}, False),
        ("@https://web1", {"tls": False}, True),
        ("@http://web1", {"tls": True, "ca": "/ca"}, False),
        ("@localhost", {"ca": "/ca", "token": TOKEN}, False),
        ("@localhost", {"tls": True}, True),
        ("@127.0.0.2:8000", {"token": TOKEN}, False),
        ("@[::1]:8000", {"token": TOKEN}, False),
        ("@https://localhost", {}, True),
    ],
)
def test_when_tls_is_used(host: str, settings: dict[str, object], *, secure: bool) -> None:
    assert (place(host, **settings).tls is not None) is secure


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("@http://web1", {}),
        ("@web1", {"tls": False}),
        ("@localhost.example.net", {"tls": False}),
        ("@http://128.0.0.1", {}),
    ],
)
def test_a_token_is_not_sent_over_plain_http(host: str, settings: dict[str, object]) -> None:
    with pytest.raises(AskError, match="the token of here is not sent over plain http") as caught:
        place(host, token=TOKEN, **settings)
    assert caught.value.code == "credentials"
    assert SECRET not in str(caught.value)


def test_a_place_has_what_the_settings_say() -> None:
    found = place("@web1", port=8443, ca="/ca", certificate="/c", key="/k", token=TOKEN)
    tls = Tls(ca="/ca", certificate="/c", key="/k")
    assert found == Port(name="web1", port=8443, known_as="web1", tls=tls, token=TOKEN)
    assert place("@web1:9", port=8443).port == 9
    assert place("@localhost", tls=True).known_as == "localhost"
    target = Target(host=parse_host("@ssh://web1"), settings=Settings(socket="/s", token=TOKEN, ca="/ca"))
    ssh = parse_host("@ssh://web1").address
    assert isinstance(ssh, Ssh)
    assert target.places == (Through(ssh=ssh, socket="/s"),)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_tokens_and_keys_that_others_may_use_are_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "t", SECRET, mode)
    for use in (read_token, check_private):
        with pytest.raises(AskError, match=f"others may read it; chmod 600 {path}"):
            use(path)


def test_a_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    assert read_token(written(tmp_path / "t", f" {SECRET}\r\nmore\n", 0o400)) == SECRET


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no token in"),
        ("\n\n", "no token in"),
        ("two words", "is no token"),
        ("tökén", "is no token"),
        ("a\x1bb", "is no token"),
    ],
)
def test_what_can_not_be_a_token_is_refused_without_showing_it(
    tmp_path: Path, text: str, says: str
) -> None:
    path = written(tmp_path / "t", text)
    with pytest.raises(AskError, match=says) as caught:
        read_token(path)
    assert not text.strip() or text not in str(caught.value)
    with pytest.raises(AskError, match="can't read the token in /no/such: No such file"):
        read_token("/no/such")


@given(st.text())
def test_whatever_is_taken_for_a_token_fits_into_a_header(text: str) -> None:
    try:
        token = token_in(text, "x")
    except AskError:
        return
    assert token
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token
