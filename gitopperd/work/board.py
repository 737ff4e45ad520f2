"""The board: what is known of every service, and the state that is shown for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import evolve

from libgitopper import Event, Hooks, Intent, IntentKind, Outcome, Service, State, Status, Verb, derive

if TYPE_CHECKING:
    from gitopperd.work.follower import Follower
    from gitopperd.work.runner import Runner

__all__ = ["Board"]


class Board:
    """The last outcome of each service, and its status. Lives on the event loop."""

    def __init__(self, *, hooks: Hooks, now: Callable[[], datetime]) -> None:
        self._hooks = hooks
        self._now = now
        self._outcomes: dict[str, Outcome] = {}
        self._runners: dict[str, Runner] = {}
        self._statuses: dict[str, Status] = {}
        self._settled: dict[str, Status] = {}
        self._unseen: set[str] = set()
        self.version = 0
        """Another one whenever anything on the board may be another: for who keeps what it made of it."""

    def add(self, outcome: Outcome, runner: Runner, shown: Status | None) -> None:
        """Put up a service with what is known of it without a look at the host."""
        name = outcome.service.name
        self._runners[name] = runner
        self._outcomes[name] = outcome
        self._unseen.add(name)
        if shown is not None:
            self._settled[name] = shown
        self._show(name)

    def alter(self, runner: Runner) -> None:
        """Note that a service has other settings, and another runner; what was seen of it stands."""
        name = runner.service.name
        self._runners[name] = runner
        self._outcomes[name] = evolve(self._outcomes[name], service=runner.service)
        self._show(name)

    def keep(self, names: Set[str]) -> None:
        """Take down every service that is not among `names`."""
        for name in self._outcomes.keys() - names:
            for known in (self._outcomes, self._runners, self._statuses, self._settled):
                known.pop(name, None)
            self._unseen.discard(name)
        self.version += 1

    def settle(self, outcome: Outcome) -> Status | None:
        """Note what a pass did; return the status where it is news that should outlive a restart.

        Before the first poll nothing is settled, so a restart does not reset "since when".
        """
        name = outcome.service.name
        self._outcomes[name] = outcome
        self._unseen.discard(name)
        self._show(name)
        return self._settled_on(name)

    def _settled_on(self, name: str) -> Status | None:
        """Return the status of a service where it is news that should outlive a restart."""
        status = self._statuses[name]
        branch = self._outcomes[name].service.source.branch
        polled = self._runners[name].follower.health_of(branch).polled
        if not polled or _same(self._settled.get(name), status):
            return None
        self._settled[name] = status
        return status

    def intend(self, service: str, intent: Intent, known: Outcome | None = None) -> None:
        """Note what the operator wants from now on, and what of the service was `known` right after."""
        outcome = evolve(self._outcomes[service], intent=intent)
        if intent.kind is IntentKind.ROLLBACK:
            # It was of another commit: a rollback that nobody tried yet has not failed.
            outcome = evolve(outcome, error=None)
        if known is not None and known.error is None:
            outcome = evolve(outcome, deployed=known.deployed, unfinished=known.unfinished)
        self._outcomes[service] = outcome
        self._show(service)

    def refresh(self, follower: Follower) -> list[Status]:
        """Show what a poll of `follower` means for the services that it feeds; return what is news."""
        names = [name for name, runner in self._runners.items() if runner.follower is follower]
        for name in names:
            self._show(name)
        return [status for name in names if (status := self._settled_on(name))]

    def status(self, service: str) -> Status:
        """Return the status of one service."""
        return self._statuses[service]

    def intent(self, service: str) -> Intent:
        """Return what the operator wants, as far as it is known here."""
        return self._outcomes[service].intent

    @property
    def ends(self) -> dict[str, datetime]:
        """By service, when what the operator wants ends by itself; without those that have no end."""
        intents = {name: outcome.intent for name, outcome in self._outcomes.items()}
        return {name: intent.until for name, intent in intents.items() if intent.until}

    def outcome(self, service: str) -> Outcome:
        """Return what the last pass found."""
        return self._outcomes[service]

    def waits(self, service: str) -> str:
        """Return what a commit waits for that is not deployed yet, in one line; empty for nothing."""
        outcome = self._outcomes[service]
        if outcome.plan is None or outcome.plan.verb is not Verb.WAIT:
            return ""
        return outcome.plan.note if outcome.intent.kind is IntentKind.TRACK else ""

    def __iter__(self) -> Iterator[Status]:
        return iter(tuple(self._statuses.values()))

    @property
    def services(self) -> tuple[Service, ...]:
        """Every service on the board."""
        return tuple(outcome.service for outcome in self._outcomes.values())

    @property
    def well(self) -> bool:
        """True when every service runs as it is wanted: OK, or frozen by an operator."""
        return all(status.state in {State.OK, State.FREEZE} for status in self)

    def _show(self, name: str) -> None:
        self.version += 1
        outcome = self._outcomes[name]
        state, info = self._derive(name, outcome)
        hash_ = outcome.shown.revision if outcome.shown else ""
        before = self._statuses.get(name)
        after = Status(service=name, state=state, info=info, hash=hash_, change=self._now())
        for earlier in (before, self._settled.get(name)):
            if earlier is not None and _same(earlier, after):
                after = evolve(after, change=earlier.change)
                break
        self._statuses[name] = after
        if before is None or (before.state, before.info) != (state, info):
            self._tell(before, after)

    def _derive(self, name: str, outcome: Outcome) -> tuple[State, str]:
        if name in self._unseen:
            return State.DIFF, "not looked at yet"
        branch = outcome.service.source.branch
        follower = self._runners[name].follower
        return derive(
            intent=outcome.intent,
            deployed=outcome.deployed,
            tip=follower.tip(branch),
            source=follower.health_of(branch),
            branch=branch,
            error=outcome.error,
            waits=self.waits(name),
            drift=outcome.drift,
            unfinished=outcome.unfinished,
        )

    def _tell(self, before: Status | None, after: Status) -> None:
        details = {
            "before": before.state.value if before else None,
            "after": after.state.value,
            "hash": after.hash,
            "info": after.info,
        }
        self._hooks.event(Event(kind="state", service=after.service, details=details))


def _same(one: Status | None, other: Status) -> bool:
    return one is not None and (one.state, one.hash) == (other.state, other.hash)
