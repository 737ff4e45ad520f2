"""Values one by one: round trips, and agreement with git itself."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libgitopper.config import format_duration, parse_duration, values
from libgitopper.config.names import branch
from libgitopper.config.problems import BadValueError
from libgitopper.config.upstreams import upstream
from libgitopper.config.values import link


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1s500ms", 1.5), ("2h1ms", 7200.001)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "+5s", "1.5h", "5S", "5s ", "5s\n", "1m1h", "1s1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_what_is_no_duration_is_not_written(seconds: float) -> None:
    with pytest.raises(ValueError, match="no duration"):
        format_duration(seconds)


def accepted(name: str) -> bool:
    try:
        return branch(name) == name
    except BadValueError:
        return False


def git_accepts(name: str) -> bool:
    argv = ["git", "check-ref-format", f"refs/heads/{name}"]
    return subprocess.run(argv, check=False).returncode == 0


GIT_TRIES = [
    "main",
    "a/b",
    "a..b",
    ".a",
    "a/.b",
    "a.lock",
    "a.lock/b",
    "a.",
    "a./b",
    "a//b",
    "/a",
    "a/",
    "a@{b",
]
GIT_TRIES += [
    "a@b",
    "a~",
    "a^",
    "a:",
    "a?",
    "a*",
    "a[",
    "a]",
    "a\\",
    "a b",
    "ä",
    "a\x7f",
    "",
    "{",
    "a,b",
    "a-",
]


@pytest.mark.parametrize("name", GIT_TRIES)
def test_a_branch_is_what_git_takes_for_one(name: str) -> None:
    assert accepted(name) == git_accepts(name)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab/.@{-lock~", min_size=1, max_size=8))
def test_no_branch_is_accepted_that_git_refuses(name: str) -> None:
    if accepted(name):
        assert git_accepts(name)


@pytest.mark.parametrize("name", ["-a", "@", "HEAD", "refs/heads/main", "a\u202eb"])
def test_names_that_git_would_misread_are_refused(name: str) -> None:
    assert not accepted(name)


@pytest.mark.parametrize(
    ("text", "url", "userinfo"),
    [
        ("https://git.example.net/a.git", "https://git.example.net/a.git", None),
        ("HTTPS://Git.Example.net:443/A.git/", "https://git.example.net/A.git", None),
        ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a", None),
        ("http://[::1]:8080/a", "http://[::1]:8080/a", None),
        ("https://token@h/a", "https://h/a", "token"),
        ("https://ann:p@ss:w@h/a", "https://h/a", "ann:p%40ss%3Aw"),
        ("https://ann:p%40ss@h/a", "https://h/a", "ann:p%40ss"),
        ("https://ann:%ff%2f@h/a%40b", "https://h/a%40b", "ann:%FF%2F"),
        ("https://:secret@h/a", "https://h/a", ":secret"),
        ("ssh://git@h:22/a", "ssh://git@h/a", None),
        ("ssh://h:2222/~/a", "ssh://h:2222/~/a", None),
        ("git://h/a", "git://h/a", None),
        ("git@h:a/b.git", "git@h:a/b.git", None),
        ("git@h:/srv/b.git", "git@h:/srv/b.git", None),
        ("file:///srv/a.git/", "file:///srv/a.git", None),
        ("file://localhost/srv/a.git", "file:///srv/a.git", None),
        ("/srv//a.git/", "/srv/a.git", None),
    ],
)
def test_an_upstream_is_written_in_one_way_and_without_secrets(
    text: str, url: str, userinfo: str | None
) -> None:
    found = upstream(text)
    assert (found.url, found.userinfo) == (url, userinfo)
    assert userinfo is None or userinfo not in repr(found)


@given(st.text(max_size=40))
def test_an_upstream_that_is_accepted_stays_as_it_is(text: str) -> None:
    try:
        found = upstream(text)
    except BadValueError:
        return
    assert upstream(found.url).url == found.url
    assert found.url.isprintable()


@given(st.text(alphabet="ab./ g", max_size=12))
def test_a_link_that_is_accepted_stays_in_the_repository(text: str) -> None:
    try:
        path = link(text)
    except BadValueError:
        return
    assert link(path) == path
    assert not {"", ".", "..", ".git"} & set(path.split("/"))


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1KiB", 1024), ("100MiB", 100 << 20), ("2GiB", 2 << 30), ("1TiB", 1 << 40), ("064KiB", 65536)],
)
def test_a_size_is_read_in_bytes(text: str, bytes_: int) -> None:
    assert values.size("1KiB", "1TiB")(text) == bytes_


@pytest.mark.parametrize(
    "value",
    [
        "", "100", "100 MiB", "100mib", "100MB", "100M", "-1MiB", "1.5GiB", "1_0MiB", "MiB", "1PiB",
        "1MiB\n", "\u0661MiB", "9999999999KiB", True, None, [], {},
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(BadValueError, match=r'write "100MiB" or "2GiB"$'):
        values.size("1KiB", "1TiB")(value)


@pytest.mark.parametrize("value", [100, 1.5])
def test_a_size_without_a_unit_is_told_apart(value: float) -> None:
    with pytest.raises(BadValueError, match=r'has no unit; write "100MiB" or "2GiB", with quotes$'):
        values.size("1KiB", "1TiB")(value)


@pytest.mark.parametrize(("value", "much"), [("1KiB", "little"), ("2GiB", "much"), ("0MiB", "little")])
def test_a_size_beyond_its_bounds_is_refused(value: str, much: str) -> None:
    with pytest.raises(BadValueError, match=f'is too {much}; write "1MiB" to "1GiB"$'):
        values.size("1MiB", "1GiB")(value)
