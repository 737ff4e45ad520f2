"""What the daemon believes of the process that fetches: nothing that it can't see for itself."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import frozen
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import fetcher, syscallfilter
from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.failures import DeniedError, GarbledError, RefusedError, UnusableError
from gitopper_plugins.dulwich.fetcher import Fetcher
from gitopper_plugins.dulwich.frames import MOST_BYTES, PIECE_BYTES, Conversation, GoneError
from gitopper_plugins.dulwich.http import HttpTransport
from gitopper_plugins.dulwich.indexing import index_pack
from gitopper_plugins.dulwich.layout import create
from gitopper_plugins.dulwich.objects import BLOB, Objects
from gitopper_plugins.dulwich.packindex import write_checked
from gitopper_plugins.dulwich.packs import receive
from gitopper_plugins.dulwich.protocol import Haves
from gitopper_plugins.dulwich.readers import Aside, Theirs, _pieces
from libgitopper import CheckoutError, Credentials, spawn
from tests.support import rawpack as raw


@frozen
class Ends:
    """The daemon's end of a conversation, and the other as it is."""

    ours: Conversation
    theirs: socket.socket

    def send(self, kind: bytes, content: bytes) -> None:
        self.theirs.sendall(struct.pack("!cI", kind, len(content)) + content)


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    line = Conversation(Channel(ours, Deadline.after(10)))
    with theirs:
        yield Ends(line, theirs)
    line.close()


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError("late"), RefusedError("no"), GarbledError("what"), DeniedError("you", retryable=False),
        UnusableError("nothing there"), ConnectionRefusedError(111, "Connection refused"),
    ],
    ids=lambda failure: type(failure).__name__,
)  # fmt: skip
def test_failures_arrive_as_what_they_were(ends: Ends, failure: Exception) -> None:
    other = Conversation(Channel(ends.theirs, Deadline.after(10)))
    other.fail(failure)
    with pytest.raises(type(failure)) as caught:
        ends.ours.hear()
    assert str(caught.value) == str(failure)
    assert getattr(caught.value, "retryable", None) == getattr(failure, "retryable", None)
    other.close()


def test_a_failure_is_told_though_more_was_asked_of_who_had_hung_up(ends: Ends) -> None:
    other = Conversation(Channel(ends.theirs, Deadline.after(10)))
    ends.ours.tell(do="open")
    other.fail(GarbledError("its greeting makes no sense"))
    other.close()
    with pytest.raises(GarbledError, match="its greeting makes no sense"):
        ends.ours.tell(do="offer")


def test_who_hung_up_without_a_word_is_gone(ends: Ends) -> None:
    ends.theirs.close()
    with pytest.raises(GoneError, match="it has ended"):
        ends.ours.tell(do="offer")


@pytest.mark.parametrize(
    ("kind", "content"),
    [(b"J", b"{"), (b"J", b"[1]"), (b"J", b"[" * 100_000), (b"J", b"\xff"), (b"E", b"1"), (b"Z", b"")],
)
def test_what_makes_no_sense_is_no_answer(ends: Ends, kind: bytes, content: bytes) -> None:
    ends.send(kind, content)
    with pytest.raises(GoneError):
        ends.ours.hear()


def test_a_frame_too_large_is_not_waited_for(ends: Ends) -> None:
    ends.theirs.sendall(struct.pack("!cI", b"D", MOST_BYTES + 1))
    with pytest.raises(GoneError, match="too much"):
        ends.ours.hear()


def test_words_of_a_failure_are_fit_for_a_terminal(ends: Ends) -> None:
    ends.send(b"E", json.dumps({"kind": "refused", "text": "a\x1b[2Jb\n" + "x" * 9999}).encode())
    with pytest.raises(RefusedError) as caught:
        ends.ours.hear()
    assert str(caught.value).startswith("a [2Jb ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2000


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"tips": [], "filters": True},
        {"tips": {"main": "x" * 40}, "filters": True},
        {"tips": {"main": "a" * 41}, "filters": True},
        {"tips": {"other": "a" * 40}, "filters": True},
        {"tips": {"main": 5}, "filters": True},
        {"tips": {"main": "a" * 40}, "filters": "yes"},
        {"tips": {"main": "a" * 40}, "filters": True},
        {"tips": {"main": "a" * 40}, "filters": True, "over": True},
        {"tips": {"main": "b" * 40}, "filters": True, "over": False},
    ],
)
def test_tips_that_were_not_asked_for_or_are_none_are_refused(ends: Ends, answer: object) -> None:
    ends.send(b"J", json.dumps(answer).encode())
    with pytest.raises(GoneError):
        Theirs(ends.ours).offer({"main"}, {"main": ObjectID(b"b" * 40)})


def indexed(directory: Path) -> tuple[Path, bytes]:
    """A pack, and the index that belongs to it."""
    pack = directory / "incoming.pack"
    pack.write_bytes(raw.build([raw.whole(3, b"one"), raw.whole(3, b"two")]))
    index_pack(pack)
    return pack, pack.with_suffix(".idx").read_bytes()


