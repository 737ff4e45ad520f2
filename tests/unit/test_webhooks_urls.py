"""All the URLs of one repository have one name, and those of two have two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.api.repositories import repository


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.net/ops/fleet.git",
        "https://git.example.net/ops/fleet",
        "https://git.example.net/ops/fleet/",
        "https://git.example.net/ops/fleet.git/",
        "https://GIT.example.net/Ops/Fleet.git",
        "https://user:pass@git.example.net:8443/ops/fleet.git",
        "http://git.example.net/ops/fleet.git",
        "git://git.example.net/ops/fleet.git",
        "ssh://git@git.example.net/ops/fleet.git",
        "ssh://git@git.example.net:2222/ops/fleet.git",
        "git@git.example.net:ops/fleet.git",
        "git@git.example.net:/ops/fleet.git",
        "git.example.net:ops/fleet",
        "https://git.example.net/ops/fl%65et.git",
    ],
)
def test_every_url_of_a_repository_has_its_name(url: str) -> None:
    assert repository(url) == "git.example.net/ops/fleet"


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.org/ops/fleet.git",
        "https://git.example.net/ops/fleet2.git",
        "https://git.example.net/ops/fleet/more",
        "https://git.example.net/fleet.git",
        "git@git.example.net:ops/fleet.git.git",
        "/git.example.net/ops/fleet.git",
        "file:///ops/fleet.git",
    ],
)
def test_another_repository_has_another_name(url: str) -> None:
    assert repository(url) not in ("git.example.net/ops/fleet", None)


def test_a_repository_on_this_host_is_its_path() -> None:
    assert repository("/srv/git/fleet.git") == "/srv/git/fleet"
    assert repository("file:///srv/git/fleet.git") == "/srv/git/fleet"
    assert repository("file://localhost/srv/git/fleet") == "/srv/git/fleet"


def test_an_ipv6_host_is_read_in_both_forms() -> None:
    assert repository("http://[::1]:3000/ops/fleet") == "::1/ops/fleet"
    assert repository("git@[::1]:ops/fleet.git") == "::1/ops/fleet"


@pytest.mark.parametrize(
    "text", ["", "fleet", "https://", "https:///ops/fleet", "http://[::1/x", "https://host/"]
)
def test_what_names_no_repository_has_no_name(text: str) -> None:
    assert repository(text) is None


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    assert repository(text) != ""
