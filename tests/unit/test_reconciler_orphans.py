"""The reconciler when a service leaves the config; and several services at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import (
    IntentKind,
    PublishError,
    ReloadError,
)
from tests.support.simulatedhost import SimulatedHost


def test_a_service_that_leaves_the_config_is_withdrawn_and_its_data_kept(host: SimulatedHost) -> None:
    web, app = host.service("web"), host.service("webapp")
    host.deploy(web)
    host.deploy(app)
    host.freeze(web)
    host.restart()
    (orphan,) = host.reconciler.orphans((app,))
    assert orphan.service.name == "web"
    host.reconciler.withdraw(orphan)
    assert list(host.mounts.shown) == [Path("/etc/webapp")]
    assert web.live not in host.mounts.live
    assert any(web.releases.iterdir())
    assert host.reconciler.orphans((app,)) == ()
    assert host.state.intent("web").kind is IntentKind.FREEZE, "it comes back as it left"
    assert host.observer.events[-1].kind == "withdrawn"


def test_no_service_of_the_config_is_an_orphan(host: SimulatedHost) -> None:
    web = host.service("web")
    host.deploy(web)
    assert host.reconciler.orphans((web, host.service("webapp"))) == ()


def test_an_orphan_that_can_not_be_withdrawn_stays_one(host: SimulatedHost) -> None:
    host.deploy(host.service())
    host.script.on("withdraw web", PublishError("busy"))
    (orphan,) = host.reconciler.orphans(())
    with pytest.raises(PublishError):
        host.reconciler.withdraw(orphan)
    assert host.reconciler.orphans(()) == (orphan,)


def test_a_mistyped_service_gives_its_paths_to_the_right_one(host: SimulatedHost) -> None:
    typo = host.service("wbe", links={"/etc/web": "web"})
    host.script.on("reload wbe", ReloadError("no such unit"))
    assert isinstance(host.pass_(typo).error, ReloadError)
    host.restart()
    right = host.service("web")
    for orphan in host.reconciler.orphans((right,)):
        host.reconciler.withdraw(orphan)
    assert host.pass_(right).error is None
    host.assert_in_line(right, host.tip)
    assert set(host.mounts.live) == {right.live}


def test_a_withdraw_takes_what_an_unfinished_change_of_settings_shows_too(host: SimulatedHost) -> None:
    host.deploy(host.service())
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(host.service(links={"/srv/web": "web"}))
    host.script.clear()
    (orphan,) = host.reconciler.orphans(())
    host.reconciler.withdraw(orphan)
    assert host.mounts.shown == {}
    assert host.reconciler.orphans(()) == ()


def test_services_share_a_poll(host: SimulatedHost) -> None:
    web, app = host.service("web"), host.service("webapp")
    store = host.reconciler.poll(host.watch(web, app))
    for service in (web, app):
        assert host.reconciler.reconcile(service, store).error is None
        host.assert_in_line(service, host.tip)
    assert host.script.count("fetch") == 1


def test_settings_that_place_nothing_are_no_reason_for_a_deploy(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.pass_(evolve(web, action="restart", interval_seconds=1.0, keep=9))
    assert host.script.count("publish web") == host.script.count("reload web") == 0


def test_a_pass_that_had_to_wait_brings_nothing_back(host: SimulatedHost) -> None:
    """The config moved on while it waited for its turn: what was withdrawn stays withdrawn."""
    web = host.service()
    host.deploy(web)
    (orphan,) = host.reconciler.orphans(())
    assert host.reconciler.withdraw(orphan)
    outcome = host.reconciler.reconcile(web, None, still=lambda: False)
    assert outcome.error is None
    assert host.mounts.shown == {}
    assert host.state.deployed("web") is None


def test_a_withdrawal_that_had_to_wait_spares_what_is_back(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    (orphan,) = host.reconciler.orphans(())
    assert not host.reconciler.withdraw(orphan, still=lambda: False)
    host.assert_in_line(web, host.tip)


def test_what_is_withdrawn_already_is_not_withdrawn_again(host: SimulatedHost) -> None:
    host.deploy(host.service())
    (orphan,) = host.reconciler.orphans(())
    assert host.reconciler.withdraw(orphan)
    told = len(host.observer.events)
    assert not host.reconciler.withdraw(orphan)
    assert len(host.observer.events) == told


def test_a_withdrawal_takes_what_is_published_by_then(host: SimulatedHost) -> None:
    before = host.service(links={"/etc/web": "web"})
    host.deploy(before)
    (orphan,) = host.reconciler.orphans(())
    host.deploy(host.service(links={"/srv/web": "web"}))
    assert host.reconciler.withdraw(orphan)
    assert host.mounts.shown == {}


def test_a_service_that_was_withdrawn_while_frozen_is_back_frozen_where_it_was(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    frozen_at = host.tip
    host.freeze(web)
    (orphan,) = host.reconciler.orphans(())
    host.reconciler.withdraw(orphan)
    host.upstream.commit({"web/conf": "newer"})
    assert host.pass_(web).error is None
    host.assert_in_line(web, frozen_at)
