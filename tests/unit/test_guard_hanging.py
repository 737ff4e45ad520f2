"""An auth plugin that hangs, as in an outage of its directory, holds up those who get as far as it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gitopperd.api import guard
from gitopperd.work.threads import IDENTITIES
from libgitopper import AuthRequest, Identity
from tests.support.guarded import READER, Client, Plugin, World, get, run


def test_who_is_known_before_it_is_asked_gets_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    over, hanging = threading.Event(), threading.Semaphore(0)

    def known(request: AuthRequest) -> Identity | None:
        return READER if request.headers.get("x-known") else None

    def hang(_: AuthRequest) -> None:
        hanging.release()
        over.wait(30)

    async def test(client: Client) -> None:
        strangers = [asyncio.create_task(get(client, "/list")) for _ in range(IDENTITIES + 2)]
        for _ in range(IDENTITIES):
            await asyncio.to_thread(hanging.acquire)
        assert (await get(client, "/list", headers={"X-Known": "1"}))[0] == 200
        assert not any(stranger.done() for stranger in strangers)
        monkeypatch.setattr(guard, "AUTH_TIMEOUT_SECONDS", 0.1)
        status, body = await get(client, "/list")
        assert (status, "took too long" in body["error"]["message"]) == (401, True)
        over.set()
        await asyncio.gather(*strangers)

    run(World(Plugin(known), Plugin(hang)), test)
    assert "auth plugins took more than 0.1 s; 'p1' was asked" in caplog.text
