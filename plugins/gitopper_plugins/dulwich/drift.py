"""Drift: the files of a release, as they are, against what the release was made of.

Cheap by stat, certain by content. Three ways, the first that settles it:

1. Everything has the stat that it had when it was last found without drift. That is one digest, kept in
   memory for each service.
2. A file has the stat that the record of its checkout has (`worktree.RECORD`).
3. Its content is hashed. Only content that differs is drift: a `touch` is none.

A stat is trusted only once it is older than what it is compared with: within one tick of the clock
a file can be written twice (gitformat-index(5), "racy git").
"""

from __future__ import annotations

import hashlib
import marshal
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import define, field
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import ondisk
from gitopper_plugins.dulwich.compare import Version, files, roots
from gitopper_plugins.dulwich.driftpatch import written
from gitopper_plugins.dulwich.findings import Expected, Judge, owner_of
from gitopper_plugins.dulwich.gitindex import distrusted, present_entries, unpacked
from gitopper_plugins.dulwich.store import SharedStore
from gitopper_plugins.dulwich.tree import DIRECTORY
from gitopper_plugins.dulwich.worktree import RECORD, WorkTree
from libgitopper import CheckoutError, Drift, DriftRequest

__all__ = ["Looks", "drift"]

ATTEMPTS = 3
# Coarser than the clock of any file system.
SETTLED_NS = 2_000_000_000


@define
class Looks:
    """What the releases looked like when they were last found without drift."""

    _seen: dict[Path, tuple[str, bytes]] = field(factory=dict)
    """For each directory of releases, the release and its digest: one service needs no more."""

    def unchanged(self, release: Path, digest: bytes) -> bool:
        """Tell whether `release` looks as it did then."""
        return self._seen.get(release.parent) == (release.name, digest)

    def remember(self, release: Path, digest: bytes) -> None:
        """`release` was found without drift while it looked like this."""
        self._seen[release.parent] = (release.name, digest)


def drift(store: SharedStore, request: DriftRequest, looks: Looks) -> Drift:
    """See `libgitopper.hookspecs.Specs.gitopper_drift`."""
    path = request.release.path
    try:
        for _ in range(ATTEMPTS):
            try:
                with ondisk.open_top(path) as top:
                    return _look(store, request, looks, top)
            except ondisk.Moved:
                continue
    except ondisk.TooMany:
        raise CheckoutError(
            f"the files of release {path} can't be compared: they are too many;"
            " see who writes below the mapped directories"
        ) from None
    except OSError as exc:
        what = f" ({os.fsdecode(exc.filename)})" if exc.filename else ""
        raise CheckoutError(f"release {path} can't be read: {exc.strerror or exc}{what}") from exc
    raise CheckoutError(f"the files of release {path} can't be compared now: they come and go all the time")


def _look(store: SharedStore, request: DriftRequest, looks: Looks, top: int) -> Drift:
    started = time.time_ns()
    release = request.release
    paths = [os.fsdecode(path) for path in roots(release.content)]
    seen = ondisk.survey(top, paths)
    digest = _digest(seen)
    if not request.thorough and looks.unchanged(release.path, digest):
        return Drift()
    judge = Judge(top, seen, _expected(store, request), owner_of(request.service, top))
    findings = sorted(judge.all(), key=lambda finding: finding.change.path)
    if not findings and _newest_ns(seen) < started - SETTLED_NS:
        looks.remember(release.path, digest)
    return written(store, request.service, top, findings) if findings else Drift()


def _digest(seen: ondisk.Survey) -> bytes:
    # Not the times of access: everybody may read. Version 2 of marshal depends on values only.
    rows = [(path, *stat[:7], stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in seen.found]
    return hashlib.blake2b(marshal.dumps(rows, 2), digest_size=32).digest()


def _newest_ns(seen: ondisk.Survey) -> int:
    return max((stat.st_ctime_ns for _, stat in seen.found), default=0)


def _expected(store: SharedStore, request: DriftRequest) -> dict[str, Expected]:
    """What should be there, by the record of its checkout if that is sound, else by the trees."""
    release = request.release
    found = None if request.thorough else _recorded(WorkTree(store=store.path, release=release.path))
    if found is None:
        found = {path: Expected(it) for path, it in files(store.objects, release.content).items()}
    directory = Expected(Version(DIRECTORY, ObjectID(b"0" * 40)))
    found.update(dict.fromkeys(_directories(found, roots(release.content)), directory))
    return {os.fsdecode(path): expected for path, expected in found.items()}


def _directories(paths: Iterable[bytes], tops: Mapping[bytes, Version]) -> set[bytes]:
    """The mapped directories, and those below that lead to `paths`."""
    found = {top for top, version in tops.items() if version.mode == DIRECTORY}
    for path in paths:
        above = path
        while above not in tops and (above := above.rpartition(b"/")[0]) not in found:
            found.add(above)
    return found


def _recorded(tree: WorkTree) -> dict[bytes, Expected] | None:
    """What the checkout wrote; None where that is not known."""
    record = tree.admin / RECORD
    try:
        at = record.stat().st_mtime_ns
        entries = list(present_entries(record.read_bytes()))
    except (OSError, ValueError):
        return None
    found = {}
    for entry in entries:
        mode, oid, stat = unpacked(distrusted(entry, at))
        found[entry.name] = Expected(Version(mode, oid), stat)
    return found
