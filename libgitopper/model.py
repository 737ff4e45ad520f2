"""The values that everything else speaks of. All are frozen; none does I/O.

The words are the project's glossary: an *upstream* is a remote repository's URL; a *source* adds
branch and credentials; a *mapping* shows a path of the repository on the host; a *release* is an
immutable directory with exactly the mapped paths of a service.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from pathlib import Path

from attrs import evolve, field, frozen

from libgitopper.canonical import canonical
from libgitopper.limits import DEFAULT_LIMITS, Limits
from libgitopper.safeguards import Check, DriftPolicy, Health, Verify
from libgitopper.valid import has_zone, is_absolute, is_texts, is_tuple_of, names_a_file
from libgitopper.windows import Window

__all__ = [
    "Attempt",
    "Content",
    "Credentials",
    "Deployed",
    "Intent",
    "IntentKind",
    "Mapping",
    "Release",
    "Service",
    "Source",
    "State",
    "Status",
    "TreeEntry",
    "Watch",
    "watches",
]


@frozen(kw_only=True)
class Credentials:
    """How to authenticate to an upstream. Files are read at each use, so rotation just works."""

    userinfo: str | None = field(default=None, repr=False)
    """``user:password`` as it stood in the URL, percent-encoded; never shown."""
    file: Path | None = None
    """A file with ``user:password``, or a token alone, on its first line."""
    ssh_key: Path | None = None
    """A private key for ssh upstreams; without it ssh's own configuration decides."""


@frozen(kw_only=True)
class Source:
    """A branch of an upstream, and how to get at it."""

    upstream: str
    """URL without credentials: safe to show."""
    branch: str
    credentials: Credentials = Credentials()
    fetch_user: str | None = None
    """The account that reads what upstream sends; None for the process's own, and in that process."""


@frozen(kw_only=True)
class Mapping:
    """One directory (or, with `file`, one file) of the repository, shown at a path of the host."""

    link: str
    """Path in the repository: relative, ``/``-separated, no ``.`` or ``..``; non-empty."""
    local: Path = field(validator=is_absolute)
    """Absolute path on the host."""
    file: bool = False


BEARING_ON_FITNESS = frozenset({
    "mappings", "mount", "user", "package", "action", "publish", "reload", "command", "readonly", "check",
    "health",
})  # fmt: skip
"""Settings of a service by which one and the same release may be fit, or not."""


@frozen(kw_only=True)
class Service:
    """One service as this host runs it, defaults applied. What a `[[services]]` entry becomes."""

    name: str = field(validator=names_a_file)
    """That of its unit; what it is shown as, and has on disk, goes by it."""
    source: Source
    mappings: tuple[Mapping, ...] = field(validator=is_tuple_of(Mapping))
    mount: Path = field(validator=is_absolute)
    """Absolute: it holds ``<name>``, the link to the live release, and ``.gitopper/releases``."""
    user: str | None = None
    """Owner of the release's files; None leaves them with the daemon's own user."""
    package: str | None = None
    action: str = "reload"
    """Verb for the reload plugin (`systemctl <action> <name>`); empty for none."""
    publish: str = "bind"
    """Which mount plugin: builtin are ``bind`` and ``symlink``."""
    reload: str = "systemd"
    """Which reload plugin: builtin are ``systemd`` and ``command``."""
    command: tuple[str, ...] = field(default=(), validator=is_texts)
    """The argv that the ``command`` plugin runs."""
    readonly: bool = False
    keep: int = 5
    """How many releases stay on disk for rollbacks, the live one included; at least 1."""
    interval_seconds: float = 300.0
    resync_seconds: float = 600.0
    """How often it is compared with what is on the host, even though nothing moved upstream."""
    timeout_seconds: float = 90.0
    """Longest that one external command or one network exchange for this service may take."""
    limits: Limits = DEFAULT_LIMITS
    """What its repository may ask of this host."""
    check: Check | None = None
    """What must accept a release before it is published."""
    health: Health | None = None
    """What must hold after a reload; else the former release comes back."""
    verify: Verify | None = None
    """Whose signatures every new commit needs; None for nobody's."""
    no_rewind: bool = False
    """True: never go behind a commit that was once accepted, unless an operator rolls back."""
    drift: DriftPolicy = DriftPolicy.REPORT
    windows: tuple[Window, ...] = field(default=(), validator=is_tuple_of(Window))
    """When new content may be deployed; empty for always."""
    after: tuple[str, ...] = field(default=(), validator=is_texts)
    """Services of this host that must be in line with their upstream before new content is deployed."""

    @cached_property
    def fingerprint(self) -> str:
        """Name of all settings that bear on whether a release is fit for the service: 16 hex digits.

        It outlives an upgrade, or what was rejected would be tried once more after each.
        """
        return hashlib.sha256(canonical(self, BEARING_ON_FITNESS).encode()).hexdigest()[:16]

    @property
    def places(self) -> tuple[object, ...]:
        """Where its files are shown, and by whom; not as whose."""
        return self.mappings, self.mount, self.publish

    @property
    def placement(self) -> tuple[object, ...]:
        """Where and how its files are shown: when this changes, they must be published anew."""
        return self.mappings, self.mount, self.publish, self.readonly, self.user

    @cached_property
    def live(self) -> Path:
        """The symlink to the live release: where an operator runs ``git log``."""
        return self.mount / self.name

    @cached_property
    def releases(self) -> Path:
        """The directory of this service's releases."""
        return self.mount / ".gitopper" / "releases" / self.name