def test_index_is_taken_in_as_it_is(tmp_path: Path) -> None:
    pack, index = indexed(tmp_path)
    pack.with_suffix(".idx").unlink()
    write_checked(pack, [index[:7], index[7:]])
    assert pack.with_suffix(".idx").read_bytes() == index


@pytest.mark.parametrize("at", [0, 7, 8, 1031, 1035, -41, -40, -20, -1])
def test_index_with_a_byte_of_another_value_is_refused(tmp_path: Path, at: int) -> None:
    pack, index = indexed(tmp_path)
    spoilt = bytearray(index)
    spoilt[at] ^= 1
    with pytest.raises(GarbledError, match="index"):
        write_checked(pack, [bytes(spoilt)])


def test_index_that_is_short_or_without_end_is_refused(tmp_path: Path) -> None:
    pack, index = indexed(tmp_path)
    for pieces in ([], [index[:-1]], iter(lambda: index, b"")):
        with pytest.raises(GarbledError, match="index"):
            write_checked(pack, pieces)


def test_index_that_gives_one_object_for_another_shows_no_false_content(tmp_path: Path) -> None:
    def swap(pack: Path, *_: object) -> None:
        index_pack(pack)
        file = pack.with_suffix(".idx")
        index = bytearray(file.read_bytes())
        at = 8 + 1024 + 2 * 20 + 2 * 4  # the two offsets
        index[at : at + 8] = index[at + 4 : at + 8] + index[at : at + 4]
        index[-20:] = hashlib.sha1(index[:-20]).digest()
        file.unlink()
        write_checked(pack, [bytes(index)])  # as an index it is sound

    store = tmp_path / "store.git"
    create(store, "https://example.net/x", "main")
    pack = raw.build([raw.whole(3, b"one"), raw.whole(3, b"two")])
    receive(store, [pack], promisor=False, indexer=swap)
    objects = Objects(store)
    with pytest.raises(CheckoutError, match="not that of its id"):
        objects.read(ObjectID(raw.object_id(raw.BLOB, b"one").encode()), BLOB)
    objects.close()


def test_filter_is_made_for_machines_whose_numbers_are_known() -> None:
    for machine in ("x86_64", "aarch64"):
        program = syscallfilter.program(machine)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096
    with pytest.raises(syscallfilter.SyscallFilterError, match="riscv64"):
        syscallfilter.program("riscv64")


# --- starting one, and what can go wrong with it; what runs is a small program that only says hello ---

Simulate = Callable[[str], Fetcher]
HELLO = "import socket, time; line = socket.socket(fileno=0)\n"
SILENT = HELLO + "line.send(b'{}'); line.recv(1)"
LISTENING = (
    HELLO + "line.send(b'{}'); given = []\nwhile got := socket.recv_fds(line, 1, 1)[1]: given += got"
)


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulate]:
    """Let fetchers run the program that is given, in place of `unprivileged`."""
    fetchers = []

    def simulate(program: str) -> Fetcher:
        def run_it(argv: object, **options: Any) -> Any:
            return spawn([sys.executable, "-I", "-c", program], **options)

        monkeypatch.setattr(fetcher, "spawn", run_it)
        fetchers.append(Fetcher("someone"))
        return fetchers[-1]

    yield simulate
    for made in fetchers:
        made.close()


def begin(one: Fetcher) -> None:
    with one.conversation(Deadline.after(10)):
        pass


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('first\\nno such module')", "its process does not start: no such module;"),
        ("raise SystemExit(3)", "its process does not start: exit code 3;"),
        (HELLO + "line.send(b'[1]')", "its process does not start: exit code "),
        (HELLO + "line.send(b'\\xff')", "its process does not start: exit code "),
        (HELLO + """line.send(b'{"refused": "not\\\\u001b today"}')""", "can't fetch as someone: not"),
    ],
)
def test_one_that_can_not_start_says_why_and_what_to_do(
    simulate: Simulate, program: str, words: str
) -> None:
    one = simulate(program)
    with pytest.raises(UnusableError, match="see `fetch_user`") as caught:
        begin(one)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert one.pid is None


def test_one_that_says_nothing_is_not_waited_for_endlessly(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "START_SECONDS", 0.2)
    with pytest.raises(UnusableError, match=r"not ready within 0\.2 s"):
        begin(simulate("import time; time.sleep(60)"))


def test_what_its_sandbox_lacks_is_told_once(simulate: Simulate, caplog: pytest.LogCaptureFixture) -> None:
    one = simulate(HELLO + """line.send(b'{"missing": ["a filter", "a filter"]}'); line.recv(1)""")
    for _ in range(2):
        begin(one)
        one.close()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["what fetches as someone has to do without a filter"]


