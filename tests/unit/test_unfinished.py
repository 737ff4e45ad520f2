"""A release that is published and not taken: what is told is what the service's files are of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libgitopper import Compared, Inspector, Mapping, ReloadError, Service, State
from tests.support.simulatedhost import SimulatedHost

REFUSED = ReloadError("exit code 1")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    made = SimulatedHost(tmp_path)
    made.upstream.commit({"web/conf": "1"})
    yield made
    made.close()


def refused(host: SimulatedHost, web: Service) -> tuple[str, str]:
    """Deploy, and then have a reload fail; return both commits."""
    first = host.deploy(web)
    second = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", REFUSED)
    host.pass_(web)
    assert host.read(web) == "2"
    return first, second


def inspector(host: SimulatedHost) -> Inspector:
    return Inspector(hooks=host.hooks, state=host.state, reconciler=host.reconciler, now=host.now)


def test_after_a_failed_reload_the_commit_that_is_published_is_told(host: SimulatedHost) -> None:
    web = host.service()
    first, second = refused(host, web)
    outcome = host.pass_(web)
    assert outcome.shown is not None
    assert (outcome.shown.revision, outcome.deployed and outcome.deployed.revision) == (second, first)
    assert host.told(outcome) == (State.BROKEN, "reload failed: exit code 1")
    host.restart()
    known = host.reconciler.known(web)
    assert known.shown is not None
    assert known.shown.revision == second, "also by a process that knows it from its disk alone"


def test_what_was_not_published_is_not_told(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.mounts.in_the_way.add(Path("/etc/web"))
    outcome = host.pass_(web)
    assert host.state.attempt("web") is not None
    assert outcome.shown is not None
    assert outcome.shown.revision == first
    assert host.read(web) == "1"


def test_nothing_comes_where_all_is_published_that_there_is(host: SimulatedHost) -> None:
    web = host.service()
    _, second = refused(host, web)
    found = inspector(host).upstream(web, host.fetch(web))
    assert (found.kind, found.before, found.after, found.changes) == (Compared.UPSTREAM, second, second, ())
    behind = inspector(host).behind(web, host.fetch(web))
    assert behind is not None
    assert behind.commits == 0


def test_drift_that_is_asked_for_is_that_of_the_published_files(host: SimulatedHost) -> None:
    web = host.service()
    _, second = refused(host, web)
    host.edit(web, "web/conf", "edited")
    found = inspector(host).drift(web, host.fetch(web))
    assert (found.before, [change.path for change in found.changes]) == (second, ["web/conf"])


def test_a_freeze_keeps_what_is_published_and_the_reload_is_owed_all_the_same(host: SimulatedHost) -> None:
    web = host.service()
    _, second = refused(host, web)
    host.freeze(web)
    host.upstream.commit({"web/conf": "3"})
    assert host.told(host.pass_(web))[0] is State.BROKEN
    host.script.clear()
    assert host.told(host.pass_(web))[0] is State.FREEZE
    host.assert_in_line(web, second)


def test_a_freeze_keeps_what_is_published_also_where_the_paths_are_changed(host: SimulatedHost) -> None:
    """The release is looked for where it was published, not where it would be now."""
    web = host.service()
    _, second = refused(host, web)
    host.freeze(web)
    host.script.clear()
    moved = host.service(links={"/srv/web": "web"})
    assert moved.mappings == (Mapping(link="web", local=Path("/srv/web")),)
    assert host.told(host.pass_(moved))[0] is State.FREEZE
    host.assert_in_line(moved, second)


def test_a_deploy_under_way_is_neither_a_freeze_nor_a_rollback_that_is_done(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    second = host.upstream.commit({"web/conf": "2"})
    told: list[tuple[State, str]] = []

    def look() -> None:
        for want in (host.freeze, lambda web: host.roll_back(web, first)):
            want(web)
            told.append(host.told(host.reconciler.known(web)))

    host.script.on("reload web", look)
    host.pass_(web)
    unfinished = f"{second[:12]} is published, and its deploy is not finished"
    assert told[0] == (State.DIFF, f"frozen; {unfinished}")
    assert told[1] == (State.ROLLBACK, f"to {first}; {unfinished}")
