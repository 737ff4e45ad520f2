"""The hooks: what a plugin can do. Specifications only; `libgitopper.hooks` calls them.

A plugin is a module (or an object) registered under the entry point group ``gitopper``; it
implements any of these functions, marked with `hookimpl`. Hooks are synchronous. A hook marked
*first result* stops at the first answer that is not None; None means "not mine". A hook marked *all
must agree* asks every plugin; an error of any refuses. Arguments are single frozen values: what must
grow grows inside them, so the signatures stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from libgitopper.access import AuthRequest, Identity
from libgitopper.model import Release
from libgitopper.repository import Store
from libgitopper.requests import (
    Accepted,
    CheckoutRequest,
    CheckRequest,
    Drift,
    DriftRequest,
    Event,
    FetchRequest,
    HealthRequest,
    Hold,
    HoldRequest,
    Installed,
    InstallRequest,
    MountRequest,
    Published,
    Reloaded,
    ReloadRequest,
    VerifyRequest,
)

__all__ = ["HOOKS", "HOOK_API", "PROJECT", "Specs", "hookimpl"]

HOOK_API = 1
"""Version of the signatures below. It rises only when an existing plugin would break."""

PROJECT = "gitopper"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


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
    def gitopper_hold(self, request: HoldRequest) -> Hold | None:
        """Tell why new content of a service must not be deployed now. All must agree: any answer holds it.

        Asked before anything else is done for a deploy, at each pass. Not asked for what is no news:
        a first deploy, an operator's rollback, files that are to be shown again, other settings for what is
        deployed. It must be quick.
        """

    @hookspec
    def gitopper_verify(self, request: VerifyRequest) -> Accepted | None:
        """Judge whether a service may go to a revision, before anything is written. All must agree.

        None: nothing that this plugin judges. Asked for every commit that a service follows, also for
        one that changes other paths only.

        Raises:
            VerifyError: it may not; the text names the commit and the reason.
        """

    @hookspec(firstresult=True)
    def gitopper_install(self, request: InstallRequest) -> Installed | None:
        """Have a package installed, before the release is made. First result.

        Asked once in the life of a process for each service that has a package, and again after a
        failure. It may be installed already; it is never upgraded.

        Raises:
            InstallError: it can't be installed now; the text holds the package manager's last lines.
        """

    @hookspec
    def gitopper_check(self, request: CheckRequest) -> Accepted | None:
        """Judge a release before it is published. All must agree. None: nothing that this plugin judges.

        Raises:
            CheckError: it is not fit (`retryable=False`: it is remembered, and not tried again), or
                can't be judged now (`retryable=True`). The text holds the checker's own words.
        """

    @hookspec
    def gitopper_health(self, request: HealthRequest) -> Accepted | None:
        """Look whether a service is healthy, once. All must agree. None: nothing that this plugin watches.

        Raises:
            HealthError: it is not, as yet; the text tells what was seen.
        """

    @hookspec(firstresult=True)
    def gitopper_drift(self, request: DriftRequest) -> Drift | None:
        """Compare the files of a release with its revision. First result.

        Raises:
            CheckoutError: they can't be compared.
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
