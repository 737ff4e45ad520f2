"""From 100 services to 100 others, with 50 in common: those 50 notice nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.support.daemon import Daemon, wait_until
from tests.support.namespace import in_mount_namespace
from tests.support.site import Site

BEFORE = [f"s{number:03}" for number in range(100)]
AFTER = [f"s{number:03}" for number in range(50, 150)]
COMMON = [name for name in BEFORE if name in AFTER]
GONE = [name for name in BEFORE if name not in AFTER]
FROZEN, PINNED = COMMON[:5], COMMON[5:7]


def wait_for_all(daemon: Daemon, names: Iterable[str]) -> None:
    """Wait until each of `names` is as well as it can be."""

    def there() -> bool:
        states = {entry["service"]: entry["state"] for entry in daemon.get("/list/services")["services"]}
        return set(states) == set(names) and set(states.values()) <= {"OK", "FREEZE"}

    wait_until(there, lambda: f"{daemon.get('/list/services')}\n{daemon.text()[-4000:]}", 60)


def commit_all(site: Site, text: str, names: Iterable[str]) -> str:
    return site.upstream.commit({f"{name}/etc/conf": text for name in names})


def identity(path: Path) -> tuple[int, int, int]:
    """What another link, or the same one made anew, would not have."""
    stat = path.lstat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def links(site: Site, name: str) -> list[object]:
    return [
        identity(site.home / "etc" / name),
        identity(site.live(name)),
        site.live(name).readlink(),
        identity(site.live(name).resolve()),
    ]


def mounts(site: Site) -> dict[str, tuple[str, str]]:
    """Mount point to mount id and root; a remount of any kind brings another id."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        ident, _, _, root, point = line.split()[:5]
        if point.startswith(f"{site.home}/etc/"):
            name = point.removeprefix(f"{site.home}/etc/")
            assert name not in found, f"{point} is mounted twice"
            found[name] = ident, root
    return found


def mounted(site: Site, name: str) -> list[object]:
    return [mounts(site)[name], site.live(name).readlink(), (site.home / "etc" / name).stat().st_ino]


@frozen
class Seen:
    """All that is to be seen of the services that stay."""

    places: dict[str, list[object]]
    shown: dict[str, str]
    reloads: list[str]
    listed: dict[str, Any]
    last_poll: float


def look(site: Site, daemon: Daemon, places: Callable[[Site, str], list[object]]) -> Seen:
    listed = {entry["service"]: entry for entry in daemon.get("/list/services")["services"]}
    lines = (site.home / "reloads").read_text().splitlines()
    return Seen(
        places={name: places(site, name) for name in COMMON},
        shown={name: site.shown(name) for name in COMMON},
        reloads=[line for line in lines if line.split()[0] in COMMON],
        listed={name: listed[name] for name in COMMON},
        last_poll=daemon.metrics()[f'gitopper_source_last_success_time_seconds{{upstream="{site.url}"}}'],
    )


def configure(site: Site, publish: str, names: list[str]) -> None:
    site.configure(*(f'{name}: publish = "{publish}"' for name in names), interval="1h")


def settle_in(site: Site, daemon: Daemon, first: str) -> None:
    """Bring the first hundred to the second commit, but for some that are frozen or rolled back."""
    wait_for_all(daemon, BEFORE)
    for name in FROZEN:
        daemon.post(f"/state/freeze/{name}")
    second = commit_all(site, "two", COMMON)
    daemon.post(f"/do/pull/{COMMON[-1]}")
    for name in set(BEFORE) - set(FROZEN):
        daemon.wait_for(name, "OK", second)
    for name in PINNED:
        daemon.post(f"/state/rollback/{name}/{first}")
    for name in PINNED:
        daemon.wait_for(name, "FREEZE", first)


def go_over(site: Site, publish: str, places: Callable[[Site, str], list[object]]) -> None:
    first = commit_all(site, "one", [*BEFORE, *AFTER])
    configure(site, publish, BEFORE)
    with site.daemon as daemon:
        settle_in(site, daemon, first)
        seen = look(site, daemon, places)
        log = len(daemon.text())

        configure(site, publish, AFTER)
        assert daemon.ask("POST", "/do/reload-config") == (200, {"services": 100})
        wait_for_all(daemon, AFTER)

        assert look(site, daemon, places) == seen
        for name in FROZEN + PINNED:
            assert daemon.service(name)["state"] == "FREEZE"
            assert site.shown(name) == "one"
        new_lines = daemon.text()[log:]
        assert not any(f" {name}: " in new_lines for name in COMMON)
        for name in GONE:
            assert not (site.home / "etc" / name / "conf").exists()
            assert f"{name}: withdrawn" in new_lines
        assert {entry["service"] for entry in daemon.get("/list/services")["services"]} == set(AFTER)
        assert not any(f'service="{name}"' in sample for sample in daemon.metrics() for name in GONE)
        if publish == "bind":
            assert set(mounts(site)) == set(AFTER)


def test_fifty_of_a_hundred_services_stay_and_notice_nothing(site: Site) -> None:
    go_over(site, "symlink", links)


@pytest.mark.root
@in_mount_namespace
def test_fifty_of_a_hundred_mounts_stay_the_mounts_that_they_were(site: Site) -> None:
    assert os.geteuid() == 0
    go_over(site, "bind", mounted)
