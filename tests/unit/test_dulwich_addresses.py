"""Which addresses are taken, where their stores are, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.access import Access, without_userinfo
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.credentials import basic
from gitopper_plugins.dulwich.http import HttpTransport
from gitopper_plugins.dulwich.layout import PAST, read_refs, store_path, write_refs
from gitopper_plugins.dulwich.transport import (
    CommandTransport,
    GitTransport,
    SshAddress,
    _ssh_argv,
    parse_ssh,
)
from gitopper_plugins.dulwich.ways import transport_for
from libgitopper import Credentials

STORES = Path("/stores")


@pytest.mark.parametrize(
    ("upstream", "address"),
    [
        (
            "git@example.net:team/fleet.git",
            SshAddress(host="example.net", path="team/fleet.git", user="git"),
        ),
        ("example.net:fleet", SshAddress(host="example.net", path="fleet")),
        ("[::1]:fleet", SshAddress(host="::1", path="fleet")),
        (
            "ssh://git@example.net:2222/f%20g",
            SshAddress(host="example.net", path="/f g", user="git", port=2222),
        ),
        ("ssh://example.net/~me/fleet", SshAddress(host="example.net", path="~me/fleet")),
        ("https://example.net/fleet", None),
        ("./a:b", None),
        ("fleet", None),
    ],
)
def test_ssh_addresses(upstream: str, address: SshAddress | None) -> None:
    assert parse_ssh(upstream) == address


@pytest.mark.parametrize(
    ("upstream", "kind"),
    [
        ("http://example.net/x", HttpTransport),
        ("https://example.net/x", HttpTransport),
        ("git://example.net/x", GitTransport),
        ("ssh://example.net/x", CommandTransport),
        ("git@example.net:x", CommandTransport),
        ("file:///srv/x", CommandTransport),
        ("/srv/x", CommandTransport),
        ("ftp://example.net/x", type(None)),
        ("file://elsewhere/x", type(None)),
        ("svn+ssh://example.net/x", type(None)),
        ("relative/path", type(None)),
        ("", type(None)),
        ("https:///x", type(None)),
        ("https://[::1/x", type(None)),
        ("https://example.net:port/x", type(None)),
        ("ssh://example.net:port/x", type(None)),
        ("ext::sh -c touch% /tmp/x", type(None)),
    ],
)
def test_addresses_that_are_taken(upstream: str, kind: type) -> None:
    assert type(transport_for(upstream)) is kind


def test_host_that_looks_like_an_option_is_none() -> None:
    argv = _ssh_argv(
        SshAddress(host="-oProxyCommand=evil", path="x; rm -rf /"), Access(), Deadline.after(9)
    )
    assert argv[-3:] == ["--", "-oProxyCommand=evil", "git-upload-pack 'x; rm -rf /'"]


def test_stores_are_readable_and_never_shared() -> None:
    urls = [
        "https://example.net/team/fleet.git",
        "https://example.net/team/fleet",
        "https://example.net/team-fleet",
    ]
    paths = [store_path(STORES, url) for url in urls]
    assert len(set(paths)) == 3
    assert paths[0].name.startswith("example.net-team-fleet-")
    assert all(path.parent == STORES and path.name.endswith(".git") for path in paths)


@pytest.mark.parametrize(
    "url", ["file:///", "https://x/..", "https://x/" + "y" * 3000, "/", "https://x/\u00fc\n"]
)
def test_store_of_an_odd_address_is_one_directory_below_stores(url: str) -> None:
    path = store_path(STORES, url)
    assert path.parent == STORES
    assert not path.name.startswith((".", "-"))
    assert len(path.name) < 100


def test_credentials_of_an_address_do_not_change_its_store() -> None:
    assert store_path(STORES, "https://u:p@example.net/x") == store_path(STORES, "https://example.net/x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@example.net/x", "https://example.net/x"),
        ("https://user:sec@ret@example.net/x", "https://example.net/x"),
        ("https://example.net/x@y", "https://example.net/x@y"),
        ("ssh://git@example.net/x", "ssh://git@example.net/x"),
    ],
)
def test_addresses_are_shown_without_credentials(url: str, shown: str) -> None:
    assert without_userinfo(url) == shown


def test_percent_encoded_credentials_are_decoded() -> None:
    import base64

    header = basic(Credentials(userinfo="us%40er:p%3Aw"))
    assert header
    assert base64.b64decode(header.removeprefix("Basic ")) == b"us@er:p:w"


def test_refs_are_read_as_they_were_written(tmp_path: Path) -> None:
    a, b, c = (ObjectID(letter * 40) for letter in (b"a", b"b", b"c"))
    refs = {"main": a, "feature/\u00fc": b, "a": c}
    assert read_refs(tmp_path) is None
    write_refs(tmp_path, refs, {"gone": b})
    assert read_refs(tmp_path) == refs
    assert read_refs(tmp_path, PAST) == {"gone": b}
