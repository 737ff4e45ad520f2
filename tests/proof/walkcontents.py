"""What commits have, as the model sees it: in plain values, told from the tree of each commit."""

from __future__ import annotations

from collections.abc import Mapping

from libgitopper import Mapping as Mapped
from tests.proof.walkgit import PLAIN, File, Files, Upstream, below
from tests.proof.walkvalues import Placed

__all__ = ["Contents"]

PRESENT = File(PLAIN, b"")


class Contents:
    """Knows what each commit has."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def placed(self, revision: str, mappings: tuple[Mapped, ...], fresh: int = 0) -> Placed | None:
        """Return what a commit has for the mappings; None where it lacks one of them."""
        shown = [(m.link, below(self._upstream.commits[revision].files, m)) for m in mappings]
        if any(files is None for _, files in shown):
            return None
        what = tuple((link, tuple(sorted((files or {}).items(), key=str))) for link, files in shown)
        return Placed(revision=revision, key=(what, fresh), mappings=mappings)

    def files(self, placed: Placed, mapping: Mapped, edits: Mapping[str, File | None]) -> Files:
        """Return what is to be read at `mapping`, by path below it, with what was done to it."""
        files = dict(self._upstream.commits[placed.revision].files)
        for name, file in edits.items():
            files.pop(name, None)
            if file is not None:
                files[name] = file
        return below(files, mapping) or {}

    def has(self, placed: Placed, word: bytes, edits: Mapping[str, File | None] | None = None) -> bool:
        """Tell whether a file of what is placed has a word."""
        shown = (self.files(placed, m, edits or {}) for m in placed.mappings)
        return any(word == file.data and file.mode & 0o170000 == PLAIN & 0o170000
                   for files in shown for file in files.values())  # fmt: skip

    def whole(self, placed: Placed, edits: Mapping[str, File | None]) -> bool:
        """Tell whether what was done to a release left something at each path that it shows."""
        return not any(edits.get(m.link, PRESENT) is None for m in placed.mappings)

    def descends(self, revision: str, ancestor: str) -> bool:
        """Tell whether a commit is another one, or came after it."""
        return self._upstream.descends(revision, ancestor)
