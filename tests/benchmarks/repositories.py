"""The repositories of the benchmarks: the same on every machine, kept for the next run."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from attrs import frozen

from tests.support.upstream import ENVIRONMENT, git

__all__ = ["CONFIG", "LARGE", "Shape", "commit", "copy", "link", "made"]

FIRST_COMMIT_SECONDS = 1_600_000_000
"""Unix time of the first commit; each later one is a minute after the one before it."""
FORMAT = 1
"""Part of the name in the cache: repositories of another one are made anew."""


@frozen(kw_only=True)
class Shape:
    """What a repository is like: every directory is one service's, and has its files in ``etc``."""

    name: str
    directories: int
    files: int
    """In each directory."""
    commits: int
    changes: int = 1
    """Files that each commit changes, all but the first, which makes every file."""

    @property
    def key(self) -> str:
        """What its directory in the cache is called."""
        sizes = f"{self.directories}x{self.files}x{self.commits}x{self.changes}"
        return f"{self.name}-{sizes}-v{FORMAT}.git"


CONFIG = Shape(name="config", directories=200, files=20, commits=2_000)
LARGE = Shape(name="large", directories=250, files=20, commits=20_000, changes=3)


def link(number: int) -> str:
    """Return the path in the repository that service `number` maps."""
    return f"service{number:04}/etc"


def made(shape: Shape, cache: Path) -> Path:
    """Return the bare repository of `shape` in `cache`, which is made if it is not there."""
    path = cache / shape.key
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as aside:
            _make(shape, Path(aside) / "repository")
            (Path(aside) / "repository").rename(path)
    return path


def copy(shape: Shape, cache: Path, target: Path) -> Path:
    """Make a repository of `shape` to commit to at `target`; its packs are those of the cache."""
    git(Path("/"), "clone", "--quiet", "--bare", "--local", str(made(shape, cache)), str(target))
    git(target, "config", "uploadpack.allowFilter", "true")
    return target


def commit(repository: Path, files: Mapping[str, str]) -> str:
    """Commit `files` onto main, in the repository itself; return the new hash."""
    stream = [_commit_head(2_000_000_000, "from refs/heads/main^0\n")]
    stream += [_file(name, text) for name, text in files.items()]
    git(repository, "fast-import", "--quiet", stdin="".join(stream).encode())
    return git(repository, "rev-parse", "main")


def _make(shape: Shape, path: Path) -> None:
    git(path.parent, "init", "--quiet", "--bare", "--initial-branch=main", path.name)
    git(path, "config", "uploadpack.allowFilter", "true")
    command = ["git", "fast-import", "--quiet"]
    with subprocess.Popen(command, cwd=path, env=ENVIRONMENT, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        _write(shape, process.stdin)
    assert process.returncode == 0, "git fast-import failed"
    # As a server has it: one pack, well compressed, with a bitmap for clones.
    git(path, "repack", "-a", "-d", "-f", "-b", "-q")
    shutil.rmtree(path / "hooks")


def _write(shape: Shape, stream: IO[str]) -> None:
    dice = random.Random(shape.key)  # the same commits everywhere
    for number in range(shape.commits):
        stream.write(_commit_head(FIRST_COMMIT_SECONDS + 60 * number))
        for directory, file in _touched(shape, number, dice):
            name = f"{link(directory)}/file{file:02}.conf"
            stream.write(_file(name, _text(name, number)))


def _touched(shape: Shape, number: int, dice: random.Random) -> Iterator[tuple[int, int]]:
    if number == 0:
        for directory in range(shape.directories):
            yield from ((directory, file) for file in range(shape.files))
        return
    for _ in range(shape.changes):
        yield dice.randrange(shape.directories), dice.randrange(shape.files)


def _commit_head(seconds: int, parent: str = "") -> str:
    who = f"committer Bench <bench@example.net> {seconds} +0000\n"
    return f"commit refs/heads/main\n{who}data 6\nchange\n{parent}"


def _file(name: str, text: str) -> str:
    return f"M 100644 inline {name}\ndata {len(text)}\n{text}\n"


def _text(name: str, number: int) -> str:
    """Return a kilobyte of what looks like settings; one of them tells the commit."""
    dice = random.Random(name)
    lines = [f"option_{at} = {dice.getrandbits(64):016x}" for at in range(30)]
    lines[dice.randrange(30)] = f"revision = {number}"
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Make a directory for one measurement, and remove it afterwards."""
    with tempfile.TemporaryDirectory(dir=parent, prefix="run-") as name:
        yield Path(name)
