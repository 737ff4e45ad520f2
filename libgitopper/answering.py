"""What a plugin answers is looked at where it answers, so that its mistakes are told in its name."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import pluggy

from libgitopper.access import Identity
from libgitopper.errors import GitopperError, PluginError
from libgitopper.hookspecs import HOOKS, Specs
from libgitopper.model import Release
from libgitopper.requests import Accepted, Drift, Hold, Installed, Published, Reloaded

__all__ = ["DUE", "answer_for", "misfit", "unmarked"]

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

ONE_BY_ONE = ("gitopper_auth", "gitopper_auth_settings", "gitopper_event")
"""Hooks that are asked of one plugin at a time, past pluggy and its wrappers."""


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
        except Exception as exc:
            if _has_words(exc):
                _sign(exc, f"in {hook} of plugin {plugin!r}")
                raise
            raise PluginError(
                f"plugin {plugin!r} raises {type(exc).__name__} in {hook}, whose text can't be had;"
                " mend the plugin"
            ) from exc
        # All else would end more than the call: the program, or who waits for the answer in silence.
        except BaseException as exc:
            if _is_from_outside(exc):
                raise
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


def _has_words(exc: Exception) -> bool:
    """Tell whether the text of `exc` can be shown; whoever shows it would fail in its stead."""
    try:
        str(exc)
    except Exception:  # noqa: BLE001 - it is a stranger's code
        return False
    return True


def _sign(exc: Exception, note: str) -> None:
    """Have `unforeseen`, and the traceback, tell of `note`, where `exc` was not raised on purpose."""
    if not isinstance(exc, GitopperError) and note not in getattr(exc, "__notes__", ()):
        exc.add_note(note)


def _is_from_outside(exc: BaseException) -> bool:
    """Tell Ctrl-C, which reaches the main thread alone, whatever is at work there."""
    return isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def misfit(implementation: pluggy.HookImpl, hook: str) -> str:
    """Return why `implementation` would be called in vain, or without what it asks for; empty: it fits."""
    function, wraps = implementation.function, implementation.wrapper or implementation.hookwrapper
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"has {hook} as `async def`, and hooks are synchronous; write `def`"
    if inspect.isgeneratorfunction(function) and not wraps:
        return f"has a `yield` in {hook}, so that nothing of it would run; return the answer"
    if wraps and hook in ONE_BY_ONE:
        return f"wraps {hook}, which is asked of one plugin at a time, so that nobody calls a wrapper"
    given = implementation.argnames
    due = list(inspect.signature(getattr(Specs, hook)).parameters)[1:]
    # pluggy gives nothing by keyword, and nothing to a parameter that has a default.
    odd = [str(p) for name, p in inspect.signature(function).parameters.items() if name not in given]
    if odd and not set(due) <= set(given):
        return f"is never given `{', '.join(odd)}` in {hook}; write `def {hook}({', '.join(due)})`"
    return ""


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
