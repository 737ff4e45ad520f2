"""Fetch, checkout and drift on dulwich: bare stores with partial clones, releases as linked work trees.

Takes http, https, ssh, git and file upstreams. ``git`` is used where it is installed, and not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gitopper_plugins.dulwich.hooks import DulwichPlugin, plugin

__all__ = ["DulwichPlugin", "plugin"]


def __getattr__(name: str) -> Any:
    """The plugin, loaded when it is asked for: the fetcher, which lives here too, has to stay small."""
    if name in __all__:
        from gitopper_plugins.dulwich import hooks

        return getattr(hooks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
