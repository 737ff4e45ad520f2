from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gitserver import HttpServer, http_server
from tests.support.secrets import leaks
from tests.support.signing import GpgHome, GpgKey, SshKey, gpg_home
from tests.support.site import Site
from tests.support.site import site as make_site
from tests.support.upstream import Upstream
from tests.support.verifying import VerifyingHost, verifying_host


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """An upstream with one commit, of two directories."""
    upstream = Upstream.create(tmp_path / "upstreams")
    upstream.commit({"web/index": "1", "other/file": "1"})
    return upstream


@pytest.fixture
def server(upstream: Upstream) -> Iterator[HttpServer]:
    """A real git server for it."""
    with http_server(upstream.path.parent) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An upstream behind a real http server, and a gitopperd that is not started yet."""
    with make_site(tmp_path) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def _no_secret_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After all tests of this process: what daemons logged and kept holds none of their secrets."""
    yield
    assert not leaks(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    """Somebody with an ssh key."""
    return SshKey.make(tmp_path_factory.mktemp("alice"))


@pytest.fixture(scope="module")
def mallory(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    """Somebody else with an ssh key."""
    return SshKey.make(tmp_path_factory.mktemp("mallory"))


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgHome]:
    """Where the OpenPGP keys of a module are."""
    with gpg_home() as home:
        yield home


@pytest.fixture(scope="module")
def bob(gpg: GpgHome) -> GpgKey:
    """Somebody with an OpenPGP key."""
    return gpg.key("bob")


@pytest.fixture(scope="module")
def eve(gpg: GpgHome) -> GpgKey:
    """Somebody else with an OpenPGP key."""
    return gpg.key("eve")


@pytest.fixture
def verifying(tmp_path: Path) -> Iterator[VerifyingHost]:
    """A host that verifies; nobody is trusted yet."""
    with verifying_host(tmp_path) as host:
        yield host
