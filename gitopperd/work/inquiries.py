"""What an operator wants to know beyond the state: what happened, why, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gitopperd.work.board import Board
from gitopperd.work.runner import Runner
from gitopperd.work.threads import Threads
from libgitopper import (
    Behind,
    Compared,
    Deploy,
    Difference,
    Explanation,
    GitopperError,
    Inspector,
    Peer,
    Service,
    StateStore,
    Store,
)

__all__ = ["Inquiries"]


class Inquiries:
    """Asks the inspector, in threads. Changes nothing. Lives on the event loop.

    Methods raise `UnknownService` where this host runs no service of that name, and what the
    inspector raises.
    """

    def __init__(
        self,
        *,
        runner: Callable[[str], Runner],
        peers: Callable[[Service], Sequence[Peer]],
        board: Board,
        inspector: Inspector,
        state: StateStore,
        threads: Threads,
    ) -> None:
        self._runner = runner
        self._peers = peers
        self._board = board
        self._inspector = inspector
        self._state = state
        self._threads = threads
        self._behind: dict[str, tuple[object, Behind | None]] = {}

    async def history(self, name: str, limit: int) -> tuple[Deploy, ...]:
        """Return the last deploys of a service, newest first."""
        self._runner(name)
        return await self._threads.answer(self._state.deploys, name, limit)

    async def explain(self, name: str, commit: str | None) -> Explanation:
        """Tell why a commit did, or did not, touch a service; None for the tip of its branch."""
        service, store = self._of(name)
        return await self._threads.inquire(
            self._inspector.explain, service, store, commit, peers=self._peers(service),
            source=self._runner(name).follower.health_of(service.source.branch),
            drift=self._board.outcome(name).drift,
        )  # fmt: skip

    async def compare(self, name: str, kind: Compared | None, number: int) -> Difference:
        """Return what differs; for no kind the drift where there is any, else what would come.

        `number` counts patches that are kept, from the last one, which is 1.
        """
        service, store = self._of(name)
        if kind is Compared.KEPT_DRIFT:
            return await self._threads.inquire(self._inspector.kept_drift, service, number)
        if kind is not Compared.UPSTREAM:
            drift = await self._threads.inquire(self._inspector.drift, service, store)
            if drift.changes or kind is Compared.DRIFT:
                return drift
        return await self._threads.inquire(self._inspector.upstream, service, store)

    async def revisions(self, name: str, before: str | None, after: str | None) -> Difference:
        """Return what differs between two revisions; None for what is deployed, and for the tip."""
        service, store = self._of(name)
        return await self._threads.inquire(self._inspector.revisions, service, store, before, after)

    async def behind(self, name: str) -> Behind | None:
        """Return how far a service is behind; None where that can't be told. Counted once for a tip."""
        service, store = self._of(name)
        shown = self._board.outcome(name).shown
        tip = store.tips.get(service.source.branch) if store else None
        key = (service, tip, shown.revision if shown else None)
        known = self._behind.get(name)
        if known is None or known[0] != key:
            try:
                # Local, and bounded: it must not wait for those who wait for the network.
                known = key, await self._threads.answer(self._inspector.behind, service, store)
            except GitopperError:
                return None  # it is one of many things that are shown, and the others are known
            self._behind[name] = known
        return known[1]

    def _of(self, name: str) -> tuple[Service, Store | None]:
        runner = self._runner(name)
        return runner.service, runner.follower.store
