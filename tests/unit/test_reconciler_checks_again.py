"""What failed its check is remembered, and is tried again only where that can help."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from libgitopper import Check, CheckError, Health, PublishError, State, Verb
from tests.support.checked import checked, nothing_was_seen, rejected
from tests.support.simulated import BRANCH
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import push


def test_content_that_failed_is_not_tried_in_the_next_pass_nor_after_a_restart(host: SimulatedHost) -> None:
    web, good, _ = rejected(host)
    told = host.told(host.pass_(web))
    assert host.script.count("check web") == 1, "the check was asked again"
    assert host.script.count("checkout web") == 1
    host.restart()
    for _ in range(2):
        assert host.told(host.pass_(web)) == told
    assert host.script.count("check web") == 0
    assert nothing_was_seen(host)
    host.assert_in_line(web, good)


def test_content_that_failed_is_not_tried_for_a_later_commit_that_changes_other_paths(
    host: SimulatedHost,
) -> None:
    web, good, bad = rejected(host)
    host.script.clear()
    host.upstream.commit({"elsewhere": "2"})
    outcome = host.pass_(web)
    assert host.script.count("check web") == 0
    assert host.told(outcome)[1].startswith(f"{bad[:12]} failed its check"), "who brought it is told"
    assert nothing_was_seen(host)
    host.assert_in_line(web, good)


def test_content_that_failed_is_not_tried_when_it_comes_back(host: SimulatedHost) -> None:
    web, _, _ = rejected(host)
    push(host, "good")
    assert host.pass_(web).error is None
    host.script.clear()
    push(host, "unfit")
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.script.count("check web") == 0


def test_new_content_is_tried(host: SimulatedHost) -> None:
    web, _, _ = rejected(host)
    host.script.clear()
    mended = push(host, "mended")
    assert host.pass_(web).error is None
    assert host.script.count("check web") == 1
    host.assert_in_line(web, mended)


def test_a_revert_of_what_failed_needs_neither_check_nor_reload(host: SimulatedHost) -> None:
    web, _, _ = rejected(host)
    host.script.clear()
    reverted = push(host, "1")
    outcome = host.pass_(web)
    assert outcome.error is None
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.ADVANCE
    assert nothing_was_seen(host)
    host.assert_in_line(web, reverted)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"check": Check(commands=(("another",),))}, id="check"),
        pytest.param({"health": Health(unit=True)}, id="health"),
        pytest.param({"command": ("reload",)}, id="command"),
        pytest.param({"action": "restart"}, id="action"),
        pytest.param({"package": "nginx"}, id="package"),
        pytest.param({"user": "web"}, id="user"),
        pytest.param({"readonly": True}, id="readonly"),
    ],
)
def test_content_that_failed_is_tried_again_with_settings_that_bear_on_it(
    host: SimulatedHost, change: dict[str, Any]
) -> None:
    web, _, _ = rejected(host)
    host.restart()
    changed = evolve(web, **change)
    assert isinstance(host.pass_(changed).error, CheckError)
    assert host.script.count("check web") == 1
    host.pass_(changed)
    assert host.script.count("check web") == 1, "once, and not again"


@pytest.mark.parametrize("change", [{"keep": 2}, {"interval_seconds": 5.0}, {"after": ("db",)}])
def test_content_that_failed_is_not_tried_again_with_settings_that_do_not_bear_on_it(
    host: SimulatedHost, change: dict[str, Any]
) -> None:
    web, _, _ = rejected(host)
    host.restart()
    assert isinstance(host.pass_(evolve(web, **change)).error, CheckError)
    assert host.script.count("check web") == 0


def test_without_its_check_the_content_is_deployed(host: SimulatedHost) -> None:
    _, _, bad = rejected(host)
    web = host.service()
    assert host.pass_(web).error is None
    host.assert_in_line(web, bad)


def test_an_operator_can_have_it_tried_again(host: SimulatedHost) -> None:
    web = checked(host)
    host.deploy(web)
    better = push(host, "2")
    host.script.on("check web", CheckError("no space left on device"))
    host.pass_(web)
    host.script.clear()
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.reconciler.retry("web") == 1
    assert host.pass_(web).error is None
    assert host.script.count("check web") == 1
    host.assert_in_line(web, better)
    assert host.reconciler.retry("web") == 0, "nothing is left to be tried"


def test_what_fails_when_tried_again_is_not_tried_a_third_time(host: SimulatedHost) -> None:
    web, good, _ = rejected(host)
    host.script.clear()
    host.reconciler.retry("web")
    for _ in range(3):
        assert isinstance(host.pass_(web).error, CheckError)
    assert host.script.count("check web") == 1
    host.assert_in_line(web, good)


def test_an_operator_who_rolls_back_to_it_has_it_tried_again(host: SimulatedHost) -> None:
    web, good, bad = rejected(host)
    host.script.clear()
    host.roll_back(web, bad)
    outcome = host.pass_(web)
    assert host.script.count("check web") == 1
    assert isinstance(outcome.error, CheckError)
    assert host.told(outcome)[0] is State.BROKEN
    host.pass_(web)
    assert host.script.count("check web") == 1, "once for a rollback"
    host.assert_in_line(web, good)


def test_a_rollback_to_another_commit_does_not_have_it_tried_again(host: SimulatedHost) -> None:
    web, good, _ = rejected(host)
    host.script.clear()
    host.roll_back(web, good)
    assert host.pass_(web).error is None
    host.unfreeze(web)
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.script.count("check web") == 0


def test_rejected_releases_do_not_pile_up_on_the_disk(host: SimulatedHost) -> None:
    web, good, _ = rejected(host)
    for number in range(5):
        push(host, f"unfit {number}")
        assert isinstance(host.pass_(web).error, CheckError)
    assert [path.name for path in web.releases.iterdir()] == [host.shown(web)]
    host.assert_in_line(web, good)


def test_a_retry_is_not_lost_where_publishing_fails_then(host: SimulatedHost) -> None:
    web = checked(host)
    host.deploy(web)
    better = push(host, "2")
    host.script.on("publish web", PublishError("in the way"))
    assert isinstance(host.pass_(web).error, PublishError)
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)
    assert host.upstream.branches[BRANCH][-1] == better
