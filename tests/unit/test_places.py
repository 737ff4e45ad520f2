"""Places for passes: no more at work than there are, whoever watches stands aside, and none is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine

import pytest

from gitopperd.work import threads as threads_module
from gitopperd.work.places import Places
from gitopperd.work.threads import PASSES, Threads

PATIENCE_SECONDS = 20.0


class Held:
    """Calls that go on until the test lets them."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: set[int] = set()

    def __call__(self, number: int) -> int:
        self.begun.add(number)
        assert self.go.wait(PATIENCE_SECONDS)
        return number


def run(test: Callable[[Threads], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        threads = Threads()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await test(threads)
        finally:
            assert threads.close(PATIENCE_SECONDS)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def is_free(threads: Threads, places: int) -> None:
    """All of them can be had at once, and one more can't."""
    held = Held()
    tasks = [asyncio.create_task(threads.work(held, number)) for number in range(places + 1)]
    await until(lambda: len(held.begun) == places)
    await asyncio.sleep(0.02)
    assert len(held.begun) == places
    held.go.set()
    await asyncio.gather(*tasks)


def test_no_more_passes_work_than_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    run(lambda threads: is_free(threads, PASSES))


def test_passes_that_only_watch_hold_up_no_other() -> None:
    watch = Held()

    async def test(threads: Threads) -> None:
        def watched(number: int) -> int:
            with threads.watching():
                return watch(number)

        tasks = [asyncio.create_task(threads.work(watched, number)) for number in range(2 * PASSES)]
        await until(lambda: len(watch.begun) == 2 * PASSES)
        await is_free(threads, PASSES)
        watch.go.set()
        assert sorted(await asyncio.gather(*tasks)) == list(range(2 * PASSES))
        await is_free(threads, PASSES)

    run(test)


def test_more_watches_than_threads_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "PASSES", 2)
    monkeypatch.setattr(threads_module, "WATCHED", 2)
    watch = Held()

    async def test(threads: Threads) -> None:
        def watched(number: int) -> None:
            with threads.watching():
                watch(number)

        tasks = [asyncio.create_task(threads.work(watched, number)) for number in range(9)]
        await until(lambda: len(watch.begun) == 4)
        watch.go.set()
        await asyncio.gather(*tasks)
        assert len(watch.begun) == 9
        await is_free(threads, 2)

    run(test)


def test_who_is_cancelled_keeps_no_place_and_a_pass_that_is_left_behind_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads_module, "PASSES", 2)
    held = Held()

    async def test(threads: Threads) -> None:
        tasks = [asyncio.create_task(threads.work(held, number)) for number in range(4)]
        await until(lambda: len(held.begun) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        later = asyncio.create_task(threads.work(held, 4))
        await asyncio.sleep(0.02)
        assert held.begun == {0, 1}
        held.go.set()
        assert await later == 4
        await is_free(threads, 2)

    run(test)


def test_a_pass_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "PASSES", 1)

    async def test(threads: Threads) -> None:
        def fail() -> None:
            with threads.watching():
                raise ValueError

        for _ in range(3):
            with pytest.raises(ValueError):
                await threads.work(fail)
        await is_free(threads, 1)

    run(test)


def test_a_place_is_given_in_turn_and_not_while_more_are_back_than_there_are() -> None:
    places = Places(1)
    first = places.ask()
    with places.left():
        second, third = places.ask(), places.ask()
        assert (second.done(), third.done()) == (True, False)
    assert first.done()
    places.free()
    assert not third.done()  # two were at work
    places.free()
    assert third.done()


def test_who_no_longer_asks_is_passed_over() -> None:
    places = Places(1)
    places.ask()
    second, third = places.ask(), places.ask()
    assert second.cancel()
    places.free()
    assert third.done()
