"""Whom the guard asks, and what it makes of a plugin that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from aiohttp import web
from attrs import evolve

from gitopperd.api import guard
from libgitopper import AccessDenied, AuthRequest, AuthSettings, Identity
from tests.support.guarded import READER, Client, Plugin, World, get, raw, run


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
