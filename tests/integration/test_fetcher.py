"""The process that fetches: it fetches all that we could, and says what is wrong."""

from __future__ import annotations

import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import indexing
from libgitopper import AuthError, Credentials, Limits, SourceError
from tests.support import rawpack as raw
from tests.support.fetching import ACCOUNT, Client, client, follow
from tests.support.gitserver import (
    HttpServer,
    SshServer,
    git_daemon,
    http_server,
    make_certificate,
    ssh_server,
)
from tests.support.upstream import Upstream, git, import_history

__all__ = ["client"]  # fixtures

pytestmark = pytest.mark.root


def test_http_on_one_connection_with_one_request_for_a_poll(
    client: Client, upstream: Upstream, server: HttpServer
) -> None:
    follow(client, upstream, server.url())
    server.requests.clear()
    for _ in range(3):
        assert not client.fetch(server.url()).moved
    assert server.requests == ["POST /fleet.git/git-upload-pack"] * 3
    assert server.connections == 1
    assert len(client.pids()) == 1


def test_https_with_a_certificate_of_the_environment(
    client: Client, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as public:  # where that account can read it
        public.write((tmp_path / "cert").read_bytes())
        public.flush()
        Path(public.name).chmod(0o644)
        monkeypatch.setenv("SSL_CERT_FILE", public.name)
        with http_server(upstream.path.parent, certificate=certificate) as server:
            follow(client, upstream, server.url())


def test_https_with_a_certificate_that_nobody_vouches_for(
    client: Client, upstream: Upstream, tmp_path: Path
) -> None:
    with (
        http_server(upstream.path.parent, certificate=make_certificate(tmp_path)) as server,
        pytest.raises(SourceError, match="certificate verify failed"),
    ):
        client.fetch(server.url())


def test_git_daemon(client: Client, upstream: Upstream) -> None:
    with git_daemon(upstream.path.parent) as port:
        follow(client, upstream, f"git://127.0.0.1:{port}/fleet.git")


def test_repository_of_this_host_that_the_account_can_not_read(client: Client, upstream: Upstream) -> None:
    upstream.path.chmod(0o700)
    follow(client, upstream, f"file://{upstream.path}")
    assert client.pids()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    with ssh_server(tmp_path / "ssh") as server:
        yield server


def test_ssh_with_a_key_that_only_root_can_read_and_roots_known_hosts(
    client: Client, upstream: Upstream, ssh: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "known_hosts").write_text((tmp_path / "ssh" / "known_hosts").read_text())
    root = pwd.getpwuid(0)
    entry = pwd.struct_passwd((*root[:5], str(home), root[6]))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    client.credentials = Credentials(ssh_key=ssh.key)
    follow(client, upstream, ssh.url(upstream.path))
    (pid,) = client.pids()
    # Nothing of the key stays when the session is over.
    assert not subprocess.check_output(["nsenter", f"--mount=/proc/{pid}/ns/mnt", "ls", "-A", "/tmp"])
    client.credentials = Credentials(ssh_key=ssh.other_key)
    with pytest.raises(AuthError, match="ssh_key"):
        client.fetch(ssh.url(upstream.path))


def test_ssh_to_a_host_that_is_not_known(
    client: Client, upstream: Upstream, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -o UserKnownHostsFile=/dev/null")
    client.credentials = Credentials(ssh_key=ssh.key)
    with pytest.raises(AuthError, match="ssh_known_hosts"):
        client.fetch(ssh.url(upstream.path))


def test_credentials_that_only_root_can_read(
    client: Client, upstream: Upstream, server: HttpServer, tmp_path: Path
) -> None:
    server.credentials = "me:secret"
    file = tmp_path / "token"
    file.write_text("me:secret\n")
    file.chmod(0o600)
    client.credentials = Credentials(file=file)
    follow(client, upstream, server.url())
    file.write_text("me:wrong\n")
    with pytest.raises(AuthError, match="401"):
        client.fetch(server.url())


def test_large_first_clone(client: Client, upstream: Upstream, server: HttpServer) -> None:
    import_history(upstream, 3000, files=300)
    upstream.commit({"web/index": "1"})
    follow(client, upstream, server.url())
    assert len(client.pids()) == 1  # the one that indexed it is gone


@pytest.mark.parametrize("git_is_there", [True, False])
def test_pack_that_takes_too_much_memory_to_index(
    client: Client, monkeypatch: pytest.MonkeyPatch, git_is_there: bool, tmp_path: Path
) -> None:
    if not git_is_there:
        monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(indexing, "INDEX_MEMORY_BYTES", 60 << 20)
    reader = client.plugin.fetchers.reader(ACCOUNT, "http://x/y", None)  # type: ignore[arg-type]
    pack = tmp_path / "incoming.pack"
    pack.write_bytes(raw.bomb(400_000_000))
    with pytest.raises(Exception, match="60 MiB of memory are not enough for it"):
        reader.index(pack, Limits(file_bytes=1024), 60.0)
    pack.write_bytes(raw.build([raw.whole(3, b"one")]))
    reader.index(pack, Limits(), 60.0)
    git(tmp_path, "verify-pack", str(pack.with_suffix(".idx")))


def test_garbage_slowness_and_size_are_told_as_ever(
    client: Client, upstream: Upstream, server: HttpServer
) -> None:
    server.page = b"<html>"
    with pytest.raises(SourceError, match="no git repository over smart http"):
        client.fetch(server.url())
    server.page = None
    server.truncate = 50
    with pytest.raises(SourceError, match=r"cut short|ended before|ends in the middle"):
        client.fetch(server.url())
    server.truncate = None
    server.drip = True
    with pytest.raises(SourceError, match="no complete answer within 1 s"):
        client.fetch(server.url(), seconds=1)
    server.drip = False
    with pytest.raises(SourceError, match="more than 10 bytes at a time"):
        client.fetch(server.url(), limits=Limits(fetch_bytes=10))
    with pytest.raises(SourceError, match="404"):
        client.fetch(server.url("absent"))
    with pytest.raises(SourceError, match="Connection refused"):
        client.fetch("http://127.0.0.1:1/x.git")
    assert client.read(server.url(), client.fetch(server.url())) == "1"


def test_account_that_is_not_there_is_told_with_what_to_do(client: Client, server: HttpServer) -> None:
    client.account = "no-such-account"
    with pytest.raises(SourceError, match=r"no-such-account: there is no such account.*`fetch_user`"):
        client.fetch(server.url())


def test_root_means_this_very_process(client: Client, server: HttpServer) -> None:
    client.account = "root"
    client.fetch(server.url())
    assert client.pids() == []
