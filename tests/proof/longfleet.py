"""Many upstreams, many services, and one real daemon for all of them, below one directory.

Repositories grow by ``git fast-import``, which costs little. Most are served over http, every fifth
by ``git daemon``. What a service should show is asked of its repository, by git.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field

from tests.support.daemon import Daemon
from tests.support.gitserver import HOST, HttpServer, git_daemon, http_server
from tests.support.upstream import git

__all__ = ["COMMON", "KEEPS", "Fleet", "Repository", "conf", "fleet"]

COMMON = "common/shared"
"""The file that all services of an upstream map."""
FILES = 4
KEEPS = (2, 3, 4)
"""How many releases are kept, by the one config or the other."""
GIT_EVERY = 5
COLLECT_EVERY = 400
"""Commits between two times that a repository is packed, as whoever hosts it would."""

HEAD = """\
[global]
mount    = "{home}/mount"
interval = "{interval}"
timeout  = "10s"
publish  = "symlink"
keep     = {keep}
command  = ["true"]
"""
SERVICE = """
[[services]]
machine  = "*"
service  = "{name}"
upstream = "{url}"
drift    = "{drift}"
dirs     = [
  {{ local = "{home}/etc/{name}", link = "{name}" }},
  {{ local = "{home}/{place}/{name}", link = "common" }},
]
"""


def conf(service: str) -> str:
    """Return the path, in the repository, of the file by which a service is told from its past."""
    return f"{service}/conf"


@define(kw_only=True, eq=False)
class Repository:
    """One upstream, which may be away."""

    path: Path
    url: str
    services: Sequence[str]
    commits: int = 0

    @property
    def away(self) -> bool:
        """True while nobody finds it where it was."""
        return not self.path.exists()

    def create(self) -> None:
        """Make it, with the first files of each service."""
        self.path.mkdir()
        git(self.path, "init", "--quiet", "--bare", "--initial-branch=main")
        git(self.path, "config", "uploadpack.allowFilter", "true")
        files = {f"{name}/part{at}": f"{name} {at}" * 20 for name in self.services for at in range(FILES)}
        self.commit(files | {conf(name): "first" for name in self.services} | {COMMON: "first"})

    def commit(self, files: Mapping[str, str], *, back: int = 0) -> None:
        """Commit `files` on top of the branch; or of its commit `back` before the tip, by force."""
        self.commits += 1
        parent = git(self.path, "rev-parse", f"main~{back}") if back else "refs/heads/main^0"
        lines = [
            "commit refs/heads/main",
            f"committer Test <test@example.net> {1_700_000_000 + self.commits} +0000",
            "data <<END", f"change {self.commits}", "END", "",
        ]  # fmt: skip
        lines += [f"from {parent}"] if self.commits > 1 else []
        for name, text in files.items():
            lines += [f"M 100644 inline {name}", "data <<END", text, "END", ""]
        git(self.path, "fast-import", "--quiet", "--force", stdin="\n".join([*lines, ""]).encode())
        if self.commits % COLLECT_EVERY == 0:
            git(self.path, "gc", "--quiet")

    def leave(self) -> None:
        """Be where nobody looks."""
        self.path.rename(self._elsewhere)

    def come_back(self) -> None:
        """Be where it was."""
        self._elsewhere.rename(self.path)

    @property
    def _elsewhere(self) -> Path:
        return self.path.with_suffix(".away")

    def tip(self) -> str:
        """Return the hash of its branch."""
        return git(self.path, "rev-parse", "main")

    def text(self, name: str) -> str:
        """Return a file of its branch."""
        return git(self.path, "show", f"main:{name}")

    def size_bytes(self) -> int:
        """Return what its objects take."""
        told = dict(line.split(": ") for line in git(self.path, "count-objects", "-v").splitlines())
        return (int(told["size"]) + int(told["size-pack"])) * 1024


@define(kw_only=True, eq=False)
class Fleet:
    """The host, and all that it follows."""

    home: Path
    repositories: Sequence[Repository]
    daemon: Daemon
    interval_seconds: int
    keep: int = 3
    dropped: set[str] = field(factory=set)
    """Services that the config does not have now."""
    moved: set[str] = field(factory=set)
    """Services whose second directory is elsewhere."""
    _server: HttpServer | None = None
    _serving: contextlib.ExitStack = field(factory=contextlib.ExitStack)

    @property
    def mount(self) -> Path:
        """Where stores and releases are."""
        return self.home / "mount"

    @property
    def pid(self) -> int:
        """The daemon."""
        assert self.daemon.process is not None, "the daemon does not run"
        return self.daemon.process.pid

    def services(self) -> Iterator[tuple[str, Repository]]:
        """Yield each service, with its upstream."""
        for repository in self.repositories:
            yield from ((name, repository) for name in repository.services)

    def local(self, service: str) -> Path:
        """Where a service reads the file `conf`."""
        return self.home / "etc" / service / "conf"

    def shared(self, service: str) -> Path:
        """Where a service reads what it has in common with others."""
        return self.home / self._place(service) / service / Path(COMMON).name

    def configure(self) -> None:
        """Write the config as it is to be now."""
        text = HEAD.format(home=self.home, interval=f"{self.interval_seconds}s", keep=self.keep)
        for number, (name, repository) in enumerate(self.services()):
            drift = "heal" if number % 2 else "report"
            if name not in self.dropped:
                text += SERVICE.format(
                    name=name, url=repository.url, home=self.home, drift=drift, place=self._place(name)
                )
        self.daemon.config.write_text(text)

    def _place(self, service: str) -> str:
        return "elsewhere" if service in self.moved else "common"

    @property
    def serving(self) -> bool:
        """True while the http server takes connections."""
        return self._server is not None

    def serve(self, port: int = 0) -> int:
        """Serve over http; return the port."""
        self._server = self._serving.enter_context(http_server(self.home / "upstreams", port=port))
        return self._server.port

    def close(self) -> None:
        """Take no connection over http any more, and end those that there are."""
        self._server = None
        self._serving.close()

    def forget_requests(self) -> None:
        """Let the server not grow by what it notes for tests that are short."""
        if self._server:
            for noted in (self._server.requests, self._server.authorizations):
                noted.clear()
            self._server.sockets[:] = [sock for sock in self._server.sockets if sock.fileno() >= 0]


@contextlib.contextmanager
def fleet(home: Path, *, services: int, upstreams: int, interval_seconds: int) -> Iterator[Fleet]:
    """Make a fleet, with its daemon not started yet; everything ends with the block."""
    root = home / "upstreams"
    root.mkdir()
    with contextlib.ExitStack() as stack:
        git_port = stack.enter_context(git_daemon(root))
        made = Fleet(home=home, repositories=(), daemon=Daemon(home, ""), interval_seconds=interval_seconds)
        http_port = made.serve()
        stack.callback(made.close)
        names = [f"s{number:03}" for number in range(services)]
        made.repositories = [
            Repository(
                path=root / f"u{at:02}.git",
                services=names[at::upstreams],
                url=f"git://{HOST}:{git_port}/u{at:02}.git"
                if at % GIT_EVERY == GIT_EVERY - 1
                else f"http://{HOST}:{http_port}/u{at:02}.git",
            )
            for at in range(upstreams)
        ]
        for repository in made.repositories:
            repository.create()
        made.configure()
        stack.callback(made.daemon.kill)
        yield made
