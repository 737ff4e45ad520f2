"""A whole host that gitopperd steers: a real systemd, its services, and a git server in its network.

The daemon runs as the unit in `examples/`, is looked at with `gitopperctl` and REST, and is judged by
what the services say. The repositories lie outside of the box: only the network leads there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from typing import Any

from attrs import define, field, frozen

from tests.support.daemon import wait_until
from tests.support.gitserver import HttpServer, http_server
from tests.support.systemdbox import REPOSITORY, SystemdBox
from tests.support.upstream import Upstream

__all__ = ["GitServer", "Host", "Readers", "Reading", "in_network_of", "reading_of"]

SCRIPTS = Path(sys.executable).parent
UNIT = REPOSITORY / "examples/gitopperd.service"
INSTALLED = "/usr/local/bin/gitopperd"
CONFIG = "/etc/gitopper.toml"
DATA = "/var/lib/gitopper"
SOCKET = "/run/gitopper/gitopperd.sock"
LOG_LINES = 40
CLONE_NEWNET = 0x40000000

Answer = dict[str, Any]

_libc = ctypes.CDLL(None, use_errno=True)
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@contextlib.contextmanager
def in_network_of(box: SystemdBox) -> Iterator[None]:
    """What this thread does in the block, it does in the box's network: a socket stays there."""
    # Opened first: what /proc shows of a process can be gone by the time that it is needed.
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/proc/{box.pid}/ns/net").open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


