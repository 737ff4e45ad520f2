"""What failed, and what is not in order, is in what is told of a commit: no deploy is promised in vain."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libgitopper import ChangeKind, Drift, FileChange, Hold, PublishError, SourceHealth, VerifyError
from tests.support.explaining import CHECK, explain, host, inspector
from tests.support.simulated import BRANCH
from tests.support.simulatedhost import SimulatedHost

__all__ = ["host"]  # fixtures


def test_a_deploy_that_failed_and_is_tried_again_is_no_promise(host: SimulatedHost) -> None:
    web = host.service(no_rewind=True)
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    tip = host.upstream.commit({"web/conf": "2"})
    assert "the next pass deploys" in explain(host, web).verdict
    host.script.on("verify web", VerifyError("it is not signed"))
    host.pass_(web)
    assert explain(host, web).verdict == (
        f"{tip[:12]} changes web (1 file); it failed: it is not signed; the next pass tries again"
    )
    host.freeze(web)
    told = explain(host, web, tip).verdict
    assert "it failed: it is not signed; it has to wait for an unfreeze" in told
    host.unfreeze(web)
    host.upstream.commit({"web/conf": "3"})
    assert "the next pass deploys" in explain(host, web).verdict, "that one was not tried yet"


def test_a_path_that_is_missing_is_in_the_history_and_told_once(host: SimulatedHost) -> None:
    web = host.service()
    first = host.upstream.commit({"web/conf": "1", "db/conf": "1"})
    host.deploy(web)
    gone = host.upstream.commit({"web/conf": None})
    host.pass_(web)
    host.pass_(web)
    entry = host.state.deploys("web")[0]
    assert (entry.before, entry.after, entry.result.value, entry.tries) == (first, gone, "failed", 2)
    assert (entry.asked, entry.why) == ("poll", "mapped paths changed")
    assert entry.error.startswith("web: not there")
    verdict = explain(host, web).verdict
    assert verdict.count("web: not there") == 1
    assert verdict.startswith(f"{gone[:12]} can't be deployed: web: not there")


def test_what_failed_is_not_said_of_the_commit_that_is_deployed(host: SimulatedHost) -> None:
    web = host.service(check=CHECK)
    good = host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    bad = host.upstream.commit({"web/conf": "unfit"})
    host.pass_(web)
    assert explain(host, web, good).verdict == (
        f"{good[:12]} is the first commit that has the paths of web; it is deployed;"
        f" {bad[:12]} is not tried again, because its content failed its check as part of {bad[:12]}:"
        " conf:1: unexpected end of file; `do retry` tries it again"
    )


def test_a_rollback_that_failed_its_check_waits_for_no_unfreeze(host: SimulatedHost) -> None:
    web = host.service(check=CHECK)
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    bad = host.upstream.commit({"web/conf": "unfit"})
    host.pass_(web)
    host.roll_back(web, bad)
    host.pass_(web)
    assert explain(host, web, bad).verdict == (
        f"{bad[:12]} changes web (1 file); it is not tried again, because this content failed its check"
        f" as part of {bad[:12]}: conf:1: unexpected end of file; `do retry` tries it again"
    )
    newer = host.upstream.commit({"web/conf": "3"})
    assert f"it has to wait for an unfreeze: rolled back to {bad[:12]}" in explain(host, web, newer).verdict


def test_a_rollback_that_is_still_to_be_made_is_what_the_next_pass_does(host: SimulatedHost) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    newer = host.upstream.commit({"web/conf": "2"})
    host.roll_back(web, newer)
    assert f"; the next pass deploys {newer[:12]}: mapped paths changed: web" in explain(host, web).verdict


def test_what_waits_is_not_said_of_the_commit_that_is_deployed(host: SimulatedHost) -> None:
    web = host.service()
    good = host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    waiting = host.upstream.commit({"web/conf": "2"})
    host.guards.held = Hold(reason="the backup runs")
    host.pass_(web)
    told = explain(host, web, good).verdict
    assert told.endswith(f"; it is deployed; {waiting[:12]} waits: the backup runs")


def test_a_first_deploy_that_failed_is_not_told_as_one_that_touches_nothing(host: SimulatedHost) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1"})
    tip = host.upstream.commit({"other/conf": "1"})
    host.script.on("publish web", PublishError("a file is in the way"))
    host.pass_(web)
    assert explain(host, web).verdict == (
        f"{tip[:12]} changes other paths only; it failed: a file is in the way; the next pass tries again"
    )


def test_a_path_that_comes_back_is_not_told_as_new(host: SimulatedHost) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1", "db/conf": "1"})
    host.deploy(web)
    host.upstream.commit({"web/conf": None})
    back = host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    assert explain(host, web).verdict == (
        f"{back[:12]} brings the paths of web, which the commit before it lacks; it is deployed"
    )


def drifted(*paths: str) -> Drift:
    return Drift(changes=tuple(FileChange(path=path, kind=ChangeKind.EDITED) for path in paths))


@pytest.mark.parametrize(
    ("source", "drift", "told"),
    [
        (
            SourceHealth(polled=True, error="no route"),
            None,
            "upstream can't be asked since the start: no route",
        ),
        (
            SourceHealth(polled=True, error="disk full", last_success=datetime(2026, 1, 2, 3, tzinfo=UTC)),
            None,
            "upstream can't be asked since 2026-01-02T03:00:00Z: disk full",
        ),
        (
            SourceHealth(polled=True),
            drifted("web/conf", "web/b"),
            "drift: web/conf edited, and 1 more file",
        ),
        (
            SourceHealth(polled=True, error="no route"),
            drifted("web/conf"),
            "upstream can't be asked since the start: no route; drift: web/conf edited",
        ),
    ],
)
def test_what_is_not_in_order_is_told_though_the_commit_is_deployed(
    host: SimulatedHost, source: SourceHealth, drift: Drift | None, told: str
) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    found = inspector(host).explain(web, host.fetch(web), source=source, drift=drift)
    assert found.unsettled == told
    assert found.verdict.endswith(f"; it is deployed; {told}")


def test_a_branch_that_is_gone_is_told(host: SimulatedHost) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    del host.upstream.branches[BRANCH]
    host.upstream.commit({"web/conf": "1"}, "other")
    assert explain(host, web).verdict.endswith("; it is deployed; upstream has no such branch")


def test_nothing_is_told_of_upstream_where_all_is_well(host: SimulatedHost) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    assert explain(host, web).unsettled == ""


def test_a_commit_that_came_back_by_a_forced_push_was_deployed_all_the_same(host: SimulatedHost) -> None:
    web = host.service()
    host.upstream.commit({"web/conf": "1"})
    host.deploy(web)
    beside = host.upstream.commit({"other/conf": "1"})
    host.pass_(web)
    newer = host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.upstream.force(BRANCH, beside)
    host.deploy(web)
    assert explain(host, web).verdict == (
        f"{beside[:12]} changes other paths only, and was deployed in the place of {newer[:12]}:"
        " mapped paths changed: web; it is deployed"
    )
