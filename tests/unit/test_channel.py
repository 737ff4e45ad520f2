"""What leaves together on a connection. The sockets here keep the pieces apart that they are sent in."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from gitopper_plugins._channel import Channel, Deadline
from gitopper_plugins.dulwich.connection import Connection, Origin

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        yield Channel(ours, Deadline.after(10)), theirs


def test_what_is_sent_together_leaves_in_one_piece(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    with ours.together():
        ours.sendall(b"head ")
        ours.sendall(memoryview(b"body"))
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
    ours.sendall(b"next")
    assert [theirs.recv(100), theirs.recv(100)] == [b"head body", b"next"]


def test_what_came_to_no_end_is_not_sent(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends

    def cut_short() -> None:
        with ours.together():
            ours.sendall(b"head")
            raise ValueError("no body")

    with pytest.raises(ValueError, match="no body"):
        cut_short()
    ours.sendall(b"next")
    assert theirs.recv(100) == b"next"


def test_a_request_and_its_body_are_one_piece(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    client = http.client.HTTPConnection("git.example.net")
    client.sock = ours
    connection = Connection(Origin("http", "git.example.net", 80), ours, client)
    theirs.send(ANSWER)
    with connection.request("POST", "/fleet.git", {"X-Kind": "test"}, b"0000") as answer:
        assert answer.read() == b"ok"
    sent = theirs.recv(10_000)
    assert sent.startswith(b"POST /fleet.git HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\n0000")


def test_a_connection_on_which_more_came_than_the_answer_is_used_no_more() -> None:
    """Even where it was taken from the connection with the answer, so that nothing shows there."""
    for beyond, fit in ((b"", True), (b"HTTP/1.1 200 OK", False)):
        near, far = socket.socketpair()
        with near, far:
            ours = Channel(near, Deadline.after(10))
            client = http.client.HTTPConnection("git.example.net")
            client.sock = ours
            connection = Connection(Origin("http", "git.example.net", 80), ours, client)
            far.sendall(ANSWER + beyond)
            with connection.request("GET", "/fleet.git", {}, None) as answer:
                assert answer.read() == b"ok"
            assert ours.idle() is fit
