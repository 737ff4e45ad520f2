"""Whoever owns the files of a release swaps directories and files for symlinks, and back, all the time.

Meanwhile releases are made, looked at, told of to a store that was made anew, and removed. Nothing
outside of them may change, nor may anything that only root may read get into what is kept of edits.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve

from libgitopper import CheckoutRequest, Content, DriftRequest, GitopperError, Release, Service, Store
from tests.proof.hostileground import Broken, Ground, Repository, ground
from tests.proof.table import Row

__all__ = ["try_swaps"]

OWNER = "nobody"
SECRET = b"for root alone"
KEEP = 2
ANEW_EVERY = 7


def try_swaps(rounds: int) -> Row:
    """Deploy, look and remove so many times; it takes root."""
    failures, swaps = [], 0
    with ground() as here:
        here.root.chmod(0o755)
        (here.root / "outside/secret").write_bytes(SECRET)
        (here.root / "outside/secret").chmod(0o600)
        with _swapping(here.root) as counted:
            good = here.be_good().id
            made: list[Release] = []
            for number in range(rounds):
                try:
                    made = [*made[1 - KEEP :], _round(here, number, made, good)]
                except Broken as exc:
                    failures.append(f"swaps, round {number}: {exc}")
                    break
            swaps = _count(counted)
        promises = here.promises
    if not swaps:
        failures.append("swaps: nothing was ever swapped: this proves nothing")
    case = f"swapped under our hands, {swaps} times"
    return Row(part="hostile", case=case, points=rounds, promises=promises, failures=failures)


def _round(here: Ground, number: int, former: list[Release], good: str) -> Release:
    """Make a release, look at all that there are, and remove those that are past keeping."""
    before = here.surroundings()
    it = Repository()
    file = it.blob(b"%d\n" % number)
    below = it.tree(*(("100644", b"%02d" % at, file) for at in range(20)), ("100644", b"secret", file))
    tip = it.of_web(it.tree(("100644", b"it", file), ("100644", b"secret", file), ("40000", b"sub", below)))
    here.serve(tip, it.pack())
    store, service = here.fetch(), evolve(here.service, user=OWNER)
    content = store.content(tip, service)
    release = here.hooks.checkout(CheckoutRequest(service=service, store=store, content=content))
    for shown in (*former, release):
        _look(here, service, store, shown)
    if number % ANEW_EVERY == ANEW_EVERY - 1:
        _anew(here, service, content)
        store = here.fetch()
    with contextlib.suppress(OSError):  # told as a warning; the next one tries again
        store.discard(service, {good, release.id, *(shown.id for shown in former)})
    here.expect(here.surroundings() == before, "something outside of the releases has changed")
    return release


def _look(here: Ground, service: Service, store: Store, release: Release) -> None:
    request = DriftRequest(service=service, store=store, release=release, thorough=True)
    try:
        found = here.hooks.drift(request)
    except GitopperError as exc:
        here.expect(str(exc).isprintable(), f"a reason that can't be shown: {exc}")
        return
    kept = found.patch if found else b""
    here.expect(SECRET not in kept, "what only root may read is kept as an edit")


def _anew(here: Ground, service: Service, content: Content) -> None:
    """Lose the store, and tell a new one of the release that is there."""
    shutil.rmtree(here.root / "stores")
    store = here.fetch()
    with contextlib.suppress(GitopperError):
        here.hooks.checkout(CheckoutRequest(service=service, store=store, content=content))


@contextlib.contextmanager
def _swapping(root: Path) -> Iterator[Path]:
    """Swap in a process of its own; yields the file in which it counts."""
    count = root.with_name(f"{root.name}-swaps")
    count.touch()
    owner = pwd.getpwnam(OWNER)
    os.chown(count, owner.pw_uid, owner.pw_gid)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(owner.pw_gid)
            os.setuid(owner.pw_uid)
            _swap_for_ever(root, count)
        finally:
            os._exit(1)
    try:
        yield count
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        count.unlink()


def _swap_for_ever(root: Path, count: Path) -> None:
    chance, outside = random.Random(1), root / "outside"
    with count.open("wb", buffering=0) as counted:
        while True:
            for web in root.glob("mount/.gitopper/releases/web/*/web"):
                for name, target in (("sub", outside), ("secret", outside / "secret")):
                    with contextlib.suppress(OSError):
                        _swap(web, name, target, chance.uniform(0, 0.002))
                        counted.write(b".")


def _swap(web: Path, name: str, target: Path, seconds: float) -> None:
    (web / name).rename(web / f"{name}-aside")
    try:
        (web / name).symlink_to(target)
        time.sleep(seconds)
        (web / name).unlink()
    finally:
        (web / f"{name}-aside").rename(web / name)


def _count(counted: Path) -> int:
    return counted.stat().st_size
