"""What a plugin answers is looked at where it answers, so that its mistakes are told in its name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import pluggy

from libgitopper.access import Identity
from libgitopper.errors import PluginError
from libgitopper.hookspecs import HOOKS
from libgitopper.model import Release
from libgitopper.requests import Accepted, Drift, Hold, Installed, Published, Reloaded

__all__ = ["DUE", "answer_for", "unmarked"]

DUE: Mapping[str, tuple[type, ...]] = {
    "gitopper_checkout": (Release,),
    "gitopper_mount": (Published,),
    "gitopper_reload": (Reloaded,),
    "gitopper_hold": (Hold,),
    "gitopper_verify": (Accepted,),
    "gitopper_install": (Installed,),
    "gitopper_check": (Accepted,),
    "gitopper_health": (Accepted,),
    "gitopper_drift": (Drift,),
    "gitopper_auth": (Identity,),
    "gitopper_auth_settings": (list, tuple),
}
"""What may come from a hook beside None. A `Store` is whatever has its members."""


def answer_for(implementation: pluggy.HookImpl, hook: str) -> None:
    """Have the plugin of `implementation` answer for what it returns, and for ending the program.

    From then on both are a `PluginError` that names it. A wrapper answers for others, and is left alone.
    """
    if implementation.wrapper or implementation.hookwrapper:
        return
    # pluggy has no place of its own between itself and one plugin.
    answering = cast("Any", implementation)
    answering.function = _answering(implementation.function, hook, implementation.plugin_name)


def _answering(function: Callable[..., Any], hook: str, plugin: str) -> Callable[..., Any]:
    due = DUE.get(hook)

    @functools.wraps(function)
    def answer(*arguments: object) -> object:
        try:
            found = function(*arguments)
        except SystemExit as exc:
            raise PluginError(
                f"plugin {plugin!r} wants to end the program ({exc!r}) in {hook}; mend the plugin"
            ) from exc
        if due and found is not None and not isinstance(found, due):
            names = " or ".join(kind.__name__ for kind in due)
            raise PluginError(
                f"plugin {plugin!r} answers {hook} with {type(found).__name__}, where {names} or None is"
                " due; mend the plugin"
            )
        return found

    return answer


def unmarked(plugin: object, marked: Callable[[str], bool]) -> str:
    """Return what of `plugin` looks like a hook and would be none, silently; empty: nothing does."""
    for hook in HOOKS:
        found = inspect.getattr_static(plugin, hook, None)
        if found is None:
            continue
        if not marked(hook):
            return f"has {hook}, and does not mark it with libgitopper.hookimpl, so that nobody calls it"
        if inspect.isclass(plugin) and inspect.isfunction(found):
            return "is a class, and its hooks need an instance: name one, as `plugin = MyPlugin()`"
    return ""
