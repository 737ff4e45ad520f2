"""The typed facade over pluggy: one method for each job.

The rest of the library calls these methods and never pluggy, so that every job that no plugin
takes becomes one clear error.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeVar

import pluggy
from attrs import field, frozen

from libgitopper.access import AuthRequest, Identity
from libgitopper.answering import answer_for, misfit, unmarked
from libgitopper.errors import PluginError, PublishError
from libgitopper.hookspecs import HOOKS, PROJECT, Specs
from libgitopper.model import Release, Service
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
    MountVerb,
    Published,
    Reloaded,
    ReloadRequest,
    VerifyRequest,
)
from libgitopper.safeguards import DriftPolicy

__all__ = ["BrokenPlugin", "Hooks"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@frozen(kw_only=True)
class BrokenPlugin:
    """A plugin that could not be loaded; the others are not affected."""

    name: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} can't be loaded: {self.reason}"


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    return manager


@frozen(kw_only=True)
class Hooks:
    """Every job a plugin can do, as a typed method."""

    manager: pluggy.PluginManager = field(factory=_new_manager)
    broken: tuple[BrokenPlugin, ...] = ()
    """What could not be loaded; named when a job finds nobody to take it."""
    _from: dict[str, str] = field(factory=dict, alias="origins")
    """Name of each plugin to the distribution that it came with."""

    def register(
        self, plugin: object, *, name: str | None = None, distribution: str = "this program"
    ) -> None:
        """Add a plugin: a module, or any object with hook implementations.

        Raises:
            PluginError: it implements no hook, or one that does not exist, or can't be called as
                specified.
        """
        who = name or _name_of(plugin)
        if plugin is None:
            raise PluginError(f"plugin {who!r} of {distribution} is None; name a module, or an instance")
        if (twin := self.manager.get_name(plugin)) and twin != who:
            raise PluginError(
                f"plugin {who!r} of {distribution}: the same is registered already as {twin!r} of"
                f" {self._from.get(twin, 'this program')}; remove one of the two"
            )
        if self.manager.has_plugin(who):
            raise PluginError(
                f"plugin {who!r} of {distribution}: {self._from.get(who, 'this program')} has one of that"
                " name already, and a config tells them apart by their names; rename one"
            )
        try:
            self.manager.register(plugin, name=who)
        except (pluggy.PluginValidationError, ValueError) as exc:
            raise PluginError(f"plugin {who!r} of {distribution}: {' '.join(str(exc).split())}") from exc
        try:
            self._validate(plugin)
        except PluginError as exc:
            # Left in, it would fail the next plugin that is registered.
            self.manager.unregister(plugin)
            raise PluginError(f"plugin {who!r} of {distribution} {exc}") from exc.__cause__
        self._from[who] = distribution

    def _validate(self, plugin: object) -> None:
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError as exc:
            # Without the plugin's repr, which may hold a secret.
            unknown, _, _ = str(exc).partition(" in plugin ")
            raise PluginError(f"can't be used: {unknown}; name it as one of: {', '.join(HOOKS)}") from exc
        own = [
            (caller.name, implementation)
            for caller in self.manager.get_hookcallers(plugin) or ()
            for implementation in caller.get_hookimpls()
            if implementation.plugin is plugin
        ]
        if not own:
            raise PluginError(
                f"implements no hook; mark its functions with libgitopper.hookimpl,"
                f" and name them as one of: {', '.join(HOOKS)}"
            )
        marked = {hook for hook, _ in own}
        if trouble := unmarked(plugin, marked.__contains__):
            raise PluginError(trouble)
        for hook, implementation in own:
            if trouble := misfit(implementation, hook):
                raise PluginError(trouble)
        for hook, implementation in own:
            answer_for(implementation, hook)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the plugins that are registered, sorted."""
        return tuple(sorted(name for name, _ in self.manager.list_name_plugin()))

    def doing(self, hook: str) -> tuple[str, ...]:
        """Names of the plugins that implement a hook, as ``"gitopper_mount"``, sorted."""
        implementations = getattr(self.manager.hook, hook).get_hookimpls()
        return tuple(sorted(implementation.plugin_name for implementation in implementations))

    def tell_doing(self, hook: str) -> str:
        """The same in words, for who looked for another one; with those that could not be loaded."""
        return "; ".join([", ".join(self.doing(hook)) or "none", *map(str, self.broken)])

    def fetch(self, request: FetchRequest) -> Store:
        """Bring the store of an upstream up to date (or open it), and return it."""
        store: Store | None = self.manager.hook.gitopper_fetch(request=request)
        return self._answered(store, "gitopper_fetch", f"upstream {request.upstream}")

    def checkout(self, request: CheckoutRequest) -> Release:
        """Return the complete release that was asked for."""
        release: Release | None = self.manager.hook.gitopper_checkout(request=request)
        return self._answered(release, "gitopper_checkout", f"service {request.service.name}")

    def publish(self, service: Service, release: Release) -> Published:
        """Show `release` at the mappings of `service`.

        Raises:
            PublishError: it can't be shown; or the plugin, asked to show it, tells that it is not shown.
        """
        published = self._mount(MountRequest(service=service, verb=MountVerb.PUBLISH, release=release))
        if published.release != release.id:
            shown = f"release {published.release}" if published.release else "none"
            raise PublishError(
                f"publish = {service.publish!r}: its plugin was to show release {release.id}, and says that"
                f" it shows {shown}; mend the plugin"
            )
        return published

    def judge(self, service: Service, release: Release, former: Service) -> None:
        """See to it that `release` can be shown once `former` is withdrawn.

        Raises:
            PublishError: it can't.
        """
        self._mount(MountRequest(service=service, verb=MountVerb.JUDGE, release=release, former=former))

    def withdraw(self, service: Service, *, keep_live: bool = False) -> Published:
        """Stop showing a release at the mappings of `service`."""
        verb = MountVerb.WITHDRAW
        return self._mount(MountRequest(service=service, verb=verb, keep_live=keep_live))

    def observe(self, service: Service) -> Published:
        """Tell what stands at the mappings of `service`."""
        return self._mount(MountRequest(service=service, verb=MountVerb.OBSERVE))

    def reload(self, request: ReloadRequest) -> Reloaded:
        """Make the service take its release."""
        reloaded: Reloaded | None = self.manager.hook.gitopper_reload(request=request)
        return self._answered(reloaded, "gitopper_reload", f"reload = {request.service.reload!r}")

    def hold(self, request: HoldRequest) -> Hold | None:
        """Return the first reason for which new content must wait; None when it need not."""
        holds: list[Hold] = self.manager.hook.gitopper_hold(request=request)
        return holds[0] if holds else None

    def verify(self, request: VerifyRequest) -> tuple[Accepted, ...]:
        """Ask every plugin whether the service may go to the revision."""
        answers: list[Accepted] = self.manager.hook.gitopper_verify(request=request)
        return self._judged(answers, "gitopper_verify", request.service, "verify", "no_rewind")

    def install(self, request: InstallRequest) -> Installed:
        """Have the package of the service installed."""
        installed: Installed | None = self.manager.hook.gitopper_install(request=request)
        return self._answered(installed, "gitopper_install", f"package {request.service.package!r}")

    def check(self, request: CheckRequest) -> tuple[Accepted, ...]:
        """Ask every plugin whether the release is fit to be published."""
        answers: list[Accepted] = self.manager.hook.gitopper_check(request=request)
        return self._judged(answers, "gitopper_check", request.service, "check")

    def health(self, request: HealthRequest) -> tuple[Accepted, ...]:
        """Ask every plugin whether the service is healthy now; no answer means that nobody watches."""
        answers: list[Accepted] = self.manager.hook.gitopper_health(request=request)
        return self._judged(answers, "gitopper_health", request.service, "health")

    def drift(self, request: DriftRequest) -> Drift | None:
        """Compare the files of a release with its revision; None where no plugin can.

        Raises:
            PluginError: no plugin can, and the service asks for it to be healed.
        """
        drift: Drift | None = self.manager.hook.gitopper_drift(request=request)
        if request.service.drift is DriftPolicy.HEAL:
            return self._answered(drift, "gitopper_drift", f"service {request.service.name}")
        return drift

    def identify(self, request: AuthRequest) -> Identity | None:
        """Ask the auth plugin that `request` names who is asking.

        Raises:
            AccessDenied: it refuses.
            PluginError: there is no such plugin, or it does not do auth.
        """
        implementation = self._of(self.manager.hook.gitopper_auth, request.plugin)
        if implementation is None:
            return self._answered(None, "gitopper_auth", f"auth plugin {request.plugin!r}")
        identity: Identity | None = _call(implementation, request=request)
        return identity

    def auth_problems(self, plugin: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what is wrong with the settings of an auth plugin, a line each: ``key: what is wrong``."""
        if self._of(self.manager.hook.gitopper_auth, plugin) is None:
            return (f"no such auth plugin; installed: {self.tell_doing('gitopper_auth')}",)
        judge = self._of(self.manager.hook.gitopper_auth_settings, plugin)
        if judge is None:
            return ()
        try:
            return tuple(str(problem) for problem in _call(judge, plugin=plugin, settings=settings) or ())
        except Exception as exc:
            # Its text is not shown: it may quote a secret of the table.
            log.exception("auth plugin %r failed to judge its settings", plugin)
            return (
                f"its plugin failed to judge it: {type(exc).__name__}; see the log, and mend the plugin",
            )

    def event(self, event: Event) -> None:
        """Tell every observer; what one raises is logged, and the others still hear of it."""
        for implementation in self.manager.hook.gitopper_event.get_hookimpls():
            try:
                implementation.function(*(event for _ in implementation.argnames))
            except Exception:
                log.exception("plugin %r failed to observe %s", implementation.plugin_name, event.kind)

    @staticmethod
    def _of(hook: pluggy.HookCaller, plugin: str) -> pluggy.HookImpl | None:
        """Return the implementation of `hook` by the plugin of that name."""
        return next((impl for impl in hook.get_hookimpls() if impl.plugin_name == plugin), None)

    def _mount(self, request: MountRequest) -> Published:
        published: Published | None = self.manager.hook.gitopper_mount(request=request)
        return self._answered(published, "gitopper_mount", f"publish = {request.service.publish!r}")

    def _judged(
        self, answers: list[Accepted], hook: str, service: Service, *settings: str
    ) -> tuple[Accepted, ...]:
        """Return `answers`, once somebody judged by each of `settings` that the service has."""
        judged = {setting for answer in answers for setting in answer.judged}
        for setting in settings:
            if getattr(service, setting) and setting not in judged:
                self._answered(None, hook, f"{setting!r} of service {service.name}")
        return tuple(answers)

    def _answered(self, answer: T | None, hook: str, job: str) -> T:
        if answer is not None:
            return answer
        raise PluginError(f"no plugin takes {hook} for {job}; asked: {self.tell_doing(hook)}")


def _call(implementation: pluggy.HookImpl, **arguments: object) -> Any:
    """Call one implementation with those arguments that it takes."""
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def _name_of(plugin: object) -> str:
    if isinstance(plugin, ModuleType) or inspect.isclass(plugin):
        return plugin.__name__
    return type(plugin).__name__
