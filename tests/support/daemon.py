"""A real gitopperd as a process of its own, and ways to look at it as an operator would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

BIN = Path(sys.executable).parent
WAIT_SECONDS = 20.0

Answer = dict[str, Any]


@contextlib.contextmanager
def manager(path: Path) -> Iterator[Callable[[], list[str]]]:
    """Be a service manager at `path`; gives a call that returns what it was told, first lines only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.setblocking(False)

        def told() -> list[str]:
            found: list[str] = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append(listener.recv(1000).decode().partition("\n")[0])
            return found

        yield told


class Daemon:
    """`gitopperd` on a config file below `home`; its log is in `log`."""

    def __init__(self, home: Path, config: str, *arguments: str) -> None:
        self.home = home
        self.config = home / "gitopper.toml"
        self.config.write_text(config)
        self.log = home / "gitopperd.log"
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.python = Path(sys.executable)
        self.address: str | None = "127.0.0.1:0"
        """For ``-a``; None: what the config says."""

    def command(self, *arguments: str) -> list[str]:
        """The command line, with its own state, its own socket and a free port."""
        root = [] if os.geteuid() == 0 else ["--no-root"]
        where = ["--state-dir", str(self.home / "state"), "--socket", str(self.home / "gitopperd.sock")]
        listen = ["-a", self.address] if self.address else []
        base = [str(self.python), "-m", "gitopperd", *root, "-c", str(self.config), *listen, *where]
        return [*base, *self.arguments, *arguments]

    def start(self) -> Daemon:
        """Start it, and wait until it answers."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, stdout=log)
        wait_until(lambda: self._find_port(before), f"no address in the log:\n{self.text()}")
        return self

    def _find_port(self, before: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"gitopperd ended:\n{self.text()}"
        for line in self.log.read_bytes()[before:].decode().splitlines():
            if "answering on " in line and (address := line.split("answering on ")[1].split()[0]):
                self.port = int(address.rpartition(":")[2])
        return self.port != 0

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it with ``--once``."""
        return self.run("--once", *arguments, timeout=60)

    def run(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run it where it ends by itself."""
        command = self.command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 10) -> int:
        """Signal it, wait for its end, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout)
        self.process, self.port = None, 0
        return code

    def restart(self, number: signal.Signals = signal.SIGTERM) -> Daemon:
        """Stop and start it."""
        self.stop(number)
        return self.start()

    def text(self) -> str:
        """Return its whole log."""
        return self.log.read_text()

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def get(self, path: str) -> Answer:
        """GET, any status."""
        return self.ask("GET", path)[1]

    def post(self, path: str) -> Answer:
        """POST, any status."""
        return self.ask("POST", path)[1]

    def ask(self, method: str, path: str, *, tcp: bool = False) -> tuple[int, Answer]:
        """Return status and JSON body; over the Unix socket, where we are known, or over TCP."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            if not tcp:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(10)
                connection.sock.connect(str(self.home / "gitopperd.sock"))
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def metrics(self) -> dict[str, float]:
        """Return every sample: name with labels, as exposed, to value."""
        with build_opener(ProxyHandler({})).open(
            f"http://127.0.0.1:{self.port}/metrics", timeout=10
        ) as got:
            lines = got.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def service(self, name: str) -> Answer:
        """Return one service as the API shows it."""
        return self.get(f"/list/service/{name}")

    def wait_for(self, name: str, state: str, hash_: str | None = None, info: str = "") -> Answer:
        """Wait until the service is in `state` (at `hash_`, with `info` in its info)."""

        def there() -> bool:
            seen = self.service(name)
            right = hash_ is None or seen.get("hash") == hash_
            return seen.get("state") == state and right and info in seen.get("stateinfo", "")

        wait_until(
            there, lambda: f"{name} is not {state} {hash_} {info}: {self.service(name)}\n{self.text()}"
        )
        return self.service(name)


def wait_until(
    condition: Callable[[], bool], failure: str | Callable[[], str], seconds: float = WAIT_SECONDS
) -> None:
    """Wait for `condition`; fail with what `failure` says when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(failure() if callable(failure) else failure)
        time.sleep(0.05)
