"""A crash between every two steps: the next process finds everything that it needs to repair it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libgitopper import PublishError, Service
from tests.support.simulated import BRANCH, Crash
from tests.support.simulatedcrashes import Flow, crash_in_turn, never_ahead_of_the_truth
from tests.support.simulatedhost import SimulatedHost


def _deployed(host: SimulatedHost) -> Service:
    web = host.service()
    host.pass_(web)
    return web


def first_deploy(host: SimulatedHost) -> Service:
    return host.service()


def content_change(host: SimulatedHost) -> Service:
    web = _deployed(host)
    host.upstream.commit({"web/conf": "2"})
    return web


def elsewhere(host: SimulatedHost) -> Service:
    web = _deployed(host)
    host.upstream.commit({"elsewhere": "2"})
    return web


def reboot(host: SimulatedHost) -> Service:
    web = _deployed(host)
    host.mounts.reboot()
    return web


def reboot_and_content_change(host: SimulatedHost) -> Service:
    web = content_change(host)
    host.mounts.reboot()
    return web


def rollback(host: SimulatedHost) -> Service:
    web = _deployed(host)
    first = host.upstream.branches[BRANCH][-1]
    host.upstream.commit({"web/conf": "2"})
    host.pass_(web)
    host.roll_back(web, first)
    return web


def mappings_moved(host: SimulatedHost) -> Service:
    _deployed(host)
    return host.service(links={"/srv/web": "web", "/srv/app": "webapp"})


def mapping_nested_and_content(host: SimulatedHost) -> Service:
    content_change(host)
    return host.service(links={"/etc/web/a": "web", "/etc/web/b": "webapp"})


def publisher_changed(host: SimulatedHost) -> Service:
    _deployed(host)
    return host.service(publish="other")


def mount_changed(host: SimulatedHost) -> Service:
    content_change(host)
    return host.service(mount=host.directory / "elsewhere")


FLOWS: list[Flow] = [
    first_deploy,
    content_change,
    elsewhere,
    reboot,
    reboot_and_content_change,
    rollback,
    mappings_moved,
    mapping_nested_and_content,
    publisher_changed,
    mount_changed,
]


def wanted(host: SimulatedHost, service: Service) -> str:
    intent = host.state.intent(service.name)
    return intent.revision or host.upstream.branches[BRANCH][-1]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_step_is_repaired_by_the_next_pass(flow: Flow, tmp_path: Path) -> None:
    for host, service, where in crash_in_turn(tmp_path, flow):
        never_ahead_of_the_truth(host, service, where)
        host.restart()
        outcome = host.pass_(service)
        assert outcome.error is None, where
        host.assert_in_line(service, wanted(host, service))
        host.close()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_step_followed_by_a_reboot_is_repaired(flow: Flow, tmp_path: Path) -> None:
    for host, service, where in crash_in_turn(tmp_path, flow):
        host.mounts.reboot()
        host.restart()
        assert host.reconciler.restore(service).error is None, where
        if deployed := host.state.deployed(service.name):
            assert host.shown(deployed.service) == deployed.release, where
            assert host.services.taken[service.name] == deployed.release, where
        assert host.pass_(service).error is None, where
        host.assert_in_line(service, wanted(host, service))
        host.close()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_step_and_a_second_crash_in_the_repair_is_repaired(
    flow: Flow, tmp_path: Path
) -> None:
    for second in (2, 7):
        for host, service, where in crash_in_turn(tmp_path / str(second), flow):
            host.restart()
            host.script.crash_at = second
            try:
                host.pass_(service)
            except Crash as crash:
                never_ahead_of_the_truth(host, service, f"{where}, {crash}")
            host.restart()
            assert host.pass_(service).error is None, where
            host.assert_in_line(service, wanted(host, service))
            host.close()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_step_with_the_service_frozen_then_ends_at_one_release(
    flow: Flow, tmp_path: Path
) -> None:
    for host, service, where in crash_in_turn(tmp_path, flow):
        host.restart()
        host.freeze(service)
        host.upstream.commit({"web/conf": "later", "webapp/conf": "later"})
        assert host.pass_(service).error is None, where
        deployed = host.state.deployed(service.name)
        if deployed is None:
            assert host.mounts.shown == {}, where
        else:
            # An advance that was cut off has moved the release's HEAD; the next one sets it right.
            host.assert_in_line(service, deployed.revision, head=flow is not elsewhere)
            assert deployed.revision != host.upstream.branches[BRANCH][-1]
        host.close()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_step_with_the_upstream_gone_loses_no_file(flow: Flow, tmp_path: Path) -> None:
    for host, service, where in crash_in_turn(tmp_path, flow):
        before = host.state.deployed(service.name)
        host.upstream.reachable = False
        host.mounts.reboot()
        host.restart()
        host.pass_(service)
        if before is not None:
            after = host.state.deployed(service.name)
            assert after is not None
            assert host.shown(after.service) == after.release, where
        host.close()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_step_and_the_service_gone_from_the_config_leaves_no_path(
    flow: Flow, tmp_path: Path
) -> None:
    for host, _, where in crash_in_turn(tmp_path, flow):
        host.restart()
        for orphan in host.reconciler.orphans(()):
            host.reconciler.withdraw(orphan)
        assert host.mounts.shown == {}, where
        assert host.reconciler.orphans(()) == ()
        host.close()


def test_a_crash_in_a_withdraw_is_repeated(tmp_path: Path) -> None:
    for number in range(4):
        host = SimulatedHost(tmp_path / str(number))
        host.upstream.commit({"web/conf": "1"})
        host.pass_(host.service())
        host.restart()
        host.script.crash_at = number
        (orphan,) = host.reconciler.orphans(())
        with pytest.raises(Crash):
            host.reconciler.withdraw(orphan)
        host.restart()
        for orphan in host.reconciler.orphans(()):
            host.reconciler.withdraw(orphan)
        assert host.mounts.shown == {}
        assert host.reconciler.orphans(()) == ()
        host.close()


@pytest.mark.parametrize("settings", [{}, {"user": "nobody"}, {"readonly": True}], ids=str)
def test_a_publish_that_was_cut_short_goes_forward_and_never_back(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Some may have seen the new release already: they must not see the former one after it."""
    links = {"/etc/web": "web", "/srv/www": "webapp"}

    def two_mappings(host: SimulatedHost) -> Service:
        both = host.service(links=links)
        host.deploy(both)
        host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
        return host.service(links=links, **settings)

    halves = 0
    for host, service, where in crash_in_turn(tmp_path, two_mappings):
        deployed = host.state.deployed(service.name)
        assert deployed is not None
        new = {what[2] for what in host.mounts.shown.values()} - {deployed.release}
        half = host.shown(service) is None
        halves += half
        host.restart()
        assert host.reconciler.restore(service).error is None, where
        if half:
            assert {host.shown(service)} == new, where
        assert host.pass_(service).error is None, where
        host.assert_in_line(service, wanted(host, service))
        host.close()
    assert halves == 1


