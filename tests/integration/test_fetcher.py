"""The process that fetches: it fetches all that we could, and can do nothing else."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field

from gitopper_plugins.dulwich import DulwichPlugin, fetcher, indexing, readers
from libgitopper import (
    AuthError,
    CheckoutRequest,
    Credentials,
    FetchRequest,
    Limits,
    Mapping,
    Service,
    Source,
    SourceError,
    Store,
)
from tests.support import rawpack as raw
from tests.support.gitserver import (
    HttpServer,
    SshServer,
    git_daemon,
    http_server,
    make_certificate,
    ssh_server,
)
from tests.support.upstream import Upstream, git, import_history

pytestmark = pytest.mark.root

ACCOUNT = "nobody"


@define
class Client:
    """A plugin that fetches as another account."""

    plugin: DulwichPlugin
    root: Path
    credentials: Credentials = field(factory=Credentials)
    account: str = ACCOUNT

    def fetch(self, url: str, *, seconds: float = 30.0, limits: Limits = Limits()) -> Store:  # noqa: B008
        request = FetchRequest(
            upstream=url, credentials=self.credentials, branches=frozenset({"main"}),
            stores=self.root / "stores", timeout_seconds=seconds, limits=limits, fetch_user=self.account,
        )  # fmt: skip
        store = self.plugin.gitopper_fetch(request)
        assert store is not None
        return store

    def read(self, url: str, store: Store) -> str:
        """Check out, and return what is in ``web/index``."""
        service = Service(
            name="web",
            source=Source(
                upstream=url, branch="main", credentials=self.credentials, fetch_user=self.account
            ),
            mappings=(Mapping(link="web", local=Path("/nowhere")),),
            mount=self.root / "mount",
        )
        content = store.content(store.tips["main"], service)
        request = CheckoutRequest(service=service, store=store, content=content)
        release = self.plugin.gitopper_checkout(request)
        assert release is not None
        assert git(release.path, "status", "--porcelain") == ""
        return (release.path / "web/index").read_text()

    def pids(self) -> list[int]:
        """The processes that fetch for it."""
        found = self.plugin.fetchers._fetchers.values()
        return [one.pid for one in found if one.pid is not None]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    plugin = DulwichPlugin()
    client = Client(plugin, tmp_path)
    yield client
    pids = client.pids()
    plugin.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not children_that_fetch(os.getpid())


def children_that_fetch(pid: int) -> list[int]:
    """The processes below `pid` that are fetchers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"unprivileged" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


def follow(client: Client, upstream: Upstream, url: str) -> None:
    """Fetch, check out, poll, and fetch again; the same for every transport."""
    store = client.fetch(url)
    assert client.read(url, store) == "1"
    assert not client.fetch(url).moved
    upstream.commit({"web/index": "2"})
    store = client.fetch(url)
    assert store.moved
    assert client.read(url, store) == "2"
    git(store.path, "fsck")


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


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
    monkeypatch.setattr(readers.pwd, "getpwuid", lambda _: entry)
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


def opened_by(pid: int) -> list[str]:
    names = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            names.append(str(path.readlink()))
    return names


