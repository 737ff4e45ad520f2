"""What a webhook remembers, whom it pokes, and what it answers and tells the audit log."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from attrs import define, field
from multidict import CIMultiDict

from gitopperd.api.guard import Attempted
from gitopperd.api.senders import Delivery
from gitopperd.api.webhooks import REMEMBERED, Seen, Spacing, Webhooks
from gitopperd.work import follower
from gitopperd.work.threads import Threads
from libgitopper import Config, Credentials, Service, Source, Watch
from libgitopper.config import parse_config
from tests.support.pushes import SECRET, payload, signed

UPSTREAM = "https://github.com/example-ops/fleet"


@define(eq=False)
class Follower:
    """The part of a follower that webhooks see."""

    upstream: str
    branch: str = "main"
    pokes: list[float] = field(factory=list)
    asked: list[str] = field(factory=list)

    @property
    def watch(self) -> Watch:
        source = Source(upstream=self.upstream, branch=self.branch)
        service = Service(name="web", source=source, mappings=(), mount=Path("/srv"))
        return Watch(
            upstream=self.upstream, credentials=Credentials(), stores=Path("/srv"), services=(service,)
        )

    def poke(self, asked: str) -> None:
        self.pokes.append(time.monotonic())
        self.asked.append(asked)


def whole(part: Follower) -> follower.Follower:
    return cast("follower.Follower", part)


class Host:
    """Webhooks on some followers, and what they told the audit log."""

    def __init__(self, home: Path, *followers: Follower, names: tuple[str, ...] = ("hook",)) -> None:
        self.home = home
        self.secret = home / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.told: list[Attempted] = []
        self.webhooks = Webhooks(
            config=self.config(*names),
            followers=lambda: map(whole, followers),
            threads=Threads(),
            audit=self.told.append,
        )

    def config(self, *names: str) -> Config:
        text = "services = []\n" + "".join(
            f'[[webhooks]]\nname = "{name}"\nkind = "github"\nsecret = "{self.secret}"\n' for name in names
        )
        return parse_config(text, origin="x", hosts={"web1"}, root=True, environ={})

    def deliver(self, *deliveries: tuple[str, bytes, dict[str, str]]) -> list[tuple[int, Any]]:
        async def all_of_them() -> list[web.Response]:
            return [
                await self.webhooks.deliver(
                    name,
                    Delivery(headers=CIMultiDict(headers), body=body, time_seconds=time.time()),
                    "192.0.2.7",
                )
                for name, body, headers in deliveries
            ]

        return [(got.status, json.loads(got.text or "")) for got in asyncio.run(all_of_them())]

    def push(self, name: str = "hook") -> tuple[int, Any]:
        body = payload("github-push")
        return self.deliver((name, body, signed("github", body)))[0]


def test_a_push_pokes_who_follows_that_branch_of_that_repository(tmp_path: Path) -> None:
    right = Follower(UPSTREAM)
    by_ssh = Follower("git@github.com:Example-Ops/Fleet.git")
    others = [Follower(UPSTREAM, "canary"), Follower("https://github.com/example-ops/other")]
    host = Host(tmp_path, right, by_ssh, *others)
    assert host.push() == (202, {"polling": [UPSTREAM, by_ssh.upstream]})
    assert [len(follower.pokes) for follower in (right, by_ssh, *others)] == [1, 1, 0, 0]


def test_a_push_that_concerns_nothing_is_answered_with_the_reason(tmp_path: Path) -> None:
    status, body = Host(tmp_path, Follower(UPSTREAM, "canary")).push()
    assert (status, body["polling"]) == (202, [])
    assert "no service of this host follows that branch" in body["note"]


def test_a_ping_is_answered_and_pokes_nobody(tmp_path: Path) -> None:
    follower, body = Follower(UPSTREAM), payload("github-ping")
    got = Host(tmp_path, follower).deliver(("hook", body, signed("github", body)))
    assert got == [(202, {"polling": [], "note": "a ping, so nothing is polled"})]
    assert follower.pokes == []


def test_a_replay_is_dropped_whatever_it_calls_itself(tmp_path: Path) -> None:
    follower = Follower(UPSTREAM)
    host = Host(tmp_path, follower)
    host.push()
    assert host.push() == (202, {"polling": [], "note": "this delivery came before"})
    assert len(follower.pokes) == 1


def test_another_webhook_does_not_share_what_was_seen(tmp_path: Path) -> None:
    host = Host(tmp_path, Follower(UPSTREAM), names=("one", "two"))
    assert host.push("one")[1]["polling"]
    assert host.push("two")[1]["polling"]


def test_another_configuration_adds_and_removes_webhooks_and_forgets_no_delivery(tmp_path: Path) -> None:
    host = Host(tmp_path, Follower(UPSTREAM), names=("old", "kept"))
    host.push("kept")
    host.webhooks.apply(host.config("kept", "new"))
    assert host.push("old")[0] == 404
    assert host.push("kept")[1]["note"] == "this delivery came before"
    assert host.push("new")[1]["polling"] == [UPSTREAM]


def test_a_wrong_signature_is_401_and_an_unknown_webhook_404_and_neither_pokes(tmp_path: Path) -> None:
    follower, body = Follower(UPSTREAM), payload("github-push")
    wrong = signed("github", body, "wrong")
    got = Host(tmp_path, follower).deliver(("hook", body, wrong), ("nope", body, wrong), ("nope", body, {}))
    assert [(status, answer["error"]["code"]) for status, answer in got] == [
        (401, "bad-signature"),
        (404, "unknown-webhook"),
        (404, "unknown-webhook"),
    ]
    assert follower.pokes == []


def test_a_refused_delivery_that_comes_again_with_the_right_signature_is_taken(tmp_path: Path) -> None:
    host, body = Host(tmp_path, Follower(UPSTREAM)), payload("github-push")
    host.deliver(("hook", body, signed("github", body, "wrong")))
    assert host.push()[1]["polling"] == [UPSTREAM]


def test_every_delivery_is_told_to_the_audit_log_and_refusals_with_their_reason(tmp_path: Path) -> None:
    host, body = Host(tmp_path, Follower(UPSTREAM)), payload("github-push")
    host.push()
    host.deliver(("hook", body, {}), ("x" * 500, body, {}))
    taken, refused, unknown = host.told
    assert (taken.who, taken.action, taken.status, taken.origin) == (
        "webhook:hook",
        "push",
        202,
        "192.0.2.7",
    )
    assert (refused.who, refused.status) == ("", 401)
    assert refused.reason.startswith("hook: the X-Hub-Signature-256 header")
    assert (unknown.status, len(unknown.reason) < 200) == (404, True)
    assert SECRET not in str(host.told)


def test_a_secret_that_can_not_be_read_is_503_and_only_the_log_knows_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(tmp_path, Follower(UPSTREAM))
    host.secret.chmod(0o644)
    status, body = host.push()
    assert (status, body["error"]["code"]) == (503, "unavailable")
    assert str(tmp_path) not in str(body)
    assert f"webhook hook: {host.secret}" in caplog.text
    assert f"chmod 600 {host.secret}" in caplog.text
    assert SECRET not in caplog.text


def test_a_rotated_secret_holds_from_the_next_delivery_on(tmp_path: Path) -> None:
    host, body = Host(tmp_path, Follower(UPSTREAM)), payload("github-push")
    host.secret.write_text("another\n")
    assert host.push()[0] == 401
    assert host.deliver(("hook", body, signed("github", body, "another")))[0][0] == 202


def test_a_mark_is_remembered_for_an_hour() -> None:
    now = 0.0
    seen = Seen(lambda: now)
    assert seen.first("a")
    now = 3599.0
    assert not seen.first("a")
    now = 3600.0
    assert seen.first("a")


def test_only_so_many_marks_are_remembered_and_the_oldest_goes_first() -> None:
    seen = Seen(lambda: 0.0)
    assert all(seen.first(str(number)) for number in range(REMEMBERED + 1))
    assert not seen.first("1")
    assert seen.first("0")
    assert len(seen._marks) == REMEMBERED


def test_a_burst_is_one_poke_at_once_and_one_for_what_came_after_it() -> None:
    follower, other = Follower("a"), Follower("b")

    async def burst() -> None:
        spacing = Spacing(0.1)
        for _ in range(50):
            spacing.poke(whole(follower), "hook")
        spacing.poke(whole(other), "hook")
        await asyncio.sleep(0.25)
        assert len(follower.pokes) == 2
        assert 0.09 < follower.pokes[1] - follower.pokes[0] < 0.24
        spacing.poke(whole(follower), "hook")
        await asyncio.sleep(0.15)

    asyncio.run(burst())
    assert len(follower.pokes) == 3
    assert len(other.pokes) == 1


@pytest.mark.parametrize("pokes", range(1, 4))
def test_after_a_quiet_time_a_poke_is_immediate_again(pokes: int) -> None:
    follower = Follower("a")

    async def pauses() -> None:
        spacing = Spacing(0.02)
        for _ in range(pokes):
            spacing.poke(whole(follower), "hook")
            await asyncio.sleep(0.05)

    asyncio.run(pauses())
    assert len(follower.pokes) == pokes
