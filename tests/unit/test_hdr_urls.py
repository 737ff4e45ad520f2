"""From the URL of a remote to the page of a file."""

from __future__ import annotations

import pytest

from gitopperd.hdr.comments import comment, delimiters
from gitopperd.hdr.errors import HeaderError
from gitopperd.hdr.forges import FORGES, file_url, forge_of, web_address


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/miekg/gitopper", "https://github.com/miekg/gitopper"),
        ("https://github.com/miekg/gitopper.git", "https://github.com/miekg/gitopper"),
        ("https://github.com/miekg/gitopper.git/", "https://github.com/miekg/gitopper"),
        ("https://me:s3cr3t@git.example.net:8443/a/b/c.git", "https://git.example.net:8443/a/b/c"),
        ("http://git.example.net:3000/ops/fleet.git", "http://git.example.net:3000/ops/fleet"),
        ("HTTPS://Git.Example.net/ops/fleet", "https://git.example.net/ops/fleet"),
        ("git@github.com:miekg/gitopper.git", "https://github.com/miekg/gitopper"),
        ("github.com:miekg/gitopper", "https://github.com/miekg/gitopper"),
        ("git@[2001:db8::1]:ops/fleet.git", "https://[2001:db8::1]/ops/fleet"),
        ("[git@git.example.net:2222]:ops/fleet.git", "https://git.example.net/ops/fleet"),
        ("git@git.example.net:/ops/fleet.git", "https://git.example.net/ops/fleet"),
        ("ssh://git@git.example.net:2222/ops/fleet.git", "https://git.example.net/ops/fleet"),
        ("ssh://git@[2001:db8::1]:22/ops/fleet", "https://[2001:db8::1]/ops/fleet"),
        ("git+ssh://git@git.example.net/ops/fleet", "https://git.example.net/ops/fleet"),
        ("git://git.example.net:9418/ops/fleet.git", "https://git.example.net/ops/fleet"),
        ("git@git.sr.ht:~sircmpwn/scdoc", "https://git.sr.ht/~sircmpwn/scdoc"),
        ("ssh://git@ssh.github.com:443/miekg/gitopper.git", "https://github.com/miekg/gitopper"),
        ("ssh://git@altssh.gitlab.com:443/ops/fleet.git", "https://gitlab.com/ops/fleet"),
        ("git@git.example.net:ops/two words.git", "https://git.example.net/ops/two%20words"),
    ],
)
def test_what_git_clones_from_is_found_by_a_browser(remote: str, address: str) -> None:
    assert web_address(remote) == address


@pytest.mark.parametrize(
    "remote",
    [
        "/srv/git/fleet.git",
        "../fleet",
        "fleet.git",
        "./odd:name/fleet",
        "file:///srv/git/fleet.git",
        "https://",
        "https://git.example.net/",
        "https://git.example.net:port/ops/fleet",
        "https://[git.example.net/ops/fleet",
        "ext::helper fleet",
        "git@git.example.net:",
        "",
    ],
)
def test_what_has_no_web_address_is_refused_with_the_remedy(remote: str) -> None:
    with pytest.raises(HeaderError, match="--url"):
        web_address(remote)


def test_a_remote_that_is_refused_is_shown_without_its_password() -> None:
    with pytest.raises(HeaderError) as caught:
        web_address("ftp://me:s3cr3t@git.example.net/ops/fleet")
    assert "s3cr3t" not in str(caught.value)
    assert "ftp://git.example.net/ops/fleet" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "forge"),
    [
        ("https://github.com/a/b", "github"),
        ("https://github.example.net/a/b", "github"),
        ("https://gitlab.com/a/b", "gitlab"),
        ("https://gitlab.science.ru.nl/a/b", "gitlab"),
        ("https://gitea.example.net:3000/a/b", "gitea"),
        ("https://forgejo.example.net/a/b", "gitea"),
        ("https://codeberg.org/a/b", "gitea"),
        ("https://bitbucket.org/a/b", "bitbucket"),
        ("https://git.sr.ht/~a/b", "sourcehut"),
        ("https://git.example.net/github/b", "gitlab"),
    ],
)
def test_the_name_of_the_host_tells_the_kind_of_forge(address: str, forge: str) -> None:
    assert forge_of(address) == forge


@pytest.mark.parametrize(
    ("forge", "url"),
    [
        ("github", "https://h/a/b/blob/main/web/x"),
        ("gitlab", "https://h/a/b/-/blob/main/web/x"),
        ("gitea", "https://h/a/b/src/branch/main/web/x"),
        ("bitbucket", "https://h/a/b/src/main/web/x"),
        ("sourcehut", "https://h/a/b/tree/main/item/web/x"),
    ],
)
def test_each_kind_of_forge_has_its_own_pages(forge: str, url: str) -> None:
    assert file_url("https://h/a/b", forge, "web/x", branch="main", revision="") == url
    assert forge in FORGES


def test_a_commit_takes_the_place_of_a_branch_that_is_not_known() -> None:
    url = file_url("https://h/a/b", "gitea", "web/x", branch=None, revision="ab" * 20)
    assert url == f"https://h/a/b/src/commit/{'ab' * 20}/web/x"


def test_names_are_escaped_as_urls_want_it() -> None:
    url = file_url("https://h/a/b/", "github", "etc/a b#c?%\udcff/ü", branch="feat/x#1", revision="")
    assert url == "https://h/a/b/blob/feat/x%231/etc/a%20b%23c%3F%25%FF/%C3%BC"
    assert "/src/feat%2Fx/" in file_url("https://h/a/b", "bitbucket", "x", branch="feat/x", revision="")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nginx.conf", "# words"),
        ("Makefile", "# words"),
        ("prometheus.yml", "# words"),
        ("app.toml", "# words"),
        ("named.conf", "// words"),
        ("db.zone", "; words"),
        ("init.lua", "-- words"),
        ("style.CSS", "/* words */"),
        ("index.html", "<!-- words -->"),
        ("MAIN.GO", "// words"),
        (".vimrc", '" words'),
    ],
)
def test_the_name_of_a_file_tells_how_its_comments_look(name: str, line: str) -> None:
    assert comment("words", *delimiters(name)) == line


@pytest.mark.parametrize("name", ["dashboard.json", "tls.pem", "hosts.csv"])
def test_files_without_comments_get_no_header_that_would_break_them(name: str) -> None:
    with pytest.raises(HeaderError, match="-p"):
        delimiters(name)


def test_nothing_in_a_url_ends_the_comment_that_it_is_in() -> None:
    url = file_url("https://h/a/b", "github", "x/--y---z/*/q.html", branch="a--b", revision="")
    markup = comment(url, *delimiters("q.html"))
    assert "--" not in markup.removeprefix("<!--").removesuffix("-->")
    assert "*/" not in comment(url, *delimiters("q.css")).removesuffix("*/")
