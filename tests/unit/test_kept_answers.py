"""The list of services and the scrape are kept as they were sent, and never longer than they are true."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Gauge

from gitopperd.api.listing import Listing
from gitopperd.metrics import Exposition, Meters
from gitopperd.work.daemon import Daemon
from libgitopper import Event, Grant, Identity, Intent, IntentKind, Role
from tests.support.bench import Bench, MakeBench, make, service

__all__ = ["make"]

EVERYTHING = Identity(name="root", grants=(Grant(role=Role.READ),))


@pytest.fixture
def bench(make: MakeBench) -> Bench:
    made = make(service("web"), service("db"))
    for name in ("web", "db"):
        made.is_at(name, "a" * 40)
    return made


def listing_of(bench: Bench) -> Listing:
    services = {one.name: one for one in bench.services}
    return Listing(cast("Daemon", SimpleNamespace(board=bench.board, service=services.__getitem__)))


def states(text: bytes) -> dict[str, str]:
    return {one["service"]: one["state"] for one in json.loads(text)["services"]}


def test_the_list_is_made_once_and_again_when_anything_changes(bench: Bench) -> None:
    listing = listing_of(bench)

    async def work() -> None:
        await bench.settle(2)
        before = listing.text(EVERYTHING)
        assert states(before) == {"web": "OK", "db": "OK"}
        assert listing.text(EVERYTHING) is before
        bench.board.intend("web", Intent(kind=IntentKind.FREEZE, by="alice"))
        assert states(listing.text(EVERYTHING)) == {"web": "FREEZE", "db": "OK"}
        bench.board.keep({"db"})
        assert states(listing.text(EVERYTHING)) == {"db": "OK"}

    bench.run(work)


def test_who_may_see_some_is_never_given_what_was_made_for_who_may_see_all(bench: Bench) -> None:
    listing = listing_of(bench)
    some = Identity(name="carol", grants=(Grant(role=Role.READ, services=("web",)),))

    async def work() -> None:
        await bench.settle(2)
        listing.text(EVERYTHING)
        assert states(listing.text(some)) == {"web": "OK"}
        assert states(listing.text(EVERYTHING)) == {"web": "OK", "db": "OK"}

    bench.run(work)


def test_a_scrape_has_what_is_true_now_and_what_was_counted_since(bench: Bench) -> None:
    registry = CollectorRegistry()
    other = Gauge("other", "Something else.", registry=registry)
    meters = Meters(CollectorRegistry())
    exposition = Exposition(registry, bench.board, meters)

    async def work() -> None:
        await bench.settle(2)
        assert b'gitopper_service_state{service="web",state="OK"} 1.0' in exposition.text()
        other.set(7)
        assert b"other 7.0" in exposition.text()
        meters.gitopper_event(Event(kind="deployed", service="web"))
        assert b'gitopper_deploys_total{result="deployed",service="web"} 1.0' in exposition.text()
        bench.unreachable = True
        await bench.poll_by_interval("web")
        assert b'gitopper_service_state{service="web",state="OK"} 0.0' in exposition.text()
        assert b'gitopper_service_state{service="web",state="DIFF"} 1.0' in exposition.text()

    bench.run(work)


def test_what_has_not_happened_yet_is_0_so_that_its_first_time_is_an_increase(bench: Bench) -> None:
    exposition = Exposition(CollectorRegistry(), bench.board, Meters(CollectorRegistry()))

    async def work() -> None:
        await bench.settle(2)
        for name in ("web", "db"):
            for result in ("deployed", "rejected", "taken-back", "healed"):
                series = f'gitopper_deploys_total{{result="{result}",service="{name}"}} 0.0'
                assert series in exposition.text().decode()

    bench.run(work)
