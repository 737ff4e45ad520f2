"""What the contract suites of all hooks have in common."""

from __future__ import annotations

import os

import pytest

from libgitopper import Hooks

__all__ = ["PluginContract", "needs_root"]

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: run the tests as root to include this one"
)


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
