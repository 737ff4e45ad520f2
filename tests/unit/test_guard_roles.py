"""What a role lets through the guard, and that nobody reaches what no role was set for."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from gitopperd.api.errors import answer
from gitopperd.api.routes import Route, register, routes_of
from libgitopper import Grant, Role
from tests.support.guarded import READER, ROUTES, Client, Plugin, World, get, granted, raw, run, shown

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
