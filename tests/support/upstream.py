"""An upstream repository to commit to, by the ordinary git command."""

from __future__ import annotations

import subprocess
from pathlib import Path

from libgitopper import Mapping, Service, Source
from libgitopper.testing.upstream import ENVIRONMENT, Upstream

__all__ = ["ENVIRONMENT", "Upstream", "git", "web_of"]


def git(path: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git in `path`, and return what it printed, stripped; an exit code other than 0 fails the test."""
    done = subprocess.run(
        ["git", *arguments], cwd=path, env=ENVIRONMENT, input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout.decode(errors="surrogateescape").strip()


def import_history(upstream: Upstream, count: int, *, files: int = 1, branch: str = "main") -> list[str]:
    """Add `count` commits to `branch`, in one go; return their hashes, oldest first.

    The first writes `files` files below ``web/`` and as many outside; each other changes one of both.
    """
    stream = []
    for number in range(count):
        stream.append(
            f"commit refs/heads/{branch}\n"
            f"committer Test <test@example.net> {1_700_000_000 + number} +0000\n"
            f"data <<END\nchange {number}\nEND\n"
        )
        if number == 0:
            stream.append(
                f"from refs/heads/{branch}^0\n" if git(upstream.path, "branch", "--list", branch) else ""
            )
        for at in range(files) if number == 0 else [number % files]:
            names = f"web/{at % 10}/file{at}", f"part{at % 50}/file{at}"
            stream += [f"M 100644 inline {name}\ndata <<END\n{name} {number}\nEND\n" for name in names]
    git(upstream.path, "fast-import", "--quiet", "--force", stdin="".join(stream).encode())
    return git(upstream.path, "rev-list", "--reverse", f"--max-count={count}", branch).split()


def web_of(upstream: Upstream, base: Path, reload: str) -> Service:
    """Return a service that shows ``web`` of `upstream` below `base`, and runs `reload` in a shell."""
    return Service(
        name="web",
        source=Source(upstream=f"file://{upstream.path}", branch="main"),
        mappings=(Mapping(link="web", local=base / "etc/web"),),
        mount=base / "mount",
        publish="symlink",
        reload="command",
        command=("sh", "-c", reload),
    )
