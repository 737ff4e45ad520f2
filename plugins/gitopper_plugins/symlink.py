"""Publish with symlinks: no root, no mount, no kernel feature.

Each `local` is a symlink through ``<mount>/<service>``, which is itself a symlink to the release.
So one rename publishes all mappings of a service at once.

Crashes. Each step is one atomic call, and the next publish does what is missing: before the
rename the service sees the former release, after it the new one. At the first publish the live
link comes first; a `local` that is not made yet does not exist, as before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gitopper_plugins._mountinfo import points_below
from gitopper_plugins._place import Place, fsync
from gitopper_plugins._placement import (
    carry_out,
    confirmed,
    hold_places,
    is_within,
    live_id,
    live_obstacles,
    nesting,
    next_live,
    place_link,
    refuse,
    unlink_live,
)
from libgitopper import Mapping, MountRequest, Published, Release, Service, hookimpl

__all__ = ["gitopper_mount"]

Places = Sequence[tuple[Mapping, Place]]


@hookimpl
def gitopper_mount(request: MountRequest) -> Published | None:
    """Take services with ``publish = "symlink"``."""
    if request.service.publish != "symlink":
        return None
    return carry_out(request, publish=_publish, obstacles=_remaining, withdraw=_withdraw, observe=_observe)


def _observe(service: Service) -> Published:
    live = live_id(service)
    if live is None:
        return Published(release=None)
    release = service.releases / live
    others = [
        str(mapping.local)
        for mapping in service.mappings
        if _points_at(mapping.local) != _through_live(service, mapping)
        or not os.path.lexists(release / mapping.link)
    ]
    if others:
        note = f"{', '.join(others)}: not a link to release {live}"
        return Published(release=None, partly=len(others) < len(service.mappings), note=note)
    return Published(release=live)


def _publish(service: Service, release: Release) -> Published:
    if _observe(service).release == release.id:
        return Published(release=release.id)
    with hold_places(service.mappings) as places:
        # All of it before the first change: a refusal leaves everything as it was.
        found = _obstacles(places, service, release)
        refuse(service, [*nesting(service), *live_obstacles(service), *found])
        for _, place in places:
            place.make_way()
        to_make = [(m, p) for m, p in places if _points_at(p.path) != _through_live(service, m)]
        with next_live(service, release.id) as flip:
            _bridge(release, to_make)
            changed = flip()
        for mapping, place in to_make:
            place_link(place.path, _through_live(service, mapping))
    shown = confirmed(service, release, _observe(service))
    return Published(release=shown, changed=changed or bool(to_make))


def _withdraw(service: Service, *, keep_live: bool) -> Published:
    changed, left = False, []
    with hold_places(service.mappings) as places:
        for mapping, place in places:
            if _is_ours(service, mapping, place):
                place.path.unlink()
                fsync(place.path.parent)
                changed = True
            elif os.path.lexists(place.path):
                left.append(str(mapping.local))
    if not keep_live:
        changed = unlink_live(service) or changed
    note = f"{', '.join(left)}: not ours, and stays" if left else ""
    return Published(release=None, changed=changed, note=note)


def _bridge(release: Release, places: Places) -> None:
    """Let links of ours that lead to another path of the repository lead to the new release directly.

    Their old target may be absent from the new release, and their new one from the old: through
    the live link they would dangle, before its flip or after it.
    """
    for mapping, place in places:
        if _points_at(place.path) is not None:
            place_link(place.path, release.path / mapping.link)


def _remaining(service: Service, release: Release, former: Service) -> list[str]:
    """Return what keeps the release from being shown once `former` is withdrawn.

    A place where something was mounted is there still, and in the way.
    """
    with hold_places(m for m in service.mappings if not is_within(m.local, former)) as places:
        found = _obstacles(places, service, release, former)
    return [*nesting(service), *live_obstacles(service), *found]


def _obstacles(places: Places, service: Service, release: Release, *formers: Service) -> list[str]:
    found = []
    for mapping, place in places:
        if not os.path.lexists(release.path / mapping.link):
            found.append(f"release {release.id} has no {mapping.link!r}")
        local, target = mapping.local, _points_at(place.path)
        if target is not None and not any(_leads_to_us(one, target) for one in (service, *formers)):
            found.append(f'{local} is a symlink to {target}; remove it, or change "local"')
        elif target is None and os.path.lexists(place.path):
            # An empty directory too: someone made it with an owner and a mode that we could not give back.
            found.append(
                f'{local} is in the way; move it away (publish = "bind", as root, leaves it as it is)'
            )
        elif _inside_release(place.path):
            found.append(f'{local} lies inside a path that is published already; change "local"')
        elif points := _mounted(place.path):
            found.append(f"{local} has mounts that would be hidden: {points}; unmount them")
    return found


def _mounted(path: Path) -> str:
    """Return where something is mounted at or below what the link `path` shows; empty for nowhere.

    It is mounted in a release, and stays there when the link leads to the next one.
    """
    directory, _, name = os.path.realpath(path).rpartition("/")
    points = sorted(p for p in points_below(directory) if p == name or p.startswith(f"{name}/"))
    return ", ".join(f"{directory}/{point}" for point in points)


def _is_ours(service: Service, mapping: Mapping, place: Place) -> bool:
    """Tell whether the link at `place` is what `_publish` makes there, a crash of it included."""
    target = _points_at(place.path)
    return target is not None and (
        target == _through_live(service, mapping) or service.releases in target.parents
    )


def _leads_to_us(service: Service, target: Path) -> bool:
    """Tell whether a link to `target` may be replaced: to another path of a release of this service."""
    return service.live in target.parents or service.releases in target.parents


def _inside_release(path: Path) -> bool:
    return "/.gitopper/releases/" in f"{os.path.realpath(path.parent)}/"


def _through_live(service: Service, mapping: Mapping) -> Path:
    return service.live / mapping.link


def _points_at(local: Path) -> Path | None:
    """Return where the symlink `local` points; None when it is none."""
    try:
        return local.readlink()
    except OSError:
        return None
