"""The upstream of the walk: a real repository, and what every commit of it has, in plain values."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field, frozen

from libgitopper import Mapping as Mapped
from libgitopper.testing.upstream import ENVIRONMENT

__all__ = [
    "EXECUTABLE",
    "LINK",
    "PLAIN",
    "Commit",
    "File",
    "Files",
    "Upstream",
    "below",
    "changed",
    "renamed",
]

PLAIN, EXECUTABLE, LINK = 0o100644, 0o100755, 0o120000


@frozen
class File:
    """A file as git has it; of a symlink `data` is the target."""

    mode: int
    data: bytes


Files = Mapping[str, File]
"""Path in the repository to file."""


@frozen
class Commit:
    """What a commit has, and where it comes from."""

    files: Files
    parent: str | None


def changed(files: Files, path: str, file: File | None) -> dict[str, File]:
    """Return `files` with `file` at `path`; what can't be beside it goes. None removes it."""
    rest = {
        name: old
        for name, old in files.items()
        if name != path and not name.startswith(f"{path}/") and not path.startswith(f"{name}/")
    }
    if file is None:
        return {n: f for n, f in files.items() if n != path and not n.startswith(f"{path}/")}
    return rest | {path: file}


def renamed(files: Files, path: str, new: str) -> dict[str, File]:
    """Return `files` with the one at `path`, if it is there, at `new`."""
    file = files.get(path)
    return changed(changed(files, path, None), new, file) if file else dict(files)


def below(files: Files, mapping: Mapped) -> dict[str, File] | None:
    """Return what a mapping shows of `files`, by path below it; None where it can't be mapped."""
    if mapping.file:
        file = files.get(mapping.link)
        return {"": file} if file and file.mode != LINK else None
    top = f"{mapping.link}/"
    return {name.removeprefix(top): file for name, file in files.items() if name.startswith(top)} or None


@define
class Upstream:
    """A bare repository that is written by ``git fast-import``, and can be out of reach."""

    path: Path
    commits: dict[str, Commit] = field(factory=dict)
    branches: dict[str, str] = field(factory=dict)
    reachable: bool = True

    @classmethod
    def create(cls, path: Path) -> Upstream:
        """Make an empty one."""
        path.mkdir(parents=True)
        upstream = cls(path)
        upstream._git("init", "--quiet", "--bare", "--initial-branch=main")
        upstream._git("config", "uploadpack.allowFilter", "true")
        return upstream

    @property
    def url(self) -> str:
        """Its address."""
        return f"file://{self.path}"

    def commit(self, branch: str, files: Files, *, parent: str | None) -> str:
        """Let `branch` be a new commit with `files`; return its hash."""
        stream = [
            b"commit refs/heads/%b\nmark :1\ncommitter T <t@example.net> %d +0000\ndata 0\n"
            % (branch.encode(), 1_700_000_000 + len(self.commits)),
            b"from %b\n" % parent.encode() if parent else b"",
            b"deleteall\n",
        ]
        for name, file in files.items():
            size = len(file.data)
            stream.append(b"M %o inline %b\ndata %d\n%b\n" % (file.mode, name.encode(), size, file.data))
        stream.append(b"\nget-mark :1\n")
        revision = self._git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        self.commits[revision] = Commit(dict(files), parent)
        self.branches[branch] = revision
        return revision

    def point(self, branch: str, revision: str | None) -> None:
        """Move `branch`, as a force-push does; None deletes it."""
        ref = f"refs/heads/{branch}"
        if revision is None:
            self._git("update-ref", "-d", ref)
            self.branches.pop(branch, None)
        else:
            self._git("update-ref", ref, revision)
            self.branches[branch] = revision

    def switch(self, *, reachable: bool) -> None:
        """Take it out of reach, or put it back."""
        if reachable != self.reachable:
            here, there = self.path, self.path.with_suffix(".gone")
            here.rename(there) if self.reachable else there.rename(here)
            self.reachable = reachable

    def line(self, revision: str | None) -> list[str]:
        """Return `revision` and all that it descends from, newest first."""
        found = []
        while revision:
            found.append(revision)
            revision = self.commits[revision].parent
        return found

    def descends(self, revision: str, ancestor: str) -> bool:
        """Tell whether `revision` is `ancestor`, or came after it."""
        return ancestor in self.line(revision)

    def _git(self, *arguments: str, stdin: bytes = b"") -> str:
        path = self.path if self.reachable else self.path.with_suffix(".gone")
        argv = ["git", *arguments]
        done = subprocess.run(
            argv, cwd=path, env=ENVIRONMENT, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout.decode().strip()
