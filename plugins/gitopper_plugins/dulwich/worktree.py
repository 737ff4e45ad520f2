"""A release as git sees it: a linked work tree of the store, sparse, made without git.

Below ``worktrees/`` of the store, git keeps a directory for each linked work tree: where it is, its
HEAD, its index, which directories it has. See gitrepository-layout(5), git-worktree(1),
git-sparse-checkout(1) and its notes on the sparse index. Beside them lies `RECORD`, the
index as it was when the files were written: git puts another one in its place when it likes, the record
stays. Until then they are one file with two names.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.gitindex import IndexEntry, distrusted, dump, left_out, present_entries
from gitopper_plugins.dulwich.objects import Entry, Objects
from gitopper_plugins.dulwich.packs import SCRATCH
from gitopper_plugins.dulwich.scratch import (
    make_directory,
    replace_file,
    scratch,
    sync_filesystem,
    write_file,
)
from gitopper_plugins.dulwich.tree import DIRECTORY, checked, kind_of, mapped_paths, plain_mode
from libgitopper import Service

__all__ = ["RECORD", "WorkTree"]

RECORD = "gitopper-index"
_CONFIG = (
    "[core]\n\tbare = false\n\tsparseCheckout = true\n\tsparseCheckoutCone = true\n"
    "[index]\n\tsparse = true\n"
)


@frozen(kw_only=True)
class WorkTree:
    """The administrative side of one release."""

    store: Path
    """The bare git directory."""
    release: Path
    """Where the release is, or is going to be."""

    @classmethod
    def of(cls, store: Path, service: Service, release_id: str) -> WorkTree:
        """The work tree of the release `release_id` of `service`."""
        return cls(store=store, release=service.releases / release_id)

    @functools.cached_property
    def admin(self) -> Path:
        """Its directory in the store. Two services with equal releases have one each."""
        return self.store / "worktrees" / f"{self.release.name}{_suffix(self.release.parent)}"

    @staticmethod
    def suffix(service: Service) -> str:
        """What the names of all administrative directories of a service end with."""
        return _suffix(service.releases)

    @property
    def link(self) -> bytes:
        """What the file ``.git`` of the release says."""
        return b"gitdir: " + os.fsencode(self.admin) + b"\n"

    def linked(self) -> bool:
        """True when release and store know of each other."""
        try:
            there = (self.release / ".git").read_bytes() == self.link
            back = (self.admin / "gitdir").read_bytes() == self._gitdir
        except FileNotFoundError:
            return False
        return there and back and (self.admin / RECORD).exists()

    def head(self) -> str | None:
        """The revision that it is at; None when that is not known."""
        try:
            return (self.admin / "HEAD").read_text().strip()
        except FileNotFoundError:
            return None

    @property
    def _gitdir(self) -> bytes:
        return os.fsencode(self.release / ".git") + b"\n"

    def install(
        self, objects: Objects, service: Service, revision: str, entries: Iterable[IndexEntry]
    ) -> None:
        """Put the administrative directory in place, as a whole; `entries` are what is on disk.

        All that was written before to the file system of the store is on the disk when this returns;
        the name of that directory need not be.
        """
        files = {
            "HEAD": f"{revision}\n".encode(),
            "commondir": b"../..\n",
            "gitdir": self._gitdir,
            "config.worktree": _CONFIG.encode(),
            "info/sparse-checkout": _patterns(service),
            RECORD: dump([*entries, *_outside(objects, service, revision)]),
        }
        with scratch(self.store, SCRATCH) as aside:
            fresh = aside / "fresh"
            make_directory(fresh / "info")
            for name, data in files.items():
                write_file(fresh / name, data, 0o644)
            # Half the disk: git never writes an index in place, nor do we.
            (fresh / "index").hardlink_to(fresh / RECORD)
            sync_filesystem(self.store)
            if self.admin.exists():
                self.admin.rename(aside / "former")
            fresh.rename(self.admin)

    def follow(self, objects: Objects, service: Service, revision: str) -> None:
        """Bring HEAD and index to `revision`, which has the same content at the mapped paths.

        HEAD is written last: where it is right, the index is, too. Neither is on the disk before the file
        system of the store is synced.

        Raises:
            ValueError: the record of what was written is damaged.
        """
        record = self.admin / RECORD
        # To the second: as it is mostly built, git compares no more of a time than that.
        written = record.stat().st_mtime_ns // 10**9 * 10**9
        entries = [
            *(distrusted(entry, written) for entry in present_entries(record.read_bytes())),
            *_outside(objects, service, revision),
        ]
        replace_file(self.admin / "index", dump(entries), sync=False)
        replace_file(self.admin / "HEAD", f"{revision}\n".encode(), sync=False)


def _suffix(releases: Path) -> str:
    return "-" + hashlib.sha256(os.fsencode(releases)).hexdigest()[:8]


def _outside(objects: Objects, service: Service, revision: str) -> Iterator[IndexEntry]:
    """Entries for what `revision` has and the release has not; whole directories where possible."""
    mapped = mapped_paths(service)
    parents = {path[:at] for path in mapped for at in _slashes(path)}
    waiting = [(b"", objects.tree_of(ObjectID(revision.encode())))]
    while waiting:
        prefix, tree = waiting.pop()
        listed = objects.listed(tree, prefix, functools.partial(_listed, prefix))
        for path, (directory, entry) in listed.items():
            if path in mapped:
                continue
            if directory is not None and path in parents:
                waiting.append((path + b"/", directory))
            else:
                yield entry


def _listed(prefix: bytes, entries: list[Entry]) -> dict[bytes, tuple[ObjectID | None, IndexEntry]]:
    """By path, for each entry of the tree at `prefix`: its tree, if it is one, and how it is left out."""
    found: dict[bytes, tuple[ObjectID | None, IndexEntry]] = {}
    # Checked, too: a name like web/index here would stand for a file of the directory web.
    for entry in checked(entries, prefix.rstrip(b"/")):
        path = prefix + entry.name
        if kind_of(entry.mode) == DIRECTORY:
            found[path] = entry.id, left_out(path + b"/", DIRECTORY, entry.id)
        else:
            found[path] = None, left_out(path, plain_mode(entry.mode), entry.id)
    return found


def _slashes(path: bytes) -> list[int]:
    return [at for at, byte in enumerate(path) if byte == ord("/")]


def _patterns(service: Service) -> bytes:
    """The mapped directories in cone mode; a mapped file can only be told by the directory it is in."""
    mapped = mapped_paths(service)
    whole = {path for path, file in mapped.items() if not file}
    parents = {path[:at] for path in mapped for at in _slashes(path)}
    lines = [b"/*", b"!/*/"]
    for path in sorted(whole | parents):
        escaped = re.sub(rb"([*?\[\\])", rb"\\\1", path)
        lines.append(b"/" + escaped + b"/")
        if path not in whole:
            lines.append(b"!/" + escaped + b"/*/")
    return b"\n".join(lines) + b"\n"
