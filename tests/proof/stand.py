"""One small host that is brought into the same state again and again: its upstream, its disk, its daemon.

All of it is below one directory, in memory where there is such a file system. The daemon is the real one
(`zygote`), run with ``--once``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen

from tests.proof import seccomp
from tests.proof.calls import ERRORS, WATCHED, Call, described, number_of
from tests.proof.zygote import Zygote
from tests.support.gitserver import Answer, HttpServer, http_server
from tests.support.upstream import ENVIRONMENT, Upstream, git

__all__ = ["ABSENT", "Fault", "Run", "Scene", "Stand", "stand"]

DEADLINE_SECONDS = 40.0
ABSENT = "absent"
"""What is published where nothing is."""

CONFIG = """\
[global]
upstream = "{url}"
mount    = "{home}/mount"
publish  = "{publish}"
timeout  = "10s"
reload   = "command"
command  = ["sh", "-c", "echo $GITOPPER_REVISION >> {reloads}"]

[[services]]
machine = "*"
service = "web"
keep    = 2
dirs    = [{{ local = "{home}/etc/web", link = "web/etc" }}]
{more}
"""

ASIDE = re.compile(r"scratch-|\.new-|(?!socket).*\.lock$|tmp|\..*\.new$|\.packed-refs-|\.HEAD-")
"""How what is aside, or half made, is named."""
VERSIONS = ("one", "two", "ill", "last")


@frozen(kw_only=True)
class Scene:
    """What happens, from a host as it is to a host as it is to be."""

    name: str
    before: str = ""
    """The version that is deployed at the beginning; empty for none."""
    target: str
    """The version that upstream has."""
    after: str
    """The version that is to be published in the end."""
    code: int = 0
    """The exit code of a daemon that is through with it."""
    more: str = ""
    """More lines for the service."""


@frozen(kw_only=True)
class Fault:
    """Which call fails, and how."""

    kind: str
    nth: int
    """Counted from 1, among those of its kind."""
    error: str
    """As ``ENOSPC``."""
    lasting: bool = False
    """True: and so does, from then on, every other call that can fail like this."""

    def __str__(self) -> str:
        return f"{self.error} at {self.kind} {self.nth}{' and from then on' if self.lasting else ''}"


@define(kw_only=True)
class Run:
    """What a run of the daemon did."""

    code: int
    log: str
    calls: list[Call]
    failed: list[Call]
    """The calls that were made to fail."""
    seen: list[str]
    """What was published, at the beginning and at each of the calls: each once, in order."""
    left: list[str]
    """The processes that it left behind."""
    wedged: bool = False


@define(kw_only=True, eq=False)
class Stand:
    """The host."""

    root: Path
    zygote: Zygote
    server: HttpServer
    commits: Mapping[str, str]
    """Version to hash."""
    publish: str = "symlink"
    _snapshots: dict[str, Path] = field(factory=dict)
    _answers: dict[str, dict[tuple[str, str, bytes], Answer]] = field(factory=dict)

    @property
    def home(self) -> Path:
        """All that the daemon may write to."""
        return self.root / "home"

    @property
    def reloads(self) -> Path:
        """Where the service notes, outside of the daemon's disk, with what it was reloaded."""
        return self.root / "reloads"

    def set_up(self, scene: Scene) -> None:
        """Bring the host to where `scene` begins."""
        if scene.name not in self._snapshots:
            self._clear()
            self._configure(scene)
            if scene.before:
                self.push(scene.before)
                done = self.run()
                assert done.code == 0, done.log
            snapshot = self.root / "snapshots" / scene.name
            shutil.copytree(self.home, snapshot, symlinks=True)
            self._snapshots[scene.name] = snapshot
        self._clear()
        shutil.copytree(self._snapshots[scene.name], self.home, symlinks=True, dirs_exist_ok=True)
        if self.publish == "bind" and scene.before:
            live = (self.home / "mount/web").readlink()
            self.zygote.mount(self.home / "mount" / live / "web/etc", self.home / "etc/web")
        self.reloads.write_text(f"{self.commits[scene.before]}\n" if scene.before else "")
        self.push(scene.target)

    def _clear(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        (self.home / "etc").mkdir(parents=True)
        self.reloads.write_text("")

    def _configure(self, scene: Scene) -> None:
        url = self.server.url()
        more = scene.more.format(home=self.home)
        text = CONFIG.format(url=url, home=self.home, reloads=self.reloads, publish=self.publish, more=more)
        (self.home / "gitopper.toml").write_text(text)

    def push(self, version: str) -> None:
        """Have upstream's branch at `version`."""
        main = self.server.root / "fleet.git/refs/heads/main"
        main.write_text(f"{self.commits[version]}\n")
        self.server.answers = self._answers.setdefault(version, {})

    def published(self) -> str:
        """The version that is published; or what is wrong with what is."""
        shown = self._shown
        try:
            conf = _read(f"{shown}/conf")
        except FileNotFoundError:
            place = Path(shown)
            nothing = not os.path.lexists(shown) or (place.is_dir() and not any(place.iterdir()))
            return ABSENT if nothing else "dangling"
        try:
            same = {conf, _read(f"{shown}/sub/more"), _read(f"{shown}/link")}
        except OSError as exc:
            return f"incomplete: {exc}"
        return conf if len(same) == 1 and conf in VERSIONS else f"mixed: {sorted(same)}"

    @property
    def _shown(self) -> str:
        """Where the service reads, as the service sees it."""
        return f"{self.zygote.view}{self.root}/home/etc/web"

    def run(self, fault: Fault | None = None, watched: Sequence[str] = WATCHED) -> Run:
        """Run the daemon once, with `fault`; look at what is published at each of the calls `watched`."""
        home = self.home
        root = [] if self.publish == "bind" else ["--no-root"]
        argv = ["--once", *root, "-c", f"{home}/gitopper.toml", "--state-dir", f"{home}/state"]
        log = self.root / "log"
        pid, listener = self.zygote.start(argv, log, watched)
        supervisor = _Supervisor(listener=listener, home=home, fault=fault, look=self.published)
        try:
            wedged = not supervisor.follow(self.zygote.socket.fileno())
            if wedged:
                os.kill(pid, 9)
                supervisor.follow(self.zygote.socket.fileno())
            ended = self.zygote.ended()
        finally:
            os.close(listener)
        return Run(
            code=ended.code, log=log.read_text(errors="replace"), calls=supervisor.calls,
            failed=supervisor.failed, seen=supervisor.seen, left=ended.left, wedged=wedged,
        )  # fmt: skip

    def deployed(self) -> tuple[str | None, bool]:
        """Return the version on record as deployed, and whether an attempt is on record."""
        path = self.home / "state/state.db"
        with contextlib.closing(sqlite3.connect(path)) as state:
            row = state.execute("SELECT revision FROM deployed").fetchone()
            attempt = state.execute("SELECT 1 FROM attempt").fetchone()
        versions = {commit: version for version, commit in self.commits.items()}
        return (versions[row[0]] if row else None), attempt is not None

    def leftovers(self) -> list[str]:
        """What is aside, or half made, anywhere on the daemon's disk."""
        every = ((at, name) for at, below, files in os.walk(self.home) for name in (*below, *files))
        found = [Path(at, name) for at, name in every if ASIDE.match(name)]
        releases = self.home / "mount/.gitopper/releases/web"
        if releases.is_dir() and len(list(releases.iterdir())) > 2:
            found += releases.iterdir()
        return sorted(str(path.relative_to(self.home)) for path in found) + self.mounts()[1:]

    def mounts(self) -> list[str]:
        """Where on the host anything is mounted."""
        return [point for point in self.zygote.mounts if point.startswith(str(self.home))]

    def has(self, version: str) -> bool:
        """Tell whether the commit of `version` is in the store, with its tree."""
        [store] = (self.home / "mount/.gitopper/stores").glob("*.git")
        found = subprocess.run(
            ["git", "cat-file", "-e", f"{self.commits[version]}^{{tree}}"], cwd=store, check=False,
            env=ENVIRONMENT | {"GIT_NO_LAZY_FETCH": "1"}, capture_output=True,
        )  # fmt: skip
        return found.returncode == 0

    def complaints_of_git(self) -> str:
        """What git has to say against the live release and its store; nothing, where all is well."""
        if not (self.home / "mount/web").exists():
            return ""
        status = git(self.home / "mount/web", "status", "--porcelain")
        [store] = (self.home / "mount/.gitopper/stores").glob("*.git")
        return status + git(store, "fsck", "--no-dangling", "--no-progress")


@define(kw_only=True, eq=False)
class _Supervisor:
    """Answers the calls of one run."""

    listener: int
    home: Path
    fault: Fault | None
    look: Callable[[], str]
    calls: list[Call] = field(factory=list)
    failed: list[Call] = field(factory=list)
    seen: list[str] = field(factory=list)
    _counts: dict[str, int] = field(factory=dict)
    _connected: set[str] = field(factory=set)

    def follow(self, ended: int) -> bool:
        """Answer calls until the descriptor `ended` is readable; False when that takes too long."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        until = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < until:
            ready = dict(poll.poll(1000))
            if ready.get(self.listener, 0) & select.POLLIN:
                self._attend()
            elif self.listener in ready:
                poll.unregister(self.listener)
            elif ended in ready:
                return True
        return False

    def _attend(self) -> None:
        notification = seccomp.receive(self.listener)
        if notification is None:
            return
        call = described(notification, self.home)
        if call is not None and call.kind == "connect":
            self._connected.add(call.what)
        if call is not None and call.kind == "sendto" and call.what not in self._connected:
            call = None  # the event loop that wakes itself
        error = ""
        if call is not None:
            self._note(self.look())
            self.calls.append(call)
            error = self._verdict(call)
        seccomp.answer(self.listener, notification, number_of(error) if error else 0)

    def _note(self, published: str) -> None:
        if not self.seen or self.seen[-1] != published:
            self.seen.append(published)

    def _verdict(self, call: Call) -> str:
        """The error with which `call` is to fail; empty for none."""
        count = self._counts[call.kind] = self._counts.get(call.kind, 0) + 1
        fault = self.fault
        if fault is None:
            return ""
        hit = call.kind == fault.kind and count == fault.nth
        after = fault.lasting and bool(self.failed) and fault.error in ERRORS[call.kind]
        if not hit and not after:
            return ""
        self.failed.append(call)
        return fault.error


@contextlib.contextmanager
def stand(publish: str = "symlink") -> Iterator[Stand]:
    """Make a host; nothing of it is left. With ``bind`` it takes root."""
    memory = Path("/dev/shm")  # where fsync costs nothing
    where = memory if os.access(memory, os.W_OK) else None
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gitopper-proof-", dir=where)))
        upstream = Upstream.create(root / "upstreams")
        commits = {version: _commit(upstream, version) for version in VERSIONS}
        server = stack.enter_context(http_server(upstream.path.parent))
        zygote = stack.enter_context(Zygote(_environment(root), apart=publish == "bind"))
        yield Stand(root=root, zygote=zygote, server=server, commits=commits, publish=publish)


def _read(path: str) -> str:
    """Read a small file; some hundred times in each run, so by the shortest way."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 4096).decode()
    finally:
        os.close(file)


def _commit(upstream: Upstream, version: str) -> str:
    (upstream.work / "web/etc").mkdir(parents=True, exist_ok=True)
    link = upstream.work / "web/etc/link"
    if not link.is_symlink():
        link.symlink_to("conf")
    return upstream.commit({"web/etc/conf": version, "web/etc/sub/more": version, "other/file": version})


def _environment(root: Path) -> dict[str, str]:
    here, path = Path(__file__).parents[2], filter(None, [os.environ.get("PYTHONPATH")])
    return {
        **os.environ, "HOME": str(root), "TMPDIR": str(root), "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(here), *path]), "NO_COLOR": "1", "no_proxy": "127.0.0.1",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    }  # fmt: skip


def kinds(calls: Sequence[Call]) -> dict[str, int]:
    """How many calls of each kind there were."""
    found: dict[str, int] = {}
    for call in calls:
        found[call.kind] = found.get(call.kind, 0) + 1
    return found
