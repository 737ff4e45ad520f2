"""The example of a check plugin: built as a wheel, installed in a fresh environment, used for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.examples import install
from tests.support.site import Site

CONFLICT = "keep\n<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> feature\n"
NONE = "Heading\n=======\n\n<<<<<<< not one\n\n    >>>>>>> nor this\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("check-plugin", tmp_path_factory.mktemp("environment"))


def test_a_commit_with_a_conflict_is_not_published_and_the_next_one_is(
    site: Site, environment: Path
) -> None:
    good = site.commit("web", NONE)
    site.configure("web")
    site.daemon.python = environment / "bin" / "python"
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", good)
        bad = site.commit("web", CONFLICT)
        told = daemon.wait_for("web", "BROKEN", info="a merge conflict that nobody resolved")
        assert bad[:12] in str(told["stateinfo"])
        assert ":2: a merge conflict" in str(told["stateinfo"])
        assert told["hash"] == good
        assert site.shown("web") == NONE
        mended = site.commit("web", "mended\n")
        daemon.wait_for("web", "OK", mended)
        assert site.shown("web") == "mended\n"
