"""What a plugin answers is looked at where it answers, so that its mistakes are told in its name."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from traceback import extract_tb
from types import CodeType, GeneratorType
from typing import Any, cast

import pluggy
from attrs import frozen

from libgitopper.access import Identity
from libgitopper.errors import GitopperError, PluginError
from libgitopper.hookspecs import HOOKS, Specs
from libgitopper.model import Release
from libgitopper.requests import Accepted, Drift, Hold, Installed, Published, Reloaded

__all__ = ["DUE", "answer_for", "contained", "misfit", "unmarked"]

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

    From then on both are a `PluginError` that names it. What a wrapper returns is an answer for others, and
    is left alone.
    """
    # pluggy has no place of its own between itself and one plugin.
    answering = cast("Any", implementation)
    wraps = implementation.wrapper or implementation.hookwrapper
    made = _wrapping if wraps else _answering
    answering.function = made(implementation.function, hook, implementation.plugin_name)


@contextmanager
def contained() -> Iterator[None]:
    """Turn what would end more than the call into an error, where no hook is on the way to name its plugin.

    So it is with what a `Store` raises.

    Raises:
        PluginError: that error.
    """
    try:
        yield
    except BaseException as exc:
        if _is_from_outside(exc) or (isinstance(exc, Exception) and not isinstance(exc, StopIteration)):
            raise
        *_, last = extract_tb(exc.__traceback__)
        raise PluginError(
            f"a plugin wants to end more than the call ({exc!r}) at {last.filename}:{last.lineno}; mend it"
        ) from exc


def _answering(function: Callable[..., Any], hook: str, plugin: str) -> Callable[..., Any]:
    due = DUE.get(hook)

    @functools.wraps(function)
    def answer(*arguments: object) -> object:
        try:
            found = function(*arguments)
        except StopIteration as exc:
            # In a future it would leave who waits for it waiting for ever.
            raise PluginError(f"plugin {plugin!r} raises StopIteration in {hook}; mend the plugin") from exc
        except BaseException as exc:
            _answer_for(exc, hook, plugin)
            raise
        if due and found is not None and not isinstance(found, due):
            names = " or ".join(kind.__name__ for kind in due)
            raise PluginError(
                f"plugin {plugin!r} answers {hook} with {type(found).__name__}, where {names} or None is"
                " due; mend the plugin"
            )
        return found

    return answer


def _wrapping(function: Callable[..., Any], hook: str, plugin: str) -> Callable[..., _Wrapper]:
    @functools.wraps(function)
    def wrap(*arguments: object) -> _Wrapper:
        return _Wrapper(inner=function(*arguments), hook=hook, plugin=plugin)

    return wrap


@frozen(kw_only=True, eq=False)
class _Wrapper:
    """The generator of a wrapper, with all that pluggy asks of one."""

    inner: GeneratorType[Any, Any, Any]
    hook: str
    plugin: str

    @property
    def gi_code(self) -> CodeType:
        """By which pluggy names a wrapper that does not yield once."""
        return self.inner.gi_code

    def __next__(self) -> Any:
        return self._step(self.inner.__next__)

    def send(self, value: object) -> Any:
        return self._step(self.inner.send, value)

    def throw(self, exc: BaseException) -> Any:
        return self._step(self.inner.throw, exc)

    def close(self) -> None:
        self._step(self.inner.close)

    def _step(self, step: Callable[..., Any], *given: object) -> Any:
        try:
            return step(*given)
        except StopIteration:  # it has ended, and this is what it answers
            raise
        except BaseException as exc:
            _answer_for(exc, self.hook, self.plugin)
            raise


def _answer_for(exc: BaseException, hook: str, plugin: str) -> None:
    """Have `plugin` answer for `exc`, which it raised or let pass.

    Raises:
        PluginError: in its place, where it would end more than the call, or can't be told.
    """
    if isinstance(exc, Exception):
        if not _has_words(exc):
            raise PluginError(
                f"plugin {plugin!r} raises {type(exc).__name__} in {hook}, whose text can't be had;"
                " mend the plugin"
            ) from exc
        _sign(exc, f"in {hook} of plugin {plugin!r}")
    # All else would end more than the call: the program, or who waits for the answer in silence.
    elif not _is_from_outside(exc):
        raise PluginError(
            f"plugin {plugin!r} wants to end the program ({exc!r}) in {hook}; mend the plugin"
        ) from exc


def _has_words(exc: Exception) -> bool:
    """Tell whether the text of `exc` can be shown; whoever shows it would fail in its stead."""
    try:
        str(exc)
    except Exception:  # noqa: BLE001 - it is a stranger's code
        return False
    return True


def _sign(exc: Exception, note: str) -> None:
    """Have `unforeseen`, and the traceback, tell of `note`, where `exc` was not raised on purpose.

    Only the first one counts: what a wrapper lets pass is another plugin's.
    """
    signed = any(known.startswith("in gitopper_") for known in getattr(exc, "__notes__", ()))
    if not isinstance(exc, GitopperError) and not signed:
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
