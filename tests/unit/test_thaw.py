"""Ends come when they come, also where the clock jumps or the disk refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import make_mocked_request

from gitopperd.api.errors import BadRequest
from gitopperd.api.queries import freeze_reason, freeze_until, query_of
from gitopperd.work import thaw as module
from gitopperd.work.thaw import Thawer
from libgitopper import StateError

START = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A thawer with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START
        self.ends: dict[str, datetime] = {}
        self.thawed: list[str] = []
        self.failures = 0
        self.thawer = Thawer(ends=lambda: self.ends, thaw=self.thaw, now=lambda: self.now)

    async def thaw(self, service: str) -> None:
        if self.failures:
            self.failures -= 1
            raise StateError("the disk is full")
        self.thawed.append(service)
        self.ends.pop(service, None)

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            task = asyncio.create_task(self.thawer.run())
            try:
                await work()
            finally:
                task.cancel()

        asyncio.run(main())

    async def wait_for(self, *services: str) -> None:
        async with asyncio.timeout(5):
            while self.thawed != list(services):
                await asyncio.sleep(0.005)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_was_over_at_the_start_comes_first(bench: Bench) -> None:
    bench.ends = {"web": START - timedelta(days=1), "db": START + timedelta(days=1), "api": START}
    bench.run(lambda: bench.wait_for("web", "api"))
    assert bench.ends.keys() == {"db"}


def test_an_end_that_is_near_is_waited_for_and_not_a_minute(bench: Bench) -> None:
    async def work() -> None:
        bench.ends["web"] = START + timedelta(seconds=0.2)
        bench.thawer.poke()
        await asyncio.sleep(0.1)
        assert bench.thawed == []
        bench.now = START + timedelta(seconds=0.2)
        await bench.wait_for("web")

    bench.run(work)


def test_a_clock_that_is_set_forward_is_noticed_at_the_next_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECHECK_SECONDS", 0.05)

    async def work() -> None:
        bench.ends["web"] = START + timedelta(days=30)
        bench.thawer.poke()
        await asyncio.sleep(0.1)
        assert bench.thawed == []
        bench.now = START + timedelta(days=31)
        await bench.wait_for("web")

    bench.run(work)


def test_a_clock_that_is_set_back_lets_it_wait_for_its_time(bench: Bench) -> None:
    async def work() -> None:
        bench.ends["web"] = START + timedelta(seconds=0.05)
        bench.thawer.poke()
        bench.now = START - timedelta(days=1)
        await asyncio.sleep(0.2)
        assert bench.thawed == []

    bench.run(work)


def test_the_next_look_is_never_more_than_a_minute_away(bench: Bench) -> None:
    assert bench.thawer._delay_seconds() == 60
    bench.ends["web"] = START + timedelta(days=365)
    assert bench.thawer._delay_seconds() == 60
    bench.ends["db"] = START + timedelta(seconds=7)
    assert bench.thawer._delay_seconds() == 7


def test_an_end_that_fails_is_tried_again_without_a_rush_and_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert module.RETRY_SECONDS == 10
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    bench.ends = {"web": START, "db": START}
    bench.failures = 1
    bench.run(lambda: bench.wait_for("db", "web"))
    assert caplog.text.count("web: its freeze is over, and could not be ended; trying again") == 1


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_a_freeze_is_never_shorter_than_asked_and_ends_at_a_full_second(microsecond: int) -> None:
    now = START.replace(microsecond=microsecond)
    until = freeze_until({"for": "1s"}, now)
    assert until is not None
    assert until.microsecond == 0
    assert timedelta(seconds=1) <= until - now < timedelta(seconds=2)


def test_the_longest_freeze_is_a_leap_year() -> None:
    assert freeze_until({"for": "8784h"}, START) == START + timedelta(days=366)
    with pytest.raises(BadRequest, match="8784h"):
        freeze_until({"for": "8784h1s"}, START)


def test_what_is_empty_is_not_given() -> None:
    query = query_of(make_mocked_request("POST", "/x?reason=&for="), "reason", "for")
    assert (freeze_reason(query), freeze_until(query, START)) == ("", None)


def test_a_reason_is_trimmed_and_may_have_500_characters() -> None:
    assert freeze_reason({"reason": "  " + "ü" * 500 + " "}) == "ü" * 500
