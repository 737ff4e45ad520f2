"""One host in one directory: an upstream behind a real http server, and a real gitopperd on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.gitserver import HttpServer, http_server
from tests.support.upstream import Upstream

__all__ = ["Site", "site"]

HEAD = """\
[global]
upstream = "{url}"
mount    = "{home}/mount"
interval = "{interval}"
timeout  = "{timeout}"
publish  = "symlink"
command  = ["sh", "-c", "echo $GITOPPER_SERVICE $GITOPPER_REVISION >> {home}/reloads"]
"""

SERVICE = """
[[services]]
machine = "*"
service = "{name}"
dirs    = [{{ local = "{home}/etc/{name}", link = "{name}/etc" }}]
{more}
"""


class Site:
    """The parts of one test, and what a test asks of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.upstream = Upstream.create(home / "upstreams")
        self._running = contextlib.ExitStack()
        self.server = self._serve()
        self.url = self.server.url()
        self.daemon = Daemon(home, "")

    def _serve(self, port: int = 0) -> HttpServer:
        return self._running.enter_context(http_server(self.upstream.path.parent, port=port))

    def start_server(self) -> HttpServer:
        """Serve the upstream; again at the address that it had."""
        self.server = self._serve(self.server.port)
        return self.server

    def stop_server(self) -> None:
        """Refuse connections from now on."""
        self._running.close()

    def configure(self, *services: str, interval: str = "1s", timeout: str = "5s", url: str = "") -> None:
        """Write a config with `services`, given as a name, or as ``name: further lines``."""
        text = HEAD.format(url=url or self.url, home=self.home, interval=interval, timeout=timeout)
        for service in services:
            name, _, more = service.partition(": ")
            text += SERVICE.format(name=name, home=self.home, more=more)
        self.daemon.config.write_text(text)

    def commit(self, service: str = "web", text: str = "1", **more: str) -> str:
        """Commit one file of `service`."""
        return self.upstream.commit({f"{service}/etc/conf": text, **more})

    def shown(self, service: str = "web") -> str:
        """What the service reads now."""
        return (self.home / "etc" / service / "conf").read_text()

    def reloads(self, service: str = "web") -> list[str]:
        """The revision at each reload of `service`."""
        path = self.home / "reloads"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.split()[0] == service]

    def live(self, service: str = "web") -> Path:
        """The release that `service` sees."""
        return self.home / "mount" / service


@contextlib.contextmanager
def site(home: Path) -> Iterator[Site]:
    """Make a site; its daemon and its server end with the block, whatever happens."""
    made = Site(home)
    try:
        yield made
    finally:
        made.daemon.kill()
        made.stop_server()
