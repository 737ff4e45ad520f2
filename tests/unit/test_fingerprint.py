"""What was rejected is remembered for the settings that it was rejected with, also after an upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from libgitopper import Check, Health, Mapping, Service, Source
from libgitopper.canonical import canonical

WEB = Service(
    name="web",
    source=Source(upstream="https://git.example.net/fleet.git", branch="main"),
    mappings=(
        Mapping(link="web/etc", local=Path("/etc/web")),
        Mapping(link="x", local=Path("/x"), file=True),
    ),
    mount=Path("/var/lib/gitopper"),
    check=Check(commands=(("nginx", "-t"),), timeout_seconds=5.0),
    health=Health(unit=True),
)


def test_it_is_the_same_in_every_version() -> None:
    assert WEB.fingerprint == "afe45a3eb10adfef"


@pytest.mark.parametrize(
    "change",
    [
        {"mappings": WEB.mappings[:1]},
        {"user": "www-data"},
        {"readonly": True},
        {"command": ("true",)},
        {"check": None},
        {"check": Check(commands=(("nginx", "-t", "-q"),), timeout_seconds=5.0)},
        {"check": Check(commands=(("nginx -t",),), timeout_seconds=5.0)},
        {"health": Health(unit=True, within_seconds=31.0)},
    ],
)
def test_other_settings_are_another_one(change: dict[str, Any]) -> None:
    assert evolve(WEB, **change).fingerprint != WEB.fingerprint


@pytest.mark.parametrize("change", [{"interval_seconds": 1.0}, {"keep": 2}, {"name": "db"}])
def test_settings_that_have_no_bearing_on_it_change_nothing(change: dict[str, Any]) -> None:
    assert evolve(WEB, **change).fingerprint == WEB.fingerprint


def test_a_setting_that_a_later_version_adds_counts_where_it_is_given() -> None:
    @frozen(kw_only=True)
    class Now:
        http: str = ""

    @frozen(kw_only=True)
    class Later:
        http: str = ""
        method: str = "GET"

    names = {"http", "method"}
    assert canonical(Now(http="x"), names) == canonical(Later(http="x"), names)
    assert canonical(Later(http="x", method="HEAD"), names) != canonical(Later(http="x"), names)