def test_a_publish_that_was_cut_short_and_can_not_be_ended_goes_back(host: SimulatedHost) -> None:
    both = host.service(links={"/etc/web": "web", "/srv/www": "webapp"})
    host.deploy(both)
    deployed = host.state.deployed("web")
    assert deployed is not None
    host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
    host.script.on("publish web /etc/web", Crash("in the middle"), when="after")
    with pytest.raises(Crash):
        host.pass_(both)
    host.restart()
    attempt = host.state.attempt("web")
    assert attempt is not None
    attempt.release_path.rename(attempt.release_path.with_name("gone"))
    assert host.reconciler.restore(both).error is None
    assert host.shown(both) == deployed.release


def test_a_publish_that_was_cut_short_and_is_refused_now_goes_back(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    both = host.service(links={"/etc/web": "web", "/srv/www": "webapp"})
    first = host.deploy(both)
    host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
    host.script.on("publish web /etc/web", Crash("in the middle"), when="after")
    with pytest.raises(Crash):
        host.pass_(both)
    host.restart()
    refusals = iter([PublishError("in the way")])

    def refuse_once() -> None:
        for refusal in refusals:
            raise refusal

    host.script.on("publish web", refuse_once)
    assert host.reconciler.restore(both).error is None
    assert "can't be published, going back: in the way" in caplog.text
    host.assert_in_line(both, first, head=False)
    assert host.pass_(both).error is None
    host.assert_in_line(both, host.tip)
