"""A configuration that comes from a repository, which is followed like that of any service.

The daemon adds a service of its own, `NAME`, that maps the directory with the configuration. What other
services leave to plugins, it does here: a release is *published* only if its configuration is good,
and *taken* by going over to it. So what is deployed for this service is always the last good
configuration. The daemon starts with that one, whatever upstream has by then, and whether it can be
reached or not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePosixPath

from attrs import evolve, frozen

from gitopperd.logs import Lasting
from gitopperd.reloading import tell_loaded, tell_refused
from libgitopper import (
    Config,
    ConfigError,
    ConfigProblem,
    Credentials,
    GitopperError,
    Hooks,
    Mapping,
    MountRequest,
    MountVerb,
    Outcome,
    Published,
    PublishError,
    Reconciler,
    Reloaded,
    ReloadRequest,
    Service,
    Source,
    StateStore,
    hookimpl,
)

__all__ = ["NAME", "Bootstrap", "Origin"]

log = logging.getLogger(__name__)

NAME = "gitopper"
"""The service's name, and so that of the link to its checkout, ``<mount>/gitopper``."""
RELOAD = "gitopperd"
"""Its reload plugin: the daemon itself."""
TIMEOUT_SECONDS = 60.0
"""Less than what systemd gives a service to start, because the first pull comes before that."""


@frozen(kw_only=True)
class Origin:
    """Where the configuration comes from: what ``-U -D -B -M -P`` and ``-c`` add up to."""

    source: Source
    directory: str
    """Path in the repository."""
    file: PurePosixPath
    """The configuration, below `directory`."""
    mount: Path
    """Where it is checked out: at ``<mount>/gitopper/<directory>``."""
    interval_seconds: float
    pull: bool = False
    """Look for a newer one before the start, also where there is one already."""

    @property
    def checkout(self) -> Path:
        """The configuration, by way of the link to what is deployed."""
        return self.mount / NAME / self.directory / self.file

    @property
    def service(self) -> Service:
        """The service that follows it."""
        local = self.mount / ".gitopper" / "config"
        return Service(
            name=NAME,
            source=self.source,
            mappings=(Mapping(link=self.directory, local=local),),
            mount=self.mount,
            action="",
            publish="symlink",
            reload=RELOAD,
            interval_seconds=self.interval_seconds,
            timeout_seconds=TIMEOUT_SECONDS,
        )


