"""What the contract suites of all hooks have in common."""

from __future__ import annotations

import pytest

from libgitopper import Hooks

__all__ = ["PluginContract"]


class PluginContract:
    """A plugin, and how the library calls it. Each suite is a subclass."""

    @pytest.fixture
    def plugin(self) -> object:
        """The plugin under test, a module or an object: override this."""
        raise NotImplementedError

    @pytest.fixture
    def hooks(self, plugin: object) -> Hooks:
        """The plugin as the library calls it."""
        hooks = Hooks()
        hooks.register(plugin)
        return hooks
