"""The reconciler and operators: freeze, rollback, and a change of mind while a pass runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from libgitopper import (
    CheckoutError,
    GitopperError,
    Intent,
    IntentKind,
    Reason,
    Service,
    State,
    UnknownRevision,
    derive,
)
from libgitopper import SourceHealth as Health
from tests.support.simulated import BRANCH
from tests.support.simulatedhost import SimulatedHost

POLLED = Health(polled=True)
PATIENCE_SECONDS = 20.0


def state_of(host: SimulatedHost, service: Service, error: GitopperError | None) -> State:
    return derive(
        intent=host.state.intent(service.name),
        deployed=host.state.deployed(service.name),
        tip=host.tip,
        source=POLLED,
        branch=BRANCH,
        error=error,
    )[0]


def test_a_frozen_service_ignores_upstream_and_an_unfrozen_one_follows_it(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.freeze(web)
    newest = host.upstream.commit({"web/conf": "2"})
    assert host.pass_(web).error is None
    host.assert_in_line(web, first)
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, first)
    host.unfreeze(web)
    host.pass_(web)
    host.assert_in_line(web, newest)


def test_a_frozen_service_is_restored_after_a_reboot(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.freeze(web)
    host.upstream.commit({"web/conf": "2"})
    host.mounts.reboot()
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, first)


def test_a_frozen_service_does_not_even_advance(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.freeze(web)
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(web)
    host.assert_in_line(web, first)


def test_a_service_that_was_frozen_before_its_first_deploy_waits(host: SimulatedHost) -> None:
    web = host.service()
    host.freeze(web)
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.FROZEN_EMPTY,)
    assert host.mounts.shown == {}
    host.unfreeze(web)
    host.pass_(web)
    host.assert_in_line(web, host.tip)


def test_want_returns_the_intent_as_it_stands_on_disk_and_tells_observers(host: SimulatedHost) -> None:
    stands = host.reconciler.want("web", Intent(kind=IntentKind.ROLLBACK, revision="f" * 40))
    assert stands == host.state.intent("web")
    assert stands.since is not None
    assert host.observer.events[-1].details == {"intent": "rollback", "revision": "f" * 40}


def test_a_rollback_to_a_kept_release_needs_no_upstream(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.upstream.reachable = False
    host.restart()
    revision = host.reconciler.resolve(web, first[:7], None)
    assert revision == first
    host.roll_back(web, revision)
    outcome = host.pass_(web)
    assert outcome.error is None
    assert state_of(host, web, None) is State.FREEZE
    host.assert_in_line(web, first)


def test_a_rollback_stands_against_new_commits_and_ends_with_unfreeze(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.roll_back(web, first)
    host.pass_(web)
    host.upstream.commit({"web/conf": "3"})
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, first)
    host.unfreeze(web)
    host.pass_(web)
    host.assert_in_line(web, host.tip)


def test_a_rollback_to_an_equal_content_only_moves_the_hash(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"elsewhere": "2"})
    host.deploy(web)
    host.roll_back(web, first)
    host.pass_(web)
    assert host.script.count("reload web") == 0
    host.assert_in_line(web, first)


def test_a_rollback_to_nowhere_leaves_the_service_as_it_is(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.roll_back(web, "f" * 40)
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckoutError)
    host.assert_in_line(web, first)
    host.unfreeze(web)
    assert host.pass_(web).error is None
    host.assert_in_line(web, first)


def test_a_hash_is_resolved_from_the_branch_and_in_any_case(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    second = host.upstream.commit({"web/conf": "2"})
    store = host.fetch(web)
    assert host.reconciler.resolve(web, second[:8], store) == second
    assert host.reconciler.resolve(web, first.upper(), None) == first


@pytest.mark.parametrize("revision", ["a7561c0", "", None, "HEAD", "A" * 40])
def test_what_is_no_full_hash_is_not_acknowledged_as_a_rollback(
    host: SimulatedHost, revision: str | None
) -> None:
    web = host.service()
    host.deploy(web)
    with pytest.raises(UnknownRevision, match=r"web can't go to .*, which is no full hash; resolve\(\)"):
        host.reconciler.want(web.name, Intent(kind=IntentKind.ROLLBACK, revision=revision))
    assert host.state.intent(web.name) == Intent()


@pytest.mark.parametrize("prefix", ["f" * 40, "123", ""])
def test_a_hash_that_names_nothing_is_refused_with_what_would_do(host: SimulatedHost, prefix: str) -> None:
    web = host.service()
    first = host.deploy(web)
    with pytest.raises(UnknownRevision, match=rf"kept: {first[:12]}\), and upstream was never fetched"):
        host.reconciler.resolve(web, prefix, None)


def test_a_release_whose_directory_is_gone_is_not_kept(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    for path in web.releases.iterdir():
        path.rename(host.directory / "gone")
    with pytest.raises(UnknownRevision):
        host.reconciler.resolve(web, first, None)


class Pause:
    """Holds a pass at a step, until the test has done what it wants to do meanwhile."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE_SECONDS)


