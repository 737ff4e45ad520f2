"""Simulated plugins: an upstream, mounts and services in memory, for tests of the library alone.

They keep the contracts of the hooks, and nothing else is real but the directories of releases.
Every step that they take is logged in a `Script`, which can fail, stop or block any of them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from libgitopper import (
    ChangeKind,
    CheckoutError,
    CheckoutRequest,
    Commit,
    Content,
    Event,
    FetchRequest,
    FileChange,
    MountRequest,
    MountVerb,
    Published,
    PublishError,
    Release,
    Reloaded,
    ReloadRequest,
    Service,
    SourceError,
    TreeEntry,
    UnknownRevision,
    hookimpl,
)
from libgitopper import Mapping as Mapped

__all__ = [
    "BRANCH",
    "Crash",
    "Script",
    "SimulatedGit",
    "SimulatedMounts",
    "SimulatedObserver",
    "SimulatedServices",
    "SimulatedStore",
    "SimulatedUpstream",
]

BRANCH = "main"
TREE, BLOB = 0o040000, 0o100644


class Crash(BaseException):
    """The process is gone: what runs after this is the next process."""


class Script:
    """The log of every step that was taken, and what is to happen at which.

    A step is named ``verb service`` (`publish web`), each twice: ``before`` it has any effect,
    and ``after`` it. `on` attaches an action; an action that raises makes the step fail.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.crash_at: int | None = None
        """Crash at the step of this number, counted from 0, before and after counted apart."""
        self._count = 0
        self._actions: dict[tuple[str, str], Callable[[], object]] = {}

    def on(self, step: str, action: Callable[[], object] | BaseException, *, when: str = "before") -> None:
        """At `step` do `action`, or raise it, until `clear`."""

        def throw() -> None:
            assert isinstance(action, BaseException)
            raise action

        self._actions[step, when] = throw if isinstance(action, BaseException) else action

    def clear(self) -> None:
        """Let everything go well from now on, and start the log anew."""
        self._actions.clear()
        self.log.clear()
        self.crash_at, self._count = None, 0

    def before(self, step: str) -> None:
        """Log `step`, and do what is attached before it."""
        self.log.append(step)
        self._reach(step, "before")

    def after(self, step: str) -> None:
        """Do what is attached after `step`."""
        self._reach(step, "after")

    def look(self, step: str) -> None:
        """Do what is attached to a step that only looks: it is not logged, and no place for a crash."""
        if action := self._actions.get((step, "before")):
            action()

    def count(self, step: str) -> int:
        """Return how often `step` was taken."""
        return self.log.count(step)

    def _reach(self, step: str, when: str) -> None:
        if not step.startswith("observe"):
            if self._count == self.crash_at:
                raise Crash(f"{when} {step}")
            self._count += 1
        if action := self._actions.get((step, when)):
            action()


