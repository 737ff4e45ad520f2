"""A host in one directory, with a gitopperd that may be killed while it runs.

The daemon is the real one, from its command line on; only the start of the interpreter is saved: it is
forked from a process that has imported it. What the reload command sees, it writes down.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from attrs import frozen

from gitopper_plugins import mountapi
from gitopperd.main import main
from libgitopper import Config, Service, StateStore, load_config, load_plugins
from tests.proof.heldup import HeldUp, Run, Whom, start
from tests.support.upstream import Upstream

__all__ = ["BESIDE", "FILES", "NAME", "Host", "Watch", "plugins"]

NAME = "web"
FILES = ("web/etc/a", "web/etc/sub/b", "web/main.conf")
"""What a version of the service consists of: each holds the name of the version."""
BESIDE = "app"
"""The service beside it, where the configuration has one: a directory, the same in every version."""
SETTINGS = "conf/gitopper.toml"
"""The configuration in the repository, where the daemon gets it from there."""

Watch = Callable[[], Sequence[str]]
"""Looks at the host, and returns what is wrong."""

CONFIG = """\
[global]
upstream = "{upstream}"
mount    = "{home}/mount"
publish  = "{publish}"
command  = ["/bin/sh", "{home}/reload.sh"]
fetch_user = "{reader}"
interval = "1h"
timeout  = "10s"

