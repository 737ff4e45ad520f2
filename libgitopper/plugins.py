"""Finding the plugins that are installed, builtin ones among them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from attrs import evolve

from libgitopper.errors import PluginError, told
from libgitopper.hooks import BrokenPlugin, Hooks
from libgitopper.hookspecs import PROJECT

__all__ = ["load_plugins"]

RESERVED = "gitopperd."

log = logging.getLogger(__name__)


def load_plugins(found: Iterable[EntryPoint] | None = None) -> Hooks:
    """Load every plugin registered under the entry point group ``gitopper``, one by one.

    Raises:
        PluginError: a plugin implements no hook, or one that does not exist: it was written for
            something else, and would be silently without effect. Or its name is taken.
    """
    hooks = Hooks()
    points = entry_points(group=PROJECT) if found is None else found
    for point in sorted(points, key=lambda p: p.name):
        distribution = point.dist.name if point.dist else "an unknown distribution"
        try:
            plugin = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 - a plugin may fail in any way; it is reported
            reason = told(exc)
            broken = BrokenPlugin(name=point.name, distribution=distribution, reason=reason)
            hooks = evolve(hooks, broken=(*hooks.broken, broken))
            log.warning("%s", broken)
            continue
        if point.name.startswith(RESERVED):
            raise PluginError(
                f"plugin {point.name!r} of {distribution}: names that begin with {RESERVED!r} are those of"
                " the daemon's own observers; rename it"
            )
        hooks.register(plugin, name=point.name, distribution=distribution)
    return hooks
