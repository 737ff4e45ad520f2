"""Going over to another configuration, in its small parts: with the clock and the reconciler in hand."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve

from gitopperd.filewatch import FileWatch
from gitopperd.judging import judged
from gitopperd.listener.listen import Address, parse_address
from gitopperd.notify import Notifier
from gitopperd.reloading import Reloading
from gitopperd.work import orphans as orphans_module
from gitopperd.work.follower import Follower
from gitopperd.work.orphans import Orphans
from gitopperd.work.threads import Threads
from libgitopper import (
    Config,
    ConfigError,
    ConfigProblem,
    Event,
    Hooks,
    PublishError,
    Reconciler,
    SourceError,
    Watch,
    hookimpl,
)
from libgitopper.config import parse_config

TEXT = """
[global]
upstream = "https://git.example.net/x.git"
mount = "/m"
[[services]]
machine = "*"
service = "web"
dirs = [{ local = "/etc/web", link = "web" }]
"""


def config(text: str = TEXT) -> Config:
    return parse_config(text, origin="x.toml", hosts={"box"}, root=True, environ={})


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    assert made.close(5)


class Observer:
    """Hears of every event."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        self.heard.append(event)


class Recorded(Notifier):
    """A notifier that keeps what it says."""

    def __init__(self) -> None:
        super().__init__({})
        self.said: list[str] = []

    def send(self, *assignments: str) -> None:
        self.said += assignments


class Reloader:
    """A `Reloading` on recorded parts."""

    def __init__(self, threads: Threads, load: Callable[[], Config]) -> None:
        self.observer, self.notifier = Observer(), Recorded()
        self.applied: list[str] = []
        hooks = Hooks()
        hooks.register(self.observer)

        async def services(_config: Config) -> str:
            self.applied.append("services begin")
            await asyncio.sleep(0.01)
            self.applied.append("services end")
            return ""

        self.reloading = Reloading(
            load=load,
            refresh=None,
            appliers=[lambda _config: self.applied.append("rights")],
            apply_services=services,
            hooks=hooks,
            threads=threads,
            notifier=self.notifier,
        )


def refuse() -> Config:
    problems = tuple(ConfigProblem(path=f"services[{n}]", message="no") for n in range(3))
    raise ConfigError("x.toml", problems)


