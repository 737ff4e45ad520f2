"""What happens to a fleet, by chance: commits above all, and what operators, networks and intruders do.

Who commits notes what a service should read, and looks until it does. That is the latency; and a note that
is not kept in time is a failure. Where something else has its hand in a service (an operator, an intruder,
a config without it, an upstream that is away), nothing is noted for it.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from tests.proof.longfleet import COMMON, KEEPS, Fleet, Repository, conf
from tests.support.upstream import git

__all__ = ["Events"]

OVERDUE_SECONDS = 60.0
"""How long a commit may take to be published on a busy host: a poll that failed in an outage is not
tried again at once."""
OUTAGE_SECONDS = (1.0, 12.0)
HISTORY = 6
"""How far back operators roll back."""


@frozen(kw_only=True)
class _Note:
    """What a service should read, since when; and whether somebody asked for a pull."""

    text: str
    since: float
    pulled: bool


@define(kw_only=True, eq=False)
class Events:
    """Makes things happen, one at a time."""

    fleet: Fleet
    chance: random.Random
    counts: dict[str, int] = field(factory=dict)
    """How often each kind of event came."""
    latencies: list[tuple[float, float]] = field(factory=list)
    """When a commit was seen to be published, and how many seconds that took from the request to pull."""
    noticed: int = 0
    """Commits that were seen to be published."""
    overdue: list[str] = field(factory=list)
    steered: set[str] = field(factory=set)
    """Services that an operator froze or rolled back."""
    drifted: set[str] = field(factory=set)
    """Services with a file that somebody edited on the host."""
    _notes: dict[str, _Note] = field(factory=dict)
    _returns: list[tuple[float, Callable[[], object]]] = field(factory=list)
    _http_port: int = 0

    def happen(self) -> None:
        """Let one thing happen; what was to end by now, ends."""
        now = time.monotonic()
        for due in [entry for entry in self._returns if entry[0] <= now]:
            self._returns.remove(due)
            due[1]()
        kinds, weights = zip(*_WEIGHTS, strict=True)
        [kind] = self.chance.choices(kinds, weights)
        if kind(self):
            name = kind.__name__.strip("_").replace("_", " ")
            self.counts[name] = self.counts.get(name, 0) + 1

    def look(self) -> None:
        """See which notes came true, and which should have."""
        now = time.monotonic()
        for service, note in tuple(self._notes.items()):
            shown = ""
            with contextlib.suppress(OSError):
                shown = self.fleet.local(service).read_text().strip()
            if shown == note.text:
                self.noticed += 1
                if note.pulled:
                    self.latencies.append((now, now - note.since))
                del self._notes[service]
            elif now > note.since + OVERDUE_SECONDS:
                del self._notes[service]
                state = self.fleet.daemon.service(service)
                self.overdue.append(
                    f"{service}: {note.text!r} is not published after {OVERDUE_SECONDS:g} s;"
                    f" it shows {shown!r}, {state}"
                )

    def calm(self) -> None:
        """End everything that is to end: whoever is away comes back, what was steered tracks again."""
        for _, back in self._returns:
            back()
        self._returns.clear()
        self.fleet.dropped.clear()
        self._load()
        for service in sorted(self.steered):
            self.fleet.daemon.post(f"/state/unfreeze/{service}")
        for repository in self.fleet.repositories:
            # Drift that is only reported stays until there is another release.
            mended = {conf(s): self._text(s) for s in repository.services if s in self.drifted}
            repository.commit(mended | {"README": "calm"})
            self.fleet.daemon.post(f"/do/pull/{repository.services[0]}")
        self.steered.clear()
        self.drifted.clear()
        self._notes.clear()

    def _one(self) -> bool:
        return self._commit(1)

    def _some(self) -> bool:
        return self._commit(3)

    def _all_of_an_upstream(self) -> bool:
        repository = self._repository()
        if repository:
            repository.commit({COMMON: f"common {repository.commits}"})
            self._pull(repository)
        return repository is not None

    def _none(self) -> bool:
        repository = self._repository()
        if repository:
            repository.commit({"README": f"{repository.commits}"})
            self._pull(repository)
        return repository is not None

    def _by_force(self) -> bool:
        repository = self._repository()
        if repository is None or repository.commits <= HISTORY:
            return False
        self._forget(repository.services)  # what the lost commits brought is gone
        return self._commit(1, repository, back=self.chance.randint(1, 3))

    def _commit(self, services: int, repository: Repository | None = None, back: int = 0) -> bool:
        repository = repository or self._repository()
        if repository is None:
            return False
        chosen = self.chance.sample(repository.services, min(services, len(repository.services)))
        texts = {service: self._text(service) for service in chosen}
        repository.commit({conf(service): text for service, text in texts.items()}, back=back)
        since, pulled = time.monotonic(), self.chance.random() < 0.5
        if pulled:
            self._pull(repository)
        for service, text in texts.items():
            if service in self.steered | self.fleet.dropped:
                self._notes.pop(service, None)
            elif not (repository.url.startswith("http") and not self.fleet.serving):
                self._notes[service] = _Note(text=text, since=since, pulled=pulled)
                self.drifted.discard(service)  # another release comes, without it
        return True

    def _freeze(self) -> bool:
        return self._steer(lambda name, _: f"/state/freeze/{name}")

    def _roll_back(self) -> bool:
        def path(name: str, repository: Repository) -> str:
            commits = git(repository.path, "rev-list", f"--max-count={HISTORY}", "main").split()
            return f"/state/rollback/{name}/{commits[-1]}"

        return self._steer(path)

    def _steer(self, path: Callable[[str, Repository], str]) -> bool:
        repository = self._repository()
        if repository is None:
            return False
        name = self.chance.choice(repository.services)
        if name in self.fleet.dropped:
            return False
        self.steered.add(name)
        self._forget([name])
        self.fleet.daemon.post(path(name, repository))
        return True

    def _thaw(self) -> bool:
        steered = sorted(self.steered - self.fleet.dropped)
        if steered:
            name = self.chance.choice(steered)
            self.steered.discard(name)
            self.fleet.daemon.post(f"/state/unfreeze/{name}")
        return bool(steered)

    def _drift(self) -> bool:
        name, _ = self.chance.choice(list(self.fleet.services()))
        path = self.fleet.local(name)
        if name in self.fleet.dropped or not path.exists():
            return False
        self._forget([name])
        with contextlib.suppress(FileNotFoundError):  # replaced at this very moment
            path.write_text("edited on the host")
        self.drifted.add(name)
        return True

    def _upstream_away(self) -> bool:
        repository = self._repository()
        if repository is None:
            return False
        self._forget(repository.services)
        repository.leave()
        self._later(repository.come_back)
        return True

    def _network_down(self) -> bool:
        server = self.fleet._server
        if server is None:
            return False
        port = server.port
        self._notes.clear()
        self.fleet.close()
        self._later(lambda: self.fleet.serve(port))
        return True

    def _another_config(self) -> bool:
        names = [name for name, _ in self.fleet.services()]
        fleet = self.fleet
        fleet.dropped = set(self.chance.sample(names, len(names) // 50))
        fleet.moved ^= set(self.chance.sample(names, len(names) // 50))
        fleet.keep = self.chance.choice(KEEPS)
        self._notes.clear()
        self._load()
        return True

    def _load(self) -> None:
        """Have the daemon load the config as it is now."""
        self.fleet.configure()
        assert self.fleet.daemon.process is not None
        self.fleet.daemon.process.send_signal(signal.SIGHUP)

    def _later(self, back: Callable[[], object]) -> None:
        self._returns.append((time.monotonic() + self.chance.uniform(*OUTAGE_SECONDS), back))

    def _forget(self, services: Sequence[str]) -> None:
        for service in services:
            self._notes.pop(service, None)

    def _pull(self, repository: Repository) -> None:
        """Ask for a pull, as whoever pushed would."""
        for service in repository.services:
            if service not in self.fleet.dropped:
                self.fleet.daemon.post(f"/do/pull/{service}")
                return

    def _repository(self) -> Repository | None:
        """Return one that is there."""
        here = [repository for repository in self.fleet.repositories if not repository.away]
        return self.chance.choice(here) if here else None

    def _text(self, service: str) -> str:
        return f"{service} {self.chance.getrandbits(40):x}"


_WEIGHTS: Sequence[tuple[Callable[[Events], bool], float]] = (
    (Events._one, 50),
    (Events._some, 8),
    (Events._all_of_an_upstream, 6),
    (Events._none, 10),
    (Events._by_force, 4),
    (Events._freeze, 3),
    (Events._roll_back, 3),
    (Events._thaw, 7),
    (Events._drift, 3),
    (Events._upstream_away, 2),
    (Events._network_down, 0.4),
    (Events._another_config, 0.6),
)
"""What may happen, and how often in proportion."""
