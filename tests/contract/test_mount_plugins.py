"""Both builtin mount plugins keep the contract that third parties' are held to."""

from __future__ import annotations

import pytest

from gitopper_plugins import bind, symlink
from libgitopper.testing.mount import MountContract
from tests.support.namespace import in_mount_namespace


class TestSymlink(MountContract):
    publish = "symlink"

    @pytest.fixture
    def plugin(self) -> object:
        return symlink


@in_mount_namespace
class TestBind(MountContract):
    publish = "bind"

    @pytest.fixture
    def plugin(self) -> object:
        return bind
