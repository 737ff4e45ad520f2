"""What is wanted at the same moment: nobody waits for a long look, and the last word is what is shown."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from gitopperd.work.daemon import Daemon
from gitopperd.work.threads import ANSWERS, Threads
from libgitopper import Hooks, Intent, IntentKind, StateStore
from libgitopper.config import parse_config
from libgitopper.reconciler import utc_now

CONFIG = """
[global]
upstream = "https://git.example.net/x"
mount    = "/srv"

[[services]]
machine = "*"
service = "web"
dirs    = [{ local = "/etc/web", link = "web" }]
"""
PATIENCE_SECONDS = 20.0


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Daemon], Coroutine[None, None, None]]], None]:
    """Run a test with a daemon that makes no passes."""

    def run(test: Callable[[Daemon], Coroutine[None, None, None]]) -> None:
        async def main() -> None:
            threads = Threads()
            with StateStore(tmp_path / "state.db") as state:
                daemon = Daemon(
                    config=parse_config(CONFIG, origin="x", hosts={"here"}, root=True, environ={}),
                    hooks=Hooks(), state=state, threads=threads, now=utc_now, rng=random.Random(1),
                    observe_seconds=lambda _: None,
                )  # fmt: skip
                try:
                    await test(daemon)
                finally:
                    assert threads.close(PATIENCE_SECONDS)

        asyncio.run(main())

    return run


def test_what_is_shown_is_what_was_persisted_last(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(daemon: Daemon) -> None:
        want = daemon._reconciler.want
        first, shown = threading.Event(), threading.Event()

        def hold(service: str, intent: Intent) -> Intent:
            stands = want(service, intent)
            if intent.kind is IntentKind.FREEZE:
                first.set()
                shown.wait(0.5)  # of whoever comes next; where that one waits, this is over
            return stands

        async def second() -> None:
            await asyncio.to_thread(first.wait, PATIENCE_SECONDS)
            await daemon.unfreeze("web", by="ops")
            shown.set()

        monkeypatch.setattr(daemon._reconciler, "want", hold)
        await asyncio.gather(daemon.freeze("web", by="ops"), second())
        assert daemon._state.intent("web").kind is IntentKind.TRACK
        assert daemon.board.intent("web") == daemon._state.intent("web")

    run(test)


def test_nobody_waits_for_a_rollback_that_looks_through_a_long_history(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(daemon: Daemon) -> None:
        over, looking = threading.Event(), threading.Semaphore(0)

        def resolve(*_: object) -> str:
            looking.release()
            over.wait(PATIENCE_SECONDS)
            return "a" * 40

        monkeypatch.setattr(daemon._reconciler, "resolve", resolve)
        rollbacks = [
            asyncio.create_task(daemon.rollback("web", "aaaaaaa", by="ops")) for _ in range(2 * ANSWERS)
        ]
        try:
            for _ in range(ANSWERS):
                assert await asyncio.to_thread(looking.acquire, timeout=PATIENCE_SECONDS)
            await asyncio.wait_for(daemon.freeze("web", by="ops"), PATIENCE_SECONDS / 2)
            assert daemon.board.intent("web").kind is IntentKind.FREEZE
        finally:
            over.set()
            await asyncio.gather(*rollbacks)

    run(test)
