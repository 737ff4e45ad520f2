"""The link to the live release, and what is told of mappings and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitopper_plugins import _placement as placement
from libgitopper import Mapping, PublishError, Service, Source


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_at(tmp_path)


def service_at(mount: Path, *locals_: str, name: str = "web") -> Service:
    mappings = tuple(Mapping(link=f"d{i}", local=Path(local)) for i, local in enumerate(locals_))
    source = Source(upstream="https://git.example.net/config", branch="main")
    return Service(name=name, source=source, mappings=mappings, mount=mount)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_live_link_is_relative_so_it_holds_wherever_the_directory_is_seen(service: Service) -> None:
    with placement.next_live(service, "abc") as flip:
        assert flip()
    assert str(service.live.readlink()) == ".gitopper/releases/web/abc"
    assert placement.live_id(service) == "abc"


def test_flipping_to_the_same_release_changes_nothing(service: Service) -> None:
    for expected in (True, False):
        with placement.next_live(service, "abc") as flip:
            assert flip() is expected
    assert names(service.mount) == ["web"]


def test_without_a_flip_the_link_stays(service: Service) -> None:
    with placement.next_live(service, "abc") as flip:
        flip()
    with placement.next_live(service, "def"):
        assert placement.live_id(service) == "abc"
    assert placement.live_id(service) == "abc"
    assert names(service.mount) == ["web"]


def test_leftovers_of_a_crash_are_cleared_and_nobody_elses(service: Service) -> None:
    ours = service.mount / ".web.0123456789abcdef.new"
    kept = [".web.app.0123456789abcdef.new", ".webapp.0123456789abcdef.new", ".web.new", ".web.0123.new"]
    for name in (ours.name, *kept):
        (service.mount / name).symlink_to("gone")
    with placement.next_live(service, "abc") as flip:
        flip()
    assert names(service.mount) == sorted([*kept, "web"])


@pytest.mark.parametrize(
    "target",
    [
        "/somewhere",
        ".gitopper/releases/webapp/abc",
        ".gitopper/releases/web",
        "abc",
        ".gitopper/releases/web/a/b",
    ],
)
def test_another_link_in_its_place_is_an_obstacle_and_stays(service: Service, target: str) -> None:
    service.live.symlink_to(target)
    assert placement.live_id(service) is None
    [obstacle] = placement.live_obstacles(service)
    assert str(service.live) in obstacle
    assert not placement.unlink_live(service)
    assert str(service.live.readlink()) == target


def test_a_directory_in_its_place_is_an_obstacle(service: Service) -> None:
    service.live.mkdir()
    assert placement.live_obstacles(service)


@pytest.mark.parametrize(
    ("one", "other"), [("/etc/a", "/etc/a"), ("/etc/a", "/etc/a/b"), ("/etc/a/b/c", "/etc/a")]
)
def test_mappings_one_in_the_other_are_refused(tmp_path: Path, one: str, other: str) -> None:
    [obstacle] = placement.nesting(service_at(tmp_path, one, other))
    assert one in obstacle
    assert other in obstacle


def test_mappings_whose_names_begin_alike_are_not_nested(tmp_path: Path) -> None:
    assert placement.nesting(service_at(tmp_path, "/etc/web", "/etc/webapp", "/etc/web.d")) == []


def test_an_error_of_the_system_names_the_path(service: Service, tmp_path: Path) -> None:
    with (
        pytest.raises(PublishError, match=r"no-dir/x: No such file") as caught,
        placement.reporting(service),
    ):
        (tmp_path / "no-dir" / "x").mkdir()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
