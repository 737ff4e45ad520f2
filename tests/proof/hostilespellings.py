"""Names that some file system takes for ``.git``: ours must be those of git's own fsck."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from gitopper_plugins.dulwich.tree import names_a_file
from tests.proof.hostiletrees import dotgit_spellings
from tests.proof.table import Row
from tests.support import rawpack as raw
from tests.support.upstream import ENVIRONMENT, git

__all__ = ["compare_spellings", "refused_by_git"]

# What we refuse on top: names of dots and spaces alone, as some file systems drop them at the end.
STRICTER = re.compile(rb"[. ]*")


def compare_spellings() -> Row:
    """Ask git of every spelling; it is a failure where we take what git does not."""
    names = list(dict.fromkeys(dotgit_spellings()))
    refused = refused_by_git(names)
    failures = [
        f"spellings: {name!r}: {'refused' if name in refused else 'taken'} by git"
        for name in names
        if names_a_file(name) == (name in refused) and not STRICTER.fullmatch(name)
    ]
    return Row(
        part="hostile", case="spellings of .git", points=len(names), promises=len(names), failures=failures
    )


def refused_by_git(names: Collection[bytes]) -> set[bytes]:
    """Those of `names` that ``git fsck`` takes for ``.git``."""
    with tempfile.TemporaryDirectory(prefix="spellings-") as directory:
        repository = Path(directory)
        git(repository, "init", "--quiet", "--bare")
        blob = git(repository, "hash-object", "-w", "--stdin", stdin=b"x")
        trees = {raw.object_id(raw.TREE, data): name for name, data in _trees(names, blob)}
        for _, data in _trees(names, blob):
            git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=data)
        done = subprocess.run(
            ["git", "fsck", "--no-dangling"],
            cwd=repository,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        told = re.findall(rb"in tree ([0-9a-f]{40}): (\w+)", done.stderr)
        return {trees[oid.decode()] for oid, what in told if what == b"hasDotgit"}


def _trees(names: Collection[bytes], blob: str) -> Iterator[tuple[bytes, bytes]]:
    for name in names:
        yield name, raw.tree(("100644", name, blob))
