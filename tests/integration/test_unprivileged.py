"""The process that fetches, seen from inside: its conversations, held by a thread of this process.

`test_fetcher.py` starts it as the daemon does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import indexing, sandbox, unprivileged
from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.failures import DeniedError, GarbledError, UnusableError
from gitopper_plugins.dulwich.frames import Conversation, GoneError
from gitopper_plugins.dulwich.protocol import Haves
from gitopper_plugins.dulwich.readers import Theirs, _text
from tests.support import rawpack as raw
from tests.support.fetching import MEMORY_BYTES, SECONDS
from tests.support.gitserver import HttpServer, ssh_server
from tests.support.upstream import Upstream, git


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
    before = ObjectID(git(upstream.path, "rev-parse", "main").encode())
    tip = ObjectID(upstream.commit({"web/index": "2"}).encode())
    with serving.exchange(server.url()) as exchange:
        offer = exchange.offer({"main", "absent"}, {})
        assert offer.tips == {"main": tip}
        whole = b"".join(exchange.pack([tip], Haves()))
        # The near one is of another history: so some from further back are asked for.
        far: list[ObjectID] = []

        def asked() -> list[ObjectID]:
            far.append(before)
            return far

        haves = Haves(near=(ObjectID(b"1" * 40),), far=asked)
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


def test_bytes_of_no_encoding_in_what_ssh_reads_arrive_as_they_are(
    serving: Serving, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a comment in Latin-1, in a file that was begun long ago."""
    known, seen = tmp_path / "known_hosts", tmp_path / "seen"
    known.write_bytes(b"# J\xfcrgen's laptop\n")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"sh -c 'cp {home}/*/known_hosts {seen}; exit 1'")
    with (
        pytest.raises(UnusableError),
        serving.exchange("ssh://git@example.net/x.git", known_hosts=_text(known)) as exchange,
    ):
        exchange.offer({"main"}, {})
    assert seen.read_bytes() == known.read_bytes()


def test_a_key_that_has_no_room_is_told_as_that(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full file system is simulated."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unprivileged, "_opener", full)
    with (
        pytest.raises(OSError, match="No space left on device"),
        serving.exchange("ssh://git@example.net/x.git", ssh_key="key") as exchange,
    ):
        exchange.offer({"main"}, {})


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
