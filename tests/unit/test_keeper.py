"""Since when services are in their states is written in the background, and what comes together at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from gitopperd.work.keeper import Keeper
from gitopperd.work.threads import Threads
from libgitopper import State, StateError, Status


def status(service: str, state: State = State.OK) -> Status:
    return Status(
        service=service, state=state, info="", hash="a" * 40, change=datetime(2026, 1, 1, tzinfo=UTC)
    )


def test_what_comes_while_it_writes_is_written_at_once_and_the_last_word_counts() -> None:
    written: list[Collection[Status]] = []
    threads, gate = Threads(), threading.Event()

    def write(statuses: Collection[Status]) -> None:
        written.append(statuses)
        assert gate.wait(5)

    async def work() -> None:
        keeper = Keeper(threads=threads, write=write)
        task = asyncio.create_task(keeper.run())
        keeper.keep([status("web")])
        while not written:
            await asyncio.sleep(0.005)
        keeper.keep([status("db", State.DIFF), status("api")])
        keeper.keep([status("db")])
        gate.set()
        while len(written) < 2:
            await asyncio.sleep(0.005)
        keeper.keep([status("late")])
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(work())
    assert threads.close(5)
    assert written == [(status("web"),), (status("db"), status("api")), (status("late"),)]


def test_what_can_not_be_written_is_told_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def write(statuses: Collection[Status]) -> None:
        raise StateError("no space left")

    threads = Threads()
    keeper = Keeper(threads=threads, write=write)
    keeper.keep([status("web"), status("db")])
    keeper.finish()
    keeper.finish()
    assert caplog.messages == ["web, db: since when it is in its state could not be kept: no space left"]
    assert threads.close(1)
