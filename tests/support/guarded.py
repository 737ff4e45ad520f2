"""A guarded application, auth plugins whose answers a test writes, and an audit that is only noted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import evolve

from gitopperd.api.errors import answer, errors_as_json
from gitopperd.api.guard import Attempted, Guard
from gitopperd.api.routes import IDENTITY, Open, Route, register
from gitopperd.work.threads import Threads
from libgitopper import Api, AuthRequest, AuthSettings, Config, Grant, Hooks, Identity, Role, hookimpl

__all__ = ["READER", "ROUTES", "Client", "Plugin", "World", "get", "granted", "raw", "run", "shown"]

Client = TestClient[web.Request, web.Application]
CONFIG = Config(
    origin=Path("/etc/gitopper.toml"), machines=(), services=(), mount=Path("/srv"), interval_seconds=60
)
READER = Identity(name="reader", grants=(Grant(role=Role.READ),))


class Plugin:
    """An auth plugin whose answer a test writes."""

    def __init__(self, reply: Callable[[AuthRequest], object] = lambda _: None) -> None:
        self.reply = reply
        self.asked: list[AuthRequest] = []

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> object:
        self.asked.append(request)
        return self.reply(request)


class Recorder:
    """The audit."""

    def __init__(self) -> None:
        self.noted: list[Attempted] = []
        self.begun: list[Attempted] = []
        self.ended: list[Attempted] = []
        self.broken = False

    async def begin(self, attempted: Attempted) -> int:
        if self.broken:
            raise OSError("the disk is full")
        self.begun.append(attempted)
        return len(self.begun)

    async def end(self, number: int, attempted: Attempted) -> None:
        assert number == len(self.begun)
        self.ended.append(attempted)

    def note(self, attempted: Attempted) -> None:
        self.noted.append(attempted)


async def shown(request: web.Request) -> web.Response:
    """Say who asks, so that a test sees that the handler was reached."""
    return answer({"who": request[IDENTITY].name})


async def public(request: web.Request) -> web.Response:
    """Say whether anybody is told of who asks."""
    return answer({"who": IDENTITY in request})


ROUTES = (
    Route(method="GET", path="/list", handler=shown, access=Role.READ, summary="", narrowed=True),
    Route(method="GET", path="/all", handler=shown, access=Role.READ, summary=""),
    Route(method="GET", path="/one/{service}", handler=shown, access=Role.READ, summary=""),
    Route(method="POST", path="/one/{service}", handler=shown, access=Role.OPERATE, summary=""),
    Route(method="POST", path="/reload", handler=shown, access=Role.ADMIN, summary=""),
    Route(method="GET", path="/public", handler=public, access=Open.PUBLIC, summary=""),
)


class World:
    """A guarded application, its plugins, and what was audited."""

    def __init__(self, *plugins: Plugin, anonymous: bool | None = False) -> None:
        self.hooks = Hooks()
        self.audit = Recorder()
        self.plugins = plugins
        for number, plugin in enumerate(plugins):
            self.hooks.register(plugin, name=f"p{number}")
        auth = tuple(AuthSettings(plugin=f"p{n}", settings={"number": n}) for n in range(len(plugins)))
        self.config = evolve(CONFIG, auth=auth, api=Api(anonymous=anonymous))
        self.app = web.Application()
        self.extend: Callable[[web.Application], object] = lambda _: None

    @contextlib.asynccontextmanager
    async def running(self, refusal_seconds: float = 0.0) -> AsyncIterator[Client]:
        threads = Threads()
        made = Guard(
            hooks=self.hooks,
            threads=threads,
            config=self.config,
            audit=self.audit,
            refusal_seconds=refusal_seconds,
        )
        self.app = web.Application(middlewares=[errors_as_json, made.middleware(), errors_as_json])
        register(self.app, ROUTES)
        self.extend(self.app)
        try:
            async with TestClient(TestServer(self.app)) as client:
                yield client
        finally:
            threads.close(1)


def run(world: World, test: Callable[[Client], Awaitable[None]], refusal_seconds: float = 0.0) -> None:
    """Hold `test` with a client of the running application."""

    async def main() -> None:
        async with world.running(refusal_seconds) as client:
            await test(client)

    asyncio.run(main())


async def get(client: Client, path: str, method: str = "GET", **more: Any) -> tuple[int, Any]:
    """Return the status and the body of an answer."""
    async with client.request(method, path, **more) as response:
        return response.status, await response.json()


async def raw(client: Client, head: str) -> int:
    """Send a request as it is written, as no client library would; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        return int((await reader.read()).split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


def granted(*grants: Grant) -> Plugin:
    """A plugin that knows everybody as somebody, with `grants`."""
    return Plugin(lambda _: Identity(name="somebody", grants=grants))
