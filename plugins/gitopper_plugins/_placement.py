"""What every way of publishing shares: what is asked of it, and the link to the live release."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Protocol

from gitopper_plugins._place import Place, fsync, held
from libgitopper import Mapping, MountRequest, MountVerb, Published, PublishError, Release, Service

__all__ = [
    "carry_out",
    "confirmed",
    "hold_places",
    "is_within",
    "live_id",
    "live_obstacles",
    "nesting",
    "next_live",
    "place_link",
    "refuse",
    "unlink_live",
]


def refuse(service: Service, obstacles: list[str]) -> None:
    """Raise one error that names every obstacle; return when there is none.

    Raises:
        PublishError: there is one.
    """
    if obstacles:
        raise PublishError("; ".join(obstacles), service=service.name)


def confirmed(service: Service, release: Release, now: Published) -> str:
    """Return the id of `release`, which was just published, and is what was observed `now`.

    Raises:
        PublishError: it is not: somebody else changes the same paths at the same time.
    """
    if now.release != release.id:
        message = f"release {release.id} was published, but then: {now.note or 'it was gone'}"
        raise PublishError(message, service=service.name)
    return release.id


@contextlib.contextmanager
def reporting(service: Service) -> Iterator[None]:
    """Turn an `OSError` of the block into a `PublishError` that names the path."""
    try:
        yield
    except OSError as exc:
        where = f"{os.fsdecode(exc.filename)}: " if exc.filename is not None else ""
        reason = f"can't publish: {where}{exc.strerror or exc}"
        raise PublishError(reason, service=service.name) from exc


class Withdraw(Protocol):
    """How a publisher withdraws; see `MountVerb.WITHDRAW`."""

    def __call__(self, service: Service, *, keep_live: bool) -> Published:
        """Stop showing a release at the mappings of `service`."""


def carry_out(
    request: MountRequest,
    *,
    publish: Callable[[Service, Release], Published],
    obstacles: Callable[[Service, Release, Service], list[str]],
    withdraw: Withdraw,
    observe: Callable[[Service], Published],
) -> Published:
    """Do what `request` asks for; what the system refuses is told as a `PublishError`.

    `obstacles` returns what keeps a release from being shown once a former service made way.
    """
    service = request.service
    with reporting(service):
        if request.verb is MountVerb.PUBLISH and request.release is not None:
            return publish(service, request.release)
        if request.verb is MountVerb.WITHDRAW:
            return withdraw(service, keep_live=request.keep_live)
        if request.verb is MountVerb.JUDGE and request.release is not None and request.former is not None:
            refuse(service, obstacles(service, request.release, request.former))
        return observe(service)


def nesting(service: Service) -> list[str]:
    """Return an obstacle for each pair of mappings of which one would be made inside the other."""
    return [
        f'{one.local} and {other.local} lie one in the other; change "local" of one of them'
        for one, other in combinations(service.mappings, 2)
        if one.local == other.local or one.local in other.local.parents or other.local in one.local.parents
    ]


@contextlib.contextmanager
def hold_places(mappings: Iterable[Mapping]) -> Iterator[list[tuple[Mapping, Place]]]:
    """Hold the places of `mappings`, each beside it, for as long as the block runs; see `held`."""
    known = tuple(mappings)
    with held(mapping.local for mapping in known) as found:
        yield list(zip(known, found, strict=True))


def is_within(local: Path, former: Service) -> bool:
    """Tell whether `local` lies above or below a path of `former`: nobody sees what is there then."""
    return any(m.local in local.parents or local in m.local.parents for m in former.mappings)


def live_id(service: Service) -> str | None:
    """Return the id that the link to the live release names; None when there is no such link."""
    try:
        directory, _, name = os.readlink(service.live).rpartition("/")  # noqa: PTH115 - asked five times a deploy
    except OSError:
        return None
    relative = not directory.startswith("/")
    return name if relative and service.mount / directory == service.releases else None


def live_obstacles(service: Service) -> list[str]:
    """Return what stands where the link to the live release belongs, unless it is that link."""
    if not os.path.lexists(service.live) or live_id(service) is not None:
        return []
    return [f'{service.live} is not a link to a release; move it away, or change "mount"']


@contextlib.contextmanager
def next_live(service: Service, release: str) -> Iterator[Callable[[], bool]]:
    """Prepare the link to `release`; the function that is handed out puts it in place, atomically.

    It returns whether that changed the link. All that can fail for lack of space is done first.
    """
    _clear_leftovers(service.live)
    if live_id(service) == release:
        # No link that nobody needs: if we crash while only mappings change, nobody clears it soon.
        yield lambda: False
        return
    made = _new_name(service.live)
    made.symlink_to(_target(service, release))

    def flip() -> bool:
        made.replace(service.live)
        fsync(service.mount)
        return True

    try:
        yield flip
    finally:
        made.unlink(missing_ok=True)


def place_link(path: Path, target: Path) -> None:
    """Make `path` a symlink to `target`, atomically; a symlink that is there is replaced, nothing else."""
    if path.is_symlink():
        _clear_leftovers(path)
        made = _new_name(path)
        made.symlink_to(target)
        made.replace(path)
    else:
        path.symlink_to(target)
    fsync(path.parent)


def unlink_live(service: Service) -> bool:
    """Remove the link to the live release if it is one; tell whether it was."""
    if live_id(service) is None:
        return False
    _clear_leftovers(service.live)
    service.live.unlink()
    fsync(service.mount)
    return True


def _target(service: Service, release: str) -> Path:
    """What the link says: relative, so that the whole of `mount` can be looked at from elsewhere."""
    return (service.releases / release).relative_to(service.mount)


def _new_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")


def _clear_leftovers(path: Path) -> None:
    """Remove what a crash between making a link and putting it in place left behind."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.new")
    # By name alone: beside the links of a thousand services there are a thousand others.
    for name in os.listdir(path.parent):  # noqa: PTH208
        if ours.fullmatch(name) and (left := path.with_name(name)).is_symlink():
            left.unlink()
