"""Events go to those who may see them; who does not keep up goes, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, UnixConnector, web
from attrs import evolve

from gitopperd.api import events as module
from gitopperd.api.errors import errors_as_json
from gitopperd.api.events import EVENTS, ROUTES, Events
from gitopperd.api.routes import IDENTITY, Handler, register
from libgitopper import Config, Event, Grant, Identity, Role

THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def identity(role: Role, *services: str) -> Identity:
    return Identity(name="x", grants=(Grant(role=role, services=services or ("*",)),))


WHO = {
    "reader": identity(Role.READ),
    "admin": identity(Role.ADMIN),
    "web-reader": identity(Role.READ, "web*"),
    "web-admin": identity(Role.ADMIN, "web*"),
}
REFUSED = {"who": "eve", "action": "freeze", "origin": "192.0.2.9", "status": 403, "reason": "no"}


class Host:
    """The route alone, on a Unix socket; who asks says so in a header."""

    def __init__(self, events: Events, path: Path, session: ClientSession) -> None:
        self.events = events
        self.path = path
        self.session = session
        self.responses: list[ClientResponse] = []

    async def watch(self, who: str = "reader") -> ClientResponse:
        response = await self.session.get("http://x/events", headers={"X-Who": who})
        self.responses.append(response)
        if response.status == 200:
            assert await response.content.readline() == b":\n"
            assert await response.content.readline() == b"\n"
        return response


@web.middleware
async def by_header(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[IDENTITY] = WHO[request.headers["X-Who"]]
    return await handler(request)


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Host]:
    events = Events(lambda: THEN)
    app = web.Application(middlewares=[errors_as_json, by_header])
    app[EVENTS] = events
    register(app, ROUTES)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        async with ClientSession(connector=UnixConnector(str(path), limit=200)) as session:
            host = Host(events, path, session)
            yield host
            for response in host.responses:
                response.close()
    finally:
        events.close()
        await runner.cleanup()


def run(tmp_path: Path, work: Callable[[Host], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), serving(tmp_path / "sock") as host:
            await work(host)

    asyncio.run(main())


async def next_event(response: ClientResponse) -> dict[str, Any]:
    """The next event; it has exactly two lines, and an empty one."""
    kind = (await response.content.readline()).decode()
    data = (await response.content.readline()).decode()
    assert await response.content.readline() == b"\n"
    event = json.loads(data.removeprefix("data: "))
    assert kind == f"event: {event['kind']}\n"
    assert isinstance(event, dict)
    return event


def test_an_event_has_its_time_its_subject_and_its_details(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        response = await host.watch()
        details = {"why": "zwei\nZeilen \N{SNOWFLAKE} \ud800", "number": 1, "none": None}
        host.events.gitopper_event(Event(kind="deployed", service="web", details=details))
        event = await next_event(response)
        assert event["details"].pop("why").startswith("zwei\nZeilen \N{SNOWFLAKE}")
        assert event == {
            "time": "2026-01-02T03:04:05.678Z",
            "kind": "deployed",
            "service": "web",
            "upstream": None,
            "details": {"number": 1, "none": None},
        }

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("reader", ["web", "db", None, "end"]),
        ("admin", ["web", "db", None, "end"]),
        ("web-reader", ["web", "webend"]),
        ("web-admin", ["web", "webend"]),
    ],
)
def test_everybody_sees_what_they_may_read(tmp_path: Path, who: str, seen: list[str | None]) -> None:
    async def work(host: Host) -> None:
        response = await host.watch(who)
        for service in ("web", "db", None, "end" if "end" in seen else "webend"):
            host.events.gitopper_event(Event(kind="state", service=service, upstream="u"))
        assert [(await next_event(response))["service"] for _ in seen] == seen

    run(tmp_path, work)


@pytest.mark.parametrize(("who", "full"), [("admin", True), ("reader", False), ("web-admin", False)])
def test_who_was_refused_and_where_from_is_for_those_who_may_read_the_audit(
    tmp_path: Path, who: str, full: bool
) -> None:
    async def work(host: Host) -> None:
        response = await host.watch(who)
        host.events.gitopper_event(Event(kind="refused", service="web", details=REFUSED))
        expected = REFUSED if full else {"action": "freeze", "status": 403}
        assert (await next_event(response))["details"] == expected

    run(tmp_path, work)


def test_events_of_many_threads_all_arrive_each_thread_s_in_order(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        response = await host.watch()

        def tell(thread: int) -> None:
            for number in range(40):
                host.events.gitopper_event(Event(kind="poll", details={"thread": thread, "number": number}))

        threads = [threading.Thread(target=tell, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        seen = [(await next_event(response))["details"] for _ in range(200)]
        for thread in threads:
            thread.join()
        for number in range(5):
            mine = [d["number"] for d in seen if d["thread"] == number]
            assert mine == list(range(40))

    run(tmp_path, work)


def test_where_nothing_happens_a_comment_keeps_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.HEARTBEAT_SECONDS == 15
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)

    async def work(host: Host) -> None:
        response = await host.watch()
        for _ in range(3):
            assert await response.content.readline() == b":\n"
            assert await response.content.readline() == b"\n"

    run(tmp_path, work)


def test_there_are_so_many_places_and_who_goes_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.CLIENTS == 64
    monkeypatch.setattr(module, "CLIENTS", 3)

    async def work(host: Host) -> None:
        watching = [await host.watch() for _ in range(3)]
        refused = await host.watch()
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "30"
        assert (await refused.json())["error"]["code"] == "too-many-clients"
        watching.pop().close()
        while (response := await host.watch()).status == 503:
            await asyncio.sleep(0.01)
        host.events.gitopper_event(Event(kind="poll"))
        for one in (*watching, response):
            assert (await next_event(one))["kind"] == "poll"

    run(tmp_path, work)


async def stuck(host: Host) -> socket.socket:
    """A client that asks and never reads."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, str(host.path))
    await loop.sock_sendall(sock, b"GET /events HTTP/1.1\r\nHost: x\r\nX-Who: reader\r\n\r\n")
    await loop.sock_recv(sock, 100)
    return sock