class GitServer:
    """A repository, and its server over http in the box's network, which can go and come back."""

    def __init__(self, box: SystemdBox, upstream: Upstream, port: int) -> None:
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{port}/{upstream.path.name}"
        self._box = box
        self._port = port
        self._running = contextlib.ExitStack()
        self._server: HttpServer | None = None
        self.start()

    def start(self) -> None:
        """Serve the repositories."""
        with in_network_of(self._box):
            self._server = self._running.enter_context(
                http_server(self.upstream.path.parent, port=self._port)
            )

    def stop(self) -> None:
        """Let nobody in, and hang up on those who are."""
        self._running.close()
        if self._server is not None:
            for connection in self._server.sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Be away while the block runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Take requests and never answer them while the block runs; one is there when it begins."""
        assert self._server is not None, "the git server is stopped"
        server, asked = self._server, len(self._server.requests)
        server.hang = True
        try:
            wait_until(lambda: len(server.requests) > asked, "no poll came")
            yield
        finally:
            # Only a server that is started anew lets go of those that hang.
            self.stop()
            self.start()

    def commit(self, files: Mapping[str, str | None]) -> str:
        """Commit `files` (None deletes) and push; return the new hash."""
        return self.upstream.commit(files)


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@frozen(kw_only=True)
class Reading:
    """What one reader of `tests/support/reader.py` found."""

    faults: tuple[str, ...]
    """What was missing or mixed; the first few."""
    rounds: int
    """How often it read everything."""
    texts: int
    """How many different texts it met."""


class Readers:
    """Programs in the box that read directories over and over, until they are stopped."""

    def __init__(self, box: SystemdBox, directories: Sequence[str], count: int = 2) -> None:
        argv = [sys.executable, "-m", "tests.support.reader", *directories]
        self._processes = [box.popen(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE) for _ in range(count)]
        for process in self._processes:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == b"reading\n", (said, process.stderr and process.stderr.read())

    def stop(self) -> list[Reading]:
        """End them, and return what each has found."""
        return [reading_of(process) for process in self._processes]


def reading_of(process: Popen[bytes]) -> Reading:
    """End a reader, and return what it has found."""
    out, err = process.communicate(timeout=20)  # the end of its input tells it
    assert process.returncode == 0, err.decode()
    found = json.loads(out)
    return Reading(faults=tuple(found["faults"]), rounds=found["rounds"], texts=found["texts"])


@define(eq=False)
class Host:
    """The machine `box`: its configuration, its daemon, and what it shows."""

    box: SystemdBox
    directory: Path
    """Where repositories are made."""
    teardown: contextlib.ExitStack = field(factory=contextlib.ExitStack)
    _ports: Iterator[int] = field(factory=lambda: iter(range(8080, 8099)))

    def git_server(self, name: str) -> GitServer:
        """Return a new repository on a server of its own, which runs."""
        server = GitServer(self.box, Upstream.create(self.directory / name, name), next(self._ports))
        self.teardown.callback(server.stop)
        return server

    def install(self) -> None:
        """Put the unit of `examples/` in place, with the path of the program that is tested."""
        text = UNIT.read_text()
        assert text.count(INSTALLED) == 1, "the unit was rewritten, and this helper needs to follow"
        self.box.add_unit("gitopperd.service", text.replace(INSTALLED, str(SCRIPTS / "gitopperd")))

    def configure(self, upstream: str, services: str, **settings: str) -> None:
        """Write the configuration: `services` as TOML, `settings` for ``[global]``."""
        keys = {"upstream": upstream, "interval": "1s", "timeout": "5s", **settings}
        lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        self.box.write(CONFIG, f"[global]\n{lines}{services}")

    def daemon(self, verb: str) -> None:
        """``systemctl start``, ``restart``, … the daemon; a failure comes with what its journal has."""
        done = self.box.run(["systemctl", verb, "gitopperd"])
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"

    def ctl(self, *words: str) -> CompletedProcess[str]:
        """Run gitopperctl on the host, as an operator who is logged in there."""
        return self.box.run([SCRIPTS / "gitopperctl", *words])

    def listed(self) -> dict[str, dict[str, str]]:
        """Return what ``gitopperctl list services`` says, by service."""
        done = self.ctl("-m", "list", "services", "@localhost")
        assert done.returncode == 0, done.stderr
        return {entry["service"]: entry for entry in json.loads(done.stdout)["services"]}

    def get(self, url: str) -> str:
        """GET `url` in the network of the host; empty while nobody answers there, or with an error."""
        try:
            with in_network_of(self.box), _open(url, timeout=10) as response:
                text: str = response.read().decode()
        except urllib.error.HTTPError as exc:
            exc.close()
            return ""
        except OSError:
            return ""
        return text

    def wait_for_answer(self, url: str, part: str, seconds: float = 20) -> None:
        """Wait until what is at `url` has `part` in it."""
        self.wait_until(lambda: part in self.get(url), lambda: f"{url} has {self.get(url)!r}", seconds)

    def ask(self, method: str, path: str) -> Answer:
        """Return what REST answers on the host's Unix socket, any status; empty while nobody answers."""
        with contextlib.closing(_UnixConnection(f"/proc/{self.box.pid}/root{SOCKET}")) as connection:
            try:
                connection.request(method, path)
                with connection.getresponse() as response:
                    answer: Answer = json.loads(response.read())
            except (OSError, HTTPException):
                return {}
        return answer

    def service(self, name: str) -> Answer:
        """Return one service as REST has it; empty while nobody answers."""
        return self.ask("GET", f"/list/service/{name}")

    def wait_for(
        self, name: str, state: str, hash_: str = "", info: str = "", seconds: float = 20
    ) -> Answer:
        """Wait until `name` is in `state`, at `hash_`, with `info` in its info, where these are given."""
        seen: Answer = {}

        def there() -> bool:
            nonlocal seen
            seen = self.service(name)
            right = seen.get("state") == state and info in seen["stateinfo"]
            return right and (not hash_ or seen["hash"] == hash_)

        self.wait_until(there, lambda: f"{name} is not {state} {hash_} {info!r}: {seen}", seconds)
        return seen

    def wait_until(
        self, condition: Callable[[], bool], failure: Callable[[], str], seconds: float = 20
    ) -> None:
        """Wait for `condition`; fail with what `failure` says, and with the daemon's journal."""
        wait_until(condition, lambda: f"{failure()}\n{self.log()}", seconds)

    def log(self) -> str:
        """Return the last that the daemon had to say, for the message of a failed assertion."""
        return "\n".join(self.box.journal("gitopperd").splitlines()[-LOG_LINES:])

    def changes(self) -> list[str]:
        """Return all that systemd did so far, in its words: ``Reloaded nginx.service``, ``Started``, …

        A reading of all unit files is ``daemon-reload``.
        """
        self.box.run(["journalctl", "--sync"], check=True)
        lines = self.box.run(["journalctl", "_PID=1", "--output=cat", "--no-pager"], check=True).stdout
        return [what for line in lines.splitlines() if (what := _change(line))]

    def mounts(self) -> dict[str, tuple[str, str]]:
        """Return our mounts: mount point to id and root. The id is another one after any remount."""
        found = {}
        for line in self.box.read("/proc/1/mountinfo").splitlines():
            ident, _, _, root, point = line.split()[:5]
            if "/.gitopper/releases/" in root:
                assert point not in found, f"{point} is mounted twice"
                found[point] = ident, root
        return found

    def readers(self, *directories: str, count: int = 2) -> Readers:
        """Start programs that read `directories` until they are stopped."""
        return Readers(self.box, directories, count)


def _change(line: str) -> str:
    if re.match(r"Reloading(\.$| requested)", line):
        return "daemon-reload"
    done = re.match(r"(?:Reloaded|Started|Stopped|Reload failed for) \S+\.service", line)
    return done.group() if done else ""
