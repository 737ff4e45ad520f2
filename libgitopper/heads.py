"""HEADs of releases: each names the commit that is on record, so that `git log` tells the truth."""

from __future__ import annotations

import logging

from attrs import field, frozen

from libgitopper.errors import GitopperError
from libgitopper.hooks import Hooks
from libgitopper.model import Deployed, Service
from libgitopper.orders import Order
from libgitopper.publishing import is_whole, placed_as
from libgitopper.repository import Store
from libgitopper.requests import CheckoutRequest
from libgitopper.state import StateStore

__all__ = ["Heads"]

log = logging.getLogger(__name__)


@frozen(kw_only=True, eq=False)
class Heads:
    """Moves HEADs, and takes back those that were moved for nothing.

    A HEAD is moved first, and the commit is put on record only when that is on the disk. Where the record
    is not written, since another thing was wanted by then, or the process ended, HEAD names a commit with
    the same files that the service is not at. Nobody waits for that to be put right; the next pass does it.
    """

    _hooks: Hooks
    _state: StateStore
    _true: set[str] = field(factory=set, init=False)
    """The services whose HEAD is known to name what is on record."""

    def move(self, order: Order, *, sync: bool = True) -> None:
        """Let HEAD go to the target. Before any gate, because it may wait for the disk.

        Raises:
            CheckoutError: the disk refuses.
        """
        self.doubt(order.service.name)
        request = CheckoutRequest(
            service=order.service, store=order.store, content=order.target, sync=sync
        )  # fmt: skip
        self._hooks.checkout(request)

    def doubt(self, service: str) -> None:
        """Have the HEAD of `service` looked at by `take_back`: it may be moved from now on."""
        self._true.discard(service)

    def trust(self, service: str) -> None:
        """Take note that the HEAD of `service` names what is on record."""
        self._true.add(service)

    def record(self, *deployed: Deployed) -> None:
        """Persist, all or none, that services are at the commits to which their HEADs were moved."""
        self._state.advance(*deployed)
        for one in deployed:
            self.trust(one.service.name)

    def take_back(self, service: Service, store: Store) -> None:
        """Let HEAD name what is on record, where it may not; a failure is told, and tried again."""
        if service.name in self._true:
            return
        try:
            deployed = self._state.deployed(service.name)
            # The history of what came from another upstream is in another store.
            if (
                deployed
                and deployed.service.source.upstream == service.source.upstream
                and is_whole(deployed)
            ):
                placed = placed_as(service, deployed)
                # What a power loss undoes is put right again.
                self._hooks.checkout(
                    CheckoutRequest(service=placed, store=store, content=deployed.content, sync=False)
                )
            self.trust(service.name)
        except (GitopperError, OSError) as exc:
            log.warning("%s: HEAD of its release may name another commit: %s", service.name, exc)
        except Exception:
            log.exception("%s: HEAD of its release may name another commit", service.name)