async def ended(sock: socket.socket) -> bool:
    """Read to the end, and tell whether the connection was broken off rather than closed in order."""
    tail = b""
    try:
        while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
            tail = (tail + data)[-10:]
    except ConnectionError:
        return True
    finally:
        sock.close()
    return not tail.endswith(b"0\r\n\r\n")


def test_a_client_that_does_not_keep_up_is_dropped_and_the_others_get_everything(tmp_path: Path) -> None:
    count = module.BACKLOG * 4

    async def work(host: Host) -> None:
        quick = await host.watch()
        slow = await stuck(host)
        for number in range(count):
            host.events.gitopper_event(Event(kind="poll", details={"number": number, "text": "x" * 4096}))
            assert (await next_event(quick))["details"]["number"] == number
        assert await ended(slow)

    run(tmp_path, work)


def test_a_client_that_leaves_a_write_waiting_too_long_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.WRITE_SECONDS == 10
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.1)

    async def work(host: Host) -> None:
        slow = await stuck(host)
        for _ in range(10):
            host.events.gitopper_event(Event(kind="poll", details={"text": "x" * 200_000}))
        await asyncio.sleep(0.5)
        assert await ended(slow)
        assert not host.events._watchers

    run(tmp_path, work)


def test_a_client_has_to_come_back_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.LONGEST_SECONDS == 3600
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.1)

    async def work(host: Host) -> None:
        response = await host.watch()
        assert await response.content.read() == b"", "it ends in order"

    run(tmp_path, work)


def test_who_may_be_seen_differently_has_to_show_again_who_they_are(tmp_path: Path) -> None:
    config = Config(
        origin=Path("/c.toml"), machines=(), services=(), mount=Path("/"), interval_seconds=60
    )  # fmt: skip

    async def work(host: Host) -> None:
        host.events.apply(config)
        response = await host.watch()
        host.events.apply(evolve(config, interval_seconds=5))
        host.events.gitopper_event(Event(kind="poll"))
        assert (await next_event(response))["kind"] == "poll"
        host.events.apply(evolve(config, api=evolve(config.api, anonymous=False)))
        assert await response.content.read() == b""
        response = await host.watch()
        host.events.gitopper_event(Event(kind="poll"))
        assert (await next_event(response))["kind"] == "poll"

    run(tmp_path, work)


def test_at_the_end_everybody_goes_and_nobody_comes(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        watching = [await host.watch() for _ in range(3)]
        host.events.close()
        for response in watching:
            assert await response.content.read() == b""
        assert (await host.watch()).status == 503
        host.events.gitopper_event(Event(kind="poll"))

    run(tmp_path, work)


def test_an_event_before_anybody_watches_and_after_the_loop_has_ended_harms_nobody(tmp_path: Path) -> None:
    kept: list[Events] = []
    Events(lambda: THEN).gitopper_event(Event(kind="poll"))

    async def work(host: Host) -> None:
        await host.watch()
        kept.append(host.events)

    run(tmp_path, work)
    kept[0]._watchers.add(module.Watcher(WHO["reader"], None))
    kept[0].gitopper_event(Event(kind="poll"))