def test_it_has_no_rights(client: Client, server: HttpServer) -> None:
    client.fetch(server.url())
    (pid,) = client.pids()
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    account = pwd.getpwnam(ACCOUNT)
    assert status["Uid"].split() == [str(account.pw_uid)] * 4
    assert status["Gid"].split() == [str(account.pw_gid)] * 4
    assert status["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert Path(f"/proc/{pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    assert ACCOUNT.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    # Nothing of ours is open there: its own standard streams, the way to us, and the upstream.
    # The pack that it was handed is closed once it has heard that we are done with it.
    until(lambda: all(name.startswith(("socket:", "/memfd:said", "/dev/null")) for name in opened_by(pid)))


def test_it_has_nothing_of_our_environment_that_it_does_not_need(
    client: Client, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITOPPER_UPSTREAM", "https://u:secret@example.net/x")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    client.fetch(server.url())
    (pid,) = client.pids()
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"no_proxy=127.0.0.1" in environment


def test_it_takes_little_memory(client: Client, upstream: Upstream, server: HttpServer) -> None:
    follow(client, upstream, server.url())
    (pid,) = client.pids()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    assert sizes["Private_Dirty:"] < 20_000


TRIES = """
import ctypes, os, socket, sys
from gitopper_plugins.dulwich import sandbox
account, store, secret, mine = sys.argv[1:]
assert sandbox.enter(account, sandbox.Bounds(memory_bytes=1 << 28)) == []
libc = ctypes.CDLL(None, use_errno=True)
def refused(what, do):
    try:
        done = do()
    except OSError as exc:
        return
    assert done == -1, what
for place in ("/", store, "/etc", "/var/tmp", "/dev/shm", "/run", os.path.dirname(mine)):
    refused(place, lambda: os.open(os.path.join(place, "made"), os.O_WRONLY | os.O_CREAT))
refused("a file of its own", lambda: os.open(mine, os.O_WRONLY))
refused("a secret", lambda: os.open(secret, os.O_RDONLY))
refused("root again", lambda: os.setuid(0))
refused("ptrace", lambda: libc.ptrace(0, 0, 0, 0))
refused("unshare", lambda: libc.unshare(0x10000000))
refused("mount", lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
refused("a signal for root", lambda: os.kill(os.getppid(), 0))
refused("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno())
refused("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).fileno())
refused("io_uring", lambda: libc.syscall(425, 1, 0))
refused("keyctl", lambda: libc.syscall({"x86_64": 250}.get(os.uname().machine, 219), 0, -3, 0))
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    socket.socket(family).close()
with open("/tmp/here", "w") as file:
    file.write("and gone with the process")
if os.fork() == 0:
    os._exit(0)
assert os.wait()[1] == 0
print("as it should be")
"""


def test_it_can_write_nowhere_and_ask_the_kernel_for_little(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as public:
        account = pwd.getpwnam(ACCOUNT)
        mine = Path(public) / "mine"
        mine.write_text("x")
        for path in (Path(public), mine):
            os.chown(path, account.pw_uid, account.pw_gid)
        done = subprocess.run(
            [sys.executable, "-c", TRIES, ACCOUNT, str(tmp_path), str(secret), str(mine)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "as it should be\n"), done.stderr
    assert not Path("/tmp/here").exists()


def ended(pid: int) -> bool:
    """Tell whether all its threads have ended, and only its parent has yet to hear of it."""
    return (
        len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
        and ") Z" in Path(f"/proc/{pid}/stat").read_text()
    )


def test_killed_between_two_polls_another_one_takes_over(client: Client, server: HttpServer) -> None:
    client.fetch(server.url())
    (before,) = client.pids()
    os.kill(before, signal.SIGKILL)
    until(lambda: ended(before))
    assert not client.fetch(server.url()).moved
    (after,) = client.pids()
    assert after != before


def test_killed_in_a_fetch_that_is_told_and_the_next_one_is_well(
    client: Client, upstream: Upstream, server: HttpServer
) -> None:
    client.fetch(server.url())
    (before,) = client.pids()
    upstream.commit({"web/index": "2"})
    server.drip = True
    child = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {before}"])
    with pytest.raises(SourceError, match=r"the process that fetches as nobody failed.*starts another one"):
        client.fetch(server.url())
    child.wait()
    server.drip = False
    store = client.fetch(server.url())
    assert client.read(server.url(), store) == "2"
    assert not list(store.path.glob("scratch-*"))


def test_stopped_one_is_ended_when_the_time_is_over(
    client: Client, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "GRACE_SECONDS", 0.5)
    client.fetch(server.url())
    (before,) = client.pids()
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(SourceError, match="within 1 s"):
        client.fetch(server.url(), seconds=1)
    assert not client.fetch(server.url()).moved
    assert client.pids() != [before]


def test_one_that_hangs_holds_up_no_other(
    client: Client, upstream: Upstream, server: HttpServer, tmp_path: Path
) -> None:
    client.fetch(server.url())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
        with pytest.raises(SourceError, match="within 1 s"):
            client.fetch(url, seconds=1)
    started = time.monotonic()
    assert not client.fetch(server.url()).moved
    assert time.monotonic() - started < 1
    assert len(client.pids()) == 1


def test_daemon_killed_with_sigkill_takes_it_along(
    upstream: Upstream, server: HttpServer, tmp_path: Path
) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from gitopper_plugins.dulwich import DulwichPlugin\n"
        "from libgitopper import Credentials, FetchRequest\n"
        "plugin = DulwichPlugin()\n"
        "plugin.gitopper_fetch(FetchRequest(upstream=sys.argv[1], credentials=Credentials(),"
        " branches=frozenset({'main'}), stores=Path(sys.argv[2]), fetch_user='nobody'))\n"
        "print('fetched', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", program, server.url(), str(tmp_path / "stores")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"fetched\n"
        (pid,) = children_that_fetch(daemon.pid)
        daemon.kill()
        daemon.wait()
    until(lambda: not Path(f"/proc/{pid}").exists())


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
