"""The reconciler when settings change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from libgitopper import (
    CheckoutError,
    Mapping,
    PublishError,
    Reason,
    ReloadError,
)
from tests.support.simulatedhost import SimulatedHost

TWO = {"/etc/web": "web", "/etc/app": "webapp"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(TWO, {"/etc/web": "web"}, id="one mapping less"),
        pytest.param({"/etc/web": "web"}, TWO, id="one more"),
        pytest.param({"/etc/web": "web"}, {"/srv/web": "web"}, id="another place"),
        pytest.param({"/etc/web": "web"}, {"/etc/web": "webapp"}, id="another link"),
        pytest.param({"/etc/web": "web"}, {"/etc/web/a": "web"}, id="below the old one"),
        pytest.param({"/etc/web/a": "web"}, {"/etc/web": "web"}, id="above the old one"),
        pytest.param({"/a": "web", "/b": "webapp"}, {"/b": "web", "/a": "webapp"}, id="swapped"),
        pytest.param(TWO, {"/etc/web": "web", "/etc/web2": "webapp"}, id="one moves, one stays"),
    ],
)
@pytest.mark.parametrize("with_a_commit", [False, True])
def test_mappings_that_change_leave_no_stale_path(
    host: SimulatedHost, before: dict[str, str], after: dict[str, str], with_a_commit: bool
) -> None:
    host.deploy(host.service(links=before))
    if with_a_commit:
        host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
    host.restart()
    changed = host.service(links=after)
    outcome = host.pass_(changed)
    assert outcome.error is None
    assert host.script.count("reload web") == 1
    host.assert_in_line(changed, host.tip)
    assert host.mounts.live == {changed.live: host.shown(changed)}
    host.script.clear()
    host.pass_(changed)
    assert host.script.count("publish web") == 0


@pytest.mark.parametrize(
    "change", [{"publish": "other"}, {"mount": True}, {"readonly": True}, {"user": "x"}]
)
def test_another_publisher_mount_directory_or_owner_is_published_anew(
    host: SimulatedHost, change: dict[str, Any]
) -> None:
    host.deploy(host.service())
    change = {"mount": host.directory / "elsewhere"} if "mount" in change else change
    changed = host.service(**change)
    outcome = host.pass_(changed)
    assert outcome.error is None
    assert outcome.plan is not None
    assert Reason.SETTINGS in outcome.plan.reasons
    assert host.script.count("reload web") == 1
    host.assert_in_line(changed, host.tip)
    assert host.mounts.live == {changed.live: host.shown(changed)}


def test_a_directory_that_becomes_a_file_mapping_is_read_from_the_store_again(host: SimulatedHost) -> None:
    host.deploy(host.service())
    file = host.service(mappings=(Mapping(link="web", local=Path("/etc/web"), file=True),))
    outcome = host.pass_(file)
    assert isinstance(outcome.error, CheckoutError), "the repository has a directory there"


def test_a_frozen_service_gets_its_new_mappings_at_its_old_revision(host: SimulatedHost) -> None:
    first = host.deploy(host.service())
    host.freeze(host.service())
    host.upstream.commit({"web/conf": "2"})
    changed = host.service(links=TWO)
    host.pass_(changed)
    host.assert_in_line(changed, first)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({"links": {"/srv/web": "web"}}, id="moved"),
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web/a": "web"}}, id="below"),
    ],
)
def test_a_failing_reload_after_new_settings_does_not_switch_back_and_forth(
    host: SimulatedHost, after: dict[str, Any]
) -> None:
    host.deploy(host.service())
    changed = host.service(**after)
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(changed)
    shown = dict(host.mounts.shown)
    host.script.log.clear()
    for _ in range(2):
        assert isinstance(host.pass_(changed).error, ReloadError)
        assert host.mounts.shown == shown
    assert host.script.count("reload web") == 2, "once for each pass"
    host.script.clear()
    host.pass_(changed)
    host.assert_in_line(changed, host.tip)


@pytest.mark.parametrize("deployed_before", [False, True])
def test_settings_that_change_twice_before_a_reload_succeeds_leave_no_stale_path(
    host: SimulatedHost, deployed_before: bool
) -> None:
    if deployed_before:
        host.deploy(host.service())
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(host.service(links={"/second": "web"}))
    host.restart()
    third = host.service(links={"/third": "web"})
    host.pass_(third)
    host.assert_in_line(third, host.tip)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web/a": "web"}}, id="below"),
    ],
)
def test_a_service_keeps_its_files_when_they_can_not_be_shown_in_the_new_way(
    host: SimulatedHost, after: dict[str, Any]
) -> None:
    web = host.service()
    host.deploy(web)
    before = host.shown(web)
    changed = host.service(**after)
    # It refuses the new, and not the old when that is put back.
    host.script.on("publish web", _Once(PublishError("something is in the way")))
    outcome = host.pass_(changed)
    assert isinstance(outcome.error, PublishError)
    assert host.shown(web) == before, "the service lost its files"
    host.script.clear()
    host.pass_(changed)
    host.assert_in_line(changed, host.tip)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param({"/etc/web": "web"}, id="at the old paths"),
        pytest.param({"/etc/web": "web", "/etc/app": "webapp"}, id="at more paths"),
    ],
)
def test_a_service_keeps_its_files_when_an_unfinished_deploy_is_followed_by_one_that_fails(
    host: SimulatedHost, between: dict[str, str]
) -> None:
    web = host.service()
    host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(host.service(links=between))
    host.script.clear()
    host.mounts.in_the_way.add(Path("/srv/web"))
    moved = host.service(links={"/srv/web": "web"})
    assert isinstance(host.pass_(moved).error, PublishError)
    assert host.shown(web), "the service lost its files"
    host.mounts.in_the_way.clear()
    host.pass_(moved)
    host.assert_in_line(moved, host.tip)


def test_what_the_deployed_settings_show_stays_until_the_new_paths_are_published(
    host: SimulatedHost,
) -> None:
    web = host.service()
    host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.script.clear()
    host.pass_(host.service(links={"/srv/web": "web"}))
    assert host.script.log.index("publish web") < host.script.log.index("withdraw web")


class _Once:
    """Raises at the first call only."""

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error

    def __call__(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web/a": "web"}}, id="below"),
    ],
)
def test_nothing_makes_way_for_what_is_known_to_be_impossible(
    host: SimulatedHost, after: dict[str, Any]
) -> None:
    host.deploy(host.service())
    changed = host.service(**after)
    host.mounts.foreseen.update(mapping.local for mapping in changed.mappings)
    for _ in range(3):
        assert isinstance(host.pass_(changed).error, PublishError)
    assert host.script.count("withdraw web") == 0
    host.mounts.foreseen.clear()
    host.pass_(changed)
    host.assert_in_line(changed, host.tip)


def test_a_release_that_can_not_be_put_back_is_logged_and_restored_by_the_next_pass(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.deploy(host.service())
    host.script.on("publish web", PublishError("no"))
    changed = host.service(publish="other")
    outcome = host.pass_(changed)
    assert isinstance(outcome.error, PublishError)
    assert "could not be put back" in caplog.text
    host.script.clear()
    host.pass_(changed)
    host.assert_in_line(changed, host.tip)


def test_a_release_that_is_gone_from_the_disk_is_not_put_back(host: SimulatedHost) -> None:
    host.deploy(host.service())
    deployed = host.state.deployed("web")
    assert deployed is not None
    host.script.on("begin web", lambda: shutil.rmtree(deployed.release_path, ignore_errors=True))
    host.script.on("publish web", PublishError("no"))
    changed = host.service(publish="other", user="other")
    assert isinstance(host.pass_(changed).error, PublishError)
    assert host.script.count("publish web") == 1
    host.script.clear()
    assert host.pass_(changed).error is None
    host.assert_in_line(changed, host.tip)


def test_a_service_that_was_moved_away_from_an_obstacle_after_a_reboot_is_deployed(
    host: SimulatedHost,
) -> None:
    host.deploy(host.service())
    host.mounts.reboot()
    host.mounts.in_the_way.add(Path("/etc/web"))
    host.restart()
    moved = host.service(links={"/srv/web": "web"})
    assert host.pass_(moved).error is None
    host.assert_in_line(moved, host.tip)


def test_restore_shows_the_old_settings_until_a_pass_brings_the_new(host: SimulatedHost) -> None:
    old = host.service()
    first = host.deploy(old)
    host.mounts.reboot()
    changed = host.service(links={"/srv/web": "web"})
    assert host.reconciler.restore(changed).error is None
    host.assert_in_line(old, first)
    host.pass_(changed)
    host.assert_in_line(changed, first)
