"""The health plugin against real servers on loopback, good and bad in every way, and real programs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import health
from libgitopper import Accepted, Health, HealthError, HealthRequest, HealthWatch, Hooks
from libgitopper.testing.reload import request_for, service_for_tests
from tests.support.certificates import Authority, Pair

Handler = Callable[[socket.socket], None]


def request(wanted: Health | None, timeout_seconds: float = 10.0) -> HealthRequest:
    service = service_for_tests("web", health=wanted)
    return HealthRequest(
        service=service,
        release=request_for(service).release,
        since=datetime.now(UTC),
        timeout_seconds=timeout_seconds,
    )


def probe(timeout_seconds: float = 10.0, **wanted: object) -> Accepted | None:
    return health.gitopper_health(request(Health(**wanted), timeout_seconds))  # type: ignore[arg-type]


def trouble(timeout_seconds: float = 10.0, **wanted: object) -> str:
    """What a probe that must fail says."""
    with pytest.raises(HealthError) as caught:
        probe(timeout_seconds, **wanted)
    text = str(caught.value)
    assert text.isprintable()
    return text


class Server:
    """Answers each connection on loopback with `handler`, in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def wait(self, seconds: float) -> bool:
        """Do nothing for a while; True when the server closes meanwhile."""
        return self._over.wait(seconds)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            self.handler(connection)


