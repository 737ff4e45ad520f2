"""Making a release: complete when it has its name, and made durable before that.

    read trees, refuse what is unsafe -> bring in file contents -> write aside -> administrative
    directory -> sync -> rename

Until the rename there is no release, whatever happens; after it, it is complete. What is left of
a crash before it is swept away by the next checkout or `discard`.
"""

# ruff: noqa: PTH102, PTH101, PTH211 - paths are bytes: names in git need not be UTF-8

from __future__ import annotations

import contextlib
import errno
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from gitopper_plugins.dulwich import ondisk
from gitopper_plugins.dulwich.blobs import bring_blobs
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.gitindex import IndexEntry, present
from gitopper_plugins.dulwich.objects import BLOB, TooLarge
from gitopper_plugins.dulwich.releases import SCRATCH
from gitopper_plugins.dulwich.scratch import (
    hold,
    make_directory,
    replace_file,
    scratch,
    sweep,
    sync_filesystem,
    write_file,
)
from gitopper_plugins.dulwich.store import SharedStore
from gitopper_plugins.dulwich.tree import (
    DIRECTORY,
    SUBMODULE,
    SYMLINK,
    Item,
    check_symlink,
    items,
    kind_of,
    refused,
)
from gitopper_plugins.dulwich.worktree import WorkTree
from libgitopper import CheckoutError, Content, Release, Service, StepError

__all__ = ["checkout"]


def checkout(store: SharedStore, service: Service, content: Content, *, sync: bool = True) -> Release:
    """See `libgitopper.hookspecs.Specs.gitopper_checkout`."""
    release_id = content.release_id(service)
    tree = WorkTree.of(store.path, service, release_id)
    with _explained(service, tree.release):
        if not _is_at(tree, content.revision):
            _bring(store, service, content, tree, sync=sync)
    return Release(service=service.name, id=release_id, path=tree.release, content=content)


@contextlib.contextmanager
def _explained(service: Service, release: Path) -> Iterator[None]:
    try:
        yield
    except StepError as exc:
        exc.service = exc.service or service.name
        raise
    except OSError as exc:
        what = f"release {release} can't be made: {exc.strerror or exc}"
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            what += f"; free some space below {service.mount}"
        elif exc.filename:
            what += f" ({os.fsdecode(exc.filename)})"
        raise CheckoutError(what, service=service.name) from exc


@frozen
class _Owner:
    uid: int
    gid: int


def _owner(service: Service) -> _Owner | None:
    """Who the mapped files belong to; None leaves them with the daemon's own user."""
    if service.user is None:
        return None
    try:
        user = pwd.getpwnam(service.user)
    except KeyError:
        raise CheckoutError(
            f"no user {service.user} on this host: create it, or install its package"
        ) from None
    if os.geteuid() != 0 and user.pw_uid != os.geteuid():
        raise CheckoutError(
            f"only root can give files to user {service.user}: run as root, or remove `user`",
            retryable=False,
        )
    return _Owner(user.pw_uid, user.pw_gid)


def _is_at(tree: WorkTree, revision: str) -> bool:
    return tree.head() == revision and tree.linked() and tree.release.is_dir()


@frozen
class _Ready:
    """All that a release needs: its items, with their contents in the store, and their owner."""

    items: Sequence[Item]
    owner: _Owner | None
    largest: int
    """The most bytes that a file may have."""


def _ready(store: SharedStore, service: Service, content: Content) -> _Ready:
    owner = _owner(service)
    found = items(store.objects, service, content)
    _bring_contents(store, service, [item for item in found if item.mode not in (DIRECTORY, SUBMODULE)])
    return _Ready(found, owner, service.limits.file_bytes)


def _bring_contents(store: SharedStore, service: Service, files: Sequence[Item]) -> None:
    """See to it that the contents of `files` are in the store, and are not more than the service allows."""
    limits = service.limits
    try:
        if missing := store.objects.missing([item.id for item in files]):
            store.gathering.bring(
                missing,
                lambda wants: bring_blobs(store, wants, service),
                alike=(service.source.credentials, service.source.fetch_user, service.limits),
                timeout_seconds=service.timeout_seconds,
            )
        total = sum(store.objects.size(item.id, limits.file_bytes) for item in files)
    except TooLarge as exc:
        path = next(item.path for item in files if item.id == exc.oid)
        why = f"it has {exc.size} bytes, more than `max_file` allows, which is {exc.limit}"
        raise refused(path, why) from exc
    if total > limits.release_bytes:
        why = (
            f"its files have {total} bytes, more than `max_release` allows, which is {limits.release_bytes}"
        )
        raise CheckoutError(f"the release is refused: {why}", retryable=False)


