"""One ``[[services]]`` entry: read, its defaults applied, and the rules between its own keys."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from libgitopper.config import keys as k
from libgitopper.config.problems import Location, Problems, shown
from libgitopper.config.reading import Found, Layers, Table, read_table
from libgitopper.config.upstreams import Upstream
from libgitopper.limits import Limits
from libgitopper.model import Credentials, Mapping, Service, Source

__all__ = ["Defaults", "Entry", "check_credentials", "read_entry"]

HTTP = ("http", "https")


@frozen(kw_only=True)
class Defaults:
    """What holds for every service that does not say otherwise."""

    overrides: Table
    """From the command line."""
    table: Table
    """The ``[global]`` table."""
    publish: str
    fetch_user: str | None
    """The account that reads what upstreams send; None for our own."""
    mount: Path | None
    """The global mount; None when it is written and bad."""

    @property
    def layers(self) -> tuple[Table, ...]:
        """Where a key is looked for after the service itself."""
        return (self.overrides, self.table)

    @property
    def home(self) -> Upstream | None:
        """The upstream that the credentials in ``[global]`` are for."""
        return self.table.get(k.UPSTREAM) or self.overrides.get(k.UPSTREAM)


@frozen(kw_only=True)
class Entry:
    """A service as far as it could be read; what is None was missing or bad, and has been reported."""

    where: Location
    machines: tuple[str, ...]
    name: str | None
    mount: Path | None
    source: Source | None
    mappings: tuple[Found[Mapping], ...]
    after: tuple[str, ...]
    service: Service | None
    """The whole of it; None unless each key is good."""


def read_entry(raw: object, where: Location, defaults: Defaults, problems: Problems) -> Entry | None:
    """Read one entry of ``[[services]]``; None when it is no table."""
    table = read_table(raw, k.SERVICE_KEYS, where, problems, homes=k.HOMES)
    if table is None:
        return None
    layers = Layers((table, *defaults.layers))
    name = table.get(k.SERVICE)
    found_mount = layers.find(k.MOUNT)
    mount = found_mount.value if found_mount else (None if layers.writes(k.MOUNT) else defaults.mount)
    source = _source(table, layers, defaults, problems)
    mappings = _mappings(table, problems)
    reload, command = _reload(layers, problems)
    _check_readonly(layers, problems)
    verify = layers.find(k.VERIFY)
    service = None
    if name and mount and source:
        service = Service(
            name=name,
            source=source,
            mappings=tuple(found.value for found in mappings),
            mount=mount,
            user=found.value if (found := layers.find(k.USER)) else None,
            package=table.get(k.PACKAGE),
            action=layers.value(k.ACTION),
            publish=found.value if (found := layers.find(k.PUBLISH)) else defaults.publish,
            reload=reload,
            command=command,
            readonly=layers.value(k.READONLY),
            keep=layers.value(k.KEEP),
            interval_seconds=layers.value(k.INTERVAL),
            resync_seconds=layers.value(k.RESYNC),
            timeout_seconds=layers.value(k.TIMEOUT),
            limits=Limits(
                file_bytes=layers.value(k.MAX_FILE),
                release_bytes=layers.value(k.MAX_RELEASE),
                fetch_bytes=layers.value(k.MAX_FETCH),
            ),
            check=table.get(k.CHECK),
            health=table.get(k.HEALTH),
            verify=verify.value if verify else None,
            no_rewind=layers.value(k.NO_REWIND),
            drift=layers.value(k.DRIFT),
            windows=layers.value(k.WINDOW),
            after=table.get(k.AFTER) or (),
        )
    return Entry(
        where=where, machines=table.get(k.MACHINE) or (), name=name, mount=mount, source=source,
        mappings=mappings, after=table.get(k.AFTER) or (), service=service,
    )  # fmt: skip


def _mappings(table: Table, problems: Problems) -> tuple[Found[Mapping], ...]:
    found: list[Found[Mapping]] = []
    written: list[object] = table.get(k.DIRS) or []
    for index, raw in enumerate(written):
        where = (*table.at(k.DIRS), index)
        entry = read_table(raw, k.DIR_KEYS, where, problems, homes=k.HOMES)
        local, link = (entry.get(k.LOCAL), entry.get(k.LINK)) if entry else (None, None)
        if entry and local and link:
            mapping = Mapping(local=local, link=link, file=entry.get(k.FILE) or False)
            found.append(Found(value=mapping, where=entry.at(k.LOCAL)))
    return tuple(found)


def _source(table: Table, layers: Layers, defaults: Defaults, problems: Problems) -> Source | None:
    found = layers.find(k.UPSTREAM)
    if not found:
        if not layers.writes(k.UPSTREAM):
            example = 'upstream = "https://git.example.net/config.git"'
            problems.add(table.at(k.UPSTREAM), f"no upstream; write {example} here, or in [global]")
        return None
    check_credentials(table, found.value, problems)
    credentials = _credentials(table, found.value, defaults)
    return Source(
        upstream=found.value.url,
        branch=layers.value(k.BRANCH),
        credentials=credentials,
        fetch_user=defaults.fetch_user,
    )


def _credentials(table: Table, upstream: Upstream, defaults: Defaults) -> Credentials:
    """Return what to send to `upstream`.

    What ``[global]`` has is for the server of the upstream there: a service of another server must
    never make us send it there.
    """
    home = defaults.home
    shared = defaults.table if home and upstream.same_server(home) else Table(where=())
    if upstream.scheme == "ssh":
        return Credentials(ssh_key=table.get(k.SSH_KEY) or shared.get(k.SSH_KEY))
    if upstream.scheme not in HTTP:
        return Credentials()
    if file := table.get(k.CREDENTIALS):
        return Credentials(file=file)
    if upstream.userinfo:
        return Credentials(userinfo=upstream.userinfo)
    return Credentials(file=shared.get(k.CREDENTIALS))


def check_credentials(table: Table, upstream: Upstream | None, problems: Problems) -> None:
    """Check that the credentials of `table` fit `upstream`, the one that they are for."""
    for key, schemes, other in ((k.CREDENTIALS, HTTP, "ssh_key"), (k.SSH_KEY, ("ssh",), "credentials")):
        if not table.writes(key):
            continue
        if upstream is None:
            if not table.writes(k.UPSTREAM):
                remedy = "write that upstream here too, or move this key to the services"
                problems.add(table.at(key), f"there is no upstream that it is for; {remedy}")
        elif upstream.scheme not in schemes:
            what = f"{shown(upstream.url)}, the upstream, does not take it"
            remedy = f"remove it, or write {other}" if upstream.scheme in (*HTTP, "ssh") else "remove it"
            problems.add(table.at(key), f"{what}: it is for {' and '.join(schemes)}; {remedy}")
    own = table.get(k.UPSTREAM)
    if own and own.userinfo and table.writes(k.CREDENTIALS):
        what = "the upstream has a user or password in its URL already"
        problems.add(table.at(k.CREDENTIALS), f"{what}; take it out of the URL, or remove this key")


def _reload(layers: Layers, problems: Problems) -> tuple[str, tuple[str, ...]]:
    """Return the reload plugin and its command: the most specific table that names either decides."""
    tables = (t for t in layers.tables if t.writes(k.RELOAD) or t.writes(k.COMMAND))
    table = next(tables, Table(where=()))
    plugin: str | None = "systemd"
    if table.writes(k.RELOAD):
        plugin = table.get(k.RELOAD)  # None where it is bad
    elif table.writes(k.COMMAND):
        plugin = "command"
    if plugin is None or plugin == "systemd":
        if plugin and table.writes(k.COMMAND):
            remedy = 'remove it, or write reload = "command"'
            problems.add(table.at(k.COMMAND), f'reload = "systemd" runs no command; {remedy}')
        if plugin:
            _check_action(layers, problems)
        return "systemd", ()
    if plugin == "command" and not layers.writes(k.COMMAND):
        remedy = 'write command = ["/usr/sbin/nginx", "-s", "reload"] beside it'
        problems.add(table.at(k.RELOAD), f'reload = "command" needs a command; {remedy}')
    command = layers.find(k.COMMAND)
    return plugin, command.value if command else ()


def _check_action(layers: Layers, problems: Problems) -> None:
    action = layers.find(k.ACTION)
    if action and action.value not in ("", *k.SYSTEMD_ACTIONS):
        names = ", ".join(f'"{name}"' for name in k.SYSTEMD_ACTIONS)
        problems.add(
            action.where, f'{shown(action.value)} is no action for systemd; write {names}, or "" for none'
        )


def _check_readonly(layers: Layers, problems: Problems) -> None:
    # Only where symlink was written: as a default it depends on who checks the file.
    readonly, publish = layers.find(k.READONLY), layers.find(k.PUBLISH)
    if readonly and readonly.value and publish and publish.value == "symlink":
        remedy = 'remove it, or write publish = "bind"'
        problems.add(readonly.where, f'true can\'t be kept with publish = "symlink"; {remedy}')
