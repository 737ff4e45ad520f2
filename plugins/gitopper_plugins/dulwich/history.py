"""Walking through the history that a store holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.objects import COMMIT, Objects
from gitopper_plugins.dulwich.protocol import Haves
from libgitopper import AmbiguousRevision, UnknownRevision

__all__ = ["haves", "resolve"]

FAR_COMMITS = 4096
MAX_TIPS = 8
MIN_PREFIX_DIGITS = 4


def haves(objects: Objects, tips: Collection[ObjectID]) -> Haves:
    """What to offer a server: the tips, and sparser and sparser commits behind them.

    The gap between two that are offered grows with their distance, so a server that has one of
    them sends about twice what is needed at worst, however far back history was rewritten.
    """
    walks = [_first_parents(objects, tip) for tip in list(dict.fromkeys(tips))[:MAX_TIPS]]
    # The tips alone: to read more takes milliseconds at each deploy, and only rewritten history needs it.
    near = [commit for walk in walks for commit in islice(walk, 1)]

    def far() -> Sequence[ObjectID]:
        return [commit for walk in walks for commit in _sparser(walk)]

    return Haves(near=list(dict.fromkeys(near)), far=far)


def _first_parents(objects: Objects, tip: ObjectID) -> Iterator[ObjectID]:
    following = [tip]
    while following and objects.find(following[0], COMMIT) is not None:
        yield following[0]
        following = objects.parents(following[0])


def _sparser(walk: Iterator[ObjectID]) -> Iterator[ObjectID]:
    due = distance = 1
    for commit in walk:
        distance += 1
        if distance > FAR_COMMITS:
            return
        if distance >= due:
            yield commit
            due = distance + max(1, distance // 4)


def resolve(objects: Objects, prefix: str, branch: str, tip: ObjectID | None) -> str:
    """See `libgitopper.Store.resolve`; `tip` is where `branch` is, None when there is no such branch."""
    prefix = prefix.strip().lower()
    if not MIN_PREFIX_DIGITS <= len(prefix) <= 40 or not set(prefix) <= set("0123456789abcdef"):
        raise UnknownRevision(
            f"{prefix!r} is no commit hash: give {MIN_PREFIX_DIGITS} to 40 hexadecimal digits of one"
        )
    if tip is None:
        raise UnknownRevision(f"branch {branch} is not there (upstream does not have it, or no fetch yet)")
    candidates = set(objects.with_prefix(prefix, COMMIT))
    if not candidates:
        raise UnknownRevision(
            f"{prefix} is no commit that is known here; if it is new, `gitopperctl do pull` fetches it"
        )
    found = _in_history(objects, tip, candidates)
    if len(found) > 1:
        names = ", ".join(sorted(oid.decode()[:12] for oid in found))
        raise AmbiguousRevision(
            f"{prefix} stands for {len(found)} commits of {branch}: {names}; give more digits"
        )
    if not found:
        raise UnknownRevision(f"{prefix} is a commit, but not in the history of branch {branch}")
    return found.pop().decode()


def _in_history(objects: Objects, tip: ObjectID, candidates: set[ObjectID]) -> set[ObjectID]:
    """Those of `candidates` that `tip` descends from, itself included."""
    found: set[ObjectID] = set()
    seen = {tip}
    queue = deque([tip])
    while queue and found != candidates:
        commit = queue.popleft()
        if commit in candidates:
            found.add(commit)
        for parent in objects.parents(commit):
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return found
