"""The framing of git's protocol, and the reading of what servers say, right or wrong."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from attrs import define, field
from dulwich.objects import ObjectID
from hypothesis import given
from hypothesis import strategies as st

from gitopper_plugins.dulwich import protocol
from gitopper_plugins.dulwich.pkt import GarbledError, Mark, RefusedError, framed, read_packet, sideband
from gitopper_plugins.dulwich.protocol import Advertisement, Haves, ls_refs, pack_of, read_advertisement

A, B, C = (ObjectID(letter * 40) for letter in (b"a", b"b", b"c"))


@define
class Script:
    """A session whose answers are given, and whose requests are kept."""

    advertisement: Advertisement
    answers: list[bytes]
    requests: list[bytes] = field(factory=list)

    @contextlib.contextmanager
    def ask(self, request: bytes) -> Iterator[BinaryIO]:
        self.requests.append(request)
        yield io.BytesIO(self.answers.pop(0))


def version_2(*answers: bytes) -> Script:
    return Script(Advertisement(version=2, capabilities={b"fetch": b"shallow filter"}), list(answers))


@given(st.lists(st.binary(max_size=200) | st.sampled_from(Mark)))
def test_packets_are_read_as_they_were_framed(packets: list[bytes | Mark]) -> None:
    packets = [b"x" + p if isinstance(p, bytes) else p for p in packets]
    stream = io.BytesIO(framed(*packets))
    assert [read_packet(stream) for _ in packets] == packets


@given(st.binary(max_size=40))
def test_any_bytes_are_a_packet_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(GarbledError, RefusedError):
        read_packet(io.BytesIO(data))


@given(st.binary(max_size=200))
def test_any_greeting_is_an_advertisement_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(GarbledError, RefusedError):
        read_advertisement(io.BytesIO(data))


@pytest.mark.parametrize(
    "head", [b"+00a", b"-001", b" 12 ", b"0x1f", b"zzzz", b"0003", b"ffff", b"00", b""]
)
def test_length_that_is_none_is_refused(head: bytes) -> None:
    with pytest.raises(GarbledError):
        read_packet(io.BytesIO(head + b"data" * 20_000 * (len(head) == 4)))


def test_error_packet_is_the_servers_own_words() -> None:
    with pytest.raises(RefusedError, match="access denied"):
        read_packet(io.BytesIO(framed(b"ERR access denied\n")))


def test_words_of_a_server_can_not_play_tricks_on_a_terminal() -> None:
    with pytest.raises(RefusedError) as error:
        read_packet(io.BytesIO(framed(b"ERR \x1b[2Jgone\r\n\x07" + b"x" * 5000)))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_sideband_gives_data_drops_progress_and_raises_errors() -> None:
    stream = io.BytesIO(framed(b"\1one", b"\2counting", b"\1two", Mark.FLUSH))
    assert list(sideband(stream)) == [b"one", b"two"]
    with pytest.raises(RefusedError, match="out of memory"):
        list(sideband(io.BytesIO(framed(b"\1one", b"\3out of memory\n"))))
    with pytest.raises(GarbledError):
        list(sideband(io.BytesIO(framed(b"\1one"))))


def test_greetings_of_both_versions_are_understood() -> None:
    two = read_advertisement(
        io.BytesIO(framed(b"version 2\n", b"agent=git/2\n", b"fetch=shallow filter\n", Mark.FLUSH))
    )
    assert (two.version, two.filters) == (2, True)
    line = A + b" refs/heads/main\0side-band-64k filter allow-any-sha1-in-want agent=x\n"
    header = framed(b"# service=git-upload-pack\n", Mark.FLUSH)
    zero = read_advertisement(io.BytesIO(header + framed(line, B + b" refs/heads/main2\n", Mark.FLUSH)))
    assert (zero.version, zero.filters) == (0, True)
    assert zero.refs == {b"refs/heads/main": A, b"refs/heads/main2": B}


def test_version_0_that_gives_no_single_files_is_no_partial_clone() -> None:
    line = A + b" refs/heads/main\0side-band-64k filter\n"
    assert not read_advertisement(io.BytesIO(framed(line, Mark.FLUSH))).filters


def test_empty_repository_of_version_0_has_no_refs() -> None:
    line = b"0" * 40 + b" capabilities^{}\0side-band-64k\n"
    assert read_advertisement(io.BytesIO(framed(line, Mark.FLUSH))).refs == {}


def test_sha256_is_refused_in_words() -> None:
    with pytest.raises(RefusedError, match="SHA-256"):
        read_advertisement(io.BytesIO(framed(b"version 2\n", b"object-format=sha256\n", Mark.FLUSH)))


def test_branch_that_only_begins_like_one_that_is_wanted_is_left_out() -> None:
    session = version_2(framed(A + b" refs/heads/main\n", B + b" refs/heads/main2\n", Mark.FLUSH))
    assert ls_refs(session, {"main"}) == {"main": A}
    assert b"ref-prefix refs/heads/main" in session.requests[0]


def test_many_branches_are_asked_for_as_one_prefix() -> None:
    session = version_2(framed(Mark.FLUSH))
    assert ls_refs(session, {f"branch{number}" for number in range(100)}) == {}
    assert session.requests[0].count(b"ref-prefix") == 1


def test_near_commits_that_are_enough_make_one_request() -> None:
    answer = framed(
        b"acknowledgments\n", b"ACK " + B, b"ready\n", Mark.DELIM, b"packfile\n", b"\1PACK", Mark.FLUSH
    )
    session = version_2(answer)
    assert list(pack_of(session, [A], Haves(near=[B]), without="blob:none")) == [b"PACK"]
    assert b"done" not in session.requests[0]
    assert b"filter blob:none" in session.requests[0]


def test_far_commits_are_offered_when_the_near_ones_are_not_enough() -> None:
    first = framed(b"acknowledgments\n", b"NAK\n", Mark.FLUSH)
    second = framed(b"packfile\n", b"\1PACK", Mark.FLUSH)
    session = version_2(first, second)
    haves = Haves(near=[B], far=lambda: [C])
    assert list(pack_of(session, [A], haves)) == [b"PACK"]
    assert b"have " + C in session.requests[1]
    assert b"done" in session.requests[1]


def test_shallow_upstream_is_refused_in_words() -> None:
    session = version_2(framed(b"shallow-info\n", b"shallow " + A, Mark.DELIM))
    with pytest.raises(RefusedError, match="shallow clone"):
        list(pack_of(session, [A], Haves()))


def test_version_0_sends_its_acknowledgments_before_the_pack() -> None:
    advertisement = Advertisement(version=0, capabilities={b"side-band-64k": b""})
    session = Script(
        advertisement, [framed(b"ACK " + B + b"\n", b"ACK " + B + b"\n", b"\1PACK", Mark.FLUSH)]
    )
    assert list(pack_of(session, [A, B], Haves(near=[B]))) == [b"PACK"]
    assert session.requests[0].endswith(framed(b"have " + B + b"\n", b"done\n"))


def test_version_1_is_version_0_with_a_line_before() -> None:
    lines = framed(b"version 1\n", A + b" refs/heads/main\0side-band-64k\n", Mark.FLUSH)
    one = read_advertisement(io.BytesIO(lines))
    assert (one.version, one.refs) == (0, {b"refs/heads/main": A})


def test_a_server_that_never_ends_its_greeting_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_NAMES", 3)
    names = [b"capability%d\n" % number for number in range(4)]
    refs = [A + b" refs/heads/branch%d\n" % number for number in range(4)]
    for lines in ([b"version 2\n", *names], refs):
        with pytest.raises(GarbledError, match="more than 3 branches or capabilities"):
            read_advertisement(io.BytesIO(framed(*lines)))


def test_what_is_no_id_is_not_taken_for_one() -> None:
    with pytest.raises(GarbledError, match="not git's protocol"):
        read_advertisement(io.BytesIO(framed(b"x" * 40 + b" refs/heads/main\0side-band-64k\n")))


@pytest.mark.parametrize("answer", [framed(b"something else\n"), framed(Mark.FLUSH)])
def test_an_answer_that_is_neither_acknowledgment_nor_pack_is_garbled(answer: bytes) -> None:
    for haves in (Haves(near=[B]), Haves()):
        with pytest.raises(GarbledError, match="not git's protocol"):
            list(pack_of(version_2(answer), [A], haves))


def test_shallow_upstream_of_version_0_is_refused_in_words() -> None:
    lines = framed(A + b" refs/heads/main\0side-band-64k\n", b"shallow " + A + b"\n", Mark.FLUSH)
    session = Script(read_advertisement(io.BytesIO(lines)), [])
    with pytest.raises(RefusedError, match="shallow clone"):
        list(pack_of(session, [A], Haves()))


def test_a_server_that_can_not_tell_data_from_words_is_refused() -> None:
    session = Script(Advertisement(version=0, capabilities={}), [])
    with pytest.raises(RefusedError, match="too old"):
        list(pack_of(session, [A], Haves()))


def test_version_0_is_asked_to_leave_out_blobs() -> None:
    advertisement = Advertisement(version=0, capabilities={b"side-band-64k": b"", b"filter": b""})
    session = Script(advertisement, [framed(b"NAK\n", b"\1PACK", Mark.FLUSH)])
    assert list(pack_of(session, [A], Haves(), without="blob:none")) == [b"PACK"]
    assert b"filter blob:none" in session.requests[0]
    assert b"have " not in session.requests[0]
