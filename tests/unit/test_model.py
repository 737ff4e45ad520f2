"""The values: what is shown, what is not, and what makes a release the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from libgitopper import Content, Credentials, Mapping, Service, Source, TreeEntry, watches


def service(
    name: str = "web", upstream: str = "https://one", branch: str = "main", **more: object
) -> Service:
    values: dict[str, Any] = {
        "name": name,
        "source": Source(upstream=upstream, branch=branch),
        "mappings": (Mapping(link="web", local=Path("/etc/web")),),
        "mount": Path("/mount"),
    }
    return Service(**(values | more))


CONTENT = Content(revision="a" * 40, entries=(TreeEntry(link="web", id="1" * 40, mode=0o040000),))


def test_a_password_is_not_in_the_repr_of_anything_that_holds_it() -> None:
    credentials = Credentials(userinfo="me:hunter2")
    source = Source(upstream="https://one", branch="main", credentials=credentials)
    (watch,) = watches([service(source=source)], Path("/stores"))
    for value in (credentials, source, service(source=source), watch):
        assert "hunter2" not in repr(value) + str(value)


def test_values_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        service().name = "other"  # type: ignore[misc]


def test_revisions_that_agree_on_the_mapped_paths_share_a_release() -> None:
    assert CONTENT.release_id(service()) == evolve(CONTENT, revision="b" * 40).release_id(service())


def test_a_release_is_named_by_sixteen_hex_digits_that_stay_from_run_to_run() -> None:
    # A name that changed with the program would deploy every service anew at an upgrade.
    assert CONTENT.release_id(service()) == "10e26b67d4566450"


@pytest.mark.parametrize(
    "entry",
    [
        TreeEntry(link="other", id="1" * 40, mode=0o040000),
        TreeEntry(link="web", id="2" * 40, mode=0o040000),
        TreeEntry(link="web", id="1" * 40, mode=0o100755),
    ],
)
def test_another_path_content_or_mode_makes_another_release(entry: TreeEntry) -> None:
    assert Content(revision="a" * 40, entries=(entry,)).release_id(service()) != CONTENT.release_id(
        service()
    )


def test_another_owner_makes_another_release() -> None:
    assert CONTENT.release_id(service(user="nobody")) != CONTENT.release_id(service())


def test_where_a_release_is_shown_does_not_name_it() -> None:
    moved = service(
        mappings=(Mapping(link="web", local=Path("/srv/web")),), readonly=True, publish="symlink"
    )
    assert CONTENT.release_id(moved) == CONTENT.release_id(service())


@pytest.mark.parametrize(
    "change",
    [
        {"mappings": ()}, {"mount": Path("/other")}, {"publish": "symlink"}, {"readonly": True},
        {"user": "x"},
    ],
)  # fmt: skip
def test_placement_changes_with_all_that_says_where_and_how_files_are_shown(
    change: dict[str, Any],
) -> None:
    assert service(**change).placement != service().placement


@pytest.mark.parametrize(
    "change",
    [
        {"action": "restart"}, {"reload": "command"}, {"command": ("true",)}, {"keep": 1}, {"package": "p"},
        {"interval_seconds": 1.0}, {"timeout_seconds": 1.0},
        {"source": Source(upstream="https://two", branch="canary")},
    ],
)  # fmt: skip
def test_placement_stays_when_anything_else_changes(change: dict[str, Any]) -> None:
    assert service(**change).placement == service().placement


def test_paths_of_a_service_are_below_its_mount() -> None:
    assert service().live == Path("/mount/web")
    assert service().releases == Path("/mount/.gitopper/releases/web")


def test_one_watch_serves_every_service_and_branch_of_an_upstream() -> None:
    a = service("a", "https://one", "main", interval_seconds=60.0, timeout_seconds=10.0)
    b = service("b", "https://two")
    c = service("c", "https://one", "canary", interval_seconds=30.0, timeout_seconds=20.0)
    one, two = watches([a, b, c], Path("/stores"))
    assert (one.upstream, one.services, one.branches) == (
        "https://one",
        (a, c),
        frozenset({"main", "canary"}),
    )
    assert (one.interval_seconds, one.timeout_seconds) == (30.0, 20.0)
    assert (two.upstream, two.services) == ("https://two", (b,))
    assert one.stores == two.stores == Path("/stores")


def test_no_services_need_no_watch() -> None:
    assert watches([], Path("/stores")) == ()


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"mount": Path("here")}, ValueError, "Service.mount is 'here', and must be absolute"),
        ({"mount": "/mount"}, TypeError, "Service.mount is '/mount', and must be a pathlib.Path"),
        ({"command": "true"}, TypeError, "Service.command is 'true', and must be a tuple of str"),
        (
            {"name": "../../web"},
            ValueError,
            "Service.name is '../../web', and must do as the name of a file",
        ),
        ({"name": ".gitopper"}, ValueError, "Service.name"),
        ({"name": ""}, ValueError, "Service.name"),
        ({"name": None}, TypeError, "Service.name is None, and must be a str"),
    ],
)
def test_a_service_that_is_made_by_hand_stays_below_its_mount(
    fields: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        service(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("local", [Path("etc/web"), "/etc/web"])
def test_a_mapping_that_is_made_by_hand_has_an_absolute_path(local: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=r"Mapping\.local is 'etc/web'|must be a pathlib\.Path"
    ):
        Mapping(link="web", local=local)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mappings": [Mapping(link="web", local=Path("/etc/web"))]}, "must be a tuple of Mapping"),
        ({"mappings": (("web", "/etc/web"),)}, "must be a tuple of Mapping"),
        ({"windows": ("Mon 09:00-17:00",)}, "must be a tuple of Window"),
        ({"after": "db"}, "must be a tuple of str"),
    ],
)
def test_a_service_that_is_made_by_hand_is_the_same_as_what_is_kept_of_it(
    fields: dict[str, Any], words: str
) -> None:
    """A list of mappings was another setting at each pass, and the service reloaded for it."""
    (name,) = fields
    with pytest.raises(TypeError, match=rf"Service\.{name} is .*, and {words}"):
        service(**fields)
