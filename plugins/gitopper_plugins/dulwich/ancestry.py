"""Which commits lie between two: a walk from new to old that ends where nothing new can come.

As `git rev-list new ^old` does it: newest first, and both sides at once, so that the cost is that of
the commits between, not of the whole history.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from attrs import define, field
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.commit import read_commit
from gitopper_plugins.dulwich.objects import COMMIT, Objects
from libgitopper import CheckoutError, Commit

__all__ = ["commits", "is_ancestor"]

SLOP = 16
"""How far to look on among what is excluded, for commits whose clock was wrong. Git takes 5."""

MOST_BYTES = 64 * 1024 * 1024
"""How much of commits is held at a time; 1,000 ordinary ones are less than one."""
_NEVER = datetime.max.replace(tzinfo=UTC)


def commits(objects: Objects, revision: str, *, exclude: Collection[str], limit: int) -> list[Commit]:
    """See `libgitopper.Store.commits`.

    Where clocks were wrong by more than `SLOP` commits some may be listed although they are reachable
    from `exclude`; none is ever left out.

    Raises:
        CheckoutError: `revision` is not here, or a commit that it descends from.
    """
    walk = _Walk(objects)
    walk.want(revision)
    walk.exclude(exclude)
    found = walk.take(limit)
    if gone := walk.missing - walk.excluded:
        first = min(gone)
        why = "" if first == revision else f", which {revision[:12]} descends from,"
        raise CheckoutError(f"commit {first[:12]}{why} is not in the store {objects.path}")
    return _children_first(found)[:limit]


def is_ancestor(objects: Objects, ancestor: str, revision: str) -> bool:
    """See `libgitopper.Store.is_ancestor`. Exact whatever the clocks: no way there is ever excluded."""
    if objects.find(ObjectID(ancestor.encode()), COMMIT) is None:
        return False
    walk = _Walk(objects)
    walk.exclude([ancestor])
    walk.want(revision)
    return ancestor == revision or any(ancestor in commit.parents for commit in walk)


@define
class _Walk:
    """Yields the commits that are wanted, newest first; it ends when only excluded ones are left to see.

    One that was yielded may turn out to be excluded later, where clocks stand still or go back.
    """

    _objects: Objects
    excluded: set[str] = field(factory=set)
    """Those known so far."""
    missing: set[str] = field(factory=set)
    """Wanted, and not here."""
    _queue: list[tuple[float, str, Commit]] = field(factory=list)
    """A heap, the newest first."""
    _waiting: set[str] = field(factory=set)
    """Those in the queue that are wanted."""
    _seen: set[str] = field(factory=set)
    """All that were ever wanted."""
    _taken: dict[str, Commit] = field(factory=dict)
    """Those that `take` keeps; one that turns out to be excluded goes again."""
    _held: int = 0
    """Bytes of the commits in the queue, and of all that were ever taken."""

    def __iter__(self) -> Iterator[Commit]:
        while self._waiting:
            commit = self._step()
            if commit is not None:
                yield commit

    def want(self, revision: str) -> None:
        """Walk through `revision` and what it descends from, too."""
        if revision in self._seen or revision in self.excluded:
            return
        self._seen.add(revision)
        if self._push(revision):
            self._waiting.add(revision)
        else:
            self.missing.add(revision)

    def exclude(self, revisions: Iterable[str]) -> None:
        """Exclude `revisions` and what they descend from. One that is not here excludes itself only."""
        for revision in revisions:
            if revision in self.excluded:
                continue
            self.excluded.add(revision)
            self._taken.pop(revision, None)
            if revision in self._waiting:
                self._waiting.remove(revision)
            else:
                # Also when it was taken before: its parents are still to be told.
                self._push(revision)

    def take(self, limit: int) -> Mapping[str, Commit]:
        """Return all that are wanted, or at least `limit` of them.

        It looks on for what is excluded until that is older than all that was taken, and `SLOP` further.
        """
        oldest = _NEVER
        beyond = 0
        while self._queue and beyond < SLOP:
            if self._waiting and len(self._taken) < limit:
                beyond = 0
            elif self._waiting or self._queue[0][2].at < oldest:
                beyond += 1
            commit = self._step()
            if commit is not None:
                self._taken[commit.revision] = commit
                self._hold(len(commit.raw))
                oldest = min(oldest, commit.at)
        return self._taken

    def _step(self) -> Commit | None:
        """Take the newest of all, and queue its parents; None when it is excluded."""
        _, _, commit = heapq.heappop(self._queue)
        self._held -= len(commit.raw)
        if commit.revision in self.excluded:
            self.exclude(commit.parents)
            return None
        self._waiting.remove(commit.revision)
        for parent in commit.parents:
            self.want(parent)
        return commit

    def _push(self, revision: str) -> bool:
        raw = self._objects.find(ObjectID(revision.encode()), COMMIT)
        if raw is None:
            return False
        commit = read_commit(revision, raw)
        self._hold(len(raw))
        heapq.heappush(self._queue, (-commit.at.timestamp(), revision, commit))
        return True

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MOST_BYTES:
            why = f"the commits that are to be compared have more than {MOST_BYTES} bytes"
            raise CheckoutError(why, retryable=False)


def _children_first(found: Mapping[str, Commit]) -> list[Commit]:
    """Sort: newest first, but no commit before one that descends from it."""
    children = Counter(parent for commit in found.values() for parent in commit.parents)
    ready = [(-c.at.timestamp(), c.revision) for c in found.values() if not children[c.revision]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        commit = found[heapq.heappop(ready)[1]]
        ordered.append(commit)
        for parent in commit.parents:
            children[parent] -= 1
            if parent in found and not children[parent]:
                heapq.heappush(ready, (-found[parent].at.timestamp(), parent))
    return ordered
