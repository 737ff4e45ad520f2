"""gitopperd's command line. `-h` names hosts, as it always did; help is `--help`."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from attrs import evolve, frozen

from gitopperd.bootstrap import Bootstrap, Origin
from gitopperd.deployed import shown_at_least
from gitopperd.filewatch import FileWatch
from gitopperd.judging import judged, require_plugins
from gitopperd.listener.listen import Address, ExposedError, check_exposure, parse_address
from gitopperd.logs import set_up_logging
from gitopperd.openfiles import allow_open_files
from gitopperd.options import UPSTREAM_VARIABLE, Repository, Value, repository_options
from gitopperd.wiring import START_OVER, Settings, serve
from libgitopper import (
    Config,
    ConfigError,
    GitopperError,
    Hooks,
    Overrides,
    __version__,
    load_config,
    load_plugins,
)
from libgitopper.config import default_fetch_user, default_mount, parse_config
from libgitopper.config.keys import INTERVAL

__all__ = ["main"]

log = logging.getLogger(__name__)

FAILURE = 1
USAGE = 2

DEFAULT_ADDRESS = "127.0.0.1:8000"
DEFAULT_INTERVAL_SECONDS = 300.0
ROOT_STATE_DIR = Path("/var/lib/gitopper/state")
ROOT_SOCKET = Path("/run/gitopper/gitopperd.sock")


hosts_option = click.option(
    "-h",
    "--hosts",
    default="",
    metavar="HOSTS",
    help="Other names that this host answers to, separated by commas.",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["--help"]})
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Configuration file (TOML).")
@hosts_option
@click.option(
    "-a",
    "--address",
    type=Value("addr:port", parse_address),
    show_default=DEFAULT_ADDRESS,
    help="Where to answer REST and metrics, instead of listen in [api]; beyond loopback only with TLS, or"
    " with insecure = true.",
)
@click.option(
    "--socket",
    "unix_socket",
    type=click.Path(path_type=Path),
    show_default=str(ROOT_SOCKET),
    help="Unix socket to answer on as well; below $XDG_RUNTIME_DIR for an ordinary user.",
)
@click.option(
    "-t",
    "--interval",
    type=Value("duration", INTERVAL.parse),
    help="Poll interval, instead of the one in [global]: 30s, 5m.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    show_default=str(ROOT_STATE_DIR),
    help="Where intent and history are kept; below $XDG_STATE_HOME for an ordinary user.",
)
@click.option("-o", "--no-root", is_flag=True, help='Run as an ordinary user, with publish = "symlink".')
@click.option(
    "-r",
    "--reload",
    "--restart",
    "follow_file",
    is_flag=True,
    help="Load the configuration again when its file changes.",
)
@repository_options
@click.option("--once", is_flag=True, help="Reconcile everything once; exit 1 if a service is not well.")
@click.option("-d", "--debug", is_flag=True, help="Log more.")
@click.option("--log-json", is_flag=True, help="Log JSON lines.")
@click.version_option(__version__, prog_name="gitopperd")
@click.pass_context
def main(
    context: click.Context,
    config: Path | None,
    hosts: str,
    address: Address | None,
    unix_socket: Path | None,
    interval: float | None,
    state_dir: Path | None,
    no_root: bool,
    follow_file: bool,
    repository: Repository,
    once: bool,
    debug: bool,
    log_json: bool,
) -> None:
    """Watch git repositories, publish their directories on this host, reload only what changed.

    \b
    gitopperd -c /etc/gitopper.toml                      as root: bind mounts, systemd
    gitopperd -c my.toml --no-root -a 127.0.0.1:8001     as yourself: symlinks
    gitopperd -c gitopper.toml -U https://git.example.net/config.git    from a repository
    gitopperd check -c /etc/gitopper.toml                only look for mistakes
    """  # noqa: D301 - click reads the escape: it keeps the lines as they are
    if context.invoked_subcommand:
        return
    if config is None:
        raise click.UsageError("name the configuration: gitopperd -c FILE")
    if os.geteuid() != 0 and not no_root:
        raise click.UsageError(
            "bind mounts need root; as an ordinary user start with --no-root, which publishes by symlink"
        )
    environ = dict(os.environ)
    os.environ.pop(UPSTREAM_VARIABLE, None)  # it may hold a secret, and what we run has no business with it
    set_up_logging(debug=debug, as_json=log_json, journal="JOURNAL_STREAM" in os.environ)
    allow_open_files()
    try:
        hooks = load_plugins()
        reading = _Reading(hosts=hosts, interval_seconds=interval, root=not no_root, hooks=hooks)
        origin = repository.origin(
            config,
            default_mount=default_mount(root=not no_root, environ=os.environ),
            interval_seconds=interval or DEFAULT_INTERVAL_SECONDS,
            fetch_user=default_fetch_user(root=not no_root),
        )
        make = partial(
            Settings,
            hooks=hooks,
            state_dir=state_dir or _state_dir(),
            unix_socket=unix_socket or _socket(),
            once=once,
            address_of=partial(_address_of, address),
        )
        if origin is None:
            with shown_at_least(make.keywords["state_dir"], hooks, reading.empty(config)):
                settings = _from_file(make, config, reading, follow=follow_file)
        else:
            settings = _from_repository(make, evolve(origin, pull=origin.pull or once), reading)
        code = serve(settings)
        if code == START_OVER:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606
    except GitopperError as exc:
        click.echo(f"gitopperd: {exc}", err=True)
        code = FAILURE
    except OSError as exc:  # what the system refuses the daemon itself, as descriptors for its event loop
        where = f"{exc.filename}: " if exc.filename else ""
        click.echo(f"gitopperd: can't run: {where}{exc.strerror or exc}", err=True)
        log.debug("what the system refused", exc_info=True)
        code = FAILURE
    sys.exit(code)


@main.command(short_help="Only look for mistakes in a configuration.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Configuration file.")
@hosts_option
@click.pass_context
def check(context: click.Context, config: Path | None, hosts: str) -> None:
    """Read a configuration, tell everything that is wrong with it, and do nothing else."""
    before = context.parent.params if context.parent else {}  # gitopperd -c FILE check
    config, hosts = config or before.get("config"), hosts or before.get("hosts", "")
    if config is None:
        raise click.UsageError("name the configuration: gitopperd check -c FILE")
    try:
        root = os.geteuid() == 0
        reading = _Reading(hosts=hosts, interval_seconds=None, root=root, hooks=load_plugins())
        loaded = _or_exit(partial(reading.read_strictly, config), config)
    except GitopperError as exc:
        click.echo(f"gitopperd: {exc}", err=True)
        sys.exit(FAILURE)
    named = ", ".join(sorted(reading.names))
    here = ", ".join(service.name for service in loaded.services) or f"none; it is {named}, -h adds names"
    click.echo(f"{config}: fine; machines: {len(loaded.machines)}; services of this host: {here}")


@frozen(kw_only=True)
class _Reading:
    """How configurations are read on this host."""

    hosts: str
    interval_seconds: float | None
    root: bool
    hooks: Hooks

    def read(self, path: Path) -> Config:
        """Return the configuration in a file, or raise `ConfigError`."""
        return load_config(path, **self._arguments)

    def read_strictly(self, path: Path) -> Config:
        """Return it as `read` does; `ConfigError` also where a service needs a plugin that is not here."""
        config = self.read(path)
        require_plugins(config, path, self.hooks)
        return config

    def empty(self, origin: Path) -> Config:
        """Return a configuration that says nothing."""
        return parse_config("services = []", origin=str(origin), **self._arguments)

    @property
    def names(self) -> frozenset[str]:
        """What this host goes by."""
        given = {name.strip() for name in self.hosts.split(",") if name.strip()}
        return frozenset({socket.gethostname(), *given})

    @property
    def _arguments(self) -> dict[str, Any]:
        return {
            "hosts": self.names,
            "root": self.root,
            "environ": os.environ,
            "overrides": Overrides(interval_seconds=self.interval_seconds),
            "judge_auth": self.hooks.auth_problems,
        }


def _from_file(make: partial[Settings], path: Path, reading: _Reading, *, follow: bool) -> Settings:
    watch = FileWatch(path) if follow else None
    config = _or_exit(lambda: reading.read(path), path)
    address_of = make.keywords["address_of"]
    again = judged(reading.read, address_of)
    return make(
        config=config, address=_listen_on(config, address_of), load=lambda: again(path), file_watch=watch
    )


def _from_repository(make: partial[Settings], origin: Origin, reading: _Reading) -> Settings:
    hooks, address_of = reading.hooks, make.keywords["address_of"]
    empty = reading.empty(origin.checkout)
    bootstrap = Bootstrap(origin, read=judged(reading.read, address_of), empty=empty, hooks=hooks)
    return make(config=empty, address=address_of(empty), load=bootstrap.load, bootstrap=bootstrap)


def _or_exit(read: Callable[[], Config], path: Path) -> Config:
    """Return what `read` returns; a configuration with mistakes ends the program, with all of them."""
    try:
        return read()
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        count = len(exc.problems)
        mistakes = f"{count} mistake{'s' if count > 1 else ''}"
        click.echo(f"gitopperd: {path} has {mistakes}", err=True)
        sys.exit(USAGE)


def _address_of(given: Address | None, config: Config) -> Address:
    return given or parse_address(config.api.listen or DEFAULT_ADDRESS)


def _listen_on(config: Config, address_of: Callable[[Config], Address]) -> Address:
    """Return where to listen; one that may not be used ends the program."""
    address = address_of(config)
    try:
        check_exposure(address, config.api)
    except ExposedError as exc:
        click.echo(f"gitopperd: {exc}", err=True)
        sys.exit(USAGE)
    return address


def _state_dir() -> Path:
    if given := os.environ.get("STATE_DIRECTORY"):  # systemd's StateDirectory=
        return Path(given.split(":")[0]) / "state"
    if os.geteuid() == 0:
        return ROOT_STATE_DIR
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "gitopper"


def _socket() -> Path | None:
    if os.geteuid() == 0:
        return ROOT_SOCKET
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "gitopper" / "gitopperd.sock" if runtime else None
