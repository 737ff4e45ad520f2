"""One Unix socket, one daemon: a second one does not take it away, nor what is not its own at its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.site import Site
from tests.support.site import site as make_site


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Site]:
    """A second host in one, with a state and services of its own."""
    with make_site(tmp_path / "other") as made:
        yield made


def answering_at(site: Site, *names: str) -> Daemon:
    site.configure(*names)
    for name in names:
        site.commit(name)
    return site.daemon


def test_a_second_daemon_is_refused_and_the_first_one_goes_on(site: Site, other: Site) -> None:
    socket = site.home / "gitopperd.sock"
    second = answering_at(other, "db")
    second.arguments = ("--socket", str(socket))
    with answering_at(site, "web") as first:
        with pytest.raises(AssertionError, match="gitopperd ended"):
            second.start()
        assert second.process is not None
        assert second.process.wait(10) == 1
        assert f"can't listen on {socket}: another gitopperd answers there" in second.text()
        assert [one["service"] for one in first.get("/list/services")["services"]] == ["web"]
    second.process = None
    with second:
        second.home = site.home  # where its socket is
        assert [one["service"] for one in second.get("/list/services")["services"]] == ["db"]


def test_what_a_crash_left_is_no_obstacle(site: Site) -> None:
    socket = site.home / "gitopperd.sock"
    daemon = answering_at(site, "web").start()
    daemon.stop(signal.SIGKILL)
    assert socket.is_socket()
    with daemon:
        daemon.wait_for("web", "OK")
        daemon.stop()
    assert not socket.exists()


def test_a_socket_that_somebody_else_put_there_is_not_removed(site: Site) -> None:
    socket = site.home / "gitopperd.sock"
    with answering_at(site, "web") as daemon:
        socket.unlink()
        socket.write_text("somebody else's")
        daemon.stop()
    assert socket.read_text() == "somebody else's"


def test_what_is_no_socket_is_left_where_it_is(site: Site) -> None:
    precious = site.home / "gitopper.toml.bak"
    precious.write_text("keep")
    daemon = answering_at(site, "web")
    daemon.arguments = ("--socket", str(precious))
    with pytest.raises(AssertionError, match="gitopperd ended"):
        daemon.start()
    assert f"can't listen on {precious}: something else is there, which is no socket" in daemon.text()
    assert precious.read_text() == "keep"
    assert sorted(site.home.glob("gitopper.toml.bak*")) == [precious]
