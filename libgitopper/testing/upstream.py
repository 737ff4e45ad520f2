"""A repository to fetch from, made and steered by the ``git`` command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from libgitopper import run

__all__ = ["ENVIRONMENT", "Upstream", "git"]

TIMEOUT_SECONDS = 60.0

# Nobody's own configuration has a say in what a test shows.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.net",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.net",
    "LC_ALL": "C",
}


def git(path: Path, *arguments: str, **environment: str) -> str:
    """Run git in `path`, with `environment` besides; return what it says. An error of git is one here."""
    env = {**ENVIRONMENT, **environment}
    done = run(["git", *arguments], timeout_seconds=TIMEOUT_SECONDS, cwd=path, env=env)
    return done.check().output.strip()


@frozen(kw_only=True)
class Upstream:
    """A bare repository, and a work tree beside it from which its branches are pushed."""

    path: Path
    """The bare repository; its parent is what a server serves."""
    work: Path

    @classmethod
    def create(cls, directory: Path, name: str = "fleet") -> Upstream:
        """Make an empty upstream below `directory`, which need not exist."""
        upstream = cls(
            path=directory / f"{name}.git", work=directory.parent / f"{directory.name}-{name}-work"
        )
        upstream.path.mkdir(parents=True)
        upstream.init()
        return upstream

    def init(self) -> None:
        """Make bare repository and work tree, where neither is."""
        self.path.mkdir(parents=True, exist_ok=True)
        git(self.path, "init", "--quiet", "--bare", "--initial-branch=main")
        git(self.path, "config", "uploadpack.allowFilter", "true")
        git(self.path, "config", "http.receivepack", "true")
        self.work.mkdir(exist_ok=True)
        git(self.work, "init", "--quiet", "--initial-branch=main")
        git(self.work, "remote", "add", "origin", str(self.path))

    @property
    def url(self) -> str:
        """Its address without a server."""
        return f"file://{self.path}"

    def commit(
        self,
        files: Mapping[str, str | bytes | None] | None = None,
        *,
        branch: str = "main",
        message: str = "change",
    ) -> str:
        """Write `files` (None deletes), commit all to `branch`, push, and return the new hash."""
        self.switch(branch)
        for name, data in (files or {}).items():
            self.write(name, data)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "--message", message)
        return self.push(branch)

    def write(self, name: str, data: str | bytes | None) -> None:
        """Write one file of the work tree; None deletes it."""
        path = self.work / name
        if data is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def switch(self, branch: str) -> None:
        """Check `branch` out, which is made of the present HEAD where it is new."""
        if git(self.work, "branch", "--show-current") == branch:
            return
        exists = git(self.work, "branch", "--list", branch)
        git(self.work, "switch", "--quiet", *([] if exists else ["--create"]), branch)

    def push(self, branch: str = "main") -> str:
        """Push `branch`, by force, and return its hash."""
        git(self.work, "push", "--quiet", "--force", "origin", branch)
        return git(self.work, "rev-parse", branch)

    def rewind(self, commits: int, *, branch: str = "main") -> str:
        """Take the last `commits` commits of `branch` back, push that, and return the hash."""
        self.switch(branch)
        git(self.work, "reset", "--quiet", "--hard", f"HEAD~{commits}")
        return self.push(branch)

    def delete(self, branch: str) -> None:
        """Delete `branch` upstream; the work tree keeps it, so that `push` brings it back."""
        git(self.path, "update-ref", "-d", f"refs/heads/{branch}")

    def count(self, revision: str = "main") -> int:
        """How many commits lead to `revision`."""
        return int(git(self.path, "rev-list", "--count", revision))