Serve = Callable[[Handler], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def start(handler: Handler) -> Server:
            server = Server(handler)
            stack.callback(server.close)
            return server

        yield start


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(4096)
        if not got:
            break
        data += got
    return data


def answering(status: str, body: bytes = b"", *headers: str) -> Handler:
    """A handler that reads a request and answers it."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    head = "\r\n".join([*lines, "", ""]).encode()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head + body)

    return handle


TEXT = "Content-Type: text/plain; charset=utf-8"


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "399 Odd"])
def test_any_answer_of_2xx_and_3xx_is_healthy(serve: Serve, status: str) -> None:
    server = serve(answering(status))
    assert probe(http=f"http://127.0.0.1:{server.port}/-/ready") == Accepted(judged=("health",))


@pytest.mark.parametrize("status", [199, 400, 404, 500, 503])
def test_any_other_answer_is_not_and_its_code_is_told(serve: Serve, status: int) -> None:
    server = serve(answering(f"{status} Whatever"))
    url = f"http://127.0.0.1:{server.port}/-/ready"
    assert trouble(http=url) == f"{url} answers {status}"


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    elsewhere = serve(answering("503 No"))
    location = f"Location: http://127.0.0.1:{elsewhere.port}/"
    server = serve(answering("307 Temporary Redirect", b"", location))
    assert probe(http=f"http://127.0.0.1:{server.port}/") == Accepted(judged=("health",))


def test_what_is_asked_for_is_what_is_written(serve: Serve) -> None:
    seen: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    server = serve(handle)
    probe(http=f"http://localhost:{server.port}/a%20b/ready?full=1&token=secret#part")
    lines = seen[0].decode().splitlines()
    assert lines[0] == "GET /a%20b/ready?full=1&token=secret HTTP/1.1"
    assert f"Host: localhost:{server.port}" in lines
    probe(http=f"http://127.0.0.1:{server.port}?x")
    assert seen[1].startswith(b"GET /?x HTTP/1.1\r\n")


def test_what_the_server_says_is_shown_in_one_line(serve: Serve) -> None:
    body = "configuration\x1b[31m not loaded:\r\n  no such\tport \u2028 ü".encode()
    server = serve(answering("503 Service Unavailable", body, TEXT))
    url = f"http://127.0.0.1:{server.port}/"
    assert trouble(http=url) == f"{url} answers 503: configuration [31m not loaded: no such port ü"


def test_of_a_long_answer_only_the_beginning_is_read_and_shown(serve: Serve) -> None:
    sent = []

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 500 No\r\n{TEXT}\r\n\r\n".encode())
        for n in range(1000):
            connection.sendall(b"x" * 100_000)
            sent.append(n)

    server = serve(handle)
    text = trouble(http=f"http://127.0.0.1:{server.port}/")
    assert text.startswith(f"http://127.0.0.1:{server.port}/ answers 500: xxxx")
    assert len(text) <= 300
    server.wait(0.2)
    assert len(sent) < 1000


def test_markup_is_not_shown(serve: Serve) -> None:
    server = serve(answering("502 Bad Gateway", b"<html>\r\n<head>", "Content-Type: text/html"))
    assert trouble(http=f"http://127.0.0.1:{server.port}/").endswith("/ answers 502")


def test_secrets_of_a_url_are_not_shown(serve: Serve) -> None:
    server = serve(answering("500 No"))
    base = f"http://127.0.0.1:{server.port}/ready"
    assert trouble(http=f"{base}?token=secret") == f"{base}?… answers 500"
    text = trouble(http=f"http://user:secret@127.0.0.1:{server.port}/")
    assert "secret" not in text
    assert "leave them out" in text


def test_no_proxy_of_the_environment_is_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answering("200 OK"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert probe(http=f"http://127.0.0.1:{server.port}/") == Accepted(judged=("health",))


def silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def dripping(prefix: bytes) -> Handler:
    """Sends something all the time, and never comes to an end."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(prefix)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return handle


@pytest.mark.parametrize(
    "handler",
    [silent, dripping(b""), dripping(b"HTTP/1.1 200 "), dripping(b"HTTP/1.1 200 OK\r\nX-Long: ")],
    ids=["silent", "status", "reason", "header"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_hangs_or_drips_is_given_up_at_the_deadline(
    serve: Serve, handler: Handler, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:{serve(handler).port}/"
    started = time.monotonic()
    text = trouble(0.4, http=url)
    assert time.monotonic() - started < 1.5
    assert text.startswith(f"{url}: ")
    if scheme == "http":
        assert text == f"{url}: no answer within 0.4s"


def test_a_body_that_drips_holds_up_nobody(serve: Serve) -> None:
    head = f"HTTP/1.1 503 No\r\nContent-Length: 1000\r\n{TEXT}\r\n\r\n".encode()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        time.sleep(1.5)

    url = f"http://127.0.0.1:{serve(handle).port}/"
    started = time.monotonic()
    assert trouble(http=url) == f"{url} answers 503"
    assert time.monotonic() - started < 1.4
    good = serve(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    assert probe(1.0, http=f"http://127.0.0.1:{good.port}/") == Accepted(judged=("health",))


@pytest.mark.parametrize(
    ("sends", "told"),
    [
        (b"", "hung up without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP (BadStatusLine)"),
        (b"HTTP/1.1 OK\r\n\r\n", "does not answer in HTTP (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "does not answer in HTTP (HTTPException)"),
        (b"HTTP/1.1 200 " + b"x" * 70_000, "does not answer in HTTP (LineTooLong)"),
    ],
)
def test_what_is_no_http_is_told(serve: Serve, sends: bytes, told: str) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sends)

    url = f"http://127.0.0.1:{serve(handle).port}/"
    assert trouble(http=url) == f"{url}: {told}"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only CA that the system trusts."""
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return authority


def over_tls(pair: Pair, handler: Handler) -> Handler:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            handler(encrypted)

    return handle


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_https_is_verified_by_the_systems_cas(serve: Serve, authority: Authority, host: str) -> None:
    server = serve(over_tls(authority.issue("good"), answering("200 OK")))
    assert probe(http=f"https://{host}:{server.port}/") == Accepted(judged=("health",))
    bad = serve(over_tls(authority.issue("bad"), answering("503 No")))
    assert trouble(http=f"https://{host}:{bad.port}/").endswith("/ answers 503")


def test_a_certificate_that_is_not_good_is_told(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    pairs = {
        "unable to get local issuer": stranger.issue("stranger"),
        "expired": authority.issue("old", end="20210101000000Z"),
        "IP address mismatch": authority.issue("other", names="DNS:other.example.net"),
    }
    for reason, pair in pairs.items():
        url = f"https://127.0.0.1:{serve(over_tls(pair, answering('200 OK'))).port}/"
        text = trouble(http=url)
        assert text.startswith(f"{url}: its certificate is not trusted: ")
        assert reason in text


def test_plain_http_where_https_is_asked_for_is_told(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = f"https://127.0.0.1:{serve(handle).port}/"
    assert trouble(http=url) == f"{url}: no TLS with it: wrong version number"


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_port_that_takes_connections_is_healthy(serve: Serve) -> None:
    server = serve(silent)
    assert probe(tcp=f"127.0.0.1:{server.port}") == Accepted(judged=("health",))
    assert probe(tcp=f"localhost:{server.port}") == Accepted(judged=("health",))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        assert probe(tcp=f"[::1]:{six.getsockname()[1]}") == Accepted(judged=("health",))


def test_a_port_that_takes_none_is_told() -> None:
    port = unused_port()
    assert trouble(tcp=f"127.0.0.1:{port}") == f"tcp 127.0.0.1:{port}: Connection refused"
    assert trouble(http=f"http://127.0.0.1:{port}/x") == f"http://127.0.0.1:{port}/x: Connection refused"


def test_a_probe_does_not_take_itself_for_the_service() -> None:
    # A connection from the very port that it goes to meets itself: TCP calls that a simultaneous open.
    from gitopper_plugins._channel import _refuse_ourselves

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            _refuse_ourselves(sock)


def test_a_full_backlog_ends_at_the_deadline() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        where = f"127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        assert trouble(0.4, tcp=where) == f"tcp {where}: no answer within 0.4s"
        assert time.monotonic() - started < 1.5


def test_a_resolver_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *args: object, flags: int = 0, **more: object) -> object:
        if not flags:
            over.wait(10)
        return real(host, *args, flags=flags, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        started = time.monotonic()
        assert trouble(0.3, tcp="localhost:80") == "tcp localhost:80: no answer within 0.3s"
        assert time.monotonic() - started < 1.5
    finally:
        over.set()


@pytest.mark.parametrize("wanted", [{"tcp": "nosuch.invalid:80"}, {"http": "http://nosuch.invalid/"}])
def test_a_name_that_nobody_has_is_told(wanted: dict[str, str]) -> None:
    assert "nosuch.invalid" in trouble(20.0, **wanted)


@pytest.mark.parametrize("wanted", ["127.0.0.1:99999", "127.0.0.1:x", "127.0.0.1", "x" * 70 + ":1"])
def test_an_address_that_is_none_is_told(wanted: str) -> None:
    assert trouble(tcp=wanted).startswith(f"tcp {wanted}: ")


@pytest.mark.parametrize(
    "wanted", ["ftp://127.0.0.1/", "http://", "http://[::1", "http://x:99999/", "/ready"]
)
def test_a_url_that_is_none_is_told(wanted: str) -> None:
    assert trouble(http=wanted).startswith("http: ")


def python(code: str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code, *more)


def test_a_command_that_ends_with_0_is_healthy(tmp_path: Path) -> None:
    out = tmp_path / "environment"
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    asked = request(Health(command=python(code, str(out))))
    os.environ["NOTIFY_SOCKET"] = "/run/systemd/notify"
    try:
        assert health.gitopper_health(asked) == Accepted(judged=("health",))
    finally:
        del os.environ["NOTIFY_SOCKET"]
    seen = json.loads(out.read_text())
    assert seen["GITOPPER_SERVICE"] == "web"
    assert seen["GITOPPER_REVISION"] == asked.release.content.revision
    assert seen["GITOPPER_RELEASE"] == str(asked.release.path)
    assert seen["PATH"] == os.environ["PATH"]
    assert not {"NOTIFY_SOCKET", "GITOPPER_FIRST"} & seen.keys()


def test_a_command_that_fails_gives_its_code_and_its_last_words() -> None:
    text = trouble(command=("sh", "-c", "echo checking; printf 'queue \\033[1mfull\\n\\n' >&2; exit 3"))
    assert text.endswith("exit code 3: queue [1mfull")


def test_a_command_that_hangs_is_ended_and_its_last_words_are_told(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; echo waiting for the lock; exec sleep 60"
    started = time.monotonic()
    text = trouble(0.5, command=("sh", "-c", script))
    assert time.monotonic() - started < 4
    assert "not done after 0.5 s" in text
    assert "said last: waiting for the lock" in text
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_command_that_is_not_there_is_named() -> None:
    assert "/no/such/probe: can't be started: No such file" in trouble(command=("/no/such/probe",))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo System has not been booted; exit 1", "System has not been booted"),
        ("exec sleep 60", "not done after 0.3 s, ended"),
        (None, "can't be started: No such file or directory"),
    ],
)
def test_a_systemd_that_does_not_tell_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, told: str
) -> None:
    if script:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
        (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trouble(0.3, unit=True) == f"unit web.service: systemctl show: {told}"


def test_a_service_that_can_be_no_unit_is_told() -> None:
    service = service_for_tests("a b", health=Health(unit=True))
    asked = evolve(request(None), service=service)
    with pytest.raises(HealthError, match="'a b' can't be the name of a unit"):
        health.gitopper_health(asked)


def test_everything_must_hold_at_once_and_what_does_not_is_told(serve: Serve) -> None:
    good = serve(answering("200 OK"))
    port = unused_port()
    url, where = f"http://127.0.0.1:{good.port}/", f"127.0.0.1:{good.port}"
    assert probe(http=url, tcp=where, command=("true",)) == Accepted(judged=("health",))
    assert trouble(http=url, tcp=where, command=("false",)) == "false: exit code 1"
    assert trouble(http=f"http://127.0.0.1:{port}/", tcp=f"127.0.0.1:{port}", command=("false",)) == (
        f"tcp 127.0.0.1:{port}: Connection refused; http://127.0.0.1:{port}/: Connection refused;"
        " false: exit code 1"
    )


def test_one_that_hangs_does_not_give_the_others_more_time(serve: Serve) -> None:
    server = serve(silent)
    started = time.monotonic()
    text = trouble(0.4, http=f"http://127.0.0.1:{server.port}/", command=("sleep", "60"))
    assert time.monotonic() - started < 4
    assert "no answer within 0.4s; sleep 60: not done" in text


def test_a_service_without_health_is_not_watched_and_costs_nothing() -> None:
    assert health.gitopper_health(request(None)) is None
    code = (
        "import sys, gitopper_plugins.health as health; before = set(sys.modules);"
        "from libgitopper import load_plugins; hooks = load_plugins();"
        "print(sorted({'gitopper_plugins._http', 'gitopper_plugins.window'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gitopper_plugins.window']"


def test_it_is_watched_until_the_server_is_ready(serve: Serve) -> None:
    answers = iter(["503 Not Yet", "503 Not Yet"])

    def handle(connection: socket.socket) -> None:
        answering(next(answers, "200 OK"), b"loading", TEXT)(connection)

    hooks = Hooks()
    hooks.register(health)
    wanted = Health(
        http=f"http://127.0.0.1:{serve(handle).port}/", within_seconds=20, interval_seconds=0.05
    )
    asked = request(wanted)
    watch = HealthWatch(hooks=hooks)
    answers = watch.run(asked.service, asked.release, since=asked.since, still=lambda: True)
    assert answers == (Accepted(judged=("health",)),)


def test_a_server_that_never_gets_ready_is_given_up_in_time(serve: Serve) -> None:
    hooks = Hooks()
    hooks.register(health)
    url = f"http://127.0.0.1:{serve(answering('503 Service Unavailable')).port}/-/ready"
    asked = request(Health(http=url, within_seconds=0.5, interval_seconds=0.1))
    started = time.monotonic()
    with pytest.raises(HealthError) as caught:
        HealthWatch(hooks=hooks).run(asked.service, asked.release, since=asked.since, still=lambda: True)
    assert time.monotonic() - started < 2
    assert str(caught.value) == f"not healthy within 0.5s: {url} answers 503"
