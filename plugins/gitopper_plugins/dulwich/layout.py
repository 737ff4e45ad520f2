"""The files of a store that are neither objects nor releases: its skeleton, its config, its refs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dulwich.objects import ObjectID, valid_hexsha

from gitopper_plugins.dulwich.access import without_userinfo
from gitopper_plugins.dulwich.scratch import make_directory, replace_file, scratch, sync_filesystem

__all__ = [
    "HEADS",
    "PAST",
    "SCRATCH",
    "create",
    "is_partial",
    "mark_partial",
    "read_refs",
    "repair",
    "store_path",
    "write_refs",
]

SCRATCH = ".new-store-"
HEADS = "refs/heads/"
PAST = "refs/gitopper/past/"
"""Where branches were that upstream no longer has: what comes next mostly descends from there."""
_PARTIAL = "\tpromisor = true\n\tpartialclonefilter = blob:none\n"


@functools.lru_cache(1024)
def store_path(stores: Path, upstream: str) -> Path:
    """Where the store of `upstream` is: readable, and never that of another upstream."""
    shown = without_userinfo(upstream)
    digest = hashlib.sha256(shown.encode()).hexdigest()[:8]
    words = re.sub(r"^[a-z]+://|\.git/?$", "", shown)
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-.")[-60:].lstrip("-.")
    return stores / f"{slug or 'store'}-{digest}.git"


def create(path: Path, upstream: str, branch: str) -> None:
    """Make an empty store at `path`: complete, or not at all."""
    make_directory(path.parent)
    with scratch(path.parent, SCRATCH) as fresh:
        _fill(fresh, upstream, branch)
        fresh.chmod(0o755)
        sync_filesystem(fresh)
        # Another process may have been first: its store is as good as ours.
        with contextlib.suppress(OSError):
            fresh.rename(path)
    if not path.is_dir():
        raise NotADirectoryError(20, "something else is in its place", str(path))


def repair(path: Path, upstream: str, branch: str) -> None:
    """Write what is missing or empty of the skeleton, as after a power loss. Usually nothing."""
    _fill(path, upstream, branch)


def _fill(path: Path, upstream: str, branch: str) -> None:
    for directory in ("objects/pack", "objects/info", "refs/heads", "info", "worktrees"):
        make_directory(path / directory)
    for name, text in _skeleton(upstream, branch).items():
        file = path / name
        if not file.exists() or not file.stat().st_size:
            replace_file(file, text.encode())


def _skeleton(upstream: str, branch: str) -> Mapping[str, str]:
    url = without_userinfo(upstream).replace("\\", "\\\\").replace('"', '\\"')
    return {
        "HEAD": f"ref: {HEADS}{branch}\n",
        # Version 1, or git would ignore the extension. No gc behind our back: we pack ourselves.
        "config": (
            "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n"
            "[extensions]\n\tworktreeConfig = true\n"
            "[gc]\n\tauto = 0\n"
            f'[remote "origin"]\n\turl = "{url}"\n'
        ),
        # Here and not in config: the releases are work trees of this repository, and not bare.
        "config.worktree": "[core]\n\tbare = true\n",
        "description": "Store of gitopper. Its releases are linked work trees: see git worktree list.\n",
    }


def mark_partial(path: Path) -> None:
    """Tell stock git that blobs are missing on purpose, and where they are to be had."""
    config = path / "config"
    text = config.read_text()
    if _PARTIAL not in text:
        head, origin, rest = text.partition('[remote "origin"]\n')
        replace_file(config, f"{head}{origin}{_PARTIAL}{rest}".encode())


def is_partial(path: Path) -> bool:
    """True when the store lacks blobs on purpose."""
    return _PARTIAL in (path / "config").read_text()


def read_refs(path: Path, prefix: str = HEADS) -> dict[str, ObjectID] | None:
    """Branch to tip, as of the last successful fetch; None when there was none yet.

    With `PAST` as `prefix`, of the branches that upstream had once.
    """
    try:
        text = (path / "packed-refs").read_bytes()
    except FileNotFoundError:
        return None
    refs = {}
    for line in text.splitlines():
        oid, _, ref = line.partition(b" ")
        name = os.fsdecode(ref)
        if len(oid) == 40 and valid_hexsha(oid) and name.startswith(prefix):
            refs[name.removeprefix(prefix)] = ObjectID(oid)
    return refs


def write_refs(path: Path, refs: Mapping[str, ObjectID], past: Mapping[str, ObjectID]) -> None:
    """Make `refs` the branches of the store, and `past` those that were: all at once, in one file."""
    named = {os.fsencode(HEADS + branch): oid for branch, oid in refs.items()}
    named |= {os.fsencode(PAST + branch): oid for branch, oid in past.items()}
    lines = [oid + b" " + name + b"\n" for name, oid in sorted(named.items())]
    head = b"# pack-refs with: peeled fully-peeled sorted \n"
    replace_file(path / "packed-refs", b"".join([head, *lines]))
