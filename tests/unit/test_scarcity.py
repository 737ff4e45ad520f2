"""A host that has nothing more to give, threads or descriptors: it is told, and made up for."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

import gitopperd.main
from gitopper_plugins._channel import Deadline, dial
from gitopperd.work import threads as threads_module
from gitopperd.work.follower import Follower
from gitopperd.work.threads import Threads
from libgitopper import Credentials, Reconciler, Watch

NO_THREAD = "can't start new thread"


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many more threads may be refused: the first of the list, counted down."""
    refusals = [0]
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if refusals[0]:
            refusals[0] -= 1
            raise RuntimeError(NO_THREAD)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threads_module, "NO_THREAD_SECONDS", 0.01)
    return refusals


def test_work_waits_for_a_thread_and_is_done_once(
    scarce: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []

    def note(number: int) -> int:
        done.append(number)
        return number

    async def work() -> list[int]:
        threads = Threads()
        scarce[0] = 3
        try:
            answers = [await threads.work(note, at) for at in range(3)]
            await asyncio.sleep(0.1)  # whatever stood in a queue, too, has been taken by now
            return answers
        finally:
            assert threads.close(5)

    assert asyncio.run(work()) == [0, 1, 2]
    assert done == [0, 1, 2]
    assert caplog.text.count(NO_THREAD) == 3


def test_work_that_a_busy_thread_takes_later_needs_no_new_one(scarce: list[int]) -> None:
    async def work() -> int:
        threads = Threads()
        gate = threading.Event()
        first = asyncio.ensure_future(threads.work(gate.wait, 10))
        await asyncio.sleep(0.05)
        scarce[0] = 1_000_000
        second = asyncio.ensure_future(threads.work(lambda: 7))
        await asyncio.sleep(0.05)
        gate.set()
        try:
            assert await first
            return await asyncio.wait_for(second, 10)
        finally:
            assert threads.close(5)

    assert asyncio.run(work()) == 7


def test_who_stops_waiting_for_a_thread_has_nothing_done(scarce: list[int]) -> None:
    done: list[int] = []

    async def work() -> None:
        threads = Threads()
        scarce[0] = 1_000_000
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(threads.work(done.append, 1), 0.05)
        scarce[0] = 0
        await threads.work(done.append, 2)
        assert threads.close(5)

    asyncio.run(work())
    assert done == [2]


def test_an_end_does_not_wait_for_work_that_never_got_a_thread(scarce: list[int]) -> None:
    async def work() -> None:
        threads = Threads()
        scarce[0] = 1_000_000
        waiting = asyncio.ensure_future(threads.work(time.sleep, 0))
        await asyncio.sleep(0.02)
        started = time.monotonic()
        assert threads.close(5)
        assert time.monotonic() - started < 1
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())


def test_another_error_of_a_pool_is_not_waited_out() -> None:
    async def work() -> None:
        threads = Threads()
        threads.close(1)
        await threads.work(time.sleep, 0)

    with pytest.raises(RuntimeError, match="shutdown"):
        asyncio.run(work())


def test_a_name_that_no_thread_can_look_up_is_an_error_of_the_system(scarce: list[int]) -> None:
    scarce[0] = 1
    with pytest.raises(OSError, match="localhost can't be looked up") as caught:
        dial("localhost", 1, Deadline.after(5))
    assert caught.value.errno == errno.EAGAIN


def test_a_store_that_can_not_be_opened_is_told_and_does_not_end_the_daemon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def poll(self, watch: Watch, *, offline: bool = False) -> None:
            raise OSError(errno.EIO, "Input/output error")

    watch = Watch(upstream="http://x", credentials=Credentials(), stores=Path("/x"), services=())

    async def unheard(*_: object) -> None:
        pytest.fail("nothing was polled")

    async def start() -> Follower:
        threads = Threads()
        follower = Follower(
            watch=watch, reconciler=cast("Reconciler", Broken()), threads=threads, on_poll=unheard,
            rng=random.Random(1),
        )  # fmt: skip
        await follower.open()
        threads.close(1)
        return follower

    assert asyncio.run(start()).store is None
    assert "what is stored of it can't be opened" in caplog.text


def test_what_the_system_refuses_the_daemon_itself_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_settings: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(gitopperd.main, "serve", refuse)
    config = tmp_path / "gitopper.toml"
    config.write_text("services = []")
    result = CliRunner().invoke(gitopperd.main.main, ["--no-root", "--once", "-c", str(config)])
    assert result.exit_code == 1
    assert "gitopperd: can't run: Too many open files\n" in result.output


def test_pools_tell_that_there_is_no_thread_in_the_words_that_are_looked_for(scarce: list[int]) -> None:
    """Those of CPython, where the real thing was met."""
    scarce[0] = 1
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="new thread"):
        pool.submit(time.sleep, 0)
