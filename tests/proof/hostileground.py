"""The ground on which a hostile repository is tried, and the promises that it is held against.

A good commit is deployed; then comes the hostile one, and then another good one. Whatever the hostile
one is: it is deployed, or refused with a reason; in time; nothing outside of the release is touched;
nothing is left behind; what was deployed before stays as it is; and the good commit after it is
deployed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field, frozen

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import (
    CheckoutRequest,
    Credentials,
    FetchRequest,
    Hooks,
    Limits,
    Release,
    Service,
    Source,
    SourceError,
    StepError,
    Store,
)
from libgitopper import Mapping as PathMapping
from tests.support import rawpack as raw
from tests.support.rawserver import Answers, raw_server
from tests.support.upstream import git

__all__ = [
    "ANY",
    "LIMITS",
    "MIB",
    "READERS",
    "Broken",
    "Ground",
    "Outcome",
    "Repository",
    "Trial",
    "ground",
]

MIB = 1 << 20
LIMITS = Limits(file_bytes=MIB, release_bytes=4 * MIB, fetch_bytes=8 * MIB)
TIMEOUT_SECONDS = 20.0
SLACK_SECONDS = 5.0
MAX_WORDS = 2000
READERS: tuple[str | None, ...] = (None, "nobody") if os.geteuid() == 0 else (None,)
"""Who may read what a server sends: the daemon itself, and as root another account."""
ANY = "*"
"""Refused or deployed: both are right."""


class Broken(AssertionError):  # noqa: N818 - it reads as what happened
    """A promise does not hold."""


@define
class Repository:
    """Objects that are going to be in one pack, as they are."""

    entries: list[bytes] = field(factory=list)

    def add(self, kind: int, data: bytes) -> str:
        """Add a whole object, and return its id."""
        self.entries.append(raw.whole(kind, data))
        return raw.object_id(kind, data)

    def blob(self, data: bytes = b"harmless") -> str:
        """Add a file."""
        return self.add(raw.BLOB, data)

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """Add a directory."""
        return self.add(raw.TREE, raw.tree(*entries))

    def commit(self, root: str, **parts: Any) -> str:
        """Add a commit."""
        return self.add(raw.COMMIT, raw.commit(root, **parts))

    def of_web(self, web: str, *beside: tuple[str, bytes, str]) -> str:
        """Add a commit whose directory ``web`` is the tree `web`."""
        return self.commit(
            self.tree(*sorted([("40000", b"web", web), *beside], key=lambda entry: entry[1]))
        )

    def pack(self) -> bytes:
        """All of it."""
        return raw.build(self.entries)


class Trial(Protocol):
    """Something hostile that is tried."""

    @property
    def name(self) -> str:
        """What is told of it in the table."""

    def on(self, here: Ground) -> None:
        """Try it.

        Raises:
            Broken: a promise does not hold.
        """


@frozen
class Outcome:
    """How a hostile commit ended."""

    deployed: Release | None
    reason: str
    """Why it was refused; empty when it was not."""
    seconds: float


@define(eq=False)
class Ground:
    """A host with one service, and its upstream."""

    root: Path
    answers: Answers
    hooks: Hooks
    plugin: DulwichPlugin
    limits: Limits = LIMITS
    timeout_seconds: float = TIMEOUT_SECONDS
    reader: str | None = None
    """The account that reads what the server sends, in a process of its own; None: this process does."""
    promises: int = 0
    """How many were checked so far."""
    _good: Release | None = None
    _goods: int = 0

    @property
    def service(self) -> Service:
        """The service; it maps the directory ``web``."""
        return Service(
            name="web",
            source=Source(upstream=self.answers.url, branch="main", fetch_user=self.reader),
            mappings=(PathMapping(link="web", local=Path("/nowhere/web")),),
            mount=self.root / "mount",
            limits=self.limits,
            timeout_seconds=self.timeout_seconds,
        )

    def serve(self, tip: str, pack: bytes | Callable[[Sequence[str]], bytes]) -> None:
        """Have upstream's branch at `tip`, and all that is asked for answered with `pack`."""
        self.answers.refs = {b"refs/heads/main": tip}
        self.answers.pack = (lambda _: pack) if isinstance(pack, bytes) else pack

    def fetch(self) -> Store:
        """Poll."""
        request = FetchRequest(
            upstream=self.answers.url,
            credentials=Credentials(),
            branches=frozenset(["main"]),
            stores=self.root / "stores",
            timeout_seconds=self.timeout_seconds,
            limits=self.limits,
            fetch_user=self.reader,
        )
        return self.hooks.fetch(request)

    def deploy(self) -> Release:
        """Poll, and check out what came."""
        store, service = self.fetch(), self.service
        if "main" not in store.tips:
            raise SourceError("upstream has no branch main")
        content = store.content(store.tips["main"], service)
        release = self.hooks.checkout(CheckoutRequest(service=service, store=store, content=content))
        store.changes(None, content)
        store.commits(content.revision, limit=100)
        return release

    def be_good(self) -> Release:
        """Push a good commit, and see it deployed."""
        self._goods += 1
        repository = Repository()
        data = b"good %d\n" % self._goods
        tip = repository.of_web(repository.tree(("100644", b"index", repository.blob(data))))
        self.answers.sound()
        self.serve(tip, repository.pack())
        release = self.deploy()
        self.expect((release.path / "web/index").read_bytes() == data, "a good commit is not deployed")
        self._good = release
        return release

    def attempt(self) -> Outcome:
        """Deploy what upstream has now, and hold what happens against every promise.

        Raises:
            Broken: one does not hold.
        """
        before = self.surroundings()
        started = time.monotonic()
        deployed, reason = None, ""
        try:
            deployed = self.deploy()
        except StepError as exc:
            reason = str(exc)
            self.expect(bool(reason) and reason.isprintable(), f"a reason that can't be shown: {reason!r}")
            self.expect(len(reason) < MAX_WORDS, f"a reason of {len(reason)} characters")
        except Exception as exc:
            raise Broken(f"nobody foresaw {type(exc).__name__}: {exc}") from exc
        seconds = time.monotonic() - started
        self.expect(seconds < self.timeout_seconds + SLACK_SECONDS, f"it took {seconds:.1f} s")
        self.expect(self.surroundings() == before, "something outside of the release has changed")
        self.expect(not list(self.root.glob("stores/*/scratch-*")), "scratch is left in the store")
        self.expect(not list(self.root.glob("mount/.gitopper/releases/*/.new-*")), "half a release is left")
        if deployed:
            self._inspect(deployed)
        return Outcome(deployed, reason, seconds)

    def hold(self, outcome: Outcome, reason: str) -> None:
        """See that it was refused for `reason`, a part of what was told; empty: that it was deployed.

        Raises:
            Broken: it ended in another way.
        """
        if reason != ANY:
            right = reason in outcome.reason if reason else outcome.deployed is not None
            wanted = f"refused for {reason!r}" if reason else "deployed"
            self.expect(right, f"it is not {wanted}: {outcome.reason or 'deployed'}")

    def aftermath(self) -> None:
        """See a good commit deployed, as git sees it, and the store sound for it."""
        release = self.be_good()
        self.expect(git(release.path, "status", "--porcelain") == "", "git status is not clean")
        head = git(release.path, "log", "-1", "--format=%s")
        self.expect(head == "hostile", "git log does not show the commit")

    def expect(self, holds: bool, what: str) -> None:
        """Count a promise; it has to hold.

        Raises:
            Broken: it does not.
        """
        self.promises += 1
        if not holds:
            raise Broken(what)

    def _inspect(self, release: Release) -> None:
        """See that there are plain files, directories, symlinks that stay inside, and nothing else."""
        top = os.fsencode(release.path)
        mapping = os.path.realpath(top + b"/web")
        for at, directories, files in os.walk(top):
            for name in directories + files:
                path = at + b"/" + name
                status = os.lstat(path)
                kind, bits = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
                self.expect(kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK), f"{path!r}: {kind:o}")
                self.expect(kind == stat.S_IFLNK or bits in (0o644, 0o755), f"{path!r}: mode {bits:o}")
                self.expect(
                    path == top + b"/.git" or status.st_size <= self.limits.file_bytes,
                    f"{path!r} is too large",
                )
                if kind == stat.S_IFLNK:
                    real = os.path.realpath(path)
                    inside = real == mapping or real.startswith(mapping + b"/")
                    self.expect(inside, f"{path!r} leads to {real!r}")

    def surroundings(self) -> Mapping[str, object]:
        """What must not change: all but the store and new releases."""
        kept: dict[str, object] = {"top": sorted(path.name for path in self.root.iterdir())}
        tops = [self.root / "outside", *([self._good.path] if self._good else [])]
        for top in tops:
            for path in sorted(top.rglob("*")):
                data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                kept[str(path)] = (path.lstat().st_mode, path.lstat().st_uid, data)
        mount = self.root / "mount"
        kept["mount"] = sorted(path.name for path in mount.iterdir()) if mount.is_dir() else []
        return kept


@contextlib.contextmanager
def ground(timeout_seconds: float = TIMEOUT_SECONDS, reader: str | None = None) -> Iterator[Ground]:
    """A host on which a good commit is deployed already; for `reader`, see `Ground`."""
    plugin, hooks = DulwichPlugin(), Hooks()
    hooks.register(plugin, name="dulwich")
    with tempfile.TemporaryDirectory(prefix="hostile-") as directory, raw_server() as answers:
        root = Path(directory)
        (root / "outside").mkdir()
        (root / "outside/passwd").write_text("root")
        here = Ground(root, answers, hooks, plugin, timeout_seconds=timeout_seconds, reader=reader)
        try:
            here.be_good()
            yield here
        finally:
            plugin.close()
