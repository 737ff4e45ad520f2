"""Simulated git: an upstream and its store in memory, and a checkout that writes real files.

As in `simulated`, each step is logged in a `Script`, which can fail, stop or block it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from libgitopper import (
    ChangeKind,
    CheckoutError,
    CheckoutRequest,
    Commit,
    Content,
    FetchRequest,
    FileChange,
    Release,
    Service,
    SourceError,
    TreeEntry,
    UnknownRevision,
    hookimpl,
)
from libgitopper import Mapping as Mapped
from tests.support.simulated import BRANCH, Script

__all__ = ["SimulatedGit", "SimulatedStore", "SimulatedUpstream"]

TREE, BLOB = 0o040000, 0o100644


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
