"""The process that fetches, seen from inside: how it gives up its rights, and its end.

That can't be taken back, so it is done in a forked child.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import pwd
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define

from gitopper_plugins.dulwich import sandbox, syscallfilter, unprivileged
from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.frames import Conversation
from gitopper_plugins.dulwich.readers import Theirs
from tests.support.fetching import ACCOUNT, MEMORY_BYTES, SECONDS
from tests.support.gitserver import HttpServer
from tests.support.namespace import fork
from tests.support.upstream import Upstream

PR_CAPBSET_DROP, CAP_SETUID, CAP_SYS_ADMIN = 24, 7, 21


# --- rights ---


def told_by_child(body: Callable[[], object], *, in_thread: bool = True) -> object:
    """Call `body` in a child of this process; return what it returned, or the error that it raised.

    It runs in a thread: a mount namespace, capabilities and a filter of calls are of the thread that asks
    for them. So the child itself still sees the host, and can write down what was executed in it.
    """
    reading, writing = os.pipe()

    def child() -> None:
        if not in_thread:
            act()
            return
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()

    def act() -> None:
        try:
            told = body()
        except (OSError, sandbox.SandboxError, syscallfilter.SyscallFilterError) as exc:
            told = f"{type(exc).__name__}: {exc}"
        os.write(writing, json.dumps(told).encode())

    process = fork(child)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    assert os.waitpid(process, 0)[1] == 0
    return json.loads(told)


def enter(account: str = ACCOUNT) -> list[str]:
    return sandbox.enter(account, sandbox.Bounds(memory_bytes=1 << 30))


def status() -> dict[str, str]:
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def drop(*capabilities: int) -> None:
    """Give up some capabilities of this thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    assert libc.capget(header, sets) == 0
    words = list(struct.unpack("=6I", sets.raw))
    for capability in capabilities:
        words[0] &= ~(1 << capability)
        words[1] &= ~(1 << capability)
    assert libc.capset(header, struct.pack("=6I", *words)) == 0


@pytest.mark.root
class TestRights:
    def test_all_is_given_up(self, tmp_path: Path) -> None:
        def body() -> object:
            missing = enter()
            place = Path(sandbox.HOME, "here")
            place.write_text("x")
            now = status()
            try:
                Path("/var/tmp/made-by-a-test").touch()
            except OSError as exc:
                refused = exc.errno
            else:
                refused = 0
            kinds = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
            held = [kind for kind in kinds if int(now[kind], 16)]
            return [missing, now["Uid"].split(), now["Seccomp"], held, refused]

        uid = str(pwd.getpwnam(ACCOUNT).pw_uid)
        assert told_by_child(body) == [[], [uid] * 4, "2", [], errno.EROFS]

    @pytest.mark.parametrize(
        ("account", "words"), [("no-such-account", "there is no account"), ("root", "root by another name")]
    )
    def test_who_can_not_be_become(self, account: str, words: str) -> None:
        with pytest.raises(sandbox.SandboxError, match=words):
            enter(account)

    def test_what_the_kernel_refuses_is_told_and_the_rest_holds(self) -> None:
        def body() -> object:
            drop(CAP_SYS_ADMIN)
            return [enter(), status()["Seccomp"]]

        view = "a view of the file system without a writable place (Operation not permitted)"
        assert told_by_child(body) == [[view], "2"]

    def test_a_machine_whose_calls_are_not_known_has_no_filter(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The machine is simulated."""
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
        words = "a filter of system calls (the numbers of system calls on riscv64 are not known)"
        assert told_by_child(enter) == [words]

    def test_without_the_right_to_become_another_there_is_no_going_on(self) -> None:
        def body() -> object:
            drop(CAP_SETUID, CAP_SYS_ADMIN)
            return enter()

        told = told_by_child(body, in_thread=False)  # the C library insists on one user for all threads
        words = "SandboxError: can't become nobody: Operation not permitted; leave CAP_SETUID"
        assert str(told).startswith(words)

    def test_rights_that_are_still_there_are_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """That they can't be given up, and no call says so, is simulated."""
        monkeypatch.setattr(sandbox, "_become", lambda user: None)
        assert str(told_by_child(enter)).startswith(
            "SandboxError: root's rights are not gone: CapEff, CapPrm"
        )

    def test_limits_that_are_lower_already_stay(self) -> None:
        def body() -> object:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
            enter()
            return resource.getrlimit(resource.RLIMIT_NOFILE)

        assert told_by_child(body) == [100, 100]


def test_a_filter_needs_no_new_privileges_first() -> None:
    def body() -> None:
        if os.geteuid() == 0:
            drop(CAP_SYS_ADMIN)
        syscallfilter.install()

    assert told_by_child(body) == f"PermissionError: [Errno {errno.EACCES}] Permission denied"


# --- the program ---


@define
class Program:
    """`main` at work in a child."""

    pid: int
    control: socket.socket

    def hear(self) -> dict[str, object]:
        self.control.settimeout(SECONDS)
        told: dict[str, object] = json.loads(self.control.recv(4096))
        return told

    def code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextlib.contextmanager
def program(monkeypatch: pytest.MonkeyPatch, *words: str) -> Iterator[Program]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(sys, "argv", ["unprivileged", *words])

    def body() -> None:
        os.dup2(theirs.fileno(), 0)
        unprivileged.main()

    with ours, theirs:
        pid = fork(body)
        theirs.close()
        yield Program(pid, ours)


def test_who_can_not_give_up_its_rights_says_so_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with program(monkeypatch, "no-such-account", "1000000") as fetcher:
        assert fetcher.hear() == {"refused": "there is no account no-such-account on this host"}
        assert fetcher.code() == 0


def test_it_serves_until_the_daemon_hangs_up(
    monkeypatch: pytest.MonkeyPatch, upstream: Upstream, server: HttpServer
) -> None:
    """It keeps its rights here: what it gives up is for the tests above."""
    monkeypatch.setattr(sandbox, "enter", lambda account, bounds: ["something"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with program(monkeypatch, ACCOUNT, str(MEMORY_BYTES), "programs") as fetcher:
        assert fetcher.hear() == {"missing": ["something"]}
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(fetcher.control, [b"."], [theirs.fileno()])
        line = Conversation(Channel(ours, Deadline.after(SECONDS)))
        line.tell(do="open", upstream=server.url(), seconds=SECONDS)
        assert Theirs(line).offer({"main"}, {}).tips
        line.close()
        fetcher.control.shutdown(socket.SHUT_RDWR)
        assert fetcher.code() == 0


@pytest.mark.parametrize("how", ["hang up", "terminate"])
def test_what_it_runs_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    started = tmp_path / "pid"

    def enter(account: str, bounds: sandbox.Bounds) -> list[str]:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        started.write_text(str(child.pid))
        return []

    monkeypatch.setattr(sandbox, "enter", enter)
    with program(monkeypatch, ACCOUNT, str(MEMORY_BYTES)) as fetcher:
        assert fetcher.hear() == {"missing": []}
        if how == "hang up":
            fetcher.control.shutdown(socket.SHUT_RDWR)
        else:
            os.kill(fetcher.pid, signal.SIGTERM)
        assert fetcher.code() == 0
    until = time.monotonic() + SECONDS
    while runs(int(started.read_text())) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(int(started.read_text()))


def runs(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
