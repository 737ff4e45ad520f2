"""The releases of a service that are no longer kept, and what a crash left of others."""

# ruff: noqa: PTH208 - names alone: of thousands, one is looked for

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from gitopper_plugins._mountinfo import escaped
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.packs import SCRATCH as IN_STORE
from gitopper_plugins.dulwich.scratch import hold, scratch, sweep
from gitopper_plugins.dulwich.worktree import WorkTree
from libgitopper import Service

__all__ = ["SCRATCH", "discard"]

log = logging.getLogger(__name__)

SCRATCH = ".new-"
_RELEASE = re.compile(r"[0-9a-f]{16}")


def discard(store: Path, service: Service, keep: Collection[str]) -> None:
    """Delete the releases of `service` that are not in `keep`, and leftovers; other files stay."""
    if not service.releases.is_dir():
        _forget_gone(store, service)
        return
    with hold(service.releases, Deadline.after(service.timeout_seconds)) as held:
        if not held:
            log.warning(
                "releases of %s are not cleared now: another process is at work there", service.name
            )
            return
        sweep(service.releases, SCRATCH)
        past = {name for name in os.listdir(service.releases) if _RELEASE.fullmatch(name)} - set(keep)
        for name in sorted(past.difference(_mounted(service))) if past else ():
            if not (path := service.releases / name).is_symlink():
                _delete(path)
        _forget_gone(store, service)


def _mounted(service: Service) -> Iterator[str]:
    """The releases of which some part is mounted, seen or not.

    A crash can leave one hidden under the mount of another. That stands on its directories then: the
    kernel would let us delete only half of it.
    """
    inside = escaped(f"/.gitopper/releases/{service.name}/")
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        _, found, path = b"".join(line.split(b" ")[3:4]).partition(inside)
        if found:
            yield os.fsdecode(path.partition(b"/")[0])


def _delete(release: Path) -> None:
    """Delete one release. First it gets another name: half deleted, it must not pass for a release."""
    admin = _admin_of(release)
    try:
        with scratch(release.parent, SCRATCH) as aside:
            release.rename(aside / release.name)
            if admin:
                _forget(admin)
    except OSError as exc:
        # It can't have another name: it is immutable itself, say. The next call tries again.
        log.warning("release %s can't be deleted now: %s", release, exc)


def _admin_of(release: Path) -> Path | None:
    """Its administrative directory, in whichever store, if that agrees."""
    with contextlib.suppress(OSError):
        prefix, _, path = (release / ".git").read_bytes().rstrip(b"\n").partition(b": ")
        admin = Path(os.fsdecode(path))
        if prefix == b"gitdir" and admin.parent.name == "worktrees" and _names(admin, release):
            return admin
    return None


def _names(admin: Path, release: Path) -> bool:
    with contextlib.suppress(OSError):
        return (admin / "gitdir").read_bytes() == os.fsencode(release / ".git") + b"\n"
    return False


def _forget_gone(store: Path, service: Service) -> None:
    """Delete administrative directories for releases of `service` that are not there."""
    worktrees = store / "worktrees"
    here = os.fsencode(service.releases) + b"/"
    # By name alone, as a store has those of each service of its upstream.
    ours = WorkTree.suffix(service)
    names = os.listdir(worktrees) if worktrees.is_dir() else ()
    there = {f"{name}{ours}" for name in os.listdir(service.releases)} if service.releases.is_dir() else ()
    for admin in (worktrees / name for name in names if name.endswith(ours) and name not in there):
        with contextlib.suppress(OSError):
            named = (admin / "gitdir").read_bytes().rstrip(b"\n")
            if named.startswith(here) and not Path(os.fsdecode(named)).parent.exists():
                _forget(admin)


def _forget(admin: Path) -> None:
    """Delete an administrative directory. It goes aside first: of half of one nobody knows whose it is."""
    with scratch(admin.parent.parent, IN_STORE) as aside:
        admin.rename(aside / admin.name)
