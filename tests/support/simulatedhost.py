"""A simulated host: simulated plugins, a real state store, a reconciler that can be ended and restarted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from libgitopper import (
    Attempt,
    Deploy,
    Deployed,
    Drift,
    DriftRecord,
    HealthWatch,
    Hooks,
    Intent,
    IntentKind,
    Outcome,
    Peer,
    Reconciler,
    Rejection,
    Service,
    Source,
    SourceError,
    SourceHealth,
    State,
    StateStore,
    Watch,
    derive,
)
from libgitopper import Mapping as Mapped
from tests.support.simulated import (
    BRANCH,
    Script,
    SimulatedMounts,
    SimulatedObserver,
    SimulatedServices,
)
from tests.support.simulatedgit import SimulatedGit, SimulatedStore, SimulatedUpstream
from tests.support.simulatedguards import SimulatedClock, SimulatedGuards

__all__ = ["UPSTREAM", "SimulatedHost", "SimulatedStateStore"]

UPSTREAM = "simulated://upstream"


class SimulatedStateStore(StateStore):
    """The real state store, with its writes in the script, so that a crash can come at any of them."""

    def __init__(self, path: Path, script: Script) -> None:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_new_file())
        super().__init__(path)
        self._script = script
        # These crashes are of the process, never of the machine: what was written is there.
        self._connection.execute("PRAGMA synchronous = OFF")

    def begin(self, service: str, attempt: Attempt) -> None:
        with self._step(f"begin {service}"):
            super().begin(service, attempt)

    def record(self, deployed: Deployed, deploy: Deploy | None = None) -> None:
        with self._step(f"record {deployed.service.name}"):
            super().record(deployed, deploy)

    def advance(self, *deployed: Deployed) -> None:
        with self._step(f"advance {' '.join(one.service.name for one in deployed)}"):
            super().advance(*deployed)

    def forget(self, service: str) -> None:
        with self._step(f"forget {service}"):
            super().forget(service)

    def accept(self, service: str, source: Source, revision: str) -> None:
        with self._step(f"accept {service}"):
            super().accept(service, source, revision)

    def reject(self, rejection: Rejection) -> None:
        with self._step(f"reject {rejection.service}"):
            super().reject(rejection)

    def add_deploy(self, deploy: Deploy) -> None:
        with self._step(f"add {deploy.service}"):
            super().add_deploy(deploy)

    def keep_drift(self, record: DriftRecord) -> bool:
        with self._step(f"keep {record.service}"):
            return super().keep_drift(record)

    @contextmanager
    def _step(self, step: str) -> Iterator[None]:
        self._script.before(step)
        yield
        self._script.after(step)


@cache
def _new_file() -> bytes:
    """A state file as the real store makes it; made once, for that waits for the disk."""
    with TemporaryDirectory(prefix="gitopper-") as directory:
        path = Path(directory) / "state.db"
        StateStore(path).close()
        return path.read_bytes()


class SimulatedHost:
    """A host with all of the above, and a reconciler that can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = Script()
        self.upstream = SimulatedUpstream()
        self.git = SimulatedGit(self.script, self.upstream)
        self.mounts = SimulatedMounts(self.script)
        self.services = SimulatedServices(self.script, self.mounts)
        self.guards = SimulatedGuards(self.script, self.services)
        self.observer = SimulatedObserver()
        self.clock = SimulatedClock()
        self.hooks = Hooks()  # outlives the process: it holds nothing, and takes long to be filled
        self._seconds = 0
        self.start()

    def start(self) -> None:
        """Start the process: everything in memory is new, what is on disk and mounted is not."""
        for plugin in (self.git, self.mounts, self.services, self.guards, self.observer):
            if not self.hooks.manager.is_registered(plugin):
                self.hooks.register(plugin)
        self.state = SimulatedStateStore(self.directory / "state" / "state.db", self.script)
        self.reconciler = Reconciler(hooks=self.hooks, state=self.state, now=self.now)
        self.reconciler._deploying._watch = HealthWatch(
            hooks=self.hooks, clock=self.clock, sleep=self.clock.sleep
        )

    def close(self) -> None:
        """End the process; nothing is tidied up but the file."""
        self.state.close()

    def restart(self) -> None:
        """End the process and start it anew, with a script in which nothing fails."""
        self.close()
        self.script.clear()
        self.start()

    def now(self) -> datetime:
        """Return a time that is later at each call."""
        self._seconds += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds)

    def service(self, name: str = "web", *, links: Mapping[str, str] | None = None, **more: Any) -> Service:
        """Return a service; `links` is local path to path in the repository."""
        links = {f"/etc/{name}": name} if links is None else links
        values: dict[str, Any] = {
            "name": name,
            "source": Source(upstream=UPSTREAM, branch=BRANCH),
            "mappings": tuple(Mapped(link=link, local=Path(local)) for local, link in links.items()),
            "mount": self.directory / "mount",
            "publish": "simulated",
            "reload": "simulated",
        }
        return Service(**(values | more))

    def watch(self, *services: Service) -> Watch:
        """Return the watch of `services`."""
        source = services[0].source
        return Watch(
            upstream=source.upstream,
            credentials=source.credentials,
            stores=self.directory / "stores",
            services=services,
        )

    def fetch(self, service: Service) -> SimulatedStore | None:
        """Poll; while upstream is gone open what is there; None when that is nothing."""
        try:
            store = self.reconciler.poll(self.watch(service), offline=not self.upstream.reachable)
        except SourceError:
            return None
        assert isinstance(store, SimulatedStore)
        return store

    def pass_(self, service: Service, *after: Service, still: Callable[[], bool] = lambda: True) -> Outcome:
        """Poll and reconcile once, as the daemon does; `after` are the services that it comes after."""
        store = self.fetch(service)
        peers: Sequence[Peer] = [Peer(service=peer, store=store) for peer in after]
        return self.reconciler.reconcile(service, store, peers=peers, asked="poll", still=still)

    def told(self, outcome: Outcome) -> tuple[State, str]:
        """Return the state, and in one line why, that an operator is shown after a pass."""
        branch = outcome.service.source.branch
        return derive(
            intent=outcome.intent,
            deployed=outcome.deployed,
            tip=self.upstream.branches[branch][-1],
            source=SourceHealth(polled=True),
            branch=branch,
            error=outcome.error,
            waits=outcome.plan.note if outcome.plan else "",
            drift=outcome.drift,
            unfinished=outcome.unfinished,
        )

    def look(self, service: Service) -> Drift | None:
        """Compare the published files with their revision, as an operator asks for it."""
        return self.reconciler.drift(service, self.fetch(service))

    def edit(self, service: Service, path: str, text: str | None) -> None:
        """Write (or, with None, remove) a file of the release that the service's paths show."""
        release = self.shown(service)
        assert release is not None
        file = service.releases / release / path
        if text is None:
            file.unlink()
        else:
            file.write_text(text)

    def read(self, service: Service, path: str = "web/conf") -> str:
        """Return what the service reads: a file of the release that its paths show."""
        release = self.shown(service)
        assert release is not None
        return (service.releases / release / path).read_text()

    def freeze(self, service: Service) -> None:
        self.reconciler.want(service.name, Intent(kind=IntentKind.FREEZE))

    def unfreeze(self, service: Service) -> None:
        self.reconciler.want(service.name, Intent())

    def roll_back(self, service: Service, revision: str) -> None:
        self.reconciler.want(service.name, Intent(kind=IntentKind.ROLLBACK, revision=revision))

    @property
    def tip(self) -> str:
        """The tip of the branch, upstream."""
        return self.upstream.branches[BRANCH][-1]

    def deploy(self, service: Service) -> str:
        """Bring `service` to the tip, start the log anew, and return the tip."""
        outcome = self.pass_(service)
        assert outcome.error is None
        self.script.clear()
        return self.tip

    def shown(self, service: Service) -> str | None:
        """Return the id of the release that the service's paths show."""
        return self.mounts._observed(service)

    def assert_in_line(self, service: Service, revision: str, *, head: bool = True) -> None:
        """Everything agrees: what is shown, what the service took, what is recorded, the release's HEAD."""
        deployed = self.state.deployed(service.name)
        assert deployed is not None
        assert deployed.revision == revision
        assert self.state.attempt(service.name) is None
        assert self.shown(service) == deployed.release
        assert self.services.taken[service.name] == deployed.release
        assert not head or (deployed.release_path / ".head").read_text() == revision
        mine = {local for local, what in self.mounts.shown.items() if what[1] == service.name}
        assert mine == {mapping.local for mapping in service.mappings}, "stale or missing paths"
