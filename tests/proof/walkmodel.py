"""What must be, in plain values: what a pass ends with, and what an operator is then shown.

The model does not know how anything is done. It knows what a commit has (`walkgit`), what an operator and
the config want, and what was there before; where trouble leaves more than one right end, it names each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from libgitopper import CheckoutError, IntentKind, SourceError, State
from tests.proof.walkcontents import Contents
from tests.proof.walkpass import Foreseen, Stop
from tests.proof.walkvalues import End, Setup, Standing, World

__all__ = ["Model"]


class Model(Contents):
    """Foresees passes."""

    def ends(self, setup: Setup, standing: Standing, world: World) -> Iterator[End]:
        """Return each right end of a pass of a service."""
        yield Foreseen(self, setup, standing, world, offline=False).end()
        if not world.reachable:
            yield Foreseen(self, setup, standing, world, offline=True).end()

    def restored(self, setup: Setup, standing: Standing, world: World) -> Standing:
        """Return how a service stands after it was restored from this disk."""
        this = Foreseen(self, setup, standing, world, offline=False)
        with suppress(Stop):
            this.restore()
        return this.s

    def state(self, setup: Setup, end: End, world: World) -> State:
        """Return the state that must be shown after a pass with that end."""
        if end.error is not None:
            return State.DIFF if issubclass(end.error, SourceError | CheckoutError) else State.BROKEN
        if end.drifted:
            return State.DIFF
        wish, here = end.standing.wish, end.standing.deployed
        if wish.kind is IntentKind.FREEZE:
            return State.FREEZE if here else State.DIFF
        if wish.kind is IntentKind.ROLLBACK:
            return State.FREEZE if here and here.revision == wish.revision else State.ROLLBACK
        in_line = here is not None and here.revision == world.tips.get(setup.branch)
        return State.OK if world.polled and in_line else State.DIFF