def test_one_that_takes_no_conversation_is_tried_twice(simulate: Simulate) -> None:
    one = simulate(HELLO + "line.shutdown(socket.SHUT_RD); line.send(b'{}'); time.sleep(60)")
    with pytest.raises(UnusableError, match="the process that fetches as someone ends at once"):
        begin(one)
    assert one.pid is None


def test_one_that_was_ended_meanwhile_harms_not_the_next(simulate: Simulate) -> None:
    one = simulate(SILENT)

    def fail() -> None:
        with one.conversation(Deadline.after(10)):
            one.close()
            begin(one)
            raise GoneError("it has ended")

    with pytest.raises(UnusableError, match="failed: it has ended; the next try starts another one"):
        fail()
    assert one.pid is not None


def test_a_line_is_kept_for_the_next_conversation(simulate: Simulate) -> None:
    one = simulate(LISTENING)
    with one.conversation(Deadline.after(10)) as first:
        pass
    with one.conversation(Deadline.after(10)) as second, one.conversation(Deadline.after(10)) as third:
        assert second is first
        assert third is not first
    with pytest.raises(RefusedError), one.conversation(Deadline.after(10)) as again:
        raise RefusedError("no")
    # What went wrong on it may have left words behind.
    with one.conversation(Deadline.after(10)) as after:
        assert after is not again


def test_a_line_on_which_something_is_said_unasked_is_not_kept(simulate: Simulate) -> None:
    talk = (
        "given = [socket.socket(fileno=socket.recv_fds(line, 1, 1)[1][0])]\n"
        "given[0].recv(1); given[0].send(b'Z'); line.send(b'said')\n"
        "given.append(socket.socket(fileno=socket.recv_fds(line, 1, 1)[1][0])); time.sleep(60)"
    )
    one = simulate(HELLO + "line.send(b'{}')\n" + talk)
    with one.conversation(Deadline.after(10)) as first:
        first.tell(do="open")
    assert one._process is not None
    assert one._process.control.recv(4) == b"said"
    with one.conversation(Deadline.after(10)) as second:
        assert second is not first


def test_only_so_many_lines_are_kept(simulate: Simulate) -> None:
    one = simulate(LISTENING)
    with contextlib.ExitStack() as stack:
        for _ in range(fetcher.MOST_LINES + 2):
            stack.enter_context(one.conversation(Deadline.after(10)))
    assert one._process is not None
    assert len(one._process._lines) == fetcher.MOST_LINES


def test_a_conversation_that_ends_with_more_than_was_asked_is_none(simulate: Simulate) -> None:
    """`Z` would be the end; here a message comes first."""
    talk = (
        "_, (given,), _, _ = socket.recv_fds(line, 1, 1); line = socket.socket(fileno=given)\n"
        "line.send(b'J' + (2).to_bytes(4, 'big') + b'{}'); line.recv(1); time.sleep(60)"
    )
    aside = Aside(
        fetcher=simulate(HELLO + "line.send(b'{}')\n" + talk), upstream="http://x/y",
        transport=HttpTransport(upstream="http://x/y"),
    )  # fmt: skip
    with (
        pytest.raises(UnusableError, match="it says more than it was asked"),
        aside.exchange(Credentials(), Deadline.after(10)),
    ):
        pass


def test_an_index_with_a_message_in_the_middle_is_none() -> None:
    with pytest.raises(GoneError, match="makes no sense"):
        list(_pieces(b"one", iter([b"two", {}])))


def test_a_want_for_further_commits_is_answered(ends: Ends) -> None:
    ends.send(b"J", b"{}")
    ends.send(b"D", b"PACK")
    ends.send(b"Z", b"")
    haves = Haves(near=(), far=lambda: [ObjectID(b"c" * 40)])
    assert list(Theirs(ends.ours).pack([], haves, without="blob:none")) == [b"PACK"]
    assert b"c" * 40 in ends.theirs.recv(4096)


def test_a_piece_of_any_size_arrives(ends: Ends) -> None:
    other = Conversation(Channel(ends.theirs, Deadline.after(10)))

    def give() -> None:
        other.give(b"x" * PIECE_BYTES)
        other.end()

    sender = threading.Thread(target=give)
    sender.start()
    assert b"".join(cast("Iterator[bytes]", ends.ours.listen())) == b"x" * PIECE_BYTES
    sender.join()
    other.close()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (http.client.IncompleteRead(b""), "the answer is cut short (IncompleteRead)"),
        (ZeroDivisionError("by nothing"), "ZeroDivisionError: by nothing"),
        (MemoryError(), "MemoryError"),
        (OSError("no number"), "no number"),
    ],
)
def test_failures_of_other_kinds_are_told_in_words(ends: Ends, failure: Exception, words: str) -> None:
    other = Conversation(Channel(ends.theirs, Deadline.after(10)))
    other.fail(failure)
    with pytest.raises(Exception, match=re.escape(words)):
        ends.ours.hear()
    other.close()
