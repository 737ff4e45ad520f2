"""Our side: a gitopperd with many services, as an operator would run it, and what is asked of it."""

from __future__ import annotations

import getpass
import json
import os
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.benchmarks.measure import cpu_seconds
from tests.benchmarks.repositories import link
from tests.support.daemon import Daemon
from tests.support.pushes import signed

__all__ = ["NEVER", "Followed", "Ours", "Stamp", "followed"]

NEVER = "720h"
"""An interval so long that no poll comes by itself."""
SECRET = "a secret of the benchmarks"
WAIT_SECONDS = 600.0

HEAD = """\
[global]
mount    = "{home}/mount"
interval = "{interval}"
timeout  = "10m"
publish  = "symlink"
{reload}
{fetching}

[[webhooks]]
name   = "bench"
kind   = "hmac"
secret = "{home}/secret"
"""
SERVICE = """
[[services]]
machine  = "*"
upstream = "{upstream}"
service  = "{name}"
dirs     = [{{ local = "{home}/etc/{name}", link = "{link}" }}]
"""
STAMPING = """command = ["sh", "-c", "echo $GITOPPER_SERVICE $(date +%s%N) >> {home}/reloads"]"""
"""A reload command that tells when it was started: the same that the git way has."""


@frozen(kw_only=True)
class Followed:
    """A service: its name, and where its files are."""

    name: str
    upstream: str
    link: str


@frozen(kw_only=True)
class Stamp:
    """One reload: of which service, and at what Unix time its command was started."""

    service: str
    seconds: float


def followed(upstream: str, count: int, *, prefix: str = "service") -> list[Followed]:
    """Return `count` services, each on a directory of its own in `upstream`."""
    return [Followed(name=f"{prefix}{at:04}", upstream=upstream, link=link(at)) for at in range(count)]


class Ours:
    """A daemon with its files in `home`; its polls come by webhook only, unless `interval` is given."""

    def __init__(
        self,
        home: Path,
        services: Sequence[Followed],
        *,
        interval: str = NEVER,
        stamping: bool = False,
        as_ourselves: bool = False,
    ) -> None:
        """`as_ourselves`: fetch as the account that runs this, also as root."""
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.services = services
        reload = STAMPING.format(home=home) if stamping else 'action = ""'
        fetching = f'fetch_user = "{getpass.getuser()}"' if as_ourselves else ""
        text = HEAD.format(home=home, interval=interval, reload=reload, fetching=fetching)
        for one in services:
            text += SERVICE.format(home=home, name=one.name, upstream=one.upstream, link=one.link)
        (home / "secret").write_text(SECRET)
        (home / "secret").chmod(0o600)
        self._daemon = Daemon(home, text)
        self._deliveries = 0

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon.process is not None:
            self._daemon.stop(timeout=60)

    @property
    def pid(self) -> int:
        """The process id of the daemon."""
        assert self._daemon.process is not None, "the daemon does not run"
        return self._daemon.process.pid

    @property
    def port(self) -> int:
        """Where it answers on loopback."""
        return self._daemon.port

    def start(self) -> Ours:
        """Start it, and wait until the first pass of every service is done."""
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Start it, and wait until it answers."""
        self._daemon.start()

    def stop(self) -> None:
        """End it in order."""
        self._daemon.stop(timeout=60)

    def wait_until_ready(self) -> None:
        """Wait until its first round is complete, and make sure that every service is OK."""
        end = time.monotonic() + WAIT_SECONDS
        while self._daemon.ask("GET", "/readyz")[0] != 200:
            assert time.monotonic() < end, f"not ready: {self._daemon.text()}"
            time.sleep(0.1)  # each look costs it a millisecond, so they are few
        listed = self._daemon.get("/list/services")["services"]
        wrong = [entry for entry in listed if entry["state"] != "OK"]
        assert len(listed) == len(self.services), f"{len(listed)} services of {len(self.services)}"
        assert not wrong, f"{len(wrong)} services are not OK; the first: {wrong[0]}"

    def cpu_seconds(self) -> float:
        """What it took so far, with its children."""
        return cpu_seconds(self.pid)

    def polls(self) -> float:
        """Return how many polls and checkouts it has made."""
        return self._daemon.metrics()["gitopper_machine_git_ops_total"]

    def push(self) -> float:
        """Tell it by webhook that something was pushed; return the Unix time before that."""
        self._deliveries += 1
        body = json.dumps({"branch": "main", "delivery": self._deliveries}).encode()
        url = f"http://127.0.0.1:{self.port}/hook/bench"
        request = urllib.request.Request(url, body, signed("hmac", body, SECRET))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        begun = time.time()
        with opener.open(request, timeout=30) as response:
            answer: dict[str, Any] = json.loads(response.read())
        assert answer["polling"], answer
        return begun

    def stamps(self) -> list[Stamp]:
        """Return every reload so far, in order."""
        return read_stamps(self.home / "reloads")

    def wait_for_stamps(self, count: int) -> list[Stamp]:
        """Wait until there were `count` reloads in all."""
        return wait_for_stamps(self.home / "reloads", count)


def read_stamps(path: Path) -> list[Stamp]:
    """Return what reload commands wrote to `path`."""
    text = path.read_text() if path.exists() else ""
    rows = (line.split() for line in text.splitlines())
    return [Stamp(service=name, seconds=int(nanoseconds) / 1e9) for name, nanoseconds in rows]


def wait_for_stamps(path: Path, count: int) -> list[Stamp]:
    """Wait until reload commands wrote `count` stamps to `path`."""
    end = time.monotonic() + WAIT_SECONDS
    while len(found := read_stamps(path)) < count:
        assert time.monotonic() < end, f"{len(found)} reloads of {count} came"
        time.sleep(0.01)
    return found


def files_bytes(roots: Iterable[Path]) -> int:
    """Return the disk that the regular files below `roots` take, without any ``.git``."""
    total = 0
    for root in roots:
        for directory, names, files in os.walk(root):
            names[:] = [name for name in names if name != ".git"]
            total += sum(Path(directory, file).lstat().st_blocks * 512 for file in files if file != ".git")
    return total
