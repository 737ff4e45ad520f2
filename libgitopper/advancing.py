"""Advancing many services at once, for a commit that changes nothing for them.

    look -> aim -> plan -> verify, one by one -> their HEADs -> one sync -> their gates, one transaction

What a pass does for one service, without what only a look at the host can bring. A commit that touches one
service of a hundred moves the tip for all of them: so this is as little for each as can be. Whoever wants
something of one of them waits for none of the others: not for what is verified, nor for the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from attrs import frozen

from libgitopper.deciding import Deciding
from libgitopper.deploying import Deploying
from libgitopper.disk import sync_filesystem
from libgitopper.errors import GitopperError, told
from libgitopper.heads import Heads
from libgitopper.intents import Intents, Superseded
from libgitopper.locks import NamedLocks
from libgitopper.model import Deployed, Service
from libgitopper.orders import Order
from libgitopper.planner import Reason, Verb
from libgitopper.repository import Store
from libgitopper.state import StateStore

__all__ = ["Advanced", "Advancing"]

log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Advanced:
    """A service that follows the tip now."""

    order: Order
    before: Deployed
    deployed: Deployed


@frozen(kw_only=True, eq=False)
class Advancing:
    """Lets services follow the tip where that is all there is to do for them."""

    _state: StateStore
    _intents: Intents
    _deciding: Deciding
    _deploying: Deploying
    _heads: Heads
    _turns: NamedLocks
    """Held by whoever works for a service; one that somebody works for is left to them."""

    def advance(
        self, services: Iterable[Service], store: Store, still: Callable[[Service], bool]
    ) -> Sequence[Advanced]:
        """Advance those of `services` that have nothing else to do; return them.

        The others are left as they are, for a pass to do, or to tell, what there is.

        Raises:
            StateError, OSError: it could not be written. The next pass of each does it again.
        """
        orders = [order for service in services if (order := self._verified(service, store, still))]
        with ExitStack() as held:
            mine = [order for order in orders if self._taken(held, order, still)]
            moved = [order for order in mine if self._moved(order)]
            if moved:
                # Only then: what is on record as deployed must be true after a power loss.
                sync_filesystem(store.path)
            done = self._record(moved)
        for one in done:
            self._deploying.tell_advanced(one.order.service, one.before.revision, one.deployed.revision)
        return done

    def _verified(self, service: Service, store: Store, still: Callable[[Service], bool]) -> Order | None:
        """Return the verified order to advance; it is the service's turn for no longer than that takes."""
        with ExitStack() as held:
            return self._order(service, store) if self._turn(held, service) and still(service) else None

    def _taken(self, held: ExitStack, order: Order, still: Callable[[Service], bool]) -> bool:
        """Take the turn of the service again; False where it has changed since the order was given."""
        service, name = order.service, order.service.name
        if not (self._turn(held, service) and still(service)):
            return False
        return self._state.deployed(name) == order.view.deployed and self._state.attempt(name) is None

    def _turn(self, held: ExitStack, service: Service) -> bool:
        turn = self._turns.of(service.name)
        if not turn.acquire(blocking=False):
            return False
        held.callback(turn.release)
        return True

    def _order(self, service: Service, store: Store) -> Order | None:
        """Return the order to advance; None where there is something else to do, or to tell."""
        try:
            view = self._deciding.look(service)
            revision = self._deciding.aim(service, store, view)
            if isinstance(revision, Reason):
                return None
            plan = self._deciding.decide(revision, service, store, view, ()).plan
            if plan.verb is not Verb.ADVANCE or plan.target is None:
                return None
            order = Order(
                service=service, store=store, target=plan.target, plan=plan, view=view, asked="",
                still=lambda: True,
            )  # fmt: skip
            self._deploying.verify(order)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with one, the others follow; its pass tells
            log.debug("%s: left to its pass: %s", service.name, told(exc))
            return None
        return order

    def _moved(self, order: Order) -> bool:
        try:
            self._heads.move(order, sync=False)
        except Exception as exc:  # noqa: BLE001 - as above
            log.debug("%s: left to its pass: %s", order.service.name, told(exc))
            return False
        return True

    def _record(self, moved: Iterable[Order]) -> Sequence[Advanced]:
        """Record those of which the same is wanted still, and let nobody change that meanwhile."""
        done = []
        with ExitStack() as gates:
            for order in moved:
                deployed = order.view.deployed
                assert deployed is not None  # noqa: S101 - there is nothing else to advance
                try:
                    gates.enter_context(self._intents.gate(order.service.name, order.view.intent))
                except (GitopperError, Superseded) as exc:
                    log.debug("%s: left to its pass: %s", order.service.name, exc)
                    continue
                done.append(
                    Advanced(order=order, before=deployed, deployed=deployed.following(order.target))
                )
            if done:
                self._heads.record(*(one.deployed for one in done))
        return done
