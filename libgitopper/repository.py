"""What the library asks of a repository: the store of an upstream, its commits, and what they change."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from libgitopper.model import Content, Service

__all__ = ["ChangeKind", "Commit", "FileChange", "Store"]


@frozen(kw_only=True)
class Commit:
    """One commit, read."""

    revision: str
    """Full hash."""
    parents: tuple[str, ...]
    author: str
    """Name of who wrote it, decoded leniently; not made safe to print."""
    at: datetime
    """When it was committed, by the committer's word; UTC."""
    subject: str
    """First line of its message, decoded leniently; not made safe to print."""
    raw: bytes = field(repr=False)
    """The whole object, as git hashes it: headers, an empty line, the message. A signature is over this."""


class ChangeKind(enum.Enum):
    """How a file differs."""

    ADDED = "added"
    REMOVED = "removed"
    EDITED = "edited"
    RETYPED = "retyped"
    """A file became a symlink, a directory a file, and so on."""
    MODE = "mode"
    OWNER = "owner"


@frozen(kw_only=True)
class FileChange:
    """One file that differs between two revisions, or on disk from its revision."""

    path: str
    """Path in the repository; bytes that are not UTF-8 as surrogates (`os.fsdecode`)."""
    kind: ChangeKind
    detail: str = ""
    """What can't be seen from the kind, as ``0600 instead of 0644``."""


class Store(Protocol):
    """The local repository of an upstream, as the fetch plugin hands it out.

    Safe to use from several threads, also while a fetch into it is under way. Hashes are full
    hex. Methods raise `SourceError` when they need the upstream and it fails, `CheckoutError`
    when the repository can't give what is asked.
    """

    @property
    def path(self) -> Path:
        """The bare git directory."""

    @property
    def tips(self) -> Mapping[str, str]:
        """Branch to commit hash, as of the last successful fetch. A branch gone upstream is absent."""

    @property
    def moved(self) -> bool:
        """True when the call that returned this store brought new tips."""

    def content(self, revision: str, service: Service) -> Content:
        """What `revision` has at the paths that `service` maps. Local; cheap.

        Raises:
            CheckoutError: the revision is not here, or lacks a mapped path, or has something
                else there (a file where a directory is mapped).
        """

    def resolve(self, prefix: str, branch: str) -> str:
        """The one commit in the history of `branch` whose hash starts with `prefix` (>= 4 digits).

        Raises:
            UnknownRevision: none, or one that is not in that history; says which.
            AmbiguousRevision: several.
        """

    def commits(
        self, revision: str, *, exclude: Collection[str] = (), limit: int = 1000
    ) -> Sequence[Commit]:
        """The commits reachable from `revision` and from none of `exclude`: `revision` first.

        At most `limit` of them. Of the order no more is promised than that a commit comes before its
        parents. An excluded revision that is not here excludes nothing.

        Raises:
            CheckoutError: `revision` is not here.
        """

    def is_ancestor(self, ancestor: str, revision: str) -> bool:
        """Whether `revision` is `ancestor` or descends from it; False where either is not here."""

    def changes(self, before: Content | None, after: Content) -> Sequence[FileChange]:
        """The files that differ below the mapped paths, sorted by path. Local; no file contents needed.

        `before` is None for nothing at all: then every file is added.
        """

    def patch(self, before: Content | None, after: Content, service: Service) -> bytes:
        """The same as a patch that ``git apply`` takes, binary files included.

        Raises:
            SourceError: file contents are missing, and upstream can't give them now.
            CheckoutError: it would be too long to be handed on as one.
        """

    def discard(self, service: Service, keep: Collection[str]) -> None:
        """Delete the releases of `service` whose id is not in `keep`, and what a crash left half made."""