def in_thread(target: Callable[..., object], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> None:
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def paused_pass(
    host: SimulatedHost, service: Service, step: str, when: str
) -> tuple[Pause, threading.Thread]:
    pause = Pause()
    host.script.on(step, pause, when=when)
    thread = in_thread(host.pass_, service)
    assert pause.reached.wait(PATIENCE_SECONDS)
    return pause, thread


def test_a_freeze_acknowledged_between_checkout_and_publish_keeps_the_deploy_from_publishing(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    pause, thread = paused_pass(host, web, "checkout web", "after")
    host.freeze(web)
    pause.go.set()
    ended(thread)
    assert host.script.count("publish web") == host.script.count("reload web") == 0
    host.assert_in_line(web, first)


def test_a_freeze_acknowledged_before_a_commit_elsewhere_advances_keeps_it_from_advancing(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"elsewhere": "2"})
    pause, thread = paused_pass(host, web, "observe web", "after")
    host.freeze(web)
    pause.go.set()
    ended(thread)
    assert host.script.count("advance web") == 0
    host.assert_in_line(web, first)


def test_a_freeze_acknowledged_right_after_publish_stays_at_the_new_one(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    second = host.upstream.commit({"web/conf": "2"})
    pause, thread = paused_pass(host, web, "reload web", "before")
    host.freeze(web)
    pause.go.set()
    ended(thread)
    host.upstream.commit({"web/conf": "3"})
    host.pass_(web)
    host.assert_in_line(web, second)


def test_a_freeze_is_not_acknowledged_while_the_mount_is_being_switched(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    second = host.upstream.commit({"web/conf": "2"})
    pause, thread = paused_pass(host, web, "publish web", "before")
    freeze = in_thread(host.freeze, web)
    freeze.join(0.1)
    assert freeze.is_alive(), "acknowledged, and then the mount switched"
    pause.go.set()
    ended(thread)
    ended(freeze)
    host.assert_in_line(web, second)


def test_a_freeze_does_not_wait_for_a_slow_reload(host: SimulatedHost) -> None:
    web = host.service()
    pause, thread = paused_pass(host, web, "reload web", "before")
    freeze = in_thread(host.freeze, web)
    ended(freeze)
    assert thread.is_alive()
    pause.go.set()
    ended(thread)


def test_a_rollback_during_a_deploy_is_where_the_same_pass_goes(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    second = host.deploy(web)
    host.upstream.commit({"web/conf": "3"})
    pause, thread = paused_pass(host, web, "checkout web", "after")
    host.roll_back(web, first)
    pause.go.set()
    ended(thread)
    assert second != first
    host.assert_in_line(web, first)


def test_an_operator_who_never_stops_changing_their_mind_ends_the_pass_not_in_an_error(
    host: SimulatedHost,
) -> None:
    web = host.service()
    host.script.on("checkout web", lambda: host.unfreeze(web), when="after")
    outcome = host.pass_(web)
    assert (outcome.plan, outcome.error) == (None, None)
    assert host.script.count("checkout web") == 3
    assert host.mounts.shown == {}
    host.script.clear()
    host.pass_(web)
    host.assert_in_line(web, host.tip)


def test_passes_of_one_service_never_overlap(host: SimulatedHost) -> None:
    web = host.service()
    pause, first = paused_pass(host, web, "reload web", "before")
    second = in_thread(host.reconciler.reconcile, web, host.fetch(web))
    third = in_thread(host.reconciler.restore, web)
    second.join(0.2)
    assert second.is_alive()
    assert third.is_alive()
    assert host.script.count("checkout web") == host.script.count("reload web") == 1
    pause.go.set()
    for thread in (first, second, third):
        ended(thread)
    assert host.script.count("reload web") == 1, "the second pass found everything in line"


def test_one_services_slow_reload_blocks_no_other(host: SimulatedHost) -> None:
    web, app = host.service("web"), host.service("webapp")
    pause, slow = paused_pass(host, web, "reload web", "before")
    host.script.on("reload web", pause)
    quick = in_thread(host.pass_, app)
    ended(quick)
    assert slow.is_alive()
    host.assert_in_line(app, host.tip)
    pause.go.set()
    ended(slow)
