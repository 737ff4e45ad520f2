"""What a server says over HTTP: an answer that ends where it should, or an error of ours."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gitopper_plugins.dulwich.channel import Channel, Deadline
from gitopper_plugins.dulwich.failures import GarbledError, UnusableError
from gitopper_plugins.dulwich.http11 import MOST_LINE_BYTES, Response, read_head, send_request

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
Whole = tuple[int, bytes, bool]


def answered(said: bytes) -> Whole:
    """Status and body of an answer, and whether the connection can be used again."""
    with connected() as (ours, theirs):
        theirs.sendall(said)
        theirs.close()
        response = Response.read(ours)
        with contextlib.closing(response):
            return response.head.status, response.body.read(), response.persistent


@contextlib.contextmanager
def connected() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, Deadline.after(10)), theirs


@pytest.mark.parametrize(
    ("said", "whole"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", (200, b"abc", True)),
        (OK + b"content-length:3  \n\nabcd", (200, b"abc", True)),
        (OK + b"Content-Length: 0\r\n\r\n", (200, b"", True)),
        (OK + b"\r\nabc", (200, b"abc", False)),
        (OK + b"Connection: Close\r\nContent-Length: 1\r\n\r\na", (200, b"a", False)),
        (OK + b"Connection: x, close\r\nContent-Length: 1\r\n\r\na", (200, b"a", False)),
        (b"HTTP/1.0 404 Not here\r\nContent-Length: 1\r\n\r\na", (404, b"a", False)),
        (b"HTTP/1.0 200\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", (200, b"a", True)),
        (b"HTTP/1.1 204 \r\n\r\n", (204, b"", True)),
        (b"HTTP/1.1 100 Go on\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", (200, b"a", True)),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", (200, b"abc", True)),
        (CHUNKED + b"1;x=y\r\na\r\n0A \r\n0123456789\r\n0\r\nT: x\r\n\r\n", (200, b"a0123456789", True)),
        # Where there are both, the chunks count (RFC 9112, 6.3).
        (OK + b"Content-Length: 9\r\n" + CHUNKED[len(OK) :] + b"1\r\na\r\n0\r\n\r\n", (200, b"a", True)),
    ],
)  # fmt: skip
def test_answers_end_where_they_say(said: bytes, whole: Whole) -> None:
    assert answered(said) == whole


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "does not answer in HTTP"),
        (b"HTTP/2 200\r\n\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200", "cut short"),
        (b"HTTP/1.1 200 " + b"x" * MOST_LINE_BYTES, "too long"),
        (OK + b"X: " + b"x" * MOST_LINE_BYTES, "too long"),
        (OK + b"X: y\r\n" * 101 + b"\r\n", "more than 100 fields"),
        (OK + b"X: y\r\n", "cut short"),
        (OK + b" folded\r\n\r\n", "head of its answer"),
        (OK + b"no colon\r\n\r\n", "head of its answer"),
        (OK + b"Space : x\r\n\r\n", "head of its answer"),
        (OK + b"Content-Length: 3\r\n\r\nab", "cut short"),
        (OK + b"Content-Length: +3\r\n\r\nabc", "no number"),
        (OK + b"Content-Length: -3\r\n\r\nabc", "no number"),
        (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "two lengths"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "coding that nobody asked for"),
        (CHUNKED + b"3\r\nab", "cut short"),
        (CHUNKED + b"3\r\nabc\r\n", "cut short"),
        (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", "not what they say"),
        (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", "not what they say"),
        (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", "not what they say"),
        (CHUNKED + b"\r\n0\r\n\r\n", "not what they say"),
        (CHUNKED + b"f" * 17 + b"\r\n", "not what they say"),
        (CHUNKED + b"0\r\n", "cut short"),
    ],
)
def test_what_is_no_sound_answer_is_refused_in_words(said: bytes, words: str) -> None:
    with pytest.raises(GarbledError, match=words):
        answered(said)


def test_a_server_that_hangs_up_without_a_word_is_told_apart() -> None:
    with pytest.raises(ConnectionError, match="without an answer"):
        answered(b"")


@given(said=some.one_of(some.binary(), some.binary().map(lambda data: CHUNKED + data)))
def test_any_bytes_are_an_answer_or_an_error_of_ours(said: bytes) -> None:
    with contextlib.suppress(GarbledError, ConnectionError):
        answered(said)


def test_a_head_is_read_and_not_a_byte_more() -> None:
    with contextlib.closing(io.BytesIO(b"HTTP/1.1 200 Connection established\r\n\r\nTLS")) as stream:
        assert read_head(stream).reason == "Connection established"
        assert stream.read() == b"TLS"


def test_a_request_goes_out_whole() -> None:
    with connected() as (ours, theirs):
        send_request(ours, "POST", "/x.git/y?z", {"Host": "h", "Accept": "*/*"}, b"0000")
        said = b"POST /x.git/y?z HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nContent-Length: 4\r\n\r\n0000"
        assert theirs.recv(4096) == said


@pytest.mark.parametrize("target", ["/a b", "/a\r\nHost: other", "/ü", ""])
def test_an_address_that_would_be_another_request_is_refused(target: str) -> None:
    with connected() as (ours, _), pytest.raises(UnusableError, match="%20") as caught:
        send_request(ours, "GET", target, {})
    assert not caught.value.retryable


def test_a_secret_that_would_be_another_field_is_refused_and_not_shown() -> None:
    with connected() as (ours, _), pytest.raises(UnusableError, match="credentials") as caught:
        send_request(ours, "GET", "/", {"Authorization": "Bearer s3cret\r\nHost: other"})
    assert "s3cret" not in str(caught.value)