def test_rights_come_before_services_and_the_manager_hears_of_both_ends(threads: Threads) -> None:
    parts = Reloader(threads, config)
    before = time.monotonic_ns() // 1000
    asyncio.run(parts.reloading.reload())
    assert parts.applied == ["rights", "services begin", "services end"]
    assert [event.kind for event in parts.observer.heard] == ["config-loaded"]
    reloading, since, ready, status = parts.notifier.said
    assert (reloading, ready, status) == ("RELOADING=1", "READY=1", "STATUS=1 services")
    assert before <= int(since.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_refusal_applies_nothing_and_the_manager_hears_that_we_go_on(threads: Threads) -> None:
    parts = Reloader(threads, refuse)
    with pytest.raises(ConfigError):
        asyncio.run(parts.reloading.reload())
    assert parts.applied == []
    (event,) = parts.observer.heard
    assert event.kind == "config-refused"
    assert event.details == {"origin": "x.toml", "problems": 3, "first": "services[0]: no"}
    assert parts.notifier.said[0] == "RELOADING=1"
    assert parts.notifier.said[-1] == "READY=1"


def test_two_reloads_at_once_are_one_after_the_other(threads: Threads) -> None:
    parts = Reloader(threads, config)

    async def both() -> None:
        await asyncio.gather(parts.reloading.reload(), parts.reloading.reload())

    asyncio.run(both())
    assert parts.applied == ["rights", "services begin", "services end"] * 2


def test_a_client_that_goes_away_leaves_no_reload_half_done(threads: Threads) -> None:
    parts = Reloader(threads, config)

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await parts.reloading.reload()
        while "services end" not in parts.applied:
            await asyncio.sleep(0.01)

    asyncio.run(impatient())


def test_what_is_asked_for_while_a_reload_runs_is_done_once_more_and_no_refusal_ends_that(
    threads: Threads,
) -> None:
    loads: list[int] = []

    def load() -> Config:
        loads.append(1)
        return refuse() if len(loads) == 1 else config()

    parts = Reloader(threads, load)

    async def ask() -> None:
        task = asyncio.create_task(parts.reloading.run())
        for _ in range(5):
            parts.reloading.ask()
        while not loads:
            await asyncio.sleep(0.001)
        for _ in range(5):
            parts.reloading.ask()
        while parts.applied[-1:] != ["services end"]:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(ask())
    assert len(loads) == 2


def test_a_file_counts_as_changed_when_two_looks_find_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("one")
    watch = FileWatch(path)
    assert not watch.look()
    path.write_text("three")
    assert [watch.look() for _ in range(3)] == [False, True, False]
    path.write_text("four")
    assert not watch.look()
    path.write_text("four and")
    assert [watch.look() for _ in range(3)] == [False, True, False]


def test_a_file_that_is_gone_is_no_change_and_its_return_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("one")
    watch = FileWatch(path)
    path.rename(tmp_path / "aside")
    assert [watch.look() for _ in range(3)] == [False] * 3
    (tmp_path / "aside").rename(path)
    os.utime(path, ns=(1, 1))
    assert [watch.look() for _ in range(3)] == [False, True, False]


def test_a_file_behind_a_symlink_that_is_flipped_has_changed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    link = tmp_path / "link"
    link.symlink_to("a")
    watch = FileWatch(link)
    link.unlink()
    link.symlink_to("b")
    assert [watch.look() for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("api", "problem"),
    [
        ('[api]\nlisten = "0.0.0.0:8000"\n', "certificate"),
        ('[api]\nlisten = "0.0.0.0:8000"\ninsecure = true\n', None),
        ('[api]\nlisten = "0.0.0.0:8000"\ncertificate = "/none"\nkey = "/none"\n', None),
        ('[api]\nlisten = "127.0.0.1:1"\n', None),
    ],
)
def test_what_would_answer_others_in_the_open_is_refused_before_it_is_gone_over_to(
    api: str, problem: str | None
) -> None:
    def address_of(config: Config) -> Address:
        return parse_address(config.api.listen or "127.0.0.1:8000")

    read = judged(lambda _path: config(api + TEXT), address_of)
    if problem is None:
        assert read(Path("x.toml")).services
        return
    with pytest.raises(ConfigError) as refused:
        read(Path("x.toml"))
    (found,) = refused.value.problems
    assert found.path == "api.listen"
    assert problem in found.message


class Upstream:
    """Stands for the reconciler where only polls are looked at."""

    def __init__(self) -> None:
        self.polled: list[frozenset[str]] = []
        self.fails = False

    def poll(self, watch: Watch, *, offline: bool = False) -> Any:
        self.polled.append(watch.branches)
        if self.fails:
            raise SourceError("down")
        return type("Store", (), {"tips": dict.fromkeys(watch.branches, "a" * 40)})()


async def _say_nothing(_follower: Follower, _asked: str) -> None:
    pass


def follower_of(upstream: Upstream, threads: Threads, watch: Watch) -> Follower:
    return Follower(
        watch=watch,
        reconciler=cast("Reconciler", upstream),
        threads=threads,
        on_poll=_say_nothing,
        rng=random.Random(1),
    )


def with_(watch: Watch, *, branch: str = "main", interval_seconds: float = 3600) -> Watch:
    (service,) = watch.services
    source = evolve(service.source, branch=branch)
    return evolve(watch, services=(evolve(service, source=source, interval_seconds=interval_seconds),))


def test_a_branch_that_was_not_asked_for_yet_was_not_polled_yet(threads: Threads) -> None:
    upstream = Upstream()
    watch = with_(config().watches[0])
    follower = follower_of(upstream, threads, watch)
    asyncio.run(follower.poll())
    assert follower.health_of("main").polled
    follower.go_on(with_(watch, branch="canary"))
    assert not follower.health_of("canary").polled
    asyncio.run(follower.poll())
    assert follower.health_of("canary").polled
    upstream.fails = True
    asyncio.run(follower.poll())
    assert follower.health_of("another").error == "down"


def test_only_what_needs_a_poll_brings_one(threads: Threads) -> None:
    upstream = Upstream()
    watch = with_(config().watches[0])
    follower = follower_of(upstream, threads, watch)

    async def change() -> list[int]:
        task = asyncio.create_task(follower.run())
        counts = []
        for another in (
            watch,
            with_(watch, interval_seconds=7200),
            with_(watch, branch="canary"),
            with_(watch, branch="canary", interval_seconds=0.01),
        ):
            await asyncio.sleep(0.1)
            counts.append(len(upstream.polled))
            follower.go_on(another)
        await asyncio.sleep(0.2)
        counts.append(len(upstream.polled))
        task.cancel()
        return counts

    first, same, longer, branch, shorter = asyncio.run(change())
    assert (first, same, longer, branch) == (1, 1, 1, 2)
    assert shorter > 3


class Host:
    """Stands for the reconciler where only withdrawals are looked at."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.withdrawn: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def orphans(self, services: tuple[Any, ...]) -> tuple[Any, ...]:
        names = {"gone"} - {service.name for service in services} - set(self.withdrawn)
        return tuple(type("Orphan", (), {"service": type("S", (), {"name": n})()})() for n in names)

    def withdraw(self, orphan: Any, *, still: Callable[[], bool]) -> bool:
        self.go.wait(5)
        if not still():
            return False
        if self.fails:
            self.fails -= 1
            raise PublishError("busy")
        self.withdrawn.append(orphan.service.name)
        return True


def orphans_of(host: Host, threads: Threads, on_gone: Callable[[], None] = lambda: None) -> Orphans:
    return Orphans(reconciler=cast("Reconciler", host), threads=threads, config=config(), on_gone=on_gone)


def test_what_could_not_be_withdrawn_is_tried_again(
    threads: Threads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(orphans_module, "RETRY_SECONDS", 0.01)
    host, gone = Host(fails=3), asyncio.Event()
    orphans = orphans_of(host, threads, gone.set)

    async def go() -> None:
        task = asyncio.create_task(orphans.run())
        await orphans.clear()
        assert host.withdrawn == []
        await asyncio.wait_for(gone.wait(), 5)
        task.cancel()

    asyncio.run(go())
    assert host.withdrawn == ["gone"]
    assert caplog.text.count("can't be withdrawn: busy") == 3


def test_a_withdrawal_that_hangs_is_not_waited_for_and_spares_what_is_back(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "PATIENCE_SECONDS", 0.05)
    host = Host()
    host.go.clear()
    orphans = orphans_of(host, threads)

    async def go() -> None:
        await asyncio.wait_for(orphans.clear(), 1)
        orphans.config = config(TEXT.replace('service = "web"', 'service = "gone"'))
        host.go.set()
        await asyncio.sleep(0.1)

    asyncio.run(go())
    assert host.withdrawn == []


def test_a_config_with_nothing_but_its_own_service_withdraws_nothing(
    threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host()
    orphans = orphans_of(host, threads)
    loaded = config()
    orphans.config = evolve(loaded, own=loaded.services[0])
    asyncio.run(orphans.clear())
    assert host.withdrawn == []
    assert "nothing is withdrawn" in caplog.text
