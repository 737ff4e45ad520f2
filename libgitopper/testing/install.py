"""The contract of `gitopper_install`, as tests to run on a plugin of your own.

    class TestZypper(InstallContract):
        @pytest.fixture
        def plugin(self):
            return gitopper_zypper

        @pytest.fixture
        def there(self):
            return "bash"

        ...

Each fixture is the name of a package on the host that the tests run on, which they change: take one that
can be thrown away, or simulate the package manager.
"""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

import pytest

from libgitopper import Hooks, InstallError, InstallRequest
from libgitopper.testing.contract import PluginContract
from libgitopper.testing.reload import service_for_tests

__all__ = ["InstallContract", "install_request"]


def install_request(package: str) -> InstallRequest:
    """Return the request for a service ``app`` that needs `package`."""
    return InstallRequest(service=service_for_tests("app", package=package))


class InstallContract(PluginContract):
    """Subclass it, name the subclass ``Test...``, and give it the fixtures."""

    @pytest.fixture
    def there(self) -> str:
        """A package that is installed; a newer version of it may be available."""
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> str:
        """A package that is not installed, and can be."""
        raise NotImplementedError

    @pytest.fixture
    def impossible(self) -> str:
        """The name of a package that does not exist."""
        raise NotImplementedError

    def test_a_package_that_is_there_stays_as_it_is(self, hooks: Hooks, there: str) -> None:
        """Nothing is done, so nothing is told."""
        assert hooks.install(install_request(there)).did == ""

    def test_one_that_is_missing_is_installed_once(self, hooks: Hooks, missing: str) -> None:
        """The first answer names what was done, for the log; a restart of the daemon asks again."""
        done = hooks.install(install_request(missing)).did
        assert missing in done
        assert "\n" not in done
        assert hooks.install(install_request(missing)).did == ""

    def test_one_that_does_not_exist_is_told_of(self, hooks: Hooks, impossible: str) -> None:
        """One line, which names the package; and it may come to exist, so a retry can help."""
        with pytest.raises(InstallError) as caught:
            hooks.install(install_request(impossible))
        assert impossible in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.retryable
