"""A git server on loopback in a process of its own, which counts what goes over the wire.

Smart http with keep-alive by ``git http-backend``, which streams both ways as real servers do. As a
program, it prints its port, and then what it counted, as JSON, for each line on its standard input.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from attrs import asdict, define, frozen

from tests.support.upstream import ENVIRONMENT

__all__ = ["GitHttp", "Wire", "git_http"]

TCP_INFO_BYTES = 136
BYTES_OFFSET = 120
"""Of tcpi_bytes_acked and tcpi_bytes_received in ``struct tcp_info``, both of 64 bits."""
CHUNK_BYTES = 65536


@frozen(kw_only=True)
class Wire:
    """What went over the wire, both ways, heads included."""

    requests: int = 0
    connections: int = 0
    bytes: int = 0

    def since(self, before: Wire) -> Wire:
        """Return what came after `before`."""
        return Wire(
            requests=self.requests - before.requests,
            connections=self.connections - before.connections,
            bytes=self.bytes - before.bytes,
        )


@define(eq=False)
class GitHttp:
    """The server as the benchmark sees it."""

    process: subprocess.Popen[str]
    port: int

    def url(self, repository: Path) -> str:
        """The address of `repository`, which is in the directory that is served."""
        return f"http://127.0.0.1:{self.port}/{repository.name}"

    def wire(self) -> Wire:
        """Return what was counted so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Wire(**json.loads(self.process.stdout.readline()))


@contextlib.contextmanager
def git_http(root: Path) -> Iterator[GitHttp]:
    """Serve the bare repositories below `root` while the block runs."""
    command = [sys.executable, "-m", "tests.benchmarks.served", str(root)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield GitHttp(process, int(process.stdout.readline()))
        finally:
            process.kill()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        super().finish()
        self.server.closed(self.connection)

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Keep quiet."""

    def _answer(self, body: bytes) -> None:
        self.server.asked()
        with subprocess.Popen(
            ["git", "http-backend"], env=self._environment(len(body)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as backend:  # fmt: skip
            assert backend.stdin is not None
            assert isinstance(backend.stdout, io.BufferedReader)
            with contextlib.suppress(BrokenPipeError):
                backend.stdin.write(body)
                backend.stdin.close()
            status, headers = 200, []
            while line := backend.stdout.readline().strip().decode():
                name, _, value = line.partition(": ")
                if name == "Status":
                    status = int(value.split()[0])
                elif name != "Content-Length":
                    headers.append((name, value))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while data := backend.stdout.read1(CHUNK_BYTES):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

    def _environment(self, length: int) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        return ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "bench",
            "REMOTE_ADDR": "127.0.0.1",
        }


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._requests = self._connections = self._bytes = 0

    def asked(self) -> None:
        with self._lock:
            self._requests += 1

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections += 1
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
            self._bytes += _bytes_of(connection)

    def wire(self) -> Wire:
        with self._lock:
            count = self._bytes + sum(map(_bytes_of, self._open))
            return Wire(requests=self._requests, connections=self._connections, bytes=count)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may hang up."""


def _bytes_of(connection: socket.socket) -> int:
    """Return what the kernel counted on `connection`, both ways."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    return sum(struct.unpack_from("=QQ", info, BYTES_OFFSET))


def main(root: str) -> None:
    """Serve until the standard input ends."""
    assert shutil.which("git"), "git is not installed"
    with _Server(Path(root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        for _ in sys.stdin:
            print(json.dumps(asdict(server.wire())), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
