"""A simulated host: simulated plugins, a real state store, a reconciler that can be ended and restarted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from libgitopper import (
    Attempt,
    Deploy,
    Deployed,
    Hooks,
    Intent,
    IntentKind,
    Outcome,
    Reconciler,
    Service,
    Source,
    SourceError,
    StateStore,
    Watch,
)
from libgitopper import Mapping as Mapped
from tests.support.simulated import (
    BRANCH,
    Script,
    SimulatedGit,
    SimulatedMounts,
    SimulatedObserver,
    SimulatedServices,
    SimulatedStore,
    SimulatedUpstream,
)

__all__ = ["UPSTREAM", "SimulatedHost", "SimulatedStateStore"]

UPSTREAM = "simulated://upstream"


class SimulatedStateStore(StateStore):
    """The real state store, with its writes in the script, so that a crash can come at any of them."""

    def __init__(self, path: Path, script: Script) -> None:
        super().__init__(path)
        self._script = script
        # These crashes are of the process, never of the machine: what was written is there.
        self._connection.execute("PRAGMA synchronous = OFF")

    def begin(self, service: str, attempt: Attempt) -> None:
        self._script.before(f"begin {service}")
        super().begin(service, attempt)
        self._script.after(f"begin {service}")

    def record(self, deployed: Deployed, deploy: Deploy | None = None) -> None:
        self._script.before(f"record {deployed.service.name}")
        super().record(deployed, deploy)
        self._script.after(f"record {deployed.service.name}")

    def advance(self, deployed: Deployed) -> None:
        self._script.before(f"advance {deployed.service.name}")
        super().advance(deployed)
        self._script.after(f"advance {deployed.service.name}")

    def forget(self, service: str) -> None:
        self._script.before(f"forget {service}")
        super().forget(service)
        self._script.after(f"forget {service}")


class SimulatedHost:
    """A host with all of the above, and a reconciler that can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = Script()
        self.upstream = SimulatedUpstream()
        self.git = SimulatedGit(self.script, self.upstream)
        self.mounts = SimulatedMounts(self.script)
        self.services = SimulatedServices(self.script, self.mounts)
        self.observer = SimulatedObserver()
        self._seconds = 0
        self.start()

    def start(self) -> None:
        """Start the process: everything in memory is new, what is on disk and mounted is not."""
        self.hooks = Hooks()
        for plugin in (self.git, self.mounts, self.services, self.observer):
            self.hooks.register(plugin)
        self.state = SimulatedStateStore(self.directory / "state" / "state.db", self.script)
        self.reconciler = Reconciler(hooks=self.hooks, state=self.state, now=self.now)

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

    def service(
        self, name: str = "web", *, links: Mapping[str, str] | None = None, **more: object
    ) -> Service:
        """Return a service; `links` is local path to path in the repository."""
        links = {f"/etc/{name}": name} if links is None else links
        values: dict[str, object] = {
            "name": name,
            "source": Source(upstream=UPSTREAM, branch=BRANCH),
            "mappings": tuple(Mapped(link=link, local=Path(local)) for local, link in links.items()),
            "mount": self.directory / "mount",
            "publish": "simulated",
            "reload": "simulated",
        }
        return Service(**(values | more))  # type: ignore[arg-type]

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

    def pass_(self, service: Service) -> Outcome:
        """Poll and reconcile once, as the daemon does."""
        return self.reconciler.reconcile(service, self.fetch(service))

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
