"""Why a commit did, or did not, touch a service: a situation for each reason that the planner knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libgitopper import Explanation, Hold, Peer, Reason, ReloadError
from tests.support.explaining import CHECK, explain, host
from tests.support.simulatedhost import SimulatedHost

__all__ = ["host"]  # fixtures


def no_tip(host: SimulatedHost) -> Explanation:
    host.upstream.reachable = False
    return explain(host, host.service())


def frozen_empty(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.freeze(host.service())
    return explain(host, host.service())


def in_line(host: SimulatedHost) -> Explanation:
    tip = host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    return explain(host, host.service(), tip)


def elsewhere(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    beside = host.upstream.commit({"webapp/conf": "1"})
    host.deploy(host.service())
    return explain(host, host.service(), beside[:8])


def first(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"db/conf": "1"})
    brings = host.upstream.commit({"web/conf": "1"})
    host.upstream.commit({"web/conf": "2"})
    host.deploy(host.service())
    return explain(host, host.service(), brings)


def content(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    changed = host.upstream.commit({"web/conf": "2", "web/more": "1", "db/conf": "1"})
    host.deploy(host.service())
    return explain(host, host.service(), changed)


def settings(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    return explain(host, host.service(readonly=True))


def unpublished(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    host.mounts.reboot()
    return explain(host, host.service())


def unfinished(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("the unit is unknown"))
    host.pass_(host.service())
    return explain(host, host.service())


def rejected(host: SimulatedHost) -> Explanation:
    service = host.service(check=CHECK)
    host.upstream.commit({"web/conf": "1"})
    host.deploy(service)
    bad = host.upstream.commit({"web/conf": "unfit"})
    host.pass_(service)
    return explain(host, service, bad)


def held(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    waiting = host.upstream.commit({"web/conf": "2"})
    host.guards.held = Hold(reason="outside of Mon-Fri 09:00-17:00")
    host.pass_(host.service())
    return explain(host, host.service(), waiting)


def after(host: SimulatedHost) -> Explanation:
    host.upstream.commit({"web/conf": "1", "db/conf": "1"})
    waiting, before = host.service(after=("db",)), host.service("db")
    host.deploy(before)
    host.deploy(waiting)
    tip = host.upstream.commit({"web/conf": "2", "db/conf": "2"})
    return explain(host, waiting, tip, before)


SITUATIONS: dict[Reason, Callable[[SimulatedHost], Explanation]] = {
    Reason.NO_TIP: no_tip,
    Reason.FROZEN_EMPTY: frozen_empty,
    Reason.IN_LINE: in_line,
    Reason.ELSEWHERE: elsewhere,
    Reason.FIRST: first,
    Reason.CONTENT: content,
    Reason.SETTINGS: settings,
    Reason.UNPUBLISHED: unpublished,
    Reason.UNFINISHED: unfinished,
    Reason.REJECTED: rejected,
    Reason.HELD: held,
    Reason.AFTER: after,
}

OF_THE_COMMIT = {Reason.ELSEWHERE, Reason.FIRST, Reason.CONTENT}
"""They are of what a commit is, not of what a pass does now."""

VERDICTS = {
    Reason.NO_TIP: "web: the next pass waits: the tip of the branch is not known",
    Reason.FROZEN_EMPTY: "; it has to wait for an unfreeze: frozen",
    Reason.IN_LINE: "is the first commit that has the paths of web; it is deployed",
    Reason.ELSEWHERE: "changes other paths only, so web is not touched for it; it is deployed",
    Reason.FIRST: "brings the paths of web, which the commit before it lacks; it came with ",
    Reason.CONTENT: "changes web (2 files); it is deployed",
    Reason.SETTINGS: "the service's settings changed",
    Reason.UNPUBLISHED: "its paths do not show its release",
    Reason.UNFINISHED: "it is published; reload failed: the unit is unknown; the next pass tries again",
    Reason.REJECTED: "failed its check as part of {}: conf:1: unexpected end of file; `do retry`",
    Reason.HELD: "changes web (1 file); it waits: outside of Mon-Fri 09:00-17:00",
    Reason.AFTER: "it waits for db, which is not in line with its upstream",
}


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_that_the_planner_knows_is_given_where_it_holds(
    host: SimulatedHost, reason: Reason
) -> None:
    assert reason in SITUATIONS, "the planner has a new reason: give it a row, a situation that has it"
    found = SITUATIONS[reason](host)
    given = found.effect.plan if reason in OF_THE_COMMIT and found.effect else found.now
    assert given is not None
    assert reason in given.reasons
    assert reason in found.reasons
    assert VERDICTS[reason].format((found.revision or "")[:12]) in found.verdict
    assert "\n" not in found.verdict


def test_what_it_says_of_now_is_what_the_next_pass_does(host: SimulatedHost) -> None:
    for reason, situation in SITUATIONS.items():
        if reason in OF_THE_COMMIT:
            continue
        here = SimulatedHost(host.directory / reason.name)
        said = situation(here).now
        assert said is not None
        service = {
            Reason.SETTINGS: here.service(readonly=True),
            Reason.REJECTED: here.service(check=CHECK),
            Reason.AFTER: here.service(after=("db",)),
        }.get(reason, here.service())
        peers = [Peer(service=here.service(n), store=here.fetch(service)) for n in service.after]
        done = here.reconciler.reconcile(service, here.fetch(service), peers=peers)
        if reason is Reason.REJECTED:
            assert "unexpected end of file" in str(done.error)
        elif reason is not Reason.UNPUBLISHED:  # a pass puts that right before it plans
            assert done.plan == (said.waits or said.plan)
        here.close()
