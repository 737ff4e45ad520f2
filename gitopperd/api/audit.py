"""The audit: who did what to which service when, from where, and with which result.

An operation is written before it is carried out, and its result before it is answered: nothing is
done, and nothing acknowledged, without an entry. Refusals are written after their answer and within
bounds, so that whoever is refused can fill no disk and wash nothing away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from aiohttp import web
from attrs import evolve

from gitopperd.api.errors import answer
from gitopperd.api.guard import Attempted
from gitopperd.api.queries import QUERY, whole_number
from gitopperd.api.routes import Route
from gitopperd.logs import audit_log
from gitopperd.work.threads import Threads
from libgitopper import AuditEntry, Event, GitopperError, Hooks, Role, StateStore
from libgitopper.status import one_line

__all__ = ["AUDIT", "ROUTES", "Audit", "Tally"]

log = logging.getLogger(__name__)

WAITING = 500
"""Entries that may wait for the disk; more are dropped, and counted."""
TALLY_SECONDS = 60.0
"""Refusals that are alike are summed up this often."""
TALLY_KINDS = 100
"""Kinds of refusals that are told apart in that time."""
SHOWN, MOST_SHOWN = 100, 1000

NAME_LENGTH, REASON_LENGTH = 100, 600
"""Names and reasons are cut to so many characters: most of them come from the network."""


class Audit:
    """Keeps the audit trail. Lives on the event loop."""

    def __init__(
        self, *, state: StateStore, hooks: Hooks, threads: Threads, now: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._hooks = hooks
        self._threads = threads
        self._now = now
        self._tally = Tally()
        self._waiting: asyncio.Queue[AuditEntry] = asyncio.Queue(WAITING)
        self._dropped = 0

    async def begin(self, attempted: Attempted) -> int:
        """Write that something is about to be done; return the number to `end` it by.

        Raises:
            StateError: it can't be written, so it must not be done.
        """
        return await self._threads.answer(self._state.begin_audit, self._entry(attempted, status=0))

    async def end(self, number: int, attempted: Attempted) -> None:
        """Write how it is answered. What can't be written now has the entry of its beginning."""
        audit_log(attempted)
        entry = self._entry(attempted)
        try:
            await self._threads.answer(self._state.end_audit, number, entry.status, entry.reason)
        except GitopperError as exc:
            log.error("audit: a result could not be written: %s", exc)  # noqa: TRY400 - it says it all

    def note(self, attempted: Attempted) -> None:
        """Take down something that is over, as a refusal. Nobody waits for it; it is written soon."""
        entry = self._entry(attempted)
        if entry.refused and not self._tally.is_new(entry):
            return
        audit_log(attempted)
        self._put(entry)

    async def run(self) -> None:
        """Write what was noted, until cancelled; and then the rest of it."""
        summing_up = asyncio.create_task(self._sum_up())
        try:
            while True:
                entries = [await self._waiting.get(), *self._drain()]
                await self._write(entries)
        finally:
            summing_up.cancel()
            # Cancelled: the loop and its threads are about to end, and this is a moment's work.
            self._save([*self._drain(), *self._tally.close(self._now())])

    def read(self, limit: int, service: str | None) -> tuple[AuditEntry, ...]:
        """Return the last entries, newest first. Blocks."""
        return self._state.audit(limit, service)

    async def show(self, limit: int, service: str | None) -> list[dict[str, object]]:
        """Return the last entries as the API shows them."""
        entries = await self._threads.answer(self.read, limit, service)
        return [_member(entry) for entry in entries]

    async def _sum_up(self) -> None:
        while True:
            await asyncio.sleep(TALLY_SECONDS)
            for entry in self._tally.close(self._now()):
                self._put(entry)
            if self._dropped:
                log.warning("audit: %d entries were not kept: the disk is too slow for them", self._dropped)
                self._dropped = 0

    def _put(self, entry: AuditEntry) -> None:
        try:
            self._waiting.put_nowait(entry)
        except asyncio.QueueFull:
            self._dropped += 1

    def _drain(self) -> list[AuditEntry]:
        return [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]

    async def _write(self, entries: list[AuditEntry]) -> None:
        await self._threads.answer(self._save, entries)
        # In a thread: an observer that takes its time must not hold up the event loop.
        await self._threads.answer(self._tell, [entry for entry in entries if entry.refused])

    def _save(self, entries: list[AuditEntry]) -> None:
        try:
            self._state.add_audit(*entries)
        except GitopperError as exc:
            log.warning("audit: entries could not be written (%d): %s", len(entries), exc)

    def _tell(self, refusals: Iterable[AuditEntry]) -> None:
        for entry in refusals:
            details = {
                "who": entry.who,
                "action": entry.action,
                "origin": entry.origin,
                "status": entry.status,
                "reason": entry.reason,
            }
            self._hooks.event(Event(kind="refused", service=entry.service, details=details))

    def _entry(self, attempted: Attempted, status: int | None = None) -> AuditEntry:
        return AuditEntry(
            at=self._now(),
            who=_cut(attempted.who, NAME_LENGTH),
            action=_cut(attempted.action, NAME_LENGTH),
            service=_cut(attempted.service, NAME_LENGTH) if attempted.service else None,
            origin=_cut(attempted.origin, NAME_LENGTH),
            status=attempted.status if status is None else status,
            reason=_cut(attempted.reason, REASON_LENGTH),
        )


class Tally:
    """Counts refusals that are alike, so that a flood of them is a few entries."""

    def __init__(self) -> None:
        self._last: dict[tuple[object, ...], AuditEntry] = {}
        self._more: dict[tuple[object, ...], int] = {}
        self._others = 0

    def is_new(self, entry: AuditEntry) -> bool:
        """Tell whether `entry` is the first of its kind since `close`; count it where it is not."""
        # Neither the process nor the service: the one is new each time, the other anybody's choice.
        key = (entry.who, entry.action, entry.origin.partition(" pid ")[0], entry.status)
        if key not in self._last and len(self._last) >= TALLY_KINDS:
            self._others += 1
            return False
        first = key not in self._last
        self._last[key] = entry
        if not first:
            self._more[key] = self._more.get(key, 0) + 1
        return first

    def close(self, now: datetime) -> list[AuditEntry]:
        """Return an entry for each kind that was counted, and begin anew."""
        entries = [
            evolve(self._last[key], reason=f"{self._last[key].reason} ({_times(count)} more)")
            for key, count in self._more.items()
        ]
        if self._others:
            reason = f"{_times(self._others)}, of more kinds than are told apart"
            entries.append(
                AuditEntry(
                    at=now,
                    who="",
                    action="various",
                    service=None,
                    origin="various",
                    status=401,
                    reason=reason,
                )
            )
        self._last, self._more, self._others = {}, {}, 0
        return entries


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _cut(text: str, length: int) -> str:
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _member(entry: AuditEntry) -> dict[str, object]:
    return {
        "time": entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "who": entry.who,
        "action": entry.action,
        "service": entry.service,
        "origin": entry.origin,
        "status": entry.status,
        "reason": entry.reason,
    }


AUDIT = web.AppKey("audit", Audit)


async def audit(request: web.Request) -> web.Response:
    """The last entries of the audit, newest first."""
    query = request[QUERY]
    limit = whole_number(query, "limit", SHOWN, MOST_SHOWN)
    return answer({"audit": await request.app[AUDIT].show(limit, query.get("service"))})


ROUTES = (
    Route(
        method="GET", path="/audit", handler=audit, access=Role.ADMIN,
        summary="Who did what to which service, newest first.", query=("limit", "service"),
    ),
)  # fmt: skip
