"""Killed in one deploy, and again in the next, before that is published: what was seen does not go away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.simulated import BRANCH, Crash
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import made_ill


def killed(host: SimulatedHost, step: str, when: str) -> None:
    """Make a pass that ends at `step`, and start again."""
    host.script.on(step, Crash(), when=when)
    with pytest.raises(Crash):
        host.pass_(host.service())
    host.script.clear()
    host.restart()


def test_there_is_no_way_back_past_a_release_that_was_shown(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    killed(host, "publish web", "after")
    assert host.read(web) == "2"
    third = host.upstream.commit({"web/conf": "3"})
    killed(host, "publish web", "before")
    assert host.read(web) == "2"
    host.reconciler.restore(web)
    assert host.read(web) == "3"
    host.pass_(web)
    host.assert_in_line(web, third)


def test_a_release_that_can_not_be_shown_any_more_gives_way_to_what_is_deployed(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    killed(host, "publish web", "after")
    host.upstream.commit({"web/conf": "3"})
    killed(host, "publish web", "before")
    attempt = host.state.attempt("web")
    assert attempt is not None
    shutil.rmtree(attempt.release_path)
    host.reconciler.restore(web)
    assert host.read(web) == "1"
    deployed = host.state.deployed("web")
    assert deployed is not None
    assert deployed.revision == first


def test_a_release_that_is_to_be_taken_back_is_not_shown_again(host: SimulatedHost) -> None:
    web = host.service()
    first = host.upstream.branches[BRANCH][-1]
    host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    killed(host, "publish web", "after")
    host.roll_back(web, first)
    killed(host, "publish web", "before")
    host.reconciler.restore(web)
    assert host.read(web) == "1"


def test_there_is_no_way_forward_to_a_release_that_was_rejected(host: SimulatedHost) -> None:
    """Killed before it was taken back; and then somebody put a release of an earlier time there by hand."""
    web, _, _ = made_ill(host)
    host.script.on("reject web", Crash(), when="after")
    with pytest.raises(Crash):
        host.pass_(web)
    host.restart()
    assert host.read(web) == "ill"
    publisher, name, _, link = host.mounts.shown[Path("/etc/web")]
    host.mounts.shown[Path("/etc/web")] = publisher, name, "earlier", link
    host.reconciler.restore(web)
    assert host.read(web) == "1"
