"""Fetching over ssh, git:// and from this host's own file system, from the real servers."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import (
    AuthError,
    CheckoutRequest,
    Credentials,
    FetchRequest,
    Mapping,
    Release,
    Service,
    Source,
    SourceError,
    Store,
)
from tests.support.gitserver import SshServer, git_daemon, ssh_server
from tests.support.upstream import Upstream, git, import_history


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh") / "files") as server:
        yield server


@pytest.fixture
def plugin() -> Iterator[DulwichPlugin]:
    plugin = DulwichPlugin()
    yield plugin
    plugin.close()


class Client:
    """A plugin with its directories, and one upstream to reach by `url`."""

    def __init__(self, plugin: DulwichPlugin, root: Path) -> None:
        self.plugin = plugin
        self.root = root

    def fetch(self, url: str, key: Path | None = None, timeout_seconds: float = 30.0) -> Store:
        store = self.plugin.gitopper_fetch(
            FetchRequest(
                upstream=url,
                credentials=Credentials(ssh_key=key),
                branches=frozenset({"main"}),
                stores=self.root / "stores",
                timeout_seconds=timeout_seconds,
            )
        )
        assert store is not None
        return store

    def checkout(self, url: str, store: Store, key: Path | None = None) -> Release:
        service = Service(
            name="web",
            source=Source(upstream=url, branch="main", credentials=Credentials(ssh_key=key)),
            mappings=(Mapping(link="web", local=Path("/nowhere")),),
            mount=self.root / "mount",
        )
        content = store.content(store.tips["main"], service)
        request = CheckoutRequest(service=service, store=store, content=content)
        release = self.plugin.gitopper_checkout(request)
        assert release is not None
        return release


@pytest.fixture
def client(plugin: DulwichPlugin, tmp_path: Path) -> Client:
    return Client(plugin, tmp_path)


def follow_upstream(client: Client, upstream: Upstream, url: str, key: Path | None = None) -> None:
    """Fetch, check out, poll, and fetch again; the same for every transport."""
    store = client.fetch(url, key)
    assert (client.checkout(url, store, key).path / "web/index").read_text() == "1"
    assert not client.fetch(url, key).moved
    upstream.commit({"web/index": "2"})
    store = client.fetch(url, key)
    assert store.moved
    release = client.checkout(url, store, key)
    assert (release.path / "web/index").read_text() == "2"
    assert git(release.path, "status", "--porcelain") == ""
    git(store.path, "fsck")


def test_git_daemon(client: Client, upstream: Upstream) -> None:
    with git_daemon(upstream.path.parent) as port:
        follow_upstream(client, upstream, f"git://127.0.0.1:{port}/fleet.git")


def test_file_url(client: Client, upstream: Upstream) -> None:
    follow_upstream(client, upstream, f"file://{upstream.path}")


@pytest.mark.root
def test_repository_of_somebody_else_is_read_once_git_was_told_to(
    client: Client, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By root's own settings, as git says; also where there is no HOME, as in a unit of systemd's."""
    home = tmp_path / "home"
    home.mkdir()
    entry = pwd.struct_passwd(("root", "x", 0, 0, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    os.chown(upstream.path, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(SourceError, match="config --global --add safe"):
        client.fetch(upstream.url)
    (home / ".gitconfig").write_text(f"[safe]\n\tdirectory = {upstream.path}\n")
    assert client.fetch(upstream.url).moved


def test_absolute_path(client: Client, upstream: Upstream) -> None:
    follow_upstream(client, upstream, str(upstream.path))


def test_file_url_without_git_installed(
    client: Client, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_history(upstream, 40, files=30)
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nonexistent")
        store = client.fetch(upstream.url)
        release = client.checkout(upstream.url, store)
        assert not client.fetch(upstream.url).moved
    assert git(release.path, "status", "--porcelain") == ""
    git(store.path, "fsck")


def test_ssh_with_a_key(
    client: Client, upstream: Upstream, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command)
    follow_upstream(client, upstream, ssh.url(upstream.path), ssh.key)


def test_ssh_to_a_server_that_ignores_the_wish_for_protocol_2(
    client: Client, upstream: Upstream, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{ssh.command} -o SendEnv=-GIT_PROTOCOL")
    git(upstream.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    follow_upstream(client, upstream, ssh.url(upstream.path), ssh.key)


def test_ssh_with_a_key_that_the_server_does_not_know(
    client: Client, upstream: Upstream, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command)
    with pytest.raises(AuthError, match="ssh_key"):
        client.fetch(ssh.url(upstream.path), ssh.other_key)


def test_ssh_to_a_host_that_is_not_known(
    client: Client, upstream: Upstream, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{ssh.command} -o UserKnownHostsFile=/dev/null")
    with pytest.raises(AuthError, match="ssh_known_hosts"):
        client.fetch(ssh.url(upstream.path), ssh.key)


def test_ssh_key_that_can_not_be_read_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(AuthError, match=str(tmp_path / "absent")):
        client.fetch("git@127.0.0.1:fleet.git", tmp_path / "absent")


@pytest.mark.parametrize("scheme", ["git", "http", "ssh"])
def test_server_that_accepts_and_never_answers(client: Client, scheme: str) -> None:
    with silent_server() as port:
        started = time.monotonic()
        with pytest.raises(SourceError, match="within 1 s"):
            client.fetch(f"{scheme}://127.0.0.1:{port}/fleet.git", timeout_seconds=1.0)
        assert time.monotonic() - started < 3.5


def test_missing_repository_says_what_git_said(client: Client, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not appear to be a git repository"):
        client.fetch(f"file://{tmp_path}/absent.git")


def test_reader_does_not_wait_for_a_fetch_that_hangs(
    client: Client, upstream: Upstream, plugin: DulwichPlugin
) -> None:
    with git_daemon(upstream.path.parent) as port:
        url = f"git://127.0.0.1:{port}/fleet.git"
        store = client.fetch(url)
        release = client.checkout(url, store)
    with silent_server(port):
        fetching = threading.Thread(target=lambda: _expect_failure(client, url))
        fetching.start()
        time.sleep(0.3)
        started = time.monotonic()
        assert client.checkout(url, store) == release
        assert store.resolve(store.tips["main"][:8], "main") == store.tips["main"]
        assert time.monotonic() - started < 4.0
        assert fetching.is_alive()
        fetching.join()


def test_fetches_of_many_threads_into_one_store_all_succeed(client: Client, upstream: Upstream) -> None:
    tips = []

    def fetch() -> None:
        for _ in range(3):
            tips.append(client.fetch(upstream.url).tips["main"])  # noqa: PERF401 - one by one

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tips) == 12
    assert set(tips) == {git(upstream.path, "rev-parse", "main")}


def _expect_failure(client: Client, url: str) -> None:
    with pytest.raises(SourceError):
        client.fetch(url, timeout_seconds=3.0)


@contextlib.contextmanager
def silent_server(port: int = 0) -> Iterator[int]:
    """A server that accepts connections, and never says a word."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield listener.getsockname()[1]
