"""Drift: files that somebody changed are told, and kept as a patch."""

from __future__ import annotations

import logging

import pytest

from libgitopper import ChangeKind, CheckoutError, DriftPolicy, State
from tests.support.drifted import HEAL, OFF, drifted
from tests.support.simulatedhost import SimulatedHost


def test_drift_is_told_as_diff_and_kept_as_a_patch(host: SimulatedHost) -> None:
    web = drifted(host)
    host.edit(web, "web/added", "more")
    outcome = host.pass_(web)
    assert outcome.error is None
    assert host.told(outcome) == (State.DIFF, "drift: web/added added, and 1 more file")
    (record,) = host.state.drifts("web")
    assert (record.release, record.revision, record.healed) == (host.shown(web), host.tip, False)
    assert [(c.path, c.kind) for c in record.changes] == [
        ("web/added", ChangeKind.ADDED), ("web/conf", ChangeKind.EDITED),
    ]  # fmt: skip
    assert record.patch == b"web/added: more\nweb/conf: edited"
    assert host.script.count("publish web") == host.script.count("reload web") == 0


def test_drift_is_kept_and_announced_once_for_each_form(host: SimulatedHost) -> None:
    web = drifted(host)
    for _ in range(3):
        assert host.told(host.pass_(web))[0] is State.DIFF
    host.restart()
    host.pass_(web)
    assert len(host.state.drifts("web")) == host.observer.kinds().count("drift") == 1
    host.edit(web, "web/conf", "edited again")
    host.pass_(web)
    assert [record.patch for record in host.state.drifts("web")] == [
        b"web/conf: edited again", b"web/conf: edited",
    ]  # fmt: skip
    assert host.observer.kinds().count("drift") == 2


def test_drift_that_somebody_undid_is_no_longer_told_and_its_patch_stays(host: SimulatedHost) -> None:
    web = drifted(host)
    host.pass_(web)
    host.edit(web, "web/conf", "1")
    assert host.told(host.pass_(web)) == (State.OK, "")
    assert len(host.state.drifts("web")) == 1


def test_who_wants_nobody_to_look_has_nobody_look(host: SimulatedHost) -> None:
    web = drifted(host, drift=OFF)
    host.guards.compared.clear()
    assert host.told(host.pass_(web)) == (State.OK, "")
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(web)
    assert host.guards.compared == []
    assert host.state.drifts("web") == ()


@pytest.mark.parametrize("policy", list(DriftPolicy))
def test_an_operator_who_asks_is_told_whatever_the_policy(host: SimulatedHost, policy: DriftPolicy) -> None:
    web = drifted(host, drift=policy)
    found = host.look(web)
    assert found is not None
    assert [change.path for change in found.changes] == ["web/conf"]
    assert host.guards.compared[-1].thorough
    assert len(host.state.drifts("web")) == 1
    assert host.read(web) == "edited", "asking heals nothing"


def test_an_operator_is_told_that_nothing_differs(host: SimulatedHost) -> None:
    web = host.service()
    assert host.look(web) is None, "nothing is deployed"
    host.deploy(web)
    assert host.look(web) is None
    assert host.reconciler.drift(web, None) is None, "there is nothing to compare with"


def test_files_are_compared_as_they_were_placed_when_they_were_published(host: SimulatedHost) -> None:
    host.deploy(host.service(user="then"))
    host.look(host.service(user="now", drift=HEAL))
    assert (host.guards.compared[-1].service.user, host.guards.compared[-1].service.drift) == ("then", HEAL)


@pytest.mark.parametrize("error", [CheckoutError("the index is damaged"), OSError("i/o error")])
def test_files_that_can_not_be_compared_are_logged_and_in_nobodys_way(
    host: SimulatedHost, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    web = drifted(host)
    host.script.on("drift web", error)
    newer = host.upstream.commit({"web/conf": "2"})
    assert host.pass_(web).error is None
    assert "its files could not be compared with their revision" in caplog.text
    host.assert_in_line(web, newer)
    if isinstance(error, CheckoutError):
        assert all(record.levelno < logging.ERROR for record in caplog.records)
        with pytest.raises(CheckoutError):
            host.look(web)


def test_a_release_that_was_replaced_while_an_operator_looked_is_no_drift(host: SimulatedHost) -> None:
    web = host.service(keep=1)
    host.deploy(web)

    def replace() -> None:
        host.script.clear()
        host.upstream.commit({"web/conf": "2"})
        host.pass_(web)

    host.script.on("drift web", replace)
    assert host.look(web) is None
    assert host.state.drifts("web") == ()
