"""Orphans that can't be withdrawn, for a reason that nobody foresaw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitopperd.work import orphans as module
from gitopperd.work.orphans import Orphans
from gitopperd.work.threads import Threads
from libgitopper import Config, Reconciler, Service, Source

CONFIG = Config(
    origin=Path("/etc/gitopper.toml"), machines=(), mount=Path("/srv"), interval_seconds=60,
    services=(Service(
        name="web", source=Source(upstream="https://git.example.net/x", branch="main"), mappings=(),
        mount=Path("/srv"),
    ),),
)  # fmt: skip


class Host:
    """A reconciler whose plugin has a bug that shows twice."""

    def __init__(self) -> None:
        self.tried = 0

    def orphans(self, services: tuple[Service, ...]) -> tuple[Any, ...]:
        return (SimpleNamespace(service=SimpleNamespace(name="gone")),)

    def withdraw(self, orphan: Any, *, still: Callable[[], bool]) -> bool:
        self.tried += 1
        if self.tried < 3:
            raise ZeroDivisionError("nobody foresaw it")
        return True


def test_a_withdrawal_that_fails_in_a_way_that_nobody_foresaw_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    host = Host()

    async def go() -> None:
        threads, gone = Threads(), asyncio.Event()
        orphans = Orphans(
            reconciler=cast("Reconciler", host), threads=threads, config=CONFIG, on_gone=gone.set
        )
        running = asyncio.create_task(orphans.run())
        await orphans.clear()
        await asyncio.wait_for(gone.wait(), 20)
        running.cancel()
        assert threads.close(5)

    asyncio.run(go())
    assert host.tried == 3
    assert caplog.text.count("gone: can't be withdrawn; tried again in") == 2
    assert caplog.text.count("ZeroDivisionError: nobody foresaw it") == 2