[[services]]
machine = "*"
service = "web"
keep    = 2
dirs    = [
  {{ local = "{home}/{etc}/web", link = "web/etc" }},
  {{ local = "{home}/{etc}/web.conf", link = "web/main.conf", file = true }},
]
{more}
"""

RELOAD = """\
# Which flip of the link this reload is for, and what there is to see.
set -e
flip=$(stat -c '%i %.9Z' {home}/mount/web)
seen=$(cat {home}/{etc}/web.conf)
echo "$flip $seen" >> {home}/reloads
"""


@frozen(kw_only=True)
class Host:
    """The directory `home`, and all that a test does in it."""

    home: Path
    publish: str = "symlink"
    address: str = ""
    """Where its upstream is, read by a process without rights; empty for the file system."""
    bootstrap: bool = False
    """The daemon gets its configuration from the repository."""

    @property
    def upstream(self) -> Upstream:
        """What the service follows."""
        return Upstream(path=self.home / "upstreams/fleet.git", work=self.home / "upstreams-fleet-work")

    @property
    def log(self) -> Path:
        """What the daemon says; beside the host, since it is no part of what is proven."""
        return self.home.with_name(f"{self.home.name}.log")

    @property
    def socket(self) -> Path:
        """Where the daemon answers."""
        return self.home / "socket"

    @property
    def state(self) -> StateStore:
        """The state, opened; the caller closes it."""
        return StateStore(self.home / "state/state.db")

    @property
    def config(self) -> Config:
        """The configuration that stands now."""
        return load_config(
            self.home / "gitopper.toml", hosts=frozenset({"here"}), root=os.geteuid() == 0, environ={}
        )

    @property
    def service(self) -> Service:
        """The service, as it is configured now."""
        [found] = [service for service in self.config.services if service.name == NAME]
        return found

    def make(self) -> None:
        """Make the host, with an upstream that has nothing yet."""
        for name in ("tmp", "bin"):
            (self.home / name).mkdir(parents=True)
        self.upstream.path.parent.mkdir()
        Upstream.create(self.upstream.path.parent)
        self.configure()

    def configure(self, *more: str, etc: str = "etc", publish: str = "") -> str:
        """Write the configuration of the service, with the lines `more`, and return it."""
        text = CONFIG.format(
            home=self.home, upstream=self.address or self.upstream.url, publish=publish or self.publish,
            etc=etc, reader="nobody" if self.address else "root",
            more="\n".join(more).format(home=self.home),
        )  # fmt: skip
        (self.home / "gitopper.toml").write_text(text)
        (self.home / "reload.sh").write_text(RELOAD.format(home=self.home, etc=etc))
        return text

    def commit(self, version: str, **others: str) -> str:
        """Commit a version of the service, aside; it is upstream's once it is pushed."""
        settings = {SETTINGS: self.configure()} if self.bootstrap else {}
        files = {**dict.fromkeys(FILES, f"{version}\n"), f"{BESIDE}/conf": "app\n", **settings, **others}
        return self.upstream.commit(files, branch="aside")

    def keep(self, version: str, commit: str) -> None:
        """Remember the commit of a version."""
        (self.upstream.path / f"version-{version}").write_text(commit)

    def kept(self, version: str) -> str:
        """The commit of a version."""
        return (self.upstream.path / f"version-{version}").read_text()

    def push(self, version: str) -> None:
        """Make a version the tip of the branch that the service follows."""
        (self.upstream.path / "refs/heads/main").write_text(f"{self.kept(version)}\n")

    def once(self, *, kill_at: int = 0, whom: Whom = Whom.ALL, watch: Watch | None = None) -> Run:
        """Run the daemon once; held up and counted."""
        body = partial(self._daemon, "--once")
        return start(body, kill_at=kill_at, whom=whom, silent=self.log, watch=watch)

    def serve(
        self,
        visit: Callable[[HeldUp], None],
        *,
        kill_at: int = 0,
        whom: Whom = Whom.ALL,
        watch: Watch | None = None,
    ) -> Run:
        """Run the daemon until the visitor ends it; held up and counted."""
        return start(self._daemon, kill_at=kill_at, whom=whom, silent=self.log, watch=watch, visit=visit)

    def freely(self) -> int:
        """Run the daemon once, as anybody would; return its exit code."""
        child = os.fork()
        if child == 0:
            code = 111
            try:
                os.setsid()
                code = self._daemon("--once")
            except BaseException:  # noqa: BLE001 - it must not return into the caller's code
                traceback.print_exc()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def take_down(self) -> None:
        """Unmount all that is mounted on the host, as at its end."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (point := line.split()[4]).startswith(f"{self.home}/"):
                subprocess.run(["umount", "--lazy", point], check=True)

    def put_up(self) -> None:
        """Mount again what was: the live release of each service that is published so."""
        for service in self.config.services:
            if service.publish == "bind":
                for mapping in service.mappings:
                    tree = mountapi.clone(self.home / "mount" / service.name / mapping.link)
                    mountapi.attach(tree, mapping.local)
                    os.close(tree)

    def save(self) -> None:
        """Keep the host as it is now."""
        subprocess.run(["cp", "-a", self.home, self._kept], check=True)

    def restore(self) -> None:
        """Bring back the host that was kept."""
        subprocess.run(["rm", "-rf", self.home, self.log], check=True)
        subprocess.run(["cp", "-a", self._kept, self.home], check=True)
        # A copy of the link is another link: that it was reloaded for stays true.
        with contextlib.suppress(FileNotFoundError):
            shown = (self.home / "reloads").read_text().split()[-1]
            (self.home / "reloads").write_text(f"{self.flip()} {shown}\n")

    @property
    def _kept(self) -> Path:
        return self.home.with_name(f"{self.home.name}.kept")

    def flip(self) -> str:
        """Which flip of the link to the live release this is: no two are alike."""
        link = (self.home / "mount/web").lstat()
        return f"{link.st_ino} {link.st_ctime_ns // 10**9}.{link.st_ctime_ns % 10**9:09}"

    def locals(self, place: str = "") -> Mapping[str, Path]:
        """The paths of the service by what they show; in `place`, or where the config has them."""
        found = _locals(self, (self.home / "gitopper.toml").read_text())
        return {link: self.home / place / path.name for link, path in found.items()} if place else found

    def reloads(self) -> list[str]:
        """For each reload, for which flip it was, and what it saw."""
        path = self.home / "reloads"
        return path.read_text().splitlines() if path.exists() else []

    def _daemon(self, *options: str) -> int:
        """Be the daemon: the child of a fork, which ends with this."""
        with _own_surroundings(self.home, self.log):
            try:
                with mock.patch("gitopperd.main.load_plugins", plugins):
                    main([*self._arguments(), *options])
            except SystemExit as exc:
                return exc.code if isinstance(exc.code, int) else 0
        return 0

    def _arguments(self) -> Iterator[str]:
        if os.geteuid() != 0:
            yield "--no-root"
        yield from ("-a", "127.0.0.1:0", "--state-dir", f"{self.home}/state", "--socket", f"{self.socket}")
        if self.bootstrap:
            folder, _, name = SETTINGS.partition("/")
            yield from ("-U", self.upstream.url, "-B", "main", "-D", folder, "-c", name)
            yield from ("-M", f"{self.home}/mount")
        else:
            yield from ("-c", f"{self.home}/gitopper.toml")


plugins = functools.cache(load_plugins)
"""Those of the daemon, loaded once, since that changes nothing on the host, and takes long."""


@functools.lru_cache(maxsize=8)  # it is asked for at each call of a daemon
def _locals(host: Host, _: str) -> Mapping[str, Path]:
    return {mapping.link: mapping.local for mapping in host.service.mappings}


@contextlib.contextmanager
def _own_surroundings(home: Path, log: Path) -> Iterator[None]:
    """What an init system gives a daemon: an environment, and places for its output."""
    os.environ.clear()
    path = f"{home}/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    os.environ.update(PATH=path, HOME=str(home), LC_ALL="C")
    os.environ["TMPDIR"] = str(home / "tmp")
    tempfile.tempdir = None
    nothing = os.open("/dev/null", os.O_RDONLY)
    writing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, descriptor in enumerate((nothing, writing, writing)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(writing)
    # Whatever a test framework has put in their place.
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
