"""Push webhooks: ``POST /hook/{name}`` makes the next poll come now, and does nothing else."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from aiohttp import web
from attrs import evolve

from gitopperd.api.errors import answer, error
from gitopperd.api.guard import Attempted, origin_of
from gitopperd.api.routes import Open, Route
from gitopperd.api.secretfile import SecretError, read_secret
from gitopperd.api.senders import SENDERS, Delivery, News, RefusedDelivery
from gitopperd.work.follower import Follower
from gitopperd.work.threads import Threads
from libgitopper import Config, Webhook

__all__ = ["ROUTES", "WEBHOOKS", "Webhooks"]

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = 1024 * 1024
"""A push of many commits makes a large payload; every other route gets along with less."""
SPACING_SECONDS = 1.0
"""Polls that webhooks ask for are so far apart: a burst is one poll, and one for what came after it."""
REMEMBERED = 1000
REMEMBERED_SECONDS = 3600.0


class Webhooks:
    """The webhooks of one configuration, and what they remember. Lives on the event loop."""

    def __init__(
        self,
        *,
        config: Config,
        followers: Callable[[], Iterable[Follower]],
        threads: Threads,
        audit: Callable[[Attempted], None],
    ) -> None:
        self._followers = followers
        self._threads = threads
        self._audit = audit
        self._seen: dict[str, Seen] = {}
        self._spacing = Spacing(SPACING_SECONDS)
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Go over to the ``[[webhooks]]`` of another configuration; who stays remembers what was seen."""
        self._webhooks = {webhook.name: webhook for webhook in config.webhooks}
        self._seen = {name: self._seen.get(name, Seen()) for name in self._webhooks}

    async def deliver(self, name: str, delivery: Delivery, origin: str) -> web.Response:
        """Take a delivery for the webhook `name`; the answer does not wait for any poll."""
        attempted = Attempted(who="", action="push", service=None, origin=origin, status=202)
        try:
            note, upstreams = await self._take(name, delivery)
        except RefusedDelivery as exc:
            self._audit(evolve(attempted, status=exc.status, reason=f"{name[:64]}: {exc}"))
            return error(exc.status, exc.code, str(exc))
        self._audit(evolve(attempted, who=f"webhook:{name}", reason=note))
        # A sender shows the answer to whoever set it up: it should say why nothing happens.
        return answer({"polling": upstreams} | ({"note": note} if note else {}), status=202)

    async def _take(self, name: str, delivery: Delivery) -> tuple[str, list[str]]:
        """Return why nothing is polled, or the upstreams that are.

        Raises:
            RefusedDelivery: it is not obeyed.
        """
        webhook = self._webhooks.get(name)
        mark, news = await self._threads.answer(_judge, webhook, delivery)
        if not self._seen.setdefault(name, Seen()).first(mark):
            return "this delivery came before", []
        if news.note:
            return f"{news.note}, so nothing is polled", []
        concerned = [f for f in self._followers() if news.concerns(f.watch.upstream, f.watch.branches)]
        for follower in concerned:
            self._spacing.poke(follower, f"webhook {name}")
        note = "" if concerned else "no service of this host follows that branch of that repository"
        return note, [follower.watch.upstream for follower in concerned]


def _judge(webhook: Webhook | None, delivery: Delivery) -> tuple[str, News]:
    """Return a delivery's mark, and its news. Blocks: it reads a file, and a payload is large."""
    if webhook is None:
        # The same work as for one that exists, with a secret that nobody can know.
        _discard(SENDERS["hmac"].verify, delivery)
        raise RefusedDelivery(404, "unknown-webhook", "this host has no webhook of that name")
    sender = SENDERS[webhook.kind]
    try:
        mark = sender.verify(delivery, read_secret(webhook.secret_file))
    except SecretError as exc:
        log.error("webhook %s: %s", webhook.name, exc)  # noqa: TRY400 - the text says it all
        message = "this webhook can't check anything now; the daemon's log has the reason"
        raise RefusedDelivery(503, "unavailable", message) from exc
    return mark, sender.read(delivery)


def _discard(verify: Callable[[Delivery, bytes], str], delivery: Delivery) -> None:
    try:
        verify(delivery, secrets.token_bytes(32))
    except RefusedDelivery:
        return


class Seen:
    """The marks of the last deliveries of one webhook; only verified ones, so outsiders evict nothing."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._marks: OrderedDict[str, float] = OrderedDict()

    def first(self, mark: str) -> bool:
        """Tell whether `mark` is new, and remember it: the last 1,000, for an hour."""
        now = self._now()
        while self._marks and next(iter(self._marks.values())) <= now - REMEMBERED_SECONDS:
            self._marks.popitem(last=False)
        if mark in self._marks:
            return False
        self._marks[mark] = now
        if len(self._marks) > REMEMBERED:
            self._marks.popitem(last=False)
        return True


class Spacing:
    """Pokes followers at once, and what comes within some seconds of that as one poke after them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._busy: dict[Follower, str] = {}
        """Followers that were poked just now, and who asked for another poke; empty for nobody."""

    def poke(self, follower: Follower, asked: str) -> None:
        """Poke `follower` now for `asked`, or once the spacing is over."""
        if follower in self._busy:
            self._busy[follower] = asked
            return
        follower.poke(asked)
        self._busy[follower] = ""
        asyncio.get_running_loop().call_later(self._seconds, self._over, follower)

    def _over(self, follower: Follower) -> None:
        if asked := self._busy.pop(follower):
            self.poke(follower, asked)


WEBHOOKS = web.AppKey("webhooks", Webhooks)


async def push(request: web.Request) -> web.Response:
    """Take a push notification."""
    delivery = Delivery(headers=request.headers, body=await request.read(), time_seconds=time.time())
    return await request.app[WEBHOOKS].deliver(request.match_info["name"], delivery, origin_of(request))


ROUTES = (
    Route(
        method="POST", path="/hook/{name}", handler=push, access=Open.SIGNED, body_bytes=MAX_PAYLOAD_BYTES,
        summary="Tell that something was pushed, with a signature of the sender.", query=None,
    ),
)  # fmt: skip
