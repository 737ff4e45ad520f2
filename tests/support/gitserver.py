"""Real git servers on loopback: smart http, git daemon and sshd, each on a port of its own."""

from __future__ import annotations

import base64
import contextlib
import getpass
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from attrs import define, field

from tests.support.upstream import ENVIRONMENT

__all__ = ["HttpServer", "SshServer", "git_daemon", "http_server", "make_certificate", "ssh_server"]

HOST = "127.0.0.1"

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""


@define(eq=False)
class HttpServer:
    """Smart http through ``git http-backend``, with switches to misbehave that may change while it runs."""

    root: Path
    port: int = 0
    requests: list[str] = field(factory=list)
    """Each request as ``GET /path?query``, in order."""
    connections: int = 0
    credentials: str | None = None
    """``user:password`` that is asked for."""
    authorizations: list[str | None] = field(factory=list)
    """What each request had to say in its ``Authorization`` header."""
    hang: bool = False
    """Accept requests, and never answer them."""
    page: bytes | None = None
    """A page of html that every GET gets."""
    hang_ups: int = 0
    """How many of the next requests are answered by hanging up."""
    drip: bool = False
    """Answer one byte in a tenth of a second."""
    truncate: int | None = None
    """Send only so many bytes of each POST's answer, and hang up."""
    tls: bool = False
    tunnels: list[str] = field(factory=list)
    """Where it was asked to connect to, as a proxy."""
    redirect: str | None = None
    """Where every GET is sent instead."""
    protocol: bool = True
    """False hides protocol version 2, as servers before 2018."""
    answers: dict[tuple[str, str, bytes], Answer] | None = None
    """Answers by what was asked; what is among them, git is not asked again. None: it is, each time."""
    sockets: list[socket.socket] = field(factory=list)
    released: threading.Event = field(factory=threading.Event)
    """Set when the server ends: whatever hangs may go."""

    def url(self, name: str = "fleet", userinfo: str = "") -> str:
        """The address of the repository `name`."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'{userinfo}@' if userinfo else ''}{HOST}:{self.port}/{name}.git"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.state.connections += 1
        self.server.state.sockets.append(self.connection)

    def do_GET(self) -> None:
        state = self._begin()
        if state.redirect and not state.hang:
            self._reply(302, [("Location", state.redirect + self.path)], b"")
        elif state.page is not None:
            self._reply(200, [("Content-Type", "text/html")], state.page)
        else:
            self._answer(b"")

    def do_POST(self) -> None:
        self._begin()
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_CONNECT(self) -> None:
        """Be a proxy for https."""
        self._begin()
        self.server.state.tunnels.append(self.path)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_relay, args=(there, self.connection), daemon=True)
            back.start()
            _relay(self.connection, there)
            back.join(5)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Keep quiet."""

    def _begin(self) -> HttpServer:
        state = self.server.state
        state.requests.append(f"{self.command} {self.path}")
        state.authorizations.append(self.headers["Authorization"])
        return state

    def _answer(self, body: bytes) -> None:
        state = self.server.state
        if state.hang:
            state.released.wait()
            self.close_connection = True
        elif state.hang_ups:
            state.hang_ups -= 1
            self.close_connection = True
        elif state.credentials is not None and not self._authorized(state.credentials):
            self._reply(401, [("WWW-Authenticate", "Basic realm=git")], b"")
        else:
            self._reply(*self._remembered(body))

    def _authorized(self, credentials: str) -> bool:
        expected = base64.b64encode(credentials.encode()).decode()
        return self.headers["Authorization"] == f"Basic {expected}"

    def _remembered(self, body: bytes) -> Answer:
        answers, asked = self.server.state.answers, (self.command, self.path, body)
        if answers is None:
            return self._backend(body)
        if asked not in answers:
            answers[asked] = self._backend(body)
        return answers[asked]

    def _backend(self, body: bytes) -> Answer:
        """Ask ``git http-backend``, a CGI program."""
        path, _, query = self.path.partition("?")
        if "://" in path:  # asked as a proxy
            path = "/" + path.split("/", 3)[3]
        state = self.server.state
        environment = ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "test",
            "REMOTE_ADDR": HOST,
        }
        if state.protocol:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
        )
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        return status, [(n, v) for n, v in headers if n not in ("Status", "Content-Length")], data

    def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        # Chunked, as real servers answer: it must not cost the connection.
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        state = self.server.state
        with contextlib.suppress(ConnectionError):
            if state.drip:
                self._drip(data)
            elif state.truncate is not None and self.command == "POST":
                self.wfile.write(b"%x\r\n" % len(data) + data[: state.truncate])
                self.close_connection = True
            else:
                chunk = b"%x\r\n" % len(data) + data + b"\r\n" if data else b""
                self.wfile.write(chunk + b"0\r\n\r\n")

    def _drip(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n" % len(data))
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self.server.state.released.wait(0.1):
                break
        self.close_connection = True


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # as real servers; the default of 5 resets connections of a burst
    state: HttpServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what some tests are about."""


@contextlib.contextmanager
def http_server(root: Path, *, port: int = 0, certificate: Path | None = None) -> Iterator[HttpServer]:
    """Serve the bare repositories below `root`; `port` 0 takes a free one; https with a `certificate`."""
    state = HttpServer(root=root, tls=certificate is not None)
    with _Server((HOST, port), _Handler) as server:
        server.state = state
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.released.set()
            server.shutdown()
            for sock in state.sockets:  # kept-alive connections end with their server, as everywhere
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def make_certificate(directory: Path) -> Path:
    """A key and a certificate for `HOST`, signed by itself, in one file."""
    path = directory / "server.pem"
    argv = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
        "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}",
        "-keyout", str(path), "-out", str(directory / "cert"),
    ]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    with path.open("ab") as file:
        file.write((directory / "cert").read_bytes())
    return path


@contextlib.contextmanager
def git_daemon(root: Path) -> Iterator[int]:
    """Serve the repositories below `root` by ``git daemon``; yields the port."""
    port = _free_port()
    argv = [
        "git", "daemon", "--reuseaddr", "--export-all", f"--listen={HOST}", f"--port={port}",
        f"--base-path={root}", "--log-destination=none",
    ]  # fmt: skip
    with _running(argv, port):
        yield port


@define(kw_only=True)
class SshServer:
    """An sshd, and what a client needs to get in."""

    port: int
    key: Path
    other_key: Path
    """One that the server does not know."""
    command: str
    """For ``GIT_SSH_COMMAND``: an ssh that knows the server's host key."""
    user: str

    def url(self, path: Path) -> str:
        """The address of the repository at `path`."""
        return f"ssh://{self.user}@{HOST}:{self.port}{path}"


@contextlib.contextmanager
def ssh_server(directory: Path) -> Iterator[SshServer]:
    """An sshd with its files in `directory`, for the user that runs the tests."""
    directory.mkdir(mode=0o700)
    for name in ("host", "client", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name], check=True
        )
    shutil.copy(directory / "client.pub", directory / "authorized_keys")
    port = _free_port()
    (directory / "sshd_config").write_text(
        f"ListenAddress {HOST}:{port}\nHostKey {directory}/host\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\n"
        f"PidFile {directory}/pid\nStrictModes no\nUsePAM yes\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\nLogLevel QUIET\n"
    )
    host_key = (directory / "host.pub").read_text()
    (directory / "known_hosts").write_text(f"[{HOST}]:{port} {host_key}")
    (directory / "ssh_config").write_text(
        f"UserKnownHostsFile {directory}/known_hosts\nGlobalKnownHostsFile /dev/null\nIdentityAgent none\n"
    )
    argv = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", str(directory / "sshd_config")]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on its privilege separation directory
    with _running(argv, port):
        yield SshServer(
            port=port,
            key=directory / "client",
            other_key=directory / "other",
            command=f"ssh -F {directory}/ssh_config",
            user=getpass.getuser(),
        )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(argv: list[str], port: int) -> Iterator[None]:
    """Run a server in a session of its own until the block ends, with all that it started."""
    with subprocess.Popen(
        argv, env=ENVIRONMENT, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        try:
            _await(port, process)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")
