"""Fetching over http, from a real `git http-backend`: what a poll costs, who may read, what goes wrong."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import AuthError, Credentials, FetchRequest, Limits, SourceError, Store
from tests.support.gitserver import HttpServer, http_server, make_certificate
from tests.support.secrets import secret
from tests.support.upstream import Upstream, git, import_history

SECRET = secret("s3cr3t-and-never-shown")


@pytest.fixture
def plugin() -> Iterator[DulwichPlugin]:
    plugin = DulwichPlugin()
    yield plugin
    plugin.close()


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    return tmp_path / "stores"


def fetch(
    plugin: DulwichPlugin,
    server: HttpServer,
    stores: Path,
    *branches: str,
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    timeout_seconds: float = 30.0,
    offline: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Store:
    store = plugin.gitopper_fetch(
        FetchRequest(
            upstream=server.url(),
            credentials=credentials,
            branches=frozenset(branches or ["main"]),
            stores=stores,
            offline=offline,
            timeout_seconds=timeout_seconds,
            limits=limits,
        )
    )
    assert store is not None
    return store


def snapshot(path: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_size, p.lstat().st_ino)
        for p in (path, *path.rglob("*"))
    }


def test_poll_that_finds_nothing_is_one_request_on_a_kept_connection_and_writes_nothing(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    fetch(plugin, server, stores)
    before = snapshot(stores)
    server.requests.clear()
    for _ in range(5):
        assert not fetch(plugin, server, stores).moved
    assert server.requests == ["POST /fleet.git/git-upload-pack"] * 5
    assert server.connections == 1
    assert snapshot(stores) == before


def test_commit_is_fetched_in_two_requests(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    fetch(plugin, server, stores)
    server.requests.clear()
    tip = upstream.commit({"web/index": "2"})
    assert fetch(plugin, server, stores).tips["main"] == tip
    assert server.requests == ["POST /fleet.git/git-upload-pack"] * 2


def test_connection_that_the_server_closed_meanwhile_is_no_error(
    plugin: DulwichPlugin, upstream: Upstream, stores: Path
) -> None:
    with http_server(upstream.path.parent) as server:
        fetch(plugin, server, stores)
    with http_server(upstream.path.parent, port=server.port) as again:
        assert not fetch(plugin, again, stores).moved
        assert again.requests == ["POST /fleet.git/git-upload-pack"]


def test_server_that_hangs_up_on_a_kept_connection_is_asked_once_more_on_a_new_one(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    fetch(plugin, server, stores)
    server.hang_ups = 1
    assert not fetch(plugin, server, stores).moved
    server.hang_ups = 2
    with pytest.raises(SourceError):
        fetch(plugin, server, stores)
    assert server.hang_ups == 0
    assert not fetch(plugin, server, stores).moved


def test_store_lacks_file_contents_and_stock_git_knows_why(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    store = fetch(plugin, server, stores)
    objects = git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    assert set(objects.split()) == {"commit", "tree"}
    git(store.path, "fsck")
    git(store.path, "gc")
    git(store.path, "fsck")
    assert git(store.path, "cat-file", "blob", "main:web/index") == "1"  # fetched when asked for


def kinds_and_sizes(store: Store) -> list[tuple[str, int]]:
    listed = git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectsize)")
    return [(kind, int(size)) for kind, size in (line.split() for line in listed.splitlines())]


def test_small_files_come_along_with_the_commits_that_change_them(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    fetch(plugin, server, stores)
    upstream.commit({"web/index": "small", "web/large": "x" * 20_000})
    store = fetch(plugin, server, stores)
    assert [size for kind, size in kinds_and_sizes(store) if kind == "blob"] == [len("small")]
    git(store.path, "fsck")


def test_small_files_that_are_too_many_are_left_out_at_the_next_try(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    limits = Limits(fetch_bytes=100_000)
    fetch(plugin, server, stores, limits=limits)
    upstream.commit({f"web/{number}": secrets.token_hex(7000) for number in range(20)})
    with pytest.raises(SourceError, match="more than 100000 bytes"):
        fetch(plugin, server, stores, limits=limits)
    store = fetch(plugin, server, stores, limits=limits)
    assert "blob" not in dict(kinds_and_sizes(store))
    upstream.commit({"web/index": "small"})
    store = fetch(plugin, server, stores, limits=limits)
    assert "blob" in dict(kinds_and_sizes(store)), "they come along again"


def test_server_that_takes_no_other_filter_is_asked_for_no_files_at_all(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    git(upstream.path, "config", "uploadpackfilter.allow", "false")
    git(upstream.path, "config", "uploadpackfilter.blob:none.allow", "true")
    fetch(plugin, server, stores)
    for number, requests in ((2, 5), (3, 2)):  # it is tried once only, and from the greeting on again
        server.requests.clear()
        tip = upstream.commit({"web/index": f"small {number}"})
        store = fetch(plugin, server, stores)
        assert store.tips["main"] == tip
        assert "blob" not in dict(kinds_and_sizes(store))
        assert len(server.requests) == requests


def test_server_without_filters_gives_a_full_clone_and_a_warning(
    plugin: DulwichPlugin,
    server: HttpServer,
    stores: Path,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    git(upstream.path, "config", "uploadpack.allowFilter", "false")
    store = fetch(plugin, server, stores)
    assert "full clone" in caplog.text
    assert "blob" in git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    git(store.path, "gc")
    git(store.path, "fsck")


def test_server_without_protocol_2_is_served_too(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    server.protocol = False
    fetch(plugin, server, stores)
    server.requests.clear()
    assert not fetch(plugin, server, stores).moved
    assert server.requests == ["GET /fleet.git/info/refs?service=git-upload-pack"]
    tip = upstream.commit({"web/index": "2"})
    assert fetch(plugin, server, stores).tips["main"] == tip
    assert git(upstream.path, "rev-list", "--count", "main") == git(
        stores.glob("*.git").__next__(), "rev-list", "--count", "main"
    )


def test_server_that_learns_protocol_2_meanwhile_is_followed(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    server.protocol = False
    fetch(plugin, server, stores)
    server.protocol = True
    fetch(plugin, server, stores)
    assert not fetch(plugin, server, stores).moved
    assert server.requests[-1].startswith("POST")


def test_repository_made_anew_is_followed(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    old = fetch(plugin, server, stores).tips["main"]
    upstream.work.rename(upstream.work.with_name("former-work"))
    upstream.path.rename(upstream.path.with_name("former"))
    upstream.init()
    tip = upstream.commit({"web/index": "anew"}, message="root of another history")
    store = fetch(plugin, server, stores)
    assert store.moved
    assert store.tips["main"] == tip != old
    assert git(store.path, "rev-list", "--count", "main") == "1"
    git(store.path, "fsck")


def test_force_push_deep_in_history_brings_little(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    commits = import_history(upstream, 120)
    store = fetch(plugin, server, stores)
    git(upstream.path, "update-ref", "refs/heads/main", commits[59])
    tip = import_history(upstream, 1)[-1]
    assert fetch(plugin, server, stores).tips["main"] == tip
    newest = max((store.path / "objects" / "pack").glob("*.pack"), key=lambda p: p.stat().st_mtime_ns)
    objects = int.from_bytes(newest.read_bytes()[8:12], "big")
    assert objects < 150  # 5 are new, and what lies between them and a commit that was offered; all are 350


@pytest.mark.parametrize("form", ["url", "file", "token"])
def test_credentials_are_sent(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "credentials"
    server.credentials = f"x-access-token:{SECRET}" if form == "token" else f"deploy:{SECRET}"
    file.write_text(f"{SECRET}\n" if form == "token" else f"deploy:{SECRET}\n")
    given = Credentials(userinfo=f"deploy:{SECRET}") if form == "url" else Credentials(file=file)
    assert fetch(plugin, server, stores, credentials=given).tips


def test_rotated_credentials_are_read_again(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("deploy:one")
    server.credentials = "deploy:one"
    fetch(plugin, server, stores, credentials=Credentials(file=file))
    server.credentials = "deploy:two"
    with pytest.raises(AuthError, match="401"):
        fetch(plugin, server, stores, credentials=Credentials(file=file))
    file.write_text("deploy:two")
    assert fetch(plugin, server, stores, credentials=Credentials(file=file)).tips


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_credentials_file_that_is_no_good_is_named(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_text(content)
    with pytest.raises(AuthError, match=str(file)):
        fetch(plugin, server, stores, credentials=Credentials(file=file))


def test_secrets_are_in_no_error_no_log_no_file_and_no_argv(
    plugin: DulwichPlugin,
    server: HttpServer,
    stores: Path,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    given = Credentials(userinfo=f"deploy:{SECRET}")
    server.credentials = "deploy:other"
    with pytest.raises(AuthError) as refused:
        fetch(plugin, server, stores, credentials=given)
    server.credentials = f"deploy:{SECRET}"
    store = fetch(plugin, server, stores, credentials=given)
    server.truncate = 10
    upstream.commit()
    with pytest.raises(SourceError) as cut:
        fetch(plugin, server, stores, credentials=given)
    shown = [caplog.text, str(refused.value), str(cut.value), repr(store), repr(plugin), repr(given)]
    shown += [p.read_text(errors="replace") for p in stores.rglob("*") if p.is_file()]
    assert not [text for text in shown if SECRET in text]


def test_redirect_is_followed_and_credentials_stay_behind(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    with http_server(upstream.path.parent) as other:
        server.redirect = f"http://127.0.0.1:{other.port}"
        store = fetch(plugin, server, stores, credentials=Credentials(userinfo=f"deploy:{SECRET}"))
        assert store.tips
        assert other.requests
        assert set(other.authorizations) == {None}
        assert server.authorizations[0] is not None


def test_redirect_in_circles_ends(plugin: DulwichPlugin, server: HttpServer, stores: Path) -> None:
    server.redirect = f"http://127.0.0.1:{server.port}"
    with pytest.raises(SourceError, match="redirected more than"):
        fetch(plugin, server, stores)


def test_https_with_a_certificate_that_the_host_trusts(
    plugin: DulwichPlugin,
    upstream: Upstream,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate(tmp_path)
    with http_server(upstream.path.parent, certificate=certificate) as server:
        with pytest.raises(SourceError, match="self-signed certificate"):
            fetch(plugin, server, stores)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch(plugin, server, stores)
        server.requests.clear()
        connections = server.connections
        for _ in range(3):
            assert not fetch(plugin, server, stores).moved
        assert server.requests == ["POST /fleet.git/git-upload-pack"] * 3
        assert server.connections == connections
        server.hang = True
        with pytest.raises(SourceError, match="within 1 s"):
            fetch(plugin, server, stores, timeout_seconds=1.0)


def test_proxy_for_https_is_asked_for_a_tunnel(
    plugin: DulwichPlugin,
    server: HttpServer,
    upstream: Upstream,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    with http_server(upstream.path.parent, certificate=certificate) as hidden:
        assert fetch(plugin, hidden, stores).tips
        assert server.tunnels == [f"127.0.0.1:{hidden.port}"]


def test_proxy_for_http_is_asked_with_its_own_credentials(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://proxy:{SECRET}@127.0.0.1:{server.port}")
    request = FetchRequest(
        upstream="http://git.invalid/fleet.git",  # a name that nobody but the proxy could know
        credentials=Credentials(),
        branches=frozenset({"main"}),
        stores=stores,
    )
    store = plugin.gitopper_fetch(request)
    assert store is not None
    assert store.tips
    assert server.requests[0].startswith("GET http://git.invalid/fleet.git/info/refs")
    assert set(server.authorizations) == {None}


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_server_that_never_finishes_is_given_up_at_the_deadline(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream, fault: str
) -> None:
    tips = fetch(plugin, server, stores).tips
    upstream.commit()
    setattr(server, fault, True)
    started = time.monotonic()
    with pytest.raises(SourceError, match="within 1 s"):
        fetch(plugin, server, stores, timeout_seconds=1.0)
    assert time.monotonic() - started < 5.0
    assert fetch(plugin, server, stores, offline=True).tips == tips
    setattr(server, fault, False)
    assert fetch(plugin, server, stores).moved


@pytest.mark.parametrize("size", [0, 3, 40, 200])
def test_answer_that_is_cut_short_is_an_error_and_leaves_the_store_as_it_was(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream, size: int
) -> None:
    fetch(plugin, server, stores)
    before = snapshot(stores)
    upstream.commit({"web/index": "2" * 4000})
    server.truncate = size
    with pytest.raises(SourceError):
        fetch(plugin, server, stores)
    after = snapshot(stores)
    assert {name for name in after if not Path(name).is_dir()} == {
        name for name in before if not Path(name).is_dir()
    }
    server.truncate = None
    assert fetch(plugin, server, stores).moved


def test_address_of_a_web_page_is_an_error_that_says_so(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    server.page = b"<html>log in first</html>"
    with pytest.raises(SourceError, match=r"no git repository over smart http.*text/html"):
        fetch(plugin, server, stores)


def test_missing_repository_is_an_error_that_shows_the_address(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    upstream.path.rename(upstream.path.with_name("elsewhere"))
    with pytest.raises(SourceError, match=rf"{server.url()}.*404"):
        fetch(plugin, server, stores)


def test_stopped_server_is_an_error_at_once(
    plugin: DulwichPlugin, upstream: Upstream, stores: Path
) -> None:
    with http_server(upstream.path.parent) as server:
        fetch(plugin, server, stores)
    with pytest.raises(SourceError, match="Connection refused"):
        fetch(plugin, server, stores)


def test_file_descriptors_and_packs_stay_few_over_300_fetches_and_git_stays_content(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    commits = import_history(upstream, 300, branch="later", files=7)
    descriptors = []
    for number, commit in enumerate(commits):
        git(upstream.path, "update-ref", "refs/heads/main", commit)
        store = fetch(plugin, server, stores)
        assert store.moved
        if number % 10 == 0:
            descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
    packs = list((store.path / "objects" / "pack").glob("*.pack"))
    assert len(packs) < 20
    assert max(descriptors[15:]) - descriptors[0] < 60
    assert git(store.path, "rev-list", "--count", "main") == str(upstream.count())
    git(store.path, "fsck", "--strict")
    git(store.path, "gc")
    git(store.path, "fsck", "--strict")
    import_history(upstream, 1)
    assert fetch(plugin, server, stores).moved
