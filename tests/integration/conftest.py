from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.secrets import leaks
from tests.support.site import Site
from tests.support.site import site as make_site


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
