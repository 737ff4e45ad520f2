"""The hooks: what a plugin can do. Specifications only; `libgitopper.hooks` calls them.

A plugin is a module (or an object) registered under the entry point group ``gitopper``; it
implements any of these functions, marked with `hookimpl`. Hooks are synchronous. A hook marked
*first result* stops at the first answer that is not None; None means "not mine". Arguments are
single frozen values: what must grow grows inside them, so the signatures stay.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pluggy
from attrs import field, frozen

from libgitopper.access import AuthRequest, Identity
from libgitopper.model import Content, Credentials, Release, Service

__all__ = [
    "HOOK_API",
    "CheckoutRequest",
    "Event",
    "FetchRequest",
    "MountRequest",
    "MountVerb",
    "Published",
    "ReloadRequest",
    "Reloaded",
    "Store",
    "hookimpl",
]

HOOK_API = 1
"""Version of the signatures below. It rises only when an existing plugin would break."""

PROJECT = "gitopper"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@frozen(kw_only=True)
class FetchRequest:
    """Bring the store of one upstream up to date, or open it as it is."""

    upstream: str
    """URL without credentials."""
    credentials: Credentials
    branches: frozenset[str]
    """The branches to follow; a branch that upstream lacks is absent from the tips."""
    stores: Path
    """Directory that holds the stores; each plugin names its own below it."""
    offline: bool = False
    """True: no network; answer with what the last successful fetch brought."""
    timeout_seconds: float = 90.0
    """Deadline for the whole exchange."""


class Store(Protocol):
    """The local repository of an upstream, as the fetch plugin hands it out.

    Safe to use from several threads, also while a fetch into it is under way. Hashes are full
    hex. Methods raise `SourceError` when they need the upstream and it fails, `CheckoutError`
    when the repository can't give what is asked.
    """

    @property
    def path(self) -> Path:
        """The bare git directory."""

    @property
    def tips(self) -> Mapping[str, str]:
        """Branch to commit hash, as of the last successful fetch. A branch gone upstream is absent."""

    @property
    def moved(self) -> bool:
        """True when the call that returned this store brought new tips."""

    def content(self, revision: str, service: Service) -> Content:
        """What `revision` has at the paths that `service` maps. Local; cheap.

        Raises:
            CheckoutError: the revision is not here, or lacks a mapped path, or has something
                else there (a file where a directory is mapped).
        """

    def resolve(self, prefix: str, branch: str) -> str:
        """The one commit in the history of `branch` whose hash starts with `prefix` (>= 4 digits).

        Raises:
            UnknownRevision: none, or one that is not in that history; says which.
            AmbiguousRevision: several.
        """

    def discard(self, service: Service, keep: Collection[str]) -> None:
        """Delete the releases of `service` whose id is not in `keep`, and what a crash left half made."""


@frozen(kw_only=True)
class CheckoutRequest:
    """Make the release of `content` for `service`."""

    service: Service
    store: Store
    content: Content


class MountVerb(enum.Enum):
    """What a `MountRequest` asks for."""

    PUBLISH = "publish"
    """Make `release` the one that the service sees, at all its mappings."""
    WITHDRAW = "withdraw"
    """Stop showing any release at the mappings; what stood there before shows again."""
    OBSERVE = "observe"
    """Look, touch nothing."""


@frozen(kw_only=True)
class MountRequest:
    """What to do at the mappings of `service`."""

    service: Service
    verb: MountVerb
    release: Release | None = None
    """For PUBLISH."""
    keep_live: bool = False
    """For WITHDRAW: the service goes on with other mappings, so the link to its live release stays."""


@frozen(kw_only=True)
class Published:
    """What stands at a service's mappings now, as observed, not as assumed."""

    release: str | None
    """Id of the release that all mappings show; None when they show none, or not the same."""
    partly: bool = False
    """True when `release` is None although some mapping shows a release of this service: publishing was
    cut short, or somebody took a mapping away."""
    changed: bool = False
    """True when this call changed what the service sees."""
    note: str = ""
    """What an operator should know, as a limitation that applies; one line."""


@frozen(kw_only=True)
class ReloadRequest:
    """Make a service take the release that was just published."""

    service: Service
    release: Release
    first: bool
    """True when this service never had a release before: then start what does not run."""


@frozen(kw_only=True)
class Reloaded:
    """What was done to make the service take the release."""

    did: str
    """For the log, as ``systemctl reload nginx``; empty when there was nothing to do."""
    note: str = ""
    """What an operator should see beside the state, as ``the unit is stopped``."""


@frozen(kw_only=True)
class Event:
    """Something happened. Observers get each one; what they raise is logged and harms nobody."""

    kind: str
    """One of: ``poll``, ``poll-failed``, ``deployed``, ``advanced``, ``withdrawn``, ``failed``, ``state``,
    ``intent``, ``refused``, ``config-loaded``, ``config-refused``."""
    service: str | None = None
    upstream: str | None = None
    details: Mapping[str, Any] = field(factory=dict)
    """Plain values (str, int, float, bool, None), for logs; never a secret."""


class Specs:
    """The specifications, as pluggy reads them."""

    @hookspec(firstresult=True)
    def gitopper_fetch(self, request: FetchRequest) -> Store | None:
        """Bring the store up to date with the upstream's tips. Cheap when nothing moved. First result.

        Raises:
            SourceError: the upstream can't be reached in time; what was there before is intact.
            AuthError: it refuses the credentials.
        """

    @hookspec(firstresult=True)
    def gitopper_checkout(self, request: CheckoutRequest) -> Release | None:
        """Materialise a release: complete when it returns, or it does not exist. First result.

        A release that is already there is brought to the revision (its HEAD moves) and returned.

        Raises:
            CheckoutError: a path is unsafe, the owner is unknown, or the disk refuses.
            SourceError: file contents are missing and upstream can't give them now.
        """

    @hookspec(firstresult=True)
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        """Publish a release at its mappings, atomically; or withdraw; or tell what is there. First result.

        Idempotent: to publish what is already shown changes nothing and says so.

        Raises:
            PublishError: something of somebody else's is in the way, or a right is missing.
                What was published before is still published.
        """

    @hookspec(firstresult=True)
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        """Make the service take what was published. First result.

        Raises:
            ReloadError: it did not; the text holds the service manager's own words.
        """

    @hookspec
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        """Tell who is asking. The plugins that the config names are asked in its order, each by its name.

        None: no credentials of this plugin's kind came with the request; the next one is asked.

        Raises:
            AccessDenied: such credentials came, and are not good. Nobody else is asked.
        """

    @hookspec
    def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
        """Return what is wrong with the table ``[auth.<plugin>]``: ``key: what, and what to write`` each.

        Asked when a configuration is read, so that a mistake refuses the configuration and not
        every request. None: not my table. An empty list: it is fine.
        """

    @hookspec
    def gitopper_event(self, event: Event) -> None:
        """Observe. Every plugin is called."""


HOOKS: Sequence[str] = tuple(name for name in vars(Specs) if name.startswith("gitopper_"))
