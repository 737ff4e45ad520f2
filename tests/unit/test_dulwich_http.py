"""Servers of smart http that answer with something else than a repository."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from attrs import define, field

from gitopper_plugins.dulwich.access import Access
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.connection import Origin
from gitopper_plugins.dulwich.failures import DeniedError, GarbledError, UnusableError
from gitopper_plugins.dulwich.http import HttpTransport
from gitopper_plugins.dulwich.pkt import Mark, framed

GREETING = framed(b"# service=git-upload-pack\n", Mark.FLUSH, b"version 2\n", b"fetch\n", Mark.FLUSH)


@define
class Site:
    """What the server says: a status and a place for each method."""

    port: int
    get: tuple[int, str] = (200, "")
    post: tuple[int, str] = (200, "")
    body: bytes = b""
    kind: str = "result"
    """Of what a POST is answered with."""
    asked: list[str] = field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fleet.git"


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(made.get, GREETING)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(made.post, made.body)

        def answer(self, how: tuple[int, str], body: bytes) -> None:
            status, place = how
            made.asked.append(self.path)
            self.send_response(status)
            if place:
                self.send_header("Location", place)
            kind = "advertisement" if self.command == "GET" else made.kind
            self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Site(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def transport(site: Site) -> Iterator[HttpTransport]:
    transport = HttpTransport(upstream=site.url)
    yield transport
    transport.close()


def ask(transport: HttpTransport) -> bytes:
    with (
        transport.session(Access(), Deadline.after(10)) as session,
        session.ask(b"0000") as answer,
    ):
        return answer.read()


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, DeniedError, "check the credentials"),
        (403, DeniedError, "may read this repository"),
        (404, UnusableError, "check the URL"),
        (410, UnusableError, "the server says 410 Gone$"),
        (503, UnusableError, "the server says 503 Service Unavailable$"),
    ],
)
def test_a_status_is_told_with_what_to_do(
    site: Site, transport: HttpTransport, status: int, kind: type[Exception], words: str
) -> None:
    site.get = status, ""
    with pytest.raises(kind, match=words):
        ask(transport)


def test_an_answer_to_something_else_is_not_taken_for_one_to_what_was_asked(
    site: Site, transport: HttpTransport
) -> None:
    """As one that came twice on a connection that is kept."""
    site.kind = "advertisement"
    with pytest.raises(GarbledError, match="no answer to what it was asked"):
        ask(transport)


def test_a_redirect_in_the_middle_of_a_session_is_refused(site: Site, transport: HttpTransport) -> None:
    site.post = 302, "/elsewhere.git"
    with pytest.raises(UnusableError, match=r"says 302 Found in the middle; set `upstream`"):
        ask(transport)


def test_a_redirect_to_something_that_is_no_repository_is_refused(
    site: Site, transport: HttpTransport
) -> None:
    site.get = 302, "https://me:secret@login.example.net/form"
    with pytest.raises(UnusableError, match=r"redirected to https://login\.example\.net/form; refused"):
        ask(transport)


def test_what_is_left_of_a_short_answer_is_read_and_the_connection_used_again(
    site: Site, transport: HttpTransport
) -> None:
    site.body = b"x" * 1000
    with (
        transport.session(Access(), Deadline.after(10)) as session,
        session.ask(b"0000") as answer,
    ):
        assert answer.read(10) == b"x" * 10
    assert ask(transport) == site.body
    # The greeting is known from the first session.
    assert site.asked == [
        "/fleet.git/info/refs?service=git-upload-pack",
        *["/fleet.git/git-upload-pack"] * 2,
    ]


def test_of_two_sessions_at_once_the_connection_of_one_is_kept(
    site: Site, transport: HttpTransport
) -> None:
    site.body = b"answer"
    with transport.session(Access(), Deadline.after(10)) as one:
        with one.ask(b"0000") as answer:
            answer.read()
        assert ask(transport) == b"answer"
    assert ask(transport) == b"answer"


@pytest.mark.parametrize("url", ["http://[::1/x", "http://host:port/x", "ftp://host/x", "http:///x"])
def test_what_is_no_http_address_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(UnusableError, match="not an http address") as caught:
        Origin.of(url)
    assert not caught.value.retryable
