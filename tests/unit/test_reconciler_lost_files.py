"""What a service had comes back although its release is gone from the disk, or was never taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libgitopper import Check, Hold, Reason, ReloadError, Service, SourceError, State, Verify
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import push, watched

GUARDED: dict[str, Any] = {"check": Check(commands=(("x",),)), "verify": Verify(keyring=Path("/ring"))}


def lose(host: SimulatedHost, service: Service) -> None:
    """Reboot without the directory of releases, as where that is a file system in memory."""
    shutil.rmtree(service.releases)
    host.mounts.reboot()
    host.restart()


def unfit(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "unfit"})


def unsigned(host: SimulatedHost) -> None:
    host.guards.unsigned.add(host.upstream.commit({"web/conf": "2"}))


def without_the_path(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": None})


@pytest.mark.parametrize("bad", [unfit, unsigned, without_the_path])
def test_a_release_that_is_gone_is_made_again_although_the_tip_can_not_be_deployed(
    host: SimulatedHost, bad: Callable[[SimulatedHost], None]
) -> None:
    web = host.service(**GUARDED)
    good = host.deploy(web)
    bad(host)
    told = host.told(host.pass_(web))
    lose(host, web)
    assert host.told(host.pass_(web)) == told
    host.assert_in_line(web, good)
    assert host.read(web) == "1"
    host.script.log.clear()
    host.pass_(web)
    assert host.script.count("reload web") == 0


def test_a_release_that_is_gone_is_made_again_before_what_has_to_wait(host: SimulatedHost) -> None:
    web = host.service()
    good = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    lose(host, web)
    host.guards.held = Hold(reason="at night")
    plan = host.pass_(web).plan
    assert plan is not None
    assert plan.reasons == (Reason.HELD,)
    host.assert_in_line(web, good)


def test_a_release_that_can_not_be_made_again_does_not_hold_up_the_tip(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    newer = host.upstream.commit({"web/conf": "2"})
    lose(host, web)

    def once() -> None:
        host.script.on("checkout web", lambda: None)
        raise SourceError("its blobs are gone")

    host.script.on("checkout web", once)
    assert host.pass_(web).error is None
    host.assert_in_line(web, newer)


def test_a_mapped_path_that_is_gone_is_kept_as_drift_and_made_again(host: SimulatedHost) -> None:
    web = host.service(links={"/etc/web": "web", "/etc/app": "webapp"}, **GUARDED)
    good = host.deploy(web)
    unfit(host)
    host.pass_(web)
    release = host.shown(web)
    host.edit(web, "webapp/conf", "by hand")
    assert release is not None
    shutil.rmtree(web.releases / release / "web")
    host.mounts.reboot()
    assert host.pass_(web).error is not None
    host.assert_in_line(web, good)
    assert host.read(web) == host.read(web, "webapp/conf") == "1"
    (kept,) = host.state.drifts("web")
    assert (b"by hand" in kept.patch, len(kept.changes), kept.healed) == (True, 2, True)


@pytest.mark.parametrize("links", [{"/etc/web": "web"}, {"/srv/web": "web"}])
def test_what_is_published_and_was_not_taken_is_not_replaced_by_what_is_gone(
    host: SimulatedHost, links: dict[str, str]
) -> None:
    web = host.service()
    host.deploy(web)
    deployed = host.state.deployed("web")
    assert deployed is not None
    newer = host.upstream.commit({"web/conf": "2"})
    web = host.service(links=links)
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    shutil.rmtree(deployed.release_path)
    host.pass_(web)
    assert host.read(web) == "2"
    assert not deployed.release_path.exists()
    host.script.clear()
    host.pass_(web)
    host.assert_in_line(web, newer)


def ill_from_the_start(host: SimulatedHost) -> tuple[Service, str, tuple[State, str]]:
    """A service whose first release made it ill, and stays, for there is nothing to go back to."""
    web = watched(host)
    bad = push(host, "ill")
    told = host.told(host.pass_(web))
    assert "there is nothing to go back to" in told[1]
    return web, bad, told


@pytest.mark.parametrize("frozen", [False, True])
def test_a_first_release_with_which_a_service_is_ill_is_shown_again_after_a_reboot(
    host: SimulatedHost, frozen: bool
) -> None:
    web, _, _ = ill_from_the_start(host)
    if frozen:
        host.freeze(web)
    told = host.told(host.pass_(web))
    host.mounts.reboot()
    host.restart()
    host.services.taken.clear()
    outcome = host.reconciler.restore(web)
    assert outcome.error is None, "it needs no upstream"
    assert host.read(web) == "ill"
    assert host.services.taken["web"] == host.shown(web)
    assert host.told(host.pass_(web)) == told
    assert host.script.count("reload web") == 1
    better = push(host, "2")
    if not frozen:
        assert host.pass_(web).error is None
        host.assert_in_line(web, better)


def test_it_is_shown_again_after_an_umount_by_hand(host: SimulatedHost) -> None:
    web, _, told = ill_from_the_start(host)
    host.mounts.reboot()
    assert host.told(host.pass_(web)) == told
    assert host.read(web) == "ill"


def test_it_is_not_shown_again_where_the_service_was_before(host: SimulatedHost) -> None:
    ill_from_the_start(host)
    host.mounts.reboot()
    moved = watched(host, links={"/srv/web": "web"})
    host.reconciler.restore(moved)
    assert host.mounts.shown == {}
    host.pass_(moved)
    assert host.read(moved) == "ill"


def test_a_first_release_that_nobody_saw_is_not_shown_by_a_restore(host: SimulatedHost) -> None:
    web = host.service(**GUARDED)
    unfit(host)
    host.pass_(web)
    host.reconciler.restore(web)
    assert host.mounts.shown == {}
    host.script.on("publish web", Crash())
    host.upstream.commit({"web/conf": "2"})
    with pytest.raises(Crash):
        host.pass_(web)
    host.restart()
    host.reconciler.restore(web)
    assert host.mounts.shown == {}


def frozen_untaken(host: SimulatedHost, **more: Any) -> tuple[Service, str]:
    """A service that was frozen while it showed a commit whose reload fails."""
    web = host.service(**more)
    host.deploy(web)
    newer = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.freeze(web)
    outcome = host.pass_(web)
    assert outcome.shown is not None
    assert outcome.shown.revision == newer
    return web, newer


def test_what_a_service_was_frozen_with_stays_after_a_reboot(host: SimulatedHost) -> None:
    """Though it was not taken: an operator was told that it is what is there."""
    web, newer = frozen_untaken(host)
    host.mounts.reboot()
    host.restart()
    host.upstream.commit({"web/conf": "3"})
    outcome = host.reconciler.restore(web)
    assert outcome.shown is not None
    assert (outcome.shown.revision, host.read(web)) == (newer, "2")
    assert host.told(host.pass_(web))[0] is State.FREEZE
    host.assert_in_line(web, newer)


def test_what_a_service_was_frozen_with_gives_way_where_it_can_not_be_shown(host: SimulatedHost) -> None:
    web, _ = frozen_untaken(host)
    attempt = host.state.attempt("web")
    assert attempt is not None
    shutil.rmtree(attempt.release_path)
    host.mounts.reboot()
    host.restart()
    host.reconciler.restore(web)
    assert host.read(web) == "1"


def test_who_tracks_gets_what_was_taken_last_after_a_reboot(host: SimulatedHost) -> None:
    web, _ = frozen_untaken(host)
    host.unfreeze(web)
    host.mounts.reboot()
    host.restart()
    host.reconciler.restore(web)
    assert host.read(web) == "1"


def upstream_away(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "2"})
    host.script.on("checkout web", SourceError("no file contents"))


@pytest.mark.parametrize("bad", [unfit, unsigned, without_the_path, upstream_away])
def test_a_reload_that_is_owed_comes_although_the_tip_can_not_be_deployed(
    host: SimulatedHost, bad: Callable[[SimulatedHost], None]
) -> None:
    """As after a boot: the service may have come up without its files."""
    web = host.service(**GUARDED)
    good = host.deploy(web)
    bad(host)
    error = host.pass_(web).error
    host.mounts.reboot()
    host.services.taken.clear()
    host.script.on("reload web", ReloadError("not yet"))
    assert isinstance(host.pass_(web).error, ReloadError)
    assert host.read(web) == "1"
    host.pass_(web)
    assert host.services.taken == {}
    host.script.on("reload web", lambda: None)
    assert str(host.pass_(web).error) == str(error)
    host.assert_in_line(web, good)
    assert host.script.count("reload web") == 3
    host.pass_(web)
    assert host.script.count("reload web") == 3


@pytest.mark.parametrize("frozen", [False, True])
def test_a_first_release_that_was_not_taken_is_shown_again_after_a_reboot(
    host: SimulatedHost, frozen: bool
) -> None:
    web = host.service(**GUARDED)
    first = host.tip
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    if frozen:
        host.freeze(web)
    unsigned(host)
    host.mounts.reboot()
    host.restart()
    assert host.reconciler.restore(web).error is None
    assert host.read(web) == "1"
    outcome = host.pass_(web)
    assert host.read(web) == "1"
    if frozen:
        assert host.told(outcome) == (State.FREEZE, "")
        host.assert_in_line(web, first)


def test_a_first_release_that_could_not_be_published_is_not_shown_once_it_is_frozen(
    host: SimulatedHost,
) -> None:
    web = host.service()
    host.mounts.in_the_way.add(Path("/etc/web"))
    host.pass_(web)
    host.freeze(web)
    host.mounts.in_the_way.clear()
    host.restart()
    host.reconciler.restore(web)
    assert host.told(host.pass_(web))[1] == "frozen before its first deploy: nothing is published"
    assert host.mounts.shown == {}
