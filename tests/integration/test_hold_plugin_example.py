"""The example of a hold plugin: built as a wheel, installed in a fresh environment, used for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.examples import install
from tests.support.site import Site


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("hold-plugin", tmp_path_factory.mktemp("environment"))


@pytest.fixture
def holding(site: Site, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that runs in that environment, with two services deployed."""
    monkeypatch.setenv("GITOPPER_HOLD_DIRECTORY", str(site.home / "hold.d"))
    (site.home / "hold.d").mkdir()
    site.commit()
    site.commit("db")
    site.configure("web", "db")
    site.daemon.python = environment / "bin" / "python"
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        daemon.wait_for("db", "OK")
        yield daemon


def test_a_commit_waits_while_there_is_a_file_and_comes_when_it_is_gone(
    site: Site, holding: Daemon
) -> None:
    hold = site.home / "hold.d" / "web"
    hold.write_text("moving the database, ask Ada\nand more\n")
    site.commit("db", "2")
    new = site.commit("web", "2")
    told = f"{new[:12]} waits: moving the database, ask Ada ({hold})"
    assert holding.wait_for("web", "DIFF", info="waits")["stateinfo"] == told
    holding.wait_for("db", "OK", new)
    assert (site.shown("web"), site.shown("db")) == ("1", "2")
    hold.unlink()
    holding.wait_for("web", "OK", new)
    assert site.shown("web") == "2"


def test_one_file_holds_every_service(site: Site, holding: Daemon) -> None:
    hold = site.home / "hold.d" / "all"
    hold.touch()
    site.commit("db", "2")
    site.commit("web", "2")
    for service in ("web", "db"):
        holding.wait_for(service, "DIFF", info=f"waits: {hold} is there")
        assert site.shown(service) == "1"


def test_what_can_not_be_read_holds_too(site: Site, holding: Daemon) -> None:
    (site.home / "hold.d" / "web").mkdir()
    site.commit("web", "2")
    holding.wait_for("web", "DIFF", info="Is a directory")
    assert site.shown("web") == "1"
