"""The guard by itself: what it lets through, whom it asks, and what it makes of a plugin that fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import evolve

from gitopperd.api import asker, guard
from gitopperd.api.errors import answer, errors_as_json
from gitopperd.api.guard import Attempted, Guard
from gitopperd.api.routes import IDENTITY, Open, Route, register, routes_of
from gitopperd.work.threads import Threads
from libgitopper import (
    AccessDenied,
    Api,
    AuthRequest,
    AuthSettings,
    Config,
    Grant,
    Hooks,
    Identity,
    Role,
    hookimpl,
)

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
    async def main() -> None:
        async with world.running(refusal_seconds) as client:
            await test(client)

    asyncio.run(main())


async def get(client: Client, path: str, method: str = "GET", **more: Any) -> tuple[int, Any]:
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
    return Plugin(lambda _: Identity(name="somebody", grants=grants))


# --- whom it asks ------------------------------------------------------------------------


def test_plugins_are_asked_in_the_order_of_the_config_until_one_knows() -> None:
    first, second, third = Plugin(), Plugin(lambda _: READER), Plugin()
    world = World(first, second, third)

    async def test(client: Client) -> None:
        assert await raw(client, "GET /list?a=%2f HTTP/1.1") == 200

    run(world, test)
    assert (len(first.asked), len(second.asked), len(third.asked)) == (1, 1, 0)
    (asked,) = second.asked
    assert (asked.plugin, asked.settings) == ("p1", {"number": 1})
    assert (asked.method, asked.path, asked.peer) == ("GET", "/list?a=%2f", "127.0.0.1")
    assert asked.unix is None
    assert asked.tls is None


def test_headers_have_lower_case_names_and_are_joined() -> None:
    plugin = Plugin(lambda _: READER)

    async def test(client: Client) -> None:
        head = "GET /list HTTP/1.1\r\nX-One: a\r\nx-one: b\r\nAUTHORIZATION: Bearer x"
        assert await raw(client, head) == 200

    run(World(plugin), test)
    headers = plugin.asked[0].headers
    assert headers["x-one"] == "a, b"
    assert headers["authorization"] == "Bearer x"
    assert all(name == name.lower() for name in headers)
    assert "Bearer" not in repr(plugin.asked[0])


class Odd:
    """Something that a plugin must not answer with."""

    def may(self, *_: object) -> bool:
        return True

    may_everywhere = may
    name = "odd"


def _raising(error: BaseException) -> Callable[[AuthRequest], object]:
    def reply(_: AuthRequest) -> object:
        raise error

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        _raising(RuntimeError("token=hunter2")),
        _raising(SystemExit(0)),
        _raising(KeyboardInterrupt()),
        _raising(GeneratorExit()),
        _raising(StopIteration()),
        _raising(asyncio.CancelledError()),
        _raising(TimeoutError()),
        _raising(web.HTTPOk()),
        lambda _: True,
        lambda _: "admin",
        lambda _: Odd(),
    ],
)
def test_a_plugin_that_fails_in_whatever_way_lets_nobody_in_and_nobody_else_is_asked(
    reply: Callable[[AuthRequest], object], caplog: pytest.LogCaptureFixture
) -> None:
    last = Plugin(lambda _: READER)
    world = World(Plugin(reply), last, anonymous=True)

    async def test(client: Client) -> None:
        for path, method in (("/list", "GET"), ("/one/web", "POST"), ("/reload", "POST")):
            status, body = await get(client, path, method)
            assert status == 401
            assert body["error"]["code"] == "unknown-identity"
            assert "the daemon's log" in body["error"]["message"]
            assert "hunter2" not in str(body)
        assert (await get(client, "/public"))[0] == 200

    run(world, test)
    assert last.asked == []
    assert "auth plugin 'p0' failed" in caplog.text
    assert {attempted.status for attempted in world.audit.noted} == {401}
    assert world.audit.begun == []


def test_a_plugin_that_the_config_names_and_nobody_has_lets_nobody_in() -> None:
    world = World(anonymous=True)
    world.config = evolve(world.config, auth=(AuthSettings(plugin="gone", settings={}),))

    async def test(client: Client) -> None:
        assert (await get(client, "/list"))[0] == 401

    run(world, test)


def test_a_plugin_that_hangs_is_waited_for_so_long_and_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "AUTH_TIMEOUT_SECONDS", 0.1)
    over = threading.Event()

    def reply(_: AuthRequest) -> Identity:
        over.wait(30)
        return READER

    async def test(client: Client) -> None:
        status, body = await get(client, "/list")
        assert status == 401
        assert "took too long" in body["error"]["message"]
        over.set()
        assert (await get(client, "/list"))[0] == 200

    run(World(Plugin(reply), anonymous=True), test)


def test_what_a_plugin_says_of_a_refusal_is_told_and_audited() -> None:
    plugin = Plugin(_raising(AccessDenied("the badge\nhas expired")))
    world = World(plugin, Plugin(lambda _: READER), anonymous=True)

    async def test(client: Client) -> None:
        async with client.get("/list") as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="gitopper"'
            body = await response.json()
        assert body == {"error": {"code": "unknown-identity", "message": "the badge\nhas expired"}}

    run(world, test)
    (attempted,) = world.audit.noted
    assert (attempted.who, attempted.action, attempted.status) == ("", "shown", 401)
    assert attempted.origin == "127.0.0.1"
    assert attempted.reason == "the badge\nhas expired"


# --- what they may -----------------------------------------------------------------------

WEB = ("web*",)


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        ((), set()),
        ((Grant(role=Role.READ),), {"list", "all", "get web", "get db"}),
        ((Grant(role=Role.OPERATE),), {"list", "all", "get web", "get db", "post web", "post db"}),
        (
            (Grant(role=Role.ADMIN),),
            {"list", "all", "get web", "get db", "post web", "post db", "reload"},
        ),
        ((Grant(role=Role.READ, services=WEB),), {"list", "get web"}),
        ((Grant(role=Role.ADMIN, services=WEB),), {"list", "get web", "post web"}),
        ((Grant(role=Role.READ, services=()),), {"list"}),
        (
            (Grant(role=Role.READ), Grant(role=Role.OPERATE, services=WEB)),
            {"list", "all", "get web", "get db", "post web"},
        ),
        (
            (Grant(role=Role.OPERATE, services=("db",)), Grant(role=Role.READ, services=WEB)),
            {"list", "get web", "get db", "post db"},
        ),
    ],
)
def test_a_role_holds_for_its_services_and_what_concerns_all_needs_it_for_all(
    grants: tuple[Grant, ...], allowed: set[str]
) -> None:
    world = World(granted(*grants))
    requests = {
        "list": ("/list", "GET"),
        "all": ("/all", "GET"),
        "get web": ("/one/web1", "GET"),
        "get db": ("/one/db", "GET"),
        "post web": ("/one/web1", "POST"),
        "post db": ("/one/db", "POST"),
        "reload": ("/reload", "POST"),
    }

    async def test(client: Client) -> None:
        for name, (path, method) in requests.items():
            status, body = await get(client, path, method)
            assert status == (200 if name in allowed else 403), name
            if status == 403:
                assert body["error"]["code"] == "forbidden"
                assert "somebody" in body["error"]["message"]

    run(world, test)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/one/%77eb1", "web1"),
        ("/one/web%2F..%2Fdb", "web/../db"),
        ("/one/db%0Aweb1", None),
        ("/one/web1%00", None),
        ("/one/db%3Fweb1", None),
        ("/one/../one/db", None),
        ("/one/web1/", None),
        ("//one/web1", None),
    ],
)
def test_the_name_that_is_judged_is_the_name_that_the_handler_gets(path: str, name: str | None) -> None:
    names: list[str] = []
    world = World(granted(Grant(role=Role.READ, services=("web1", "web/../db"))))

    async def handler(request: web.Request) -> web.Response:
        names.append(request.match_info["service"])
        return answer({})

    world.extend = lambda app: register(
        app,
        [Route(method="PUT", path="/one/{service}", handler=handler, access=Role.READ, summary="")],
    )

    async def test(client: Client) -> None:
        status = await raw(client, f"PUT {path} HTTP/1.1")
        assert status == 200 if name else status in (403, 404)

    run(world, test)
    assert names == ([name] if name else [])


# --- deny by default ---------------------------------------------------------------------


def test_a_handler_that_was_not_registered_with_a_role_is_not_reachable_by_anybody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached: list[str] = []

    async def secret(request: web.Request) -> web.Response:
        reached.append(request.path)
        return answer({})

    def extend(app: web.Application) -> None:
        app.router.add_get("/secret", secret)
        app.router.add_route("*", "/any/{path:.*}", secret)
        app.router.add_get("/list/again", shown)  # the handler of a route that is registered
        app.router.add_static("/static", Path(__file__).parent)
        below = web.Application()
        below.router.add_get("/secret", secret)
        app.add_subapp("/below", below)

    world = World(granted(Grant(role=Role.ADMIN)), anonymous=True)
    world.extend = extend

    async def test(client: Client) -> None:
        for path in ("/secret", "/any/thing", "/list/again", "/static/test_guard.py", "/below/secret"):
            status, body = await get(client, path)
            assert (status, body["error"]["code"]) == (404, "not-found"), path
        assert (await get(client, "/any/thing", "POST"))[0] == 404
        assert (await get(client, "/list"))[0] == 200

    run(world, test)
    assert reached == []
    assert "has a handler and no role" in caplog.text


def test_a_route_without_access_can_not_be_made() -> None:
    with pytest.raises(TypeError, match="access"):
        Route(method="GET", path="/x", handler=shown, summary="")  # type: ignore[call-arg]


def test_two_routes_for_one_method_and_path_are_refused() -> None:
    app = web.Application()
    register(app, ROUTES[:1])
    with pytest.raises(ValueError, match="GET /list"):
        register(app, ROUTES[:1])
    assert len(routes_of(app)) == 1


def test_two_routes_with_one_handler_keep_each_its_own_access() -> None:
    world = World(Plugin())

    async def test(client: Client) -> None:
        assert (await get(client, "/list"))[0] == 401
        assert (await get(client, "/reload", "POST"))[0] == 401

    run(world, test)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_reach_no_handler(method: str) -> None:
    plugin = Plugin(lambda _: READER)
    world = World(plugin)

    async def test(client: Client) -> None:
        async with client.request(method, "/list") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET"

    run(world, test)
    assert plugin.asked == []


# --- nobody ------------------------------------------------------------------------------


@pytest.mark.parametrize("anonymous", [None, True, False])
def test_nobody_may_read_where_the_config_lets_them_and_never_more(anonymous: bool | None) -> None:
    world = World(Plugin(), anonymous=anonymous)

    async def test(client: Client) -> None:
        status, body = await get(client, "/list")
        assert status == (401 if anonymous is False else 200)
        assert anonymous is False or body == {"who": "anonymous"}
        for path in ("/one/web", "/reload"):
            status, body = await get(client, path, "POST")
            assert status == 401  # who comes with credentials may be let in
            assert "token" in body["error"]["message"]

    run(world, test)


def test_the_anonymous_of_loopback_are_those_who_came_straight_from_there() -> None:
    strange: list[Mapping[str, str]] = [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "xlocalhost"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "127.0.0.1"},
    ]
    world = World(Plugin(), anonymous=None)

    async def test(client: Client) -> None:
        for headers in strange:
            assert (await get(client, "/list", headers=headers))[0] == 401, headers
        for host in (
            "localhost",
            "LOCALHOST:8000",
            "a.localhost",
            "127.0.0.1:80",
            "[::1]:8000",
            "10.0.0.1",
        ):
            assert (await get(client, "/list", headers={"Host": host}))[0] == 200, host

    run(world, test)


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("", False),
        ("nonsense", False),
        (None, False),
    ],
)
def test_what_is_loopback(peer: str | None, local: bool) -> None:
    asked = AuthRequest(plugin="", settings={}, method="GET", path="/", headers={}, peer=peer)
    assert asker.is_local(asked) is local


@pytest.mark.parametrize("anonymous", [None, True, False])
def test_from_another_host_nobody_is_anonymous_unless_the_config_says_so(
    anonymous: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = guard.facts
    monkeypatch.setattr(guard, "facts", lambda request: evolve(facts(request), peer="192.0.2.1"))

    async def test(client: Client) -> None:
        assert (await get(client, "/list"))[0] == (200 if anonymous else 401)
        assert (await get(client, "/one/web", "POST"))[0] == 401

    run(World(Plugin(), anonymous=anonymous), test)


def test_this_host_goes_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker.socket, "gethostname", lambda: "Web1.example.net")
    for host in ("web1", "WEB1.example.net:8000", "web1.example.net."):
        assert asker.local_trouble({"host": host}) is None
    assert "localhost" in (asker.local_trouble({"host": "web1.example.com"}) or "")


# --- browsers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:9000", "Host": "localhost:8000"}, 403),
        ({"Origin": "http://localhost", "Host": "localhost:8000"}, 403),
        ({"Origin": "http://LOCALHOST:8000", "Host": "localhost:8000"}, 200),
        ({"Origin": "https://[::1]:8000", "Host": "[::1]:8000"}, 200),
        ({}, 200),
    ],
)
def test_a_page_of_another_site_can_do_nothing_with_what_a_browser_has(
    headers: dict[str, str], status: int
) -> None:
    plugin = granted(Grant(role=Role.ADMIN))
    world = World(plugin)

    async def test(client: Client) -> None:
        for path, method in (("/reload", "POST"), ("/one/web", "POST"), ("/list", "GET")):
            assert (await get(client, path, method, headers=headers))[0] == status

    run(world, test)
    if status == 403:
        assert plugin.asked == []
        assert "Origin" in world.audit.noted[0].reason


# --- the audit ---------------------------------------------------------------------------


def test_what_changes_something_is_audited_before_it_is_done_and_after() -> None:
    world = World(granted(Grant(role=Role.ADMIN)))

    async def test(client: Client) -> None:
        assert (await get(client, "/one/web", "POST"))[0] == 200
        assert (await get(client, "/list"))[0] == 200

    run(world, test)
    (begun,), (ended,) = world.audit.begun, world.audit.ended
    assert (begun.who, begun.action, begun.service) == ("somebody", "shown", "web")
    assert ended.status == 200
    assert world.audit.noted == []


def test_what_can_not_be_audited_is_not_done() -> None:
    reached: list[str] = []
    world = World(granted(Grant(role=Role.ADMIN)))
    world.audit.broken = True

    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return answer({})

    world.extend = lambda app: register(
        app, [Route(method="POST", path="/do", handler=handler, access=Role.ADMIN, summary="")]
    )

    async def test(client: Client) -> None:
        assert (await get(client, "/do", "POST"))[0] == 500

    run(world, test)
    assert reached == []


def test_a_fault_of_ours_is_audited_with_the_status_that_is_answered() -> None:
    world = World(granted(Grant(role=Role.ADMIN)))

    async def handler(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    world.extend = lambda app: register(
        app, [Route(method="POST", path="/do", handler=handler, access=Role.ADMIN, summary="")]
    )

    async def test(client: Client) -> None:
        assert (await get(client, "/do", "POST"))[0] == 500

    run(world, test)
    assert [attempted.status for attempted in world.audit.ended] == [500]


# --- time --------------------------------------------------------------------------------


def test_an_answer_to_nobody_is_held_back_and_others_do_not_wait_for_it() -> None:
    def reply(asked: AuthRequest) -> Identity | None:
        return READER if "authorization" in asked.headers else None

    async def test(client: Client) -> None:
        started = time.monotonic()
        refused = asyncio.create_task(get(client, "/list"))
        await asyncio.sleep(0)
        assert (await get(client, "/list", headers={"Authorization": "x"}))[0] == 200
        assert not refused.done()
        assert (await refused)[0] == 401
        assert time.monotonic() - started >= 0.4

    run(World(Plugin(reply)), test, refusal_seconds=0.4)
