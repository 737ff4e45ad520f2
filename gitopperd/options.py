"""The types of gitopperd's options, and those options that say where its configuration comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import click
from attrs import frozen

from gitopperd.bootstrap import Origin
from libgitopper import Credentials, Source
from libgitopper.config import names as n
from libgitopper.config import values as v
from libgitopper.config.upstreams import Upstream
from libgitopper.config.upstreams import upstream as parse_upstream

__all__ = ["UPSTREAM_VARIABLE", "Repository", "Value", "repository_options"]

T = TypeVar("T")

UPSTREAM_VARIABLE = "GITOPPER_UPSTREAM"
DIRECTORY, BRANCH = "gitopper", "main"
"""Where a configuration is looked for in its repository."""


class Value(click.ParamType[Any], Generic[T]):
    """A value that one of our parsers takes; what is wrong with it is said as the config would say it."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """Return the value; a default that is one already, as it is."""
        if not isinstance(value, str):
            return value  # type: ignore[return-value]
        try:
            return self._parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


@frozen(kw_only=True)
class Repository:
    """The options as they were given."""

    upstream: Upstream | None
    directory: str | None
    branch: str | None
    mount: Path | None
    pull: bool
    credentials: Path | None
    ssh_key: Path | None
    fetch_user: str | None

    def origin(
        self,
        config: Path,
        *,
        default_mount: Path | None,
        interval_seconds: float,
        fetch_user: str | None,
    ) -> Origin | None:
        """Return where the configuration comes from; None: from the file `config` of this host.

        Raises:
            click.UsageError: the options don't fit together.
        """
        if self.upstream is None:
            self._refuse_leftovers()
            return None
        if config.is_absolute() or ".." in config.parts:
            raise click.UsageError(f"-c {config}: with -U it is a path below the directory of -D")
        mount = self.mount or default_mount
        if mount is None:
            raise click.UsageError("there is no home directory for the checkout; write -M /srv/gitopper")
        return Origin(
            source=Source(
                upstream=self.upstream.url,
                branch=self.branch or BRANCH,
                credentials=self._credentials(self.upstream),
                fetch_user=self.fetch_user or fetch_user,
            ),
            directory=self.directory or DIRECTORY,
            file=PurePosixPath(config),
            mount=mount,
            interval_seconds=interval_seconds,
            pull=self.pull,
        )

    def _refuse_leftovers(self) -> None:
        given: dict[str, object] = {
            "-D": self.directory, "-B": self.branch, "-M": self.mount, "-P": self.pull,
        }  # fmt: skip
        given |= {
            "--credentials": self.credentials,
            "--ssh-key": self.ssh_key,
            "--fetch-user": self.fetch_user,
        }
        for name, value in given.items():
            if value:
                raise click.UsageError(
                    f"{name} is about a repository of the configuration: name it with -U"
                )

    def _credentials(self, upstream: Upstream) -> Credentials:
        if self.ssh_key and upstream.scheme != "ssh":
            raise click.UsageError(f"--ssh-key is for ssh, and {upstream.url} is not; see --credentials")
        if self.credentials and upstream.scheme not in ("http", "https"):
            raise click.UsageError(f"--credentials is for http and https, and {upstream.url} is neither")
        if self.credentials and upstream.userinfo:
            raise click.UsageError("the URL has a user or password already; take it out, or --credentials")
        return Credentials(userinfo=upstream.userinfo, file=self.credentials, ssh_key=self.ssh_key)


def repository_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command; it gets them as one `repository`."""

    @functools.wraps(command)  # with the options that it has already
    def with_repository(*args: Any, **given: Any) -> None:
        names = ("upstream", "directory", "branch", "mount", "pull", "credentials", "ssh_key", "fetch_user")
        repository = Repository(**{name: given.pop(name) for name in names})
        command(*args, repository=repository, **given)

    decorated: Callable[..., None] = with_repository
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _open_upstream(
    context: click.Context, _param: click.Parameter, value: Upstream | None
) -> Upstream | None:
    """Refuse a secret on the command line, which every user of the host can read."""
    source = context.get_parameter_source("upstream")
    if value and value.userinfo and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            "-U has a user or password in it, and every user of this host can read a command line;"
            f" name a file with --credentials, or set {UPSTREAM_VARIABLE} instead of -U"
        )
    return value


_OPTIONS = (
    click.option(
        "-U",
        "--upstream",
        type=Value("url", parse_upstream),
        envvar=UPSTREAM_VARIABLE,
        callback=_open_upstream,
        help="Take the configuration from this repository, and follow it; -c is relative to -D.",
    ),
    click.option(
        "-D",
        "--directory",
        type=Value("dir", v.link),
        show_default=DIRECTORY,
        help="With -U: directory of the repository that holds the configuration.",
    ),
    click.option(
        "-B",
        "--branch",
        type=Value("branch", n.branch),
        show_default=BRANCH,
        help="With -U: branch to follow.",
    ),
    click.option(
        "-M",
        "--mount",
        type=Value("dir", v.mount),
        help="With -U: check it out below this directory, at gitopper/.  [default: /var/lib/gitopper]",
    ),
    click.option("-P", "--pull", is_flag=True, help="With -U: fetch the newest before anything starts."),
    click.option(
        "--credentials",
        type=Value("file", v.secret_file),
        help="With -U: file with user:password, or a token, for http and https.",
    ),
    click.option("--ssh-key", type=Value("file", v.secret_file), help="With -U: private key for ssh."),
    click.option(
        "--fetch-user",
        type=Value("user", n.user),
        help="With -U: account that fetches it, as fetch_user in [global].",
    ),
)
