"""What the guard lets nobody in particular do, from this host and from others; and pages of other sites."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping

import pytest
from attrs import evolve

from gitopperd.api import asker, guard
from gitopperd.api.asker import facts
from libgitopper import AuthRequest, Grant, Identity, Role
from tests.support.guarded import READER, Client, Plugin, World, get, granted, run


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
    monkeypatch.setattr(guard, "facts", lambda request: evolve(facts(request), peer="192.0.2.1"))

    async def test(client: Client) -> None:
        assert (await get(client, "/list"))[0] == (200 if anonymous else 401)
        assert (await get(client, "/one/web", "POST"))[0] == 401

    run(World(Plugin(), anonymous=anonymous), test)


def test_this_host_goes_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Web1.example.net")
    for host in ("web1", "WEB1.example.net:8000", "web1.example.net."):
        assert asker.local_trouble({"host": host}) is None
    assert "localhost" in (asker.local_trouble({"host": "web1.example.com"}) or "")


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
