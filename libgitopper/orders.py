"""What is ordered of a deploy, and how it goes. Values only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from attrs import field, frozen

from libgitopper.model import Attempt, Content, Deployed, Intent, Service
from libgitopper.planner import Plan
from libgitopper.repository import Store
from libgitopper.requests import Published

__all__ = ["Course", "Order", "View"]


@frozen(kw_only=True)
class View:
    """What a pass sees before it decides."""

    intent: Intent
    deployed: Deployed | None
    attempt: Attempt | None
    published: Published
    unfinished: Attempt | None = None
    """The attempt, where its release is what the service's paths show, wherever they were then."""

    @property
    def shown(self) -> Deployed | Attempt | None:
        """What the service's files are of: its paths show it, whether it took it or not."""
        return self.unfinished or self.deployed


@frozen(kw_only=True)
class Order:
    """What is to be deployed, and what was there when that was decided."""

    service: Service
    store: Store
    target: Content
    plan: Plan
    view: View
    asked: str
    """Who or what asked for it."""
    still: Callable[[], bool]
    """False once the settings of the service are past."""
    stays: bool = False
    """The commit is the one that is deployed, for other settings, while a newer one has to wait."""

    @property
    def release(self) -> str:
        """Id of the release that the target asks for."""
        return self.target.release_id(self.service)

    def is_news(self, release: str) -> bool:
        """Tell whether the service did not have `release`, in this place, before."""
        deployed = self.view.deployed
        if deployed is None:
            return True
        same_place = deployed.service.placement == self.service.placement
        return not (same_place and deployed.release == release)


@frozen(kw_only=True)
class Course:
    """How a deploy goes: when it began, how long each step took, and what plugins had to say."""

    at: datetime
    seconds: dict[str, float] = field(factory=dict)
    notes: list[str] = field(factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take the time of a step; of one that comes twice, the sum."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 6)
