"""A start, and a service that does not come to an end with taking back what it had."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from gitopperd.work.daemon import Daemon
from gitopperd.work.threads import Threads
from libgitopper import Hooks, Outcome, Service, SourceError, StateStore
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

[[services]]
machine = "*"
service = "db"
dirs    = [{ local = "/etc/db", link = "db" }]
"""


async def seen(passes: list[str], *names: str) -> None:
    async with asyncio.timeout(10):
        while passes != [*names]:
            await asyncio.sleep(0.01)


def test_a_service_that_hangs_as_it_is_restored_holds_up_nobody_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    threads, hangs, passes = Threads(), threading.Event(), list[str]()

    async def main(state: StateStore) -> None:
        daemon = Daemon(
            config=parse_config(CONFIG, origin="x", hosts={"here"}, root=True, environ={}), hooks=Hooks(),
            state=state, threads=threads, now=utc_now, rng=random.Random(1), observe_seconds=lambda _: None,
        )  # fmt: skip
        reconciler = daemon._reconciler

        def restore(service: Service) -> Outcome:
            assert service.name != "web" or hangs.wait(20)
            return reconciler.known(service)

        def reconcile(service: Service, *_: Any, **__: Any) -> Outcome:
            passes.append(service.name)
            return reconciler.known(service)

        def poll(*_: Any, **__: Any) -> None:
            raise SourceError("nobody answers")

        for call in (restore, reconcile, poll):
            monkeypatch.setattr(reconciler, call.__name__, call)
        await daemon.restore(0.2)
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["web"]
        running = asyncio.create_task(daemon.run())
        await seen(passes, "db")
        await asyncio.sleep(0.1)
        assert passes == ["db"], "its own pass comes after"
        hangs.set()
        await seen(passes, "db", "web")
        running.cancel()
        await asyncio.wait([running])

    try:
        with StateStore(tmp_path / "state.db") as state:
            asyncio.run(main(state))
    finally:
        hangs.set()
        assert threads.close(20)
