"""The audit: nothing is done without an entry, and nobody fills a disk by being refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import evolve

from gitopperd.api import audit as module
from gitopperd.api.audit import Audit, Tally
from gitopperd.api.errors import BadRequest, answer, errors_as_json
from gitopperd.api.guard import Attempted, Guard
from gitopperd.api.routes import Route, register
from gitopperd.work.threads import Threads
from libgitopper import (
    AuditEntry,
    AuthRequest,
    AuthSettings,
    Config,
    Event,
    Grant,
    Hooks,
    Identity,
    Role,
    StateError,
    StateStore,
    hookimpl,
)

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REFUSED = Attempted(
    who="", action="freeze", service="web", origin="192.0.2.1", status=401, reason="bring a token"
)
DONE = Attempted(who="ops", action="freeze", service="web", origin="unix uid 0 pid 9", status=200)


class Observer:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        self.events.append(event)

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        return Identity(name="ops", grants=(Grant(role=Role.OPERATE),))


class Office:
    """An audit with real parts, and what it leaves behind."""

    def __init__(self, path: Path) -> None:
        self.state = StateStore(path)
        self.threads = Threads()
        self.hooks = Hooks()
        self.observer = Observer()
        self.hooks.register(self.observer, name="observer")
        self.audit = Audit(state=self.state, hooks=self.hooks, threads=self.threads, now=lambda: THEN)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Audit]:
        task = asyncio.create_task(self.audit.run())
        await asyncio.sleep(0)
        yield self.audit
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def entries(self) -> list[tuple[str, int, str]]:
        return [(entry.action, entry.status, entry.reason) for entry in self.state.audit(1000)]

    def close(self) -> None:
        self.threads.close(5)
        self.state.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "state.db")
    yield made
    made.close()


def run(office: Office, work: Callable[[Audit], Awaitable[None]]) -> None:
    async def main() -> None:
        async with office.open() as audit:
            await work(audit)

    asyncio.run(main())


def test_an_operation_has_its_entry_before_it_is_done_and_its_result_before_it_is_answered(
    office: Office,
) -> None:
    async def work(audit: Audit) -> None:
        number = await audit.begin(DONE)
        assert office.entries() == [("freeze", 0, "")]
        await audit.end(number, evolve(DONE, reason="why"))
        assert office.entries() == [("freeze", 200, "why")]

    run(office, work)


def test_refusals_that_are_alike_are_one_entry_and_one_sum(office: Office) -> None:
    async def work(audit: Audit) -> None:
        for number in range(5000):
            audit.note(evolve(REFUSED, service=f"s{number}"))

    run(office, work)
    assert office.entries() == [
        ("freeze", 401, "bring a token (4999 times more)"),
        ("freeze", 401, "bring a token"),
    ]


def test_a_flood_from_everywhere_is_bounded_and_counted_to_the_last(office: Office) -> None:
    async def work(audit: Audit) -> None:
        for number in range(5000):
            audit.note(evolve(REFUSED, origin=f"2001:db8::{number:x}"))

    run(office, work)
    entries = office.entries()
    assert len(entries) == module.TALLY_KINDS + 1
    assert entries[0] == (
        "various",
        401,
        f"{5000 - module.TALLY_KINDS} times, of more kinds than are told apart",
    )


def test_sums_are_written_while_it_runs(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TALLY_SECONDS", 0.05)

    async def work(audit: Audit) -> None:
        for _ in range(3):
            audit.note(REFUSED)
        async with asyncio.timeout(10):
            while len(office.entries()) < 2:
                await asyncio.sleep(0.01)
        audit.note(REFUSED)
        async with asyncio.timeout(10):
            while len(office.entries()) < 3:
                await asyncio.sleep(0.01)

    run(office, work)
    assert [reason for _, _, reason in office.entries()] == [
        "bring a token",
        "bring a token (2 times more)",
        "bring a token",
    ]


def test_what_waits_for_a_slow_disk_is_bounded(office: Office) -> None:
    """Nothing is written while the loop is busy, as with a disk that hangs."""

    async def work(audit: Audit) -> None:
        for number in range(3 * module.WAITING):
            audit.note(evolve(DONE, status=202, reason=str(number)))

    run(office, work)
    assert len(office.entries()) == module.WAITING


def test_refusals_become_events_and_operations_do_not(office: Office) -> None:
    async def work(audit: Audit) -> None:
        audit.note(REFUSED)
        audit.note(evolve(DONE, status=202))
        async with asyncio.timeout(10):
            while not office.observer.events:
                await asyncio.sleep(0.01)

    run(office, work)
    (event,) = office.observer.events
    assert (event.kind, event.service) == ("refused", "web")
    assert event.details == {
        "who": "",
        "action": "freeze",
        "origin": "192.0.2.1",
        "status": 401,
        "reason": "bring a token",
    }


def test_what_comes_from_the_network_is_cut_and_put_on_one_line(office: Office) -> None:
    async def work(audit: Audit) -> None:
        audit.note(evolve(REFUSED, service="x\n" * 5000, reason="\x1b[2J" + "y" * 5000))

    run(office, work)
    (entry,) = office.state.audit(10)
    assert entry.service is not None
    assert len(entry.service) == 100
    assert entry.service.startswith("x x x")
    assert len(entry.reason) == 600
    assert (entry.service + entry.reason).isprintable()


def test_a_store_that_fails_stops_nobody_from_going_on(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(audit: Audit) -> None:
        number = await audit.begin(DONE)
        office.state._connection.execute("ALTER TABLE audit RENAME TO gone")
        await audit.end(number, DONE)
        audit.note(REFUSED)
        with pytest.raises(StateError, match="can't be written"):
            await audit.begin(DONE)
        await asyncio.sleep(0.05)
        office.state._connection.execute("ALTER TABLE gone RENAME TO audit")
        audit.note(evolve(REFUSED, status=403))

    run(office, work)
    assert "a result could not be written" in caplog.text
    assert "entries could not be written (1): " in caplog.text
    assert [status for _, status, _ in office.entries()] == [403, 0]


@pytest.mark.parametrize(
    ("more", "alike"),
    [
        ({"origin": "unix uid 0 pid 2"}, True),
        ({"service": "db"}, True),
        ({"reason": "another"}, True),
        ({"origin": "unix uid 1 pid 1"}, False),
        ({"who": "ops"}, False),
        ({"action": "pull"}, False),
        ({"status": 403}, False),
    ],
)
def test_alike_are_refusals_of_the_same_asker_for_the_same_thing(more: dict[str, Any], alike: bool) -> None:
    tally = Tally()
    entry = AuditEntry(
        at=THEN, who="", action="freeze", service="web", origin="unix uid 0 pid 1", status=401
    )
    assert tally.is_new(entry)
    assert tally.is_new(evolve(entry, **more)) is not alike
    assert len(tally.close(THEN)) == alike
    assert tally.close(THEN) == []
    assert tally.is_new(entry), "a new count has begun"


async def freeze(request: web.Request) -> web.Response:
    if "bad" in request.query:
        raise BadRequest("what a thing to ask")
    request.app[DONE_KEY].append("freeze")
    return answer({}, note="because")


DONE_KEY: web.AppKey[list[str]] = web.AppKey("done", list)
ROUTE = Route(method="POST", path="/freeze/{service}", handler=freeze, access=Role.OPERATE, summary="x")


@contextlib.asynccontextmanager
async def guarded(
    office: Office,
) -> AsyncIterator[tuple[TestClient[web.Request, web.Application], list[str]]]:
    """A client of an application with one operation, and what was really done."""
    config = Config(
        origin=Path("/c.toml"), machines=(), services=(), mount=Path("/"), interval_seconds=60,
        auth=(AuthSettings(plugin="observer", settings={}),),
    )  # fmt: skip
    async with office.open() as audit:
        guard = Guard(hooks=office.hooks, threads=office.threads, config=config, audit=audit)
        app = web.Application(middlewares=[errors_as_json, guard.middleware(), errors_as_json])
        done: list[str] = []
        app[DONE_KEY] = done
        register(app, [ROUTE])
        async with TestClient(TestServer(app)) as client:
            yield client, done


def test_the_audit_tells_what_the_client_was_told(office: Office) -> None:
    async def main() -> None:
        async with guarded(office) as (client, done):
            assert (await client.post("/freeze/web")).status == 200
            assert (await client.post("/freeze/web?bad=1")).status == 400
            assert done == ["freeze"]

    asyncio.run(main())
    assert office.entries() == [("freeze", 400, "what a thing to ask"), ("freeze", 200, "because")]


def test_what_can_not_be_audited_is_not_done(office: Office) -> None:
    async def main() -> None:
        async with guarded(office) as (client, done):
            office.state._connection.execute("DROP TABLE audit")
            response = await client.post("/freeze/web")
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "unavailable"
            assert done == []

    asyncio.run(main())
