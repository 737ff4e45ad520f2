from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site
from tests.support.site import site as make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An upstream behind a real http server, and a gitopperd that is not started yet."""
    with make_site(tmp_path) as made:
        yield made