class Bootstrap:
    """Loads the configuration from the repository; a plugin, for the service that follows it."""

    def __init__(
        self, origin: Origin, *, read: Callable[[Path], Config], empty: Config, hooks: Hooks
    ) -> None:
        """`read` loads a file, and raises `ConfigError`; `empty` holds until there is a first one."""
        self._origin = origin
        self._service = origin.service
        self._read = read
        self.empty = evolve(empty, services=(self._service,), own=self._service)
        """What holds until there is a first configuration: nothing but our own service."""
        self._hooks = hooks
        self._release: Path | None = None
        self._refusals = Lasting()
        self.on_taken: Callable[[], None] = lambda: None
        """Called, in the thread of a pass, when there is another configuration to load."""

    def load(self) -> Config:
        """Return the last good configuration; until there is one, one with nothing but our own service.

        Raises:
            ConfigError: what was good once can't be used any more.
        """
        return self.empty if self._release is None else self._judge(self._release)

    async def refresh(self, look: Callable[[str], Awaitable[Outcome]]) -> None:
        """Bring the newest configuration here; `look` polls, and makes a pass of a service.

        Raises:
            ConfigError: it is refused.
            GitopperError: it can't be had.
        """
        outcome = await look(NAME)
        if outcome.error is not None:
            cause = outcome.error.__cause__
            raise cause if isinstance(cause, ConfigError) else outcome.error

    def start(self, reconciler: Reconciler, state: StateStore) -> Config:
        """Return what to start with. Fetches where nothing is here yet, or where that was asked for."""
        deployed = state.deployed(NAME)
        if deployed and self._file_of(deployed.release_path).is_file():
            self._release = deployed.release_path
            reconciler.restore(self._service)  # the configuration may name files that it brings along
        else:
            log.info("there is no configuration here yet: fetching %s", self._origin.source.upstream)
        config, release = self._usable(), self._release
        if self._origin.pull or release is None:
            self._pull(reconciler, config)
            if self._release != release:
                config = self._usable()
        return config

    @hookimpl(tryfirst=True)
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        """Veto a release whose configuration is not good; one that is good is for others to publish."""
        if request.service.name != NAME or request.verb is not MountVerb.PUBLISH or request.release is None:
            return None
        try:
            self._judge(request.release.path)
        except ConfigError as exc:
            problems = "; ".join(str(problem) for problem in exc.problems)
            if self._refusals.is_news(request.release.id, problems):  # it is tried again and again
                tell_refused(self._hooks, exc)
            raise PublishError(f"the configuration is refused: {problems}", service=NAME) from exc
        return None

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        """Take a release: from now on its configuration is the one to load."""
        if request.service.reload != RELOAD or request.service.name != NAME:
            return None
        self._release = request.release.path
        self.on_taken()
        return Reloaded(did="going over to this configuration")

    def _usable(self) -> Config:
        """Return what can be loaded, and tell of it; the empty configuration where there is nothing."""
        if self._release is None:
            return self.empty
        try:
            config = self.load()
        except ConfigError as exc:
            tell_refused(self._hooks, exc)
            return self.empty
        tell_loaded(self._hooks, config)
        return config

    def _pull(self, reconciler: Reconciler, known: Config) -> None:
        # For all that share its store: to ask for less would make the store forget their branches.
        watch = next(watch for watch in known.watches if self._service in watch.services)
        try:
            store = reconciler.poll(watch)
        except GitopperError as exc:
            remains = "with the last good one" if self._release else "without one, and waiting for it"
            log.error("the configuration can't be fetched: %s; starting %s", exc, remains)  # noqa: TRY400
        else:
            reconciler.reconcile(self._service, store, asked="start")

    def _file_of(self, release: Path) -> Path:
        return release / self._origin.directory / self._origin.file

    def _judge(self, release: Path) -> Config:
        """Return the configuration in `release`, with our own service in it.

        Raises:
            ConfigError: it has mistakes, or does not get along with our own service.
        """
        path = self._file_of(release)
        config = self._read(path)
        services = tuple(self._with_credentials(service) for service in config.services)
        if problems := tuple(self._clashes(services)):
            raise ConfigError(str(path), problems)
        return evolve(config, services=(self._service, *services), own=self._service)

    def _with_credentials(self, service: Service) -> Service:
        """Give a service of our own upstream our credentials, unless it brings some, and who fetches."""
        own, source = self._service.source, service.source
        if source.upstream != own.upstream:
            return service
        credentials = own.credentials if source.credentials == Credentials() else source.credentials
        source = evolve(source, credentials=credentials, fetch_user=own.fetch_user)
        return evolve(service, source=source)

    def _clashes(self, services: tuple[Service, ...]) -> Iterator[ConfigProblem]:
        own = self._service
        for service in services:
            where = f"services ({service.name})"
            if service.name == NAME:
                message = f'"{NAME}" is the service that follows this configuration; choose another name'
                yield ConfigProblem(path=where, message=message)
            if (
                service.source.upstream == own.source.upstream
                and service.source.credentials != own.source.credentials
            ):
                message = "has other credentials for the upstream of -U; give both the same, or none here"
                yield ConfigProblem(path=where, message=message)
            for mapping in service.mappings:
                local = mapping.local
                if local.is_relative_to(own.mount) or own.mount.is_relative_to(local):
                    message = f'"{local}" and -M {own.mount}, the checkout of this configuration, overlap'
                    yield ConfigProblem(path=where, message=f"{message}; write another directory for one")
