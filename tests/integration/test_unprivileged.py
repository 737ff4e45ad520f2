"""The process that fetches, seen from inside: its conversations, how it gives up its rights, its end.

`test_fetcher` starts it as the daemon does. Here conversations are held by a thread of this process, and
what can't be taken back is done in a forked child.
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
from attrs import define, field
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import indexing, sandbox, syscallfilter, unprivileged
from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.failures import DeniedError, GarbledError, UnusableError
from gitopper_plugins.dulwich.frames import Conversation, GoneError
from gitopper_plugins.dulwich.protocol import Haves
from gitopper_plugins.dulwich.readers import Theirs
from tests.support import rawpack as raw
from tests.support.gitserver import HttpServer, ssh_server
from tests.support.namespace import fork
from tests.support.upstream import Upstream, git

ACCOUNT = "nobody"
SECONDS = 20.0
MEMORY_BYTES = 1 << 28
PR_CAPBSET_DROP, CAP_SETUID, CAP_SYS_ADMIN = 24, 7, 21


@define
class Serving:
    """A servant, with threads that hold its conversations."""

    servant: unprivileged.Servant = field(factory=unprivileged.Servant)
    _threads: list[threading.Thread] = field(factory=list)

    @contextlib.contextmanager
    def conversation(self, *files: int) -> Iterator[Conversation]:
        ours, theirs = socket.socketpair()
        # What is handed over is closed by who gets it.
        handed = [theirs.detach(), *map(os.dup, files)]
        thread = threading.Thread(target=self.servant.converse, args=(handed,))
        thread.start()
        line = Conversation(Channel(ours, Deadline.after(SECONDS)))
        try:
            yield line
        finally:
            line.close()
            thread.join(SECONDS)
            assert not thread.is_alive()

    @contextlib.contextmanager
    def exchange(self, upstream: str, **shown: str | None) -> Iterator[Theirs]:
        with self.conversation() as line:
            theirs = self.begin(line, upstream, **shown)
            yield theirs
            theirs.end()

    @staticmethod
    def begin(line: Conversation, upstream: str, **shown: str | None) -> Theirs:
        line.tell_later(do="open", upstream=upstream, seconds=SECONDS, **shown)
        return Theirs(line)

    def index(self, pack: Path, *, alone: bool, memory: int = MEMORY_BYTES) -> bytes | dict[str, object]:
        """What it says to `pack`: an index, or a message."""
        with pack.open("rb") as file, self.conversation(file.fileno()) as line:
            line.tell(do="index", alone=alone, seconds=SECONDS, memory=memory)
            answer = []
            for one in line.listen():
                if isinstance(one, dict):
                    return one
                answer.append(one)
        return b"".join(answer)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it may write; nothing stays there."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(sandbox, "HOME", str(home))
    yield home
    assert list(home.iterdir()) == []


@pytest.fixture
def serving(home: Path) -> Iterator[Serving]:
    serving = Serving()
    yield serving
    for transport in serving.servant._transports.values():
        transport.close()


def test_tips_and_packs_come_over_a_conversation(
    serving: Serving, upstream: Upstream, server: HttpServer, tmp_path: Path
) -> None:
    before = git(upstream.path, "rev-parse", "main").encode()
    tip = upstream.commit({"web/index": "2"}).encode()
    with serving.exchange(server.url()) as exchange:
        offer = exchange.offer({"main", "absent"}, {})
        assert offer.tips == {"main": tip}
        whole = b"".join(exchange.pack([tip], Haves()))
        # The near one is of another history: so some from further back are asked for.
        far: list[bytes] = []

        def asked() -> list[bytes]:
            far.append(before)
            return far

        haves = Haves(near=(b"1" * 40,), far=asked)  # type: ignore[arg-type]
        rest = b"".join(exchange.pack([tip], haves))
    assert far == [before]
    assert whole.startswith(b"PACK")
    assert int.from_bytes(rest[8:12], "big") < int.from_bytes(whole[8:12], "big")
    # The way to an upstream is kept for the next conversation, with its connection.
    with serving.exchange(server.url()) as exchange:
        assert exchange.offer({"main"}, {}).tips == {"main": tip}
    assert server.connections == 1


def test_one_conversation_follows_another_on_the_same_line(
    serving: Serving, upstream: Upstream, server: HttpServer
) -> None:
    known = {"main": ObjectID(git(upstream.path, "rev-parse", "main").encode())}
    with serving.conversation() as line:
        for _ in range(2):
            # Nothing new: the answer is the end of it.
            theirs = serving.begin(line, server.url())
            assert theirs.offer({"main"}, known).tips == known
            theirs.end()
        theirs = serving.begin(line, server.url())
        assert b"".join(theirs.pack(list(known.values()), Haves(), last=True))
        theirs.end()
        theirs = serving.begin(line, server.url())
        assert theirs.offer({"main"}, {}).tips == known
        theirs.end()
    assert server.connections == 1


def test_credentials_are_shown_and_a_refusal_comes_back_as_what_it_is(
    serving: Serving, server: HttpServer
) -> None:
    server.credentials = "me:secret"
    with (
        pytest.raises(DeniedError, match="401"),
        serving.exchange(server.url(), authorization="Basic bm8=") as exchange,
    ):
        exchange.offer({"main"}, {})
    with serving.exchange(server.url(), authorization="Basic bWU6c2VjcmV0") as exchange:
        assert exchange.offer({"main"}, {}).tips


def test_an_address_to_which_no_way_leads_is_no_matter_of_time(serving: Serving) -> None:
    with (
        pytest.raises(UnusableError, match="there is no way to it") as caught,
        serving.exchange("gopher://example.net/x") as exchange,
    ):
        exchange.offer({"main"}, {})
    assert not caught.value.retryable


def test_keys_are_files_for_ssh_only_while_it_runs(
    serving: Serving, home: Path, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_server(tmp_path / "ssh") as ssh:
        monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command)
        known = (tmp_path / "ssh/known_hosts").read_text()
        url = ssh.url(upstream.path)
        with serving.exchange(url, ssh_key=ssh.key.read_text(), known_hosts=known) as exchange:
            assert exchange.offer({"main"}, {}).tips
            (directory,) = home.iterdir()
            assert directory.stat().st_mode & 0o777 == 0o700
            assert {path.name for path in directory.iterdir()} == {"ssh_key", "known_hosts"}
            assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
        assert list(home.iterdir()) == []


def test_a_daemon_that_hangs_up_is_no_trouble(serving: Serving, server: HttpServer) -> None:
    with serving.conversation():
        pass
    with serving.conversation() as line:
        line.tell(do="open", upstream=server.url(), seconds=SECONDS)


def test_a_failure_that_nobody_waits_for_is_no_trouble(serving: Serving, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, serving.conversation() as line:
        line.tell(do="open", upstream=f"http://127.0.0.1:{silent.getsockname()[1]}/x.git", seconds=0.2)


def test_a_mistake_of_ours_is_told_and_has_a_traceback(
    serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving.conversation() as line:
        line.tell(what="nothing that it knows")
        with pytest.raises(GoneError, match="KeyError"):
            line.hear()
    assert "KeyError: 'do'" in capsys.readouterr().err


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    pack = tmp_path / "some.pack"
    pack.write_bytes(raw.build([raw.whole(3, b"one"), raw.whole(3, b"two")]))
    return pack


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("git_is_there", [True, False])
def test_an_index_is_the_one_that_git_makes(
    serving: Serving, pack: Path, monkeypatch: pytest.MonkeyPatch, alone: bool, git_is_there: bool
) -> None:
    git(pack.parent, "index-pack", "--no-rev-index", str(pack))
    expected = pack.with_suffix(".idx").read_bytes()
    if not git_is_there:
        monkeypatch.setenv("PATH", "/nonexistent")
    assert serving.index(pack, alone=alone) == expected


@pytest.mark.parametrize("alone", [True, False])
def test_a_damaged_pack_has_no_index(serving: Serving, pack: Path, alone: bool) -> None:
    pack.write_bytes(pack.read_bytes()[:-1] + b"x")
    with pytest.raises(GarbledError):
        serving.index(pack, alone=alone)


def test_a_pack_that_takes_much_is_for_one_that_does_nothing_else(serving: Serving, pack: Path) -> None:
    pack.write_bytes(raw.bomb(100_000_000))
    assert serving.index(pack, alone=False) == {"heavy": True}


def test_too_little_memory_is_told_as_that(
    serving: Serving, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is the process's own, so here its effect is simulated."""

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(indexing, "index_pack", exhausted)
    with pytest.raises(GarbledError, match="256 MiB of memory are not enough"):
        serving.index(pack, alone=False)


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
