"""A client that sends too much, too slowly, or does not read harms nobody, and is cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from gitopperd.listener.limits import Limits
from tests.support.daemon import wait_until
from tests.support.listener import Served, serve

QUICK = Limits(
    connections=16,
    per_peer=8,
    request_seconds=1.0,
    idle_seconds=2.0,
    unread_seconds=1.0,
    linger_seconds=0.5,
    sweep_seconds=0.05,
)
"""The daemon's limits, but with less room and less patience."""

HEAD = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n"
REQUEST = HEAD + b"\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("listener"), limits=QUICK) as made:
        yield made


@pytest.fixture(autouse=True)
def empty_again(served: Served) -> Iterator[None]:
    yield
    wait_until(lambda: served.tcp.inside == served.local.inside == 0, "connections are left over")


def read_all(sock: socket.socket) -> bytes:
    """Read to the end of the connection, however it ends."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            data += part
    return data


def test_with_nobody_inside_nothing_wakes_up_to_look(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    async def sleep(seconds: float, _sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        looks.append(seconds)
        await _sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    time.sleep(0.2)  # the look that was under way
    looks.clear()
    time.sleep(0.3)
    assert looks == []
    with served.connect():
        wait_until(lambda: len(looks) > 2, "nobody looks after a connection")


def honest_clients_are_answered(served: Served) -> None:
    """Ask over TCP, from another address than the one that misbehaves, and over the Unix socket.

    The bound is for a busy machine; who is shut out waits without end.
    """
    for connect in (partial(served.connect, source="127.0.0.9"), served.connect_unix):
        started = time.monotonic()
        assert served.get(sock=connect())[0] == 200
        assert time.monotonic() - started < 10


def seconds_until_cut(sock: socket.socket, send: Callable[[], None]) -> float:
    """Call `send` until the connection ends; return how long that took."""
    started = time.monotonic()
    sock.settimeout(0.1)
    while time.monotonic() - started < 10:
        try:
            send()
            if not sock.recv(65536):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    else:
        pytest.fail("the connection was not cut")
    return time.monotonic() - started


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n",
        HEAD + b"a" * 9000 + b": x\r\n\r\n",
        HEAD + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 7000) for number in range(6)) + b"\r\n",
    ],
    ids=["request line", "one field", "name of a field", "all fields together"],
)
def test_a_head_that_is_too_long_is_refused_and_the_client_is_told(served: Served, head: bytes) -> None:
    with served.connect() as sock:
        sock.sendall(head)
        told = read_all(sock)
    assert told.startswith((b"HTTP/1.1 431 ", b"HTTP/1.0 431 "))
    assert b'"code": "request-header-fields-too-large"' in told
    honest_clients_are_answered(served)


def test_too_many_fields_are_refused(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(100)) + b"\r\n")
        told = read_all(sock)
    assert b" 400 " in told.splitlines()[0]
    assert b'{"error": {"code": "bad-request"' in told


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-OpenSSH_9\r\n", b"\0" * 99]
)
def test_what_is_not_http_is_refused_without_a_line_in_the_log(
    served: Served, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with served.connect() as sock:
        sock.sendall(junk)
        told = read_all(sock)
    assert not told or b" 400 " in told.splitlines()[0]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_refused(served: Served, *, chunked: bool) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
    size = 1024 * 1024
    with served.connect() as sock:
        if chunked:
            sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size)
        else:
            sock.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        sock.sendall(b"x" * size)
        told = sock.recv(65536)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b'{"error": {"code": "request-entity-too-large"' in told
    honest_clients_are_answered(served)


def test_a_body_up_to_the_limit_is_taken(served: Served) -> None:
    size = 64 * 1024
    with served.connect() as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % size
        )
        sock.sendall(b"x" * size)
        assert b'{"bytes": 65536}' in read_all(sock)


def test_a_compressed_body_is_not_unpacked(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: 5\r\n\r\nabcde"
        )
        assert b'{"bytes": 5}' in read_all(sock)


def test_a_body_that_breaks_off_or_is_in_no_coding_harms_nobody(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
    with served.connect() as sock:
        sock.sendall(head + b"Content-Length: 100\r\n\r\nhalf")
    with served.connect() as sock:
        sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nnonsense\r\n")
        assert b" 400 " in sock.recv(65536).splitlines()[0]
    wait_until(lambda: served.tcp.inside == 0, "connections are left over")
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_head_that_comes_slowly_is_cut_in_time(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(HEAD)
        seconds = seconds_until_cut(sock, lambda: sock.sendall(b"X-Slow: x\r\n"))
        assert 0.8 < seconds < 2.5
    honest_clients_are_answered(served)


def test_a_second_head_on_a_connection_has_no_more_time_than_the_first(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(REQUEST)
        assert b"world" in sock.recv(65536)
        time.sleep(0.5)
        seconds = seconds_until_cut(sock, lambda: sock.sendall(b"G"))
        assert seconds < 2


def test_a_client_that_says_nothing_is_cut_in_time(served: Served) -> None:
    with served.connect() as sock:
        started = time.monotonic()
        assert read_all(sock) == b""
        assert 0.8 < time.monotonic() - started < 5


def test_a_body_that_comes_slowly_is_answered_408_and_cut(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        started, told = time.monotonic(), b""
        sock.settimeout(0.1)
        while time.monotonic() - started < 10:
            with contextlib.suppress(TimeoutError):
                try:
                    sock.sendall(b"x")
                    told += (part := sock.recv(65536))
                except ConnectionError:
                    break
                if not part:
                    break
        assert time.monotonic() - started < 4
    assert told.startswith(b"HTTP/1.1 408 ")
    honest_clients_are_answered(served)


def test_a_client_that_does_not_read_its_answer_is_cut(served: Served) -> None:
    with served.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        before = served.tcp.turned_away["unread"]
        wait_until(lambda: served.tcp.turned_away["unread"] == before + 1, "not cut", seconds=4)
        honest_clients_are_answered(served)


def test_a_connection_that_idles_is_closed_after_a_while_and_not_before(served: Served) -> None:
    with served.connect() as sock:
        for _ in range(3):
            sock.sendall(REQUEST)
            assert b"world" in sock.recv(65536)
            time.sleep(1.2)
        started = time.monotonic()
        assert read_all(sock) == b""
        assert time.monotonic() - started < 5


def test_pipelining_without_reading_is_cut_and_bounded(served: Served) -> None:
    before = served.tcp.turned_away.total()
    with served.connect() as sock:
        sock.settimeout(0.2)
        sent, started = 0, time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 8:
                with contextlib.suppress(TimeoutError):
                    sent += sock.send(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
                honest_clients_are_answered(served)
        assert time.monotonic() - started < 8, "it was never cut"
    assert sent < 16 * 1024 * 1024
    wait_until(lambda: served.tcp.turned_away.total() > before, "not counted")


def test_what_is_sent_ahead_while_an_answer_is_made_is_bounded(served: Served) -> None:
    large = HEAD + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 7000) for number in range(4)) + b"\r\n"
    with served.connect() as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.2)
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                sock.sendall(large)
                time.sleep(0.01)
        assert read_all(sock) == b""
        assert time.monotonic() - started < 0.7, "it was answered rather than cut"
    assert served.tcp.turned_away["ahead"] == 1


def test_honest_pipelining_is_answered_in_order(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(REQUEST * 50 + HEAD + b"Connection: close\r\n\r\n")
        assert read_all(sock).count(b'{"hello": "world"}') == 51


def test_one_peer_cannot_take_all_connections(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(served.connect(source="127.0.0.2"))
        wait_until(lambda: served.tcp.turned_away["displaced"] >= 42, "nobody made room", seconds=2)
        assert served.tcp.inside <= QUICK.per_peer
        honest_clients_are_answered(served)


FLOOD = """
import socket, sys, time
held, end = [], time.monotonic() + 3
while time.monotonic() < end:
    for number in range(4):
        try:
            target, source = ("127.0.0.1", int(sys.argv[1])), (f"127.0.1.{number}", 0)
            held.append(socket.create_connection(target, 1, source))
            held[-1].sendall(b"GET /hello HTTP/1.1\\r\\n")
        except OSError:
            pass
    while len(held) > 200:
        held.pop(0).close()
"""


def test_a_flood_of_connections_is_bounded_and_the_honest_get_in(served: Served) -> None:
    most, before = 0, served.tcp.turned_away["displaced"]
    with subprocess.Popen([sys.executable, "-c", FLOOD, str(served.port)]) as flood:
        wait_until(lambda: served.tcp.inside == QUICK.connections, "no flood")
        while flood.poll() is None:
            most = max(most, served.tcp.inside)
            honest_clients_are_answered(served)
    assert most <= QUICK.connections
    assert served.tcp.turned_away["displaced"] > before + 100


def test_those_at_work_are_not_displaced_and_newcomers_are_turned_away(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        working = [stack.enter_context(served.connect()) for _ in range(QUICK.per_peer)]
        for sock in working:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)
        with served.connect() as newcomer:
            assert read_all(newcomer) == b""
        honest_clients_are_answered(served)
        assert all(b"at last" in sock.recv(65536) for sock in working)


def test_a_crowd_on_the_unix_socket_and_one_on_tcp_do_not_touch_each_other(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(served.connect_unix())
        assert served.get()[0] == 200
        assert served.get(sock=served.connect_unix())[0] == 200
        wait_until(lambda: served.local.inside <= QUICK.for_unix_socket().connections, "not bounded")