@frozen(kw_only=True)
class Watch:
    """One upstream and the services that follow it: what one poll serves."""

    upstream: str
    credentials: Credentials
    stores: Path
    """Directory of the stores."""
    services: tuple[Service, ...]

    @cached_property
    def branches(self) -> frozenset[str]:
        """The branches that any of the services follows."""
        return frozenset(service.source.branch for service in self.services)

    @cached_property
    def fetch_user(self) -> str | None:
        """As `Source.fetch_user`: it is one for all services of a host."""
        return next((service.source.fetch_user for service in self.services), None)

    @cached_property
    def interval_seconds(self) -> float:
        """The shortest interval that any of the services asks for."""
        return min(service.interval_seconds for service in self.services)

    @cached_property
    def timeout_seconds(self) -> float:
        """The longest time that any of the services allows for a network exchange."""
        return max(service.timeout_seconds for service in self.services)

    @cached_property
    def limits(self) -> Limits:
        """The widest that any of the services allows: they share a store."""
        return Limits.largest(service.limits for service in self.services)


def watches(services: Iterable[Service], stores: Path) -> tuple[Watch, ...]:
    """Group `services` by upstream, in the order in which the upstreams first occur."""
    groups: dict[str, list[Service]] = {}
    for service in services:
        groups.setdefault(service.source.upstream, []).append(service)
    return tuple(
        Watch(
            upstream=upstream,
            credentials=group[0].source.credentials,
            stores=stores,
            services=tuple(group),
        )
        for upstream, group in groups.items()
    )


@frozen(kw_only=True)
class TreeEntry:
    """What a revision has at one mapped path."""

    link: str
    id: str
    """Git object id, hex: of a tree, or of a blob for a `file` mapping."""
    mode: int
    """Git file mode, as 0o040000 for a tree or 0o100644 for a plain file."""


@frozen(kw_only=True)
class Content:
    """What a revision would give a service: one entry for each mapping, in order."""

    revision: str
    entries: tuple[TreeEntry, ...]
    generation: int = 0
    """How often its release had to be made afresh, because the files of the one before had drifted."""

    def release_id(self, service: Service) -> str:
        """Name of the release with this content for `service`: 16 hex digits.

        Revisions which agree on the mapped paths share it; another owner, another set of paths or
        another generation makes another one.
        """
        what: tuple[object, ...] = ([[e.link, e.id, e.mode] for e in self.entries], service.user)
        if self.generation:
            what = (*what, self.generation)
        digest = hashlib.sha256(json.dumps(what).encode())
        return digest.hexdigest()[:16]


@frozen(kw_only=True)
class Release:
    """A complete, immutable directory with the mapped paths of a service at their repository paths."""

    service: str
    id: str
    path: Path
    content: Content
    """`content.revision` is what the release's HEAD names now."""


class IntentKind(enum.Enum):
    """What an operator wants of a service."""

    TRACK = "track"
    FREEZE = "freeze"
    ROLLBACK = "rollback"


@frozen(kw_only=True)
class Intent:
    """What the operator wants of a service; persisted before it is acknowledged."""

    kind: IntentKind = IntentKind.TRACK
    revision: str | None = None
    """For ROLLBACK: the full hash to be at."""
    since: datetime | None = None
    """When it was asked for; UTC; None where nobody ever asked."""
    reason: str = ""
    """Why, in the words of who asked; one line."""
    until: datetime | None = field(default=None, validator=has_zone)
    """When it ends by itself, and the service tracks again; with its time zone; None for never."""
    by: str = ""
    """Name of the identity that asked; empty where it is not known."""

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over at `now`."""
        return self.until is not None and now >= self.until


@frozen(kw_only=True)
class Attempt:
    """A release that was about to be published; persisted before the mount is touched.

    It stands until the release is recorded as deployed. So after a crash at any point it tells
    which revision the published release came from, and that a reload is owed.
    """

    revision: str
    release: str
    content: Content
    service: Service
    """The service as it was configured then: where the release may be shown."""

    @property
    def release_path(self) -> Path:
        """Where the release is on disk."""
        return self.service.releases / self.release


@frozen(kw_only=True)
class Deployed:
    """What is published and was taken by the service; persisted last, so it is never ahead of the truth."""

    revision: str
    """The commit that the service is in line with."""
    release: str
    """Id of the release that is published."""
    content: Content
    service: Service
    """The service as it was configured then: what to withdraw when the config has moved on."""
    at: datetime
    """When the release was published and taken; UTC. An advance does not move it."""
    note: str = ""
    """What the reload plugin had to say, as ``unit x is stopped``; shown beside the state."""

    @property
    def release_path(self) -> Path:
        """Where the release is on disk."""
        return self.service.releases / self.release

    def following(self, content: Content) -> Deployed:
        """Return it in line with another commit, which has the same `content` for the service."""
        return evolve(self, revision=content.revision, content=content)


class State(enum.Enum):
    """The state of a service, derived from intent and observation, never set by hand."""

    OK = "OK"
    FREEZE = "FREEZE"
    ROLLBACK = "ROLLBACK"
    BROKEN = "BROKEN"
    DIFF = "DIFF"


@frozen(kw_only=True)
class Status:
    """What an operator is told of a service."""

    service: str
    state: State
    info: str
    """Why, in one line; empty when there is nothing to say."""
    hash: str
    """The commit whose files are published; empty before the first."""
    change: datetime
    """Since when it is in this state with this hash; UTC."""
