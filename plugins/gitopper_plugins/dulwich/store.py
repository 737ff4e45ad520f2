"""The store of one upstream: shared by every service that uses it, and by every thread."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import ancestry, history, layout
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.compare import compare, described
from gitopper_plugins.dulwich.exchange import Reader
from gitopper_plugins.dulwich.gathering import Gathering
from gitopper_plugins.dulwich.objects import COMMIT, TREE, Entry, Objects
from gitopper_plugins.dulwich.packs import SCRATCH, drop_damaged, drop_halves
from gitopper_plugins.dulwich.patch import patch_of
from gitopper_plugins.dulwich.readers import Fetchers
from gitopper_plugins.dulwich.releases import discard
from gitopper_plugins.dulwich.scratch import hold, sweep
from gitopper_plugins.dulwich.transport import Transport
from libgitopper import CheckoutError, Commit, Content, FileChange, Service, SourceError, TreeEntry

__all__ = ["SharedStore", "View"]

log = logging.getLogger(__name__)

MOST_REFUSED = 10_000

_KINDS = {0o040000: "directory", 0o100000: "file", 0o120000: "symlink", 0o160000: "submodule"}


@define(kw_only=True, eq=False)
class SharedStore:
    """What all users of one store have in common."""

    path: Path
    upstream: str
    """Without credentials."""
    transport: Transport
    objects: Objects
    fetchers: Fetchers = field(factory=Fetchers)
    """The processes that fetch for this one; shared by all stores."""
    too_large: dict[ObjectID, int] = field(factory=dict)
    """Files that upstream sent and that were refused, with their size in bytes."""
    gathering: Gathering = field(factory=Gathering)
    """Where requests for file contents that are made at the same time become one."""
    small_along: bool = True
    """The contents of small files may be asked for with the commits that bring them."""
    brought: bool = True
    """The last exchange for history came to its end: what was asked for was not too much."""
    grown: bool = True
    """Packs may have come since they were last looked at whether to merge some."""
    _lock: threading.Lock = field(factory=threading.Lock)
    _opened: bool = False

    @contextlib.contextmanager
    def exclusive(self, deadline: Deadline) -> Iterator[None]:
        """Nobody else changes refs or removes packs meanwhile: no other thread, and no other process.

        Raises:
            SourceError: somebody else is at it until the deadline.
        """
        if not self._lock.acquire(timeout=deadline.remaining()):
            raise self._busy("another fetch from it")
        try:
            with hold(self.path, deadline) as held:
                if not held:
                    raise self._busy("another process that works on its store")
                yield
        finally:
            self._lock.release()

    def _busy(self, who: str) -> SourceError:
        return SourceError(f"{self.upstream}: {who} took all the time that this fetch had")

    def reader(self, fetch_user: str | None) -> Reader:
        """Who reads what upstream sends, so that no hole in what reads it is one in us.

        Raises:
            UnusableError: it can't be set up.
        """
        return self.fetchers.reader(fetch_user, self.upstream, self.transport)

    def refuse(self, oid: ObjectID, size: int) -> None:
        """Remember that `oid` was too large to be kept."""
        if len(self.too_large) >= MOST_REFUSED:
            self.too_large.clear()
        self.too_large[oid] = size

    def prepare(self, branch: str) -> None:
        """Create the store if it is not there."""
        if not self._opened:
            sweep(self.path.parent, layout.SCRATCH)
        if not self.path.is_dir():
            self.objects.close()
            layout.create(self.path, self.upstream, branch)

    def recover(self, branch: str) -> None:
        """Clear what a crash or a power loss left; once in a process, by the holder of the lock."""
        if self._opened:
            return
        layout.repair(self.path, self.upstream, branch)
        sweep(self.path, SCRATCH)
        drop_halves(self.path)
        tips = [*(self.refs() or {}).values(), *self.past().values()]
        if not all(self.readable(tip) for tip in tips):
            log.error("%s is damaged: what can't be read is dropped, and fetched again", self.path)
            self.objects.close()
            drop_damaged(self.path)
            # With no branch to go by, the next fetch brings the whole history, whatever is missing of it.
            layout.write_refs(self.path, {}, {})
        self._opened = True

    def readable(self, commit: ObjectID) -> bool:
        """True when the commit and its tree are here, and sound.

        Raises:
            CheckoutError: nobody can tell now: files can't be opened.
        """
        try:
            # Both are read: what is kept in memory says nothing about the disk.
            here = self.objects.find(commit, COMMIT) is not None
            return here and self.objects.find(self.objects.tree_of(commit), TREE) is not None
        except CheckoutError as exc:
            if isinstance(exc.__cause__, OSError) and not isinstance(exc.__cause__, FileNotFoundError):
                raise  # too many open files, say: that is no damage, and nothing may be dropped for it
            return False

    def refs(self) -> dict[str, ObjectID] | None:
        """Branch to tip as of the last successful fetch; None before the first."""
        return layout.read_refs(self.path)

    def past(self) -> dict[str, ObjectID]:
        """Branch to its last tip, of the branches that upstream had once."""
        return layout.read_refs(self.path, layout.PAST) or {}

    def close(self) -> None:
        """Release files and connections."""
        self.objects.close()
        self.transport.close()


@frozen(kw_only=True)
class View:
    """A store as one fetch left it; see `libgitopper.Store`."""

    shared: SharedStore = field(repr=False)
    tips: Mapping[str, str]
    moved: bool

    @property
    def path(self) -> Path:
        """The bare git directory."""
        return self.shared.path

    def content(self, revision: str, service: Service) -> Content:
        """What `revision` has at the paths that `service` maps; see `libgitopper.Store`."""
        objects = self.shared.objects
        commit = ObjectID(revision.encode())
        where = f"{revision[:12]} of {service.source.upstream}"
        root = objects.root_of(commit)
        if root is None:
            raise CheckoutError(
                f"commit {where} is not in the store; it comes with the next fetch, if upstream has it"
            )
        entries = []
        for mapping in service.mappings:
            found = _lookup(objects, root, mapping.link)
            if found is None:
                raise CheckoutError(
                    f"{mapping.link} is not in commit {where};"
                    f" check `link`, and that branch {service.source.branch} is the right one"
                )
            _check_kind(found, mapping.link, mapping.file, where)
            entries.append(TreeEntry(link=mapping.link, id=found.id.decode(), mode=found.mode))
        return Content(revision=revision, entries=tuple(entries))

    def resolve(self, prefix: str, branch: str) -> str:
        """The one commit of `branch` whose hash starts with `prefix`; see `libgitopper.Store`."""
        tip = (self.shared.refs() or {}).get(branch)
        return history.resolve(self.shared.objects, prefix, branch, tip)

    def commits(
        self, revision: str, *, exclude: Collection[str] = (), limit: int = 1000
    ) -> Sequence[Commit]:
        """The commits of a range; see `libgitopper.Store`."""
        return ancestry.commits(self.shared.objects, revision, exclude=exclude, limit=limit)

    def is_ancestor(self, ancestor: str, revision: str) -> bool:
        """Whether one descends from the other; see `libgitopper.Store`."""
        return ancestry.is_ancestor(self.shared.objects, ancestor, revision)

    def changes(self, before: Content | None, after: Content) -> Sequence[FileChange]:
        """The files that differ; see `libgitopper.Store`."""
        found = map(described, compare(self.shared.objects, before, after))
        return sorted(found, key=lambda change: change.path)

    def patch(self, before: Content | None, after: Content, service: Service) -> bytes:
        """What differs, as a patch; see `libgitopper.Store`."""
        return patch_of(self.shared, compare(self.shared.objects, before, after), service)

    def discard(self, service: Service, keep: Collection[str]) -> None:
        """Delete releases; see `libgitopper.Store`."""
        discard(self.path, service, keep)


def _lookup(objects: Objects, root: ObjectID, link: str) -> Entry | None:
    """The entry at `link`; costs one tree for each part of the path."""
    entry = Entry(b"", 0o040000, root)
    for name in link.encode("utf-8", "surrogateescape").split(b"/"):
        if entry.mode != 0o040000:
            return None
        for found in objects.entries(entry.id):
            if found.name == name:
                entry = found
                break
        else:
            return None
    return entry


def _check_kind(entry: Entry, link: str, file: bool, where: str) -> None:
    kind = _KINDS.get(entry.mode & 0o170000, "entry of unknown kind")
    if kind == ("file" if file else "directory"):
        return
    remedy = {"file": "set `file = true`", "directory": "remove `file = true`"}.get(
        kind, "map a plain file or directory"
    )
    raise CheckoutError(f"{link} is a {kind} in commit {where}: {remedy}", retryable=False)