def _bring(store: SharedStore, service: Service, content: Content, tree: WorkTree, *, sync: bool) -> None:
    """Make the release, or bring the one that is there to the revision of `content`."""
    # Before the lock: whoever waits for it must not wait for a network.
    ready = None if tree.release.is_dir() else _ready(store, service, content)
    make_directory(service.releases)
    with hold(service.releases, Deadline.after(service.timeout_seconds)) as held:
        if not held:
            raise CheckoutError(
                f"another process is at work in {service.releases}; is there a second daemon?"
            )
        if tree.release.is_dir():
            _follow(store, service, content, tree)
            if sync:
                sync_filesystem(store.path)
        else:
            _make(store, service, content.revision, tree, ready or _ready(store, service, content))


def _make(store: SharedStore, service: Service, revision: str, tree: WorkTree, ready: _Ready) -> None:
    sweep(service.releases, SCRATCH)
    # Mode 0700 until it is complete: a user who owns files in it can't reach them, nor swap a
    # directory for a symlink under our hands.
    with scratch(service.releases, SCRATCH) as aside:
        entries = _write(store, aside, ready)
        write_file(aside / ".git", tree.link, 0o644)
        tree.install(store.objects, service, revision, entries)
        apart = aside.stat().st_dev != store.path.stat().st_dev
        if apart:
            sync_filesystem(aside)  # else it is on the disk already, with what `install` wrote
        aside.chmod(0o755)
        aside.rename(tree.release)
    # The names, too: what is published next leads to them.
    sync_filesystem(service.releases)
    if apart:
        sync_filesystem(store.path)


def _write(store: SharedStore, top: Path, ready: _Ready) -> list[IndexEntry]:
    """Write the items below `top`, and return the index entries for them."""
    root = os.fsencode(top)
    for parent in _parents(ready.items):
        _directory(root + b"/" + parent)
    for item in ready.items:
        _write_item(store, root + b"/" + item.path, item, ready.largest)
    entries = []
    for item in ready.items:
        path = root + b"/" + item.path
        if ready.owner:
            os.chown(path, ready.owner.uid, ready.owner.gid, follow_symlinks=False)
        if item.mode != DIRECTORY:
            entries.append(present(item.path, item.mode, item.id, os.lstat(path)))
    return entries


def _parents(found: Sequence[Item]) -> list[bytes]:
    """The directories above the mapped paths: those that no item stands for."""
    own = {item.path for item in found}
    above = set()
    for path in own:
        while (path := path.rpartition(b"/")[0]) and path not in own:
            above.add(path)
    return sorted(above)


def _write_item(store: SharedStore, path: bytes, item: Item, limit: int) -> None:
    if item.mode in (DIRECTORY, SUBMODULE):
        _directory(path)
        return
    data = store.objects.read(item.id, BLOB, limit)
    if item.mode == SYMLINK:
        check_symlink(item, data)
        os.symlink(data, path)
    else:
        write_file(path, data, item.mode & 0o777)


def _directory(path: bytes) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103 - readable as in git; mkdir's own mode is subject to the umask


def _follow(store: SharedStore, service: Service, content: Content, tree: WorkTree) -> None:
    """Bring a release that is there to the revision of `content`."""
    if _is_at(tree, content.revision):
        return  # somebody else was first
    if tree.linked():
        with contextlib.suppress(ValueError):
            tree.follow(store.objects, service, content.revision)
            return
    # The store was made anew, or somebody pruned: tell it of the release again.
    found = [item for item in items(store.objects, service, content) if item.mode != DIRECTORY]
    with ondisk.open_top(tree.release) as top:
        entries = [_observed(top, item) for item in found]
    tree.install(store.objects, service, content.revision, entries)
    replace_file(tree.release / ".git", tree.link)


def _observed(top: int, item: Item) -> IndexEntry:
    """The entry for what should be at a path; with its stat data only if it really is.

    The files may belong to a user who swaps one for a fifo, or a directory for a symlink, right now.
    """
    with contextlib.suppress(OSError, ondisk.Moved):
        stat, oid = ondisk.identify(top, os.fsdecode(item.path))
        if kind_of(stat.st_mode) == kind_of(item.mode) and oid == item.id:
            return present(item.path, item.mode, item.id, stat)
    return present(item.path, item.mode, item.id, None)
