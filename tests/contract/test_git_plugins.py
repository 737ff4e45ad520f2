"""The builtin git plugin keeps the contracts of fetch and checkout."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Hooks
from libgitopper.testing.drift import ChangesContract, DriftContract
from libgitopper.testing.git import CheckoutContract, FetchContract
from libgitopper.testing.history import HistoryContract


@pytest.fixture
def dulwich_plugin() -> Iterator[DulwichPlugin]:
    plugin = DulwichPlugin()
    yield plugin
    plugin.close()


class TestDulwichFetch(FetchContract):
    @pytest.fixture
    def plugin(self, dulwich_plugin: DulwichPlugin) -> object:
        return dulwich_plugin


class TestDulwichCheckout(CheckoutContract):
    @pytest.fixture
    def plugin(self, dulwich_plugin: DulwichPlugin) -> object:
        return dulwich_plugin


class TestDulwichHistory(HistoryContract):
    @pytest.fixture
    def plugin(self, dulwich_plugin: DulwichPlugin) -> object:
        return dulwich_plugin


class TestDulwichChanges(ChangesContract):
    @pytest.fixture
    def plugin(self, dulwich_plugin: DulwichPlugin) -> object:
        return dulwich_plugin


class TestDulwichDrift(DriftContract):
    @pytest.fixture
    def plugin(self, dulwich_plugin: DulwichPlugin) -> object:
        return dulwich_plugin


def test_entry_point_names_the_plugin() -> None:
    (point,) = entry_points(group="gitopper", name="dulwich")
    hooks = Hooks()
    hooks.register(point.load(), name=point.name)
    assert hooks.names == ("dulwich",)