class SimulatedUpstream:
    """Branches, each a line of commits; a commit is a dict of path to text."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, str]] = {}
        self.branches: dict[str, list[str]] = {}
        self.reachable = True

    def commit(self, changes: Mapping[str, str | None], branch: str = BRANCH) -> str:
        """Add a commit to `branch` that writes (or, with None, removes) files; return its hash."""
        line = self.branches.setdefault(branch, [])
        tree = dict(self.commits[line[-1]]) if line else {}
        for path, text in changes.items():
            tree.pop(path, None)
            if text is not None:
                tree[path] = text
        revision = hashlib.sha1(f"{len(self.commits)}{tree}".encode()).hexdigest()
        self.commits[revision] = tree
        line.append(revision)
        return revision

    def force(self, branch: str, revision: str) -> None:
        """Move `branch` to a revision that it had before, as a force-push does."""
        line = self.branches[branch]
        self.branches[branch] = line[: line.index(revision) + 1]


class SimulatedStore:
    """What was fetched of a `SimulatedUpstream`."""

    def __init__(self, script: Script, path: Path) -> None:
        self._script = script
        self.path = path
        self.tips: dict[str, str] = {}
        self.moved = False
        self._commits: dict[str, dict[str, str]] = {}
        self._lines: dict[str, list[str]] = {}

    def fetch(self, upstream: SimulatedUpstream, branches: Collection[str]) -> None:
        """Take over what upstream has."""
        tips = {name: line[-1] for name, line in upstream.branches.items() if name in branches}
        self.moved = tips != self.tips
        self.tips = tips
        self._commits.update(upstream.commits)
        self._lines = {name: list(line) for name, line in upstream.branches.items()}

    def content(self, revision: str, service: Service) -> Content:
        """Return what `revision` has at the mapped paths."""
        tree = self._commits.get(revision)
        if tree is None:
            raise CheckoutError(f"{revision} is not here")
        entries = tuple(self._entry(tree, mapping) for mapping in service.mappings)
        return Content(revision=revision, entries=entries)

    def resolve(self, prefix: str, branch: str) -> str:
        """Return the one commit of the branch with this prefix."""
        hits = [revision for revision in self._lines.get(branch, ()) if revision.startswith(prefix)]
        if len(hits) != 1:
            raise UnknownRevision(f"{prefix}: {len(hits)} commits of {branch} have this hash")
        return hits[0]

    def commits(
        self, revision: str, *, exclude: Collection[str] = (), limit: int = 1000
    ) -> tuple[Commit, ...]:
        """Return the commits of a line, newest first: every line is straight here."""
        line = self._line(revision)
        without = {commit for excluded in exclude for commit in self._line(excluded)}
        found = [commit for commit in reversed(line) if commit not in without]
        return tuple(self._commit(commit, line) for commit in found[:limit])

    def is_ancestor(self, ancestor: str, revision: str) -> bool:
        """Tell whether one commit comes before another on a line."""
        return ancestor in self._line(revision)

    def changes(self, before: Content | None, after: Content) -> tuple[FileChange, ...]:
        """Return the files that differ."""
        links = [entry.link for entry in after.entries]
        old, new = self._below(before.revision, links) if before else {}, self._below(after.revision, links)
        kinds = {
            path: ChangeKind.ADDED if path not in old
            else ChangeKind.REMOVED if path not in new
            else ChangeKind.EDITED
            for path in sorted(old.keys() | new.keys())
            if old.get(path) != new.get(path)
        }  # fmt: skip
        return tuple(FileChange(path=path, kind=kind) for path, kind in kinds.items())

    def patch(self, before: Content | None, after: Content, service: Service) -> bytes:
        """Return a text that names what differs: no real patch."""
        return "\n".join(f"{c.kind.value} {c.path}" for c in self.changes(before, after)).encode()

    def _below(self, revision: str, links: Collection[str]) -> dict[str, str]:
        tree = self._commits[revision]
        return {p: t for p, t in tree.items() if any(p == ln or p.startswith(f"{ln}/") for ln in links)}

    def _line(self, revision: str) -> list[str]:
        for line in self._lines.values():
            if revision in line:
                return line[: line.index(revision) + 1]
        return [revision] if revision in self._commits else []

    def _commit(self, revision: str, line: list[str]) -> Commit:
        at = line.index(revision)
        return Commit(
            revision=revision, parents=tuple(line[max(0, at - 1) : at]), author="A U Thor",
            at=datetime(2026, 1, 1, tzinfo=UTC), subject=f"commit {at}", raw=b"",
        )  # fmt: skip

    def discard(self, service: Service, keep: Collection[str]) -> None:
        """Remove the directories of releases that are not to be kept."""
        step = f"discard {service.name}"
        self._script.before(step)
        for path in service.releases.iterdir():
            if path.name not in keep:
                shutil.rmtree(path)
        self._script.after(step)

    def files(self, revision: str, mapping: Mapped) -> dict[str, str]:
        """Return the files of one mapping, by their path in the repository."""
        below = f"{mapping.link}/"
        tree = self._commits[revision]
        return {p: text for p, text in tree.items() if p == mapping.link or p.startswith(below)}

    def _entry(self, tree: dict[str, str], mapping: Mapped) -> TreeEntry:
        below = f"{mapping.link}/"
        files = sorted((path, text) for path, text in tree.items() if path.startswith(below))
        found = mapping.link in tree if mapping.file else bool(files)
        if not found:
            raise CheckoutError(f"{mapping.link}: not there as a {'file' if mapping.file else 'directory'}")
        what = tree[mapping.link] if mapping.file else repr(files)
        mode = BLOB if mapping.file else TREE
        return TreeEntry(link=mapping.link, id=hashlib.sha1(what.encode()).hexdigest(), mode=mode)


class SimulatedGit:
    """Fetch and checkout. The store outlives the process, as the real one does on its disk."""

    def __init__(self, script: Script, upstream: SimulatedUpstream) -> None:
        self._script = script
        self._upstream = upstream
        self._store: SimulatedStore | None = None

    @hookimpl
    def gitopper_fetch(self, request: FetchRequest) -> SimulatedStore | None:
        if not request.upstream.startswith("simulated:"):
            return None
        self._script.before("fetch")
        if request.offline:
            if self._store is None:
                raise SourceError("never fetched")
            return self._store
        if not self._upstream.reachable:
            raise SourceError(f"{request.upstream}: can't be reached")
        self._store = self._store or SimulatedStore(self._script, request.stores / "simulated.git")
        self._store.fetch(self._upstream, request.branches)
        return self._store

    @hookimpl
    def gitopper_checkout(self, request: CheckoutRequest) -> Release | None:
        if not isinstance(request.store, SimulatedStore):
            return None
        service, content = request.service, request.content
        step = f"checkout {service.name}"
        self._script.before(step)
        id_ = content.release_id(service)
        path = service.releases / id_
        if not path.is_dir():  # else only its HEAD moves, and its files stay, whatever became of them
            for mapping in service.mappings:
                for name, text in request.store.files(content.revision, mapping).items():
                    (path / name).parent.mkdir(parents=True, exist_ok=True)
                    (path / name).write_text(text)
        (path / ".head").write_text(content.revision)
        self._script.after(step)
        return Release(service=service.name, id=id_, path=path, content=content)


class SimulatedMounts:
    """Publishing: which release, and which path of it, stands at which path of the host."""

    def __init__(self, script: Script, publishers: Collection[str] = ("simulated", "other")) -> None:
        self._script = script
        self._publishers = publishers
        self.shown: dict[Path, tuple[str, str, str, str]] = {}
        """Path of the host to (publisher, service, release id, path in the repository)."""
        self.live: dict[Path, str] = {}
        self.in_the_way: set[Path] = set()
        """Paths where something of somebody else's stands."""
        self.foreseen: set[Path] = set()
        """Paths of which the publisher knows, when it is asked first, that nothing can be shown there."""

    def reboot(self) -> None:
        """Forget everything that is mounted."""
        self.shown.clear()

    @hookimpl
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        service = request.service
        if service.publish not in self._publishers:
            return None
        step = f"{request.verb.value} {service.name}"
        self._script.before(step)
        changed = False
        if request.verb is MountVerb.PUBLISH:
            assert request.release is not None
            changed = self._publish(service, request.release)
        elif request.verb is MountVerb.WITHDRAW:
            changed = self._withdraw(service, keep_live=request.keep_live)
        elif request.verb is MountVerb.JUDGE:
            for mapping in service.mappings:
                if mapping.local in self.foreseen:
                    raise PublishError(f"{mapping.local}: nothing can be shown there")
        self._script.after(step)
        release = self._observed(service)
        shown = (self.shown.get(mapping.local) for mapping in service.mappings)
        partly = release is None and any(what and what[:2] == self._tag(service) for what in shown)
        return Published(release=release, partly=partly, changed=changed)

    def _publish(self, service: Service, release: Release) -> bool:
        assert release.path.is_dir(), "a release that does not exist was published"
        before = dict(self.shown)
        for mapping in service.mappings:
            self._refuse(service, mapping)
        for mapping in service.mappings:
            self.shown[mapping.local] = (service.publish, service.name, release.id, mapping.link)
            self._script.after(f"publish {service.name} {mapping.local}")
        self.live[service.live] = release.id
        return before != self.shown

    def _refuse(self, service: Service, mapping: Mapped) -> None:
        local = mapping.local
        if local in self.in_the_way:
            raise PublishError(f"{local}: something of somebody else's is in the way")
        if local in self.shown and self.shown[local][:2] != (service.publish, service.name):
            raise PublishError(f"{local}: shown by {self.shown[local][:2]}")
        own = {mapping.local for mapping in service.mappings}
        for other in self.shown.keys() - own:
            if other in local.parents or local in other.parents:
                raise PublishError(f"{local}: {other} is shown there")

    def _withdraw(self, service: Service, *, keep_live: bool) -> bool:
        mine = [m.local for m in service.mappings if self.shown.get(m.local, ())[:2] == self._tag(service)]
        for local in mine:
            del self.shown[local]
        if not keep_live:
            self.live.pop(service.live, None)
        return bool(mine)

    def _observed(self, service: Service) -> str | None:
        found = {
            self.shown[m.local][2]
            if m.local in self.shown
            and self.shown[m.local] == (*self._tag(service), self.shown[m.local][2], m.link)
            else None
            for m in service.mappings
        }
        return found.pop() if len(found) == 1 else None

    @staticmethod
    def _tag(service: Service) -> tuple[str, str]:
        return service.publish, service.name


class SimulatedServices:
    """Reloading: which release each service runs with."""

    def __init__(self, script: Script, mounts: SimulatedMounts) -> None:
        self._script = script
        self._mounts = mounts
        self.taken: dict[str, str | None] = {}
        self.note = ""
        self.idle = False
        self.requests: list[ReloadRequest] = []

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        service = request.service
        if service.reload != "simulated":
            return None
        step = f"reload {service.name}"
        self._script.before(step)
        self.requests.append(request)
        # What the service reads is what its paths show now, whatever the request says.
        self.taken[service.name] = self._mounts._observed(service)
        self._script.after(step)
        return Reloaded(did=f"simulated reload {service.name}", note=self.note, idle=self.idle)


class SimulatedObserver:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]
