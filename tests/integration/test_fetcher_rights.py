"""The process that fetches has no rights: it fetches, and can do nothing else."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.fetching import ACCOUNT, Client, client, follow, until
from tests.support.gitserver import HttpServer
from tests.support.upstream import Upstream

__all__ = ["client"]  # fixtures

pytestmark = pytest.mark.root


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
import ctypes, os, signal, socket, sys
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
refused("memory as a file", lambda: os.memfd_create("held"))
refused("memory that stays", lambda: libc.shmget(0, 1 << 20, 0o1600))
refused("to be spared", lambda: os.open("/proc/self/oom_score_adj", os.O_WRONLY))
with open("/proc/self/oom_score_adj") as file:
    assert int(file.read()) == 1000
def too_much():
    with open("/tmp/large", "wb", buffering=0) as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
refused("a large file", too_much)
os.unlink("/tmp/large")
held = os.statvfs("/tmp")
assert held.f_blocks * held.f_frsize <= 1 << 27
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
