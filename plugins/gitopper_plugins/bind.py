"""Publish with bind mounts: each `local` becomes a mount of its part of the release.

A swap puts the new mount *under* the visible one, and then removes that: a lookup of the path
ends in the one release or in the other, and never in what lies below. What stood at `local`
before stays there, untouched. Measured against the other ways, with readers at work, this is the
only one that never shows anything else (see `mountapi` for the calls).

Crashes. The kernel takes each call whole, so a kill can only fall between two of them:

* before the new mount is beneath: nothing has happened; a detached mount goes with its process;
* between beneath and removal: the old release is visible, the new one hidden under it. The next
  publish of the new one only removes the old mount; that of another one clears both (`How`);
* between the removals of two mappings: one shows the new release, one the old. The window is as
  long as one system call. The next publish goes on from there;
* before the link to the live release is flipped: the mappings show the new release, the link
  names the old one. `observe` names no release then, and the next publish flips the link.

The link is flipped last, so that it never claims what the service does not see.

Kernels before 6.5 can't put a mount under another on request, but do it by themselves with one
that arrives by propagation; where mounts are shared, as under systemd, that is used. Elsewhere the
new mount goes on top and the old one stays: no lookup notices, and `Published.note` tells.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from gitopper_plugins import mountapi
from gitopper_plugins._mountinfo import MountTable
from gitopper_plugins._place import Place, held
from gitopper_plugins._placement import (
    carry_out,
    confirmed,
    hold_places,
    is_within,
    live_id,
    live_obstacles,
    nesting,
    next_live,
    refuse,
    unlink_live,
)
from gitopper_plugins._spot import Ground, How, Spot, shows, wrong_source
from libgitopper import Mapping, MountRequest, Published, PublishError, Release, Service, hookimpl

__all__ = ["gitopper_mount"]

Places = Sequence[tuple[Mapping, Place]]


@hookimpl
def gitopper_mount(request: MountRequest) -> Published | None:
    """Take services with ``publish = "bind"``."""
    if request.service.publish != "bind":
        return None
    return carry_out(request, publish=_publish, obstacles=_remaining, withdraw=_withdraw, observe=_observe)


def _observe(service: Service) -> Published:
    """Compare inodes: no list of mounts is read, so it can be asked often."""
    live = live_id(service)
    if live is None:
        return Published(release=None)
    release = service.releases / live
    others = [str(m.local) for m in service.mappings if not shows(service, m.local, release / m.link)]
    if others:
        note = f"{', '.join(others)}: not a mount of release {live}"
        return Published(release=None, partly=_partly(service), note=note)
    return Published(release=live)


def _partly(service: Service) -> bool:
    """Tell whether any mapping shows a release of this service, whichever."""
    ground = Ground(service, MountTable.read())
    stacks = (ground.stack(mapping.local) for mapping in service.mappings)
    return any(stack and ground.ours(stack[-1]) for stack in stacks)


def _publish(service: Service, release: Release) -> Published:
    if _observe(service).release == release.id:
        return Published(release=release.id)
    beneath = _may_mount(service)
    with hold_places(service.mappings) as places:
        spots = _look(places, service, release)
        found = (obstacle for spot in spots for obstacle in spot.obstacles())
        refuse(service, [*nesting(service), *live_obstacles(service), *found])
        with next_live(service, release.id) as flip:
            for spot in spots:
                spot.place.make(file=spot.mapping.file)
            swapped = _swap(service, spots, beneath=beneath)
            flipped = flip()
    return Published(
        release=confirmed(service, release, _observe(service)),
        changed=swapped or flipped,
        note=_limitation(service, beneath=beneath),
    )


def _withdraw(service: Service, *, keep_live: bool) -> Published:
    changed, left = False, []
    with hold_places(service.mappings) as places:
        ground = Ground(service, MountTable.read())
        refuse(service, [found for mapping, place in places for found in _borne(ground, mapping, place)])
        for mapping, place in places:
            stack = list(ground.stack(place.path))
            while stack and ground.ours(stack[-1]):
                _may_mount(service)
                mountapi.detach(place.path)
                stack.pop()
                changed = True
            if stack:
                left.append(str(mapping.local))
    if not keep_live:
        changed = unlink_live(service) or changed
    note = f"{', '.join(left)}: what is mounted there is not ours, and stays" if left else ""
    return Published(release=None, changed=changed, note=note)


def _borne(ground: Ground, mapping: Mapping, place: Place) -> Iterator[str]:
    """Yield an obstacle where somebody mounted something in our mount at `place`: it would go with it."""
    stack = ground.stack(place.path)
    if stack and ground.ours(stack[-1]) and (below := ground.below(place.path)):
        points = ", ".join(below)
        yield f"{mapping.local} has mounts below it that would be lost with it: {points}; unmount them"


def _may_mount(service: Service) -> bool:
    """Return whether the kernel can put a mount beneath another.

    Raises:
        PublishError: this process may not mount at all.
    """
    try:
        return mountapi.has_beneath()
    except PermissionError as exc:
        message = (
            "bind mounts need root (CAP_SYS_ADMIN, and no SystemCallFilter= that forbids them);"
            ' publish = "symlink" needs no root'
        )
        raise PublishError(message, service=service.name, retryable=False) from exc


def _look(places: Places, service: Service, release: Release) -> list[Spot]:
    ground = Ground(service, MountTable.read())
    return [ground.spot(mapping, release, place) for mapping, place in places]


def _remaining(service: Service, release: Release, former: Service) -> list[str]:
    """Return what keeps the release from being shown once `former` is withdrawn."""
    _may_mount(service)
    theirs = {mapping.local for mapping in former.mappings}
    found = [*nesting(service), *live_obstacles(service)]
    seen = []
    for mapping in service.mappings:
        if mapping.local in theirs or is_within(mapping.local, former):
            found += wrong_source(mapping, release)
        else:
            seen.append(mapping)
    with hold_places(seen) as places:
        return found + [o for spot in _look(places, service, release) for o in spot.obstacles()]


def _swap(service: Service, spots: Sequence[Spot], *, beneath: bool) -> bool:
    """Show the release at all `spots`; tell whether any did not show it before.

    What can fail comes first, and can't be seen or is undone. What remains are removals of the
    old mounts, in one go: the mappings differ for no longer than that takes.
    """
    with ExitStack() as trees:
        todo = [_Change(spot, service, trees, beneath=beneath) for spot in spots if not spot.done]
        for change in todo:
            change.hide()
        with ExitStack() as undo:
            for change in todo:
                change.show(undo)
            undo.pop_all()
        for change in todo:
            change.remove()
    return bool(todo)


class _Change:
    """What is done at one spot, in three steps that are taken for all spots together."""

    def __init__(self, spot: Spot, service: Service, trees: ExitStack, *, beneath: bool) -> None:
        self._path = spot.place.path
        self._beneath = beneath
        self._how, self._above = spot.how(beneath=beneath)
        # Held, too: between the top of a release and what a mapping shows may be files of its owner.
        with held([spot.source]) as [source]:
            self._new = _clone(source.path, trees, readonly=service.readonly)
        if self._how is How.CLEAR:
            self._old = _clone(self._path, trees, readonly=spot.stack[-1].readonly)

    def hide(self) -> None:
        """Put the new mount in place where that can't be seen. An error leaves it to the next publish."""
        if self._how is How.SWAP:
            self._attach_under()

    def show(self, undo: ExitStack) -> None:
        """Do what can be seen, and how to take it back."""
        if self._how in {How.ATTACH, How.ON_TOP}:
            mountapi.attach(self._new, self._path)
            undo.callback(mountapi.detach, self._path)
        elif self._how is How.CLEAR:
            undo.callback(mountapi.attach, self._old, self._path)
            for _ in range(self._above):
                mountapi.detach(self._path)
            self._attach_under()

    def remove(self) -> None:
        """Take the old mount away, so that the new one is seen."""
        if self._how in {How.SWAP, How.UNCOVER, How.CLEAR}:
            mountapi.detach(self._path)

    def _attach_under(self) -> None:
        attach = mountapi.attach_beneath if self._beneath else mountapi.attach_through_peer
        attach(self._new, self._path)


def _clone(path: Path, trees: ExitStack, *, readonly: bool) -> int:
    try:
        tree = mountapi.clone(path, readonly=readonly)
    except OSError as exc:
        if exc.errno != errno.ENOSYS:
            raise
        message = 'this kernel is too old for bind mounts (5.12 is needed); use publish = "symlink"'
        raise PublishError(message, retryable=False) from exc
    trees.callback(os.close, tree)
    return tree


def _limitation(service: Service, *, beneath: bool) -> str:
    if beneath:
        return ""
    ground = Ground(service, MountTable.read())
    depth = max(len(ground.stack(mapping.local)) for mapping in service.mappings)
    if depth < 2:
        return ""
    return (
        f"this kernel can't replace a mount in place here: {depth} lie on one another until the next boot"
    )
