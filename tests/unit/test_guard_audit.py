"""What the guard has audited, and that what can not be audited is not done."""

from __future__ import annotations

from aiohttp import web

from gitopperd.api.errors import answer
from gitopperd.api.routes import Route, register
from libgitopper import Grant, Role
from tests.support.guarded import Client, World, get, granted, run


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
