"""What is decided of a service beyond what the planner alone says: by its store, its past, and holders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve

from libgitopper import (
    CheckoutError,
    Content,
    Deployed,
    Hold,
    HoldRequest,
    Hooks,
    Intent,
    Plan,
    Published,
    Reason,
    SourceError,
    StateStore,
    Store,
    Verb,
    hookimpl,
)
from libgitopper.deciding import Deciding, Decision, is_touched, showing
from libgitopper.orders import Course, Order, View
from libgitopper.records import Rejection
from tests.support.kept import ATTEMPT, CONTENT, DEPLOYED, SERVICE, A, B

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OTHER = evolve(CONTENT, revision=B, entries=(evolve(CONTENT.entries[0], id="9" * 40), CONTENT.entries[1]))


class OneStore:
    """A store in which every commit has the same content."""

    def __init__(self, content: Content, branch: str = "main") -> None:
        self._content = content
        self.tips = {branch: content.revision}

    def content(self, revision: str, service: object) -> Content:
        assert service is not None
        assert revision is not None
        return evolve(self._content, revision=revision)


class Holder:
    """Holds everything, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[HoldRequest] = []

    @hookimpl
    def gitopper_hold(self, request: HoldRequest) -> Hold:
        self.asked.append(request)
        return Hold(reason="not now")


def store(content: Content, branch: str = "main") -> Store:
    return cast("Store", OneStore(content, branch))


@pytest.fixture
def holder() -> Holder:
    return Holder()


@pytest.fixture
def deciding(tmp_path: Path, holder: Holder) -> Iterator[Deciding]:
    hooks = Hooks()
    hooks.register(holder, name="holder")
    with StateStore(tmp_path / "state.db") as state:
        yield Deciding(hooks=hooks, state=state, now=lambda: NOW)


def view(**more: Any) -> View:
    release = DEPLOYED.content.release_id(SERVICE)
    shown, deployed = Published(release=release), evolve(DEPLOYED, release=release)
    return evolve(View(intent=Intent(), deployed=deployed, attempt=None, published=shown), **more)


def test_a_deploy_that_was_not_finished_is_repeated(deciding: Deciding) -> None:
    decision = deciding.decide(A, SERVICE, store(CONTENT), view(attempt=ATTEMPT), [])
    assert decision.plan.verb is Verb.DEPLOY
    assert Reason.UNFINISHED in decision.reasons


def test_who_may_hold_it_is_told_of_what_and_when(deciding: Deciding, holder: Holder) -> None:
    decision = deciding.decide(B, SERVICE, store(OTHER), view(), [])
    assert holder.asked == [HoldRequest(service=SERVICE, revision=B, now=NOW)]
    assert decision.reasons == (Reason.HELD,)
    assert decision.waits is not None
    assert decision.waits.note == "not now"


def test_without_its_store_new_content_is_not_known_and_the_error_names_the_service(
    deciding: Deciding,
) -> None:
    with pytest.raises(SourceError, match=r"https://example.net/r was never fetched") as caught:
        deciding.decide(B, SERVICE, None, view(), [])
    assert caught.value.service == "web"


def test_without_its_store_what_is_deployed_is_known(deciding: Deciding) -> None:
    assert deciding.target(A, SERVICE, None, DEPLOYED) == CONTENT


def test_the_same_content_of_another_commit_is_of_the_same_generation(deciding: Deciding) -> None:
    healed = evolve(DEPLOYED, content=evolve(CONTENT, generation=3))
    assert deciding.target(B, SERVICE, store(CONTENT), healed).generation == 3
    assert deciding.target(B, SERVICE, store(OTHER), healed).generation == 0


def test_other_paths_are_looked_up_also_at_the_same_commit(deciding: Deciding) -> None:
    fewer = evolve(SERVICE, mappings=SERVICE.mappings[:1])
    with pytest.raises(SourceError):
        deciding.target(A, fewer, None, DEPLOYED)


PLAN = Plan(verb=Verb.DEPLOY, reasons=(Reason.CONTENT, Reason.SETTINGS))
REJECTION = Rejection(
    service="web", release="r", revision=B, fingerprint="f", step="check", reason="no", at=NOW
)


@pytest.mark.parametrize(
    ("decision", "reasons"),
    [
        (Decision(plan=PLAN), PLAN.reasons),
        (Decision(plan=PLAN, waits=evolve(PLAN, reasons=(Reason.HELD,))), (Reason.HELD,)),
        (Decision(plan=PLAN, rejection=REJECTION), (Reason.REJECTED,)),
    ],
)
def test_the_reasons_are_those_for_which_nothing_is_done(decision: Decision, reasons: object) -> None:
    assert decision.reasons == reasons


def order(of: Content, **more: Any) -> Order:
    plan = evolve(PLAN, target=of)
    return Order(
        service=SERVICE,
        store=store(of),
        target=of,
        plan=plan,
        view=view(**more),
        asked="poll",
        still=lambda: True,
    )


def test_a_release_is_news_unless_the_service_has_it_in_this_place() -> None:
    same, new = order(CONTENT), order(OTHER)
    assert same.release == CONTENT.release_id(SERVICE)
    assert not same.is_news(same.release)
    assert new.is_news(new.release)
    assert order(CONTENT, deployed=None).is_news(same.release)
    assert same.view.deployed is not None
    elsewhere = evolve(same.view.deployed, service=evolve(SERVICE, mount=Path("/another")))
    assert order(CONTENT, deployed=elsewhere).is_news(same.release)


def test_the_time_of_a_step_that_comes_twice_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Callable[[], float] = iter([10.0, 12.5, 20.0, 21.0, 30.0, 30.25]).__next__
    monkeypatch.setattr("libgitopper.orders.time.monotonic", clock)
    course = Course(at=NOW)
    for name in ("check", "check"):
        with course.step(name):
            pass
    with pytest.raises(KeyError), course.step("reload"):
        raise KeyError
    assert course.seconds == {"check": 3.5, "reload": 0.25}


class FailingStore(OneStore):
    """A store that can't tell what a commit has."""

    def content(self, revision: str, service: object) -> Content:
        raise CheckoutError(f"{revision} lacks a path")


@pytest.mark.parametrize(
    ("store", "deployed", "touched"),
    [
        pytest.param(store(CONTENT), DEPLOYED, False, id="at the tip"),
        pytest.param(
            cast("Store", FailingStore(CONTENT)), DEPLOYED, False, id="at the tip, which needs no look"
        ),
        pytest.param(store(evolve(CONTENT, revision=B)), DEPLOYED, False, id="other paths only"),
        pytest.param(store(OTHER), DEPLOYED, True, id="its paths"),
        pytest.param(cast("Store", FailingStore(OTHER)), DEPLOYED, True, id="nobody can tell"),
        pytest.param(store(CONTENT), None, True, id="nothing deployed"),
        pytest.param(store(CONTENT, branch="other"), DEPLOYED, True, id="its branch is gone"),
    ],
)
def test_a_service_is_touched_unless_it_is_known_not_to_be(
    store: Store, deployed: Deployed | None, touched: bool
) -> None:
    assert is_touched(SERVICE, store, deployed) is touched


def test_without_an_attempt_the_files_are_of_what_is_deployed(tmp_path: Path) -> None:
    with StateStore(tmp_path / "state.db") as state:
        assert showing(Hooks(), state, "web") is None
        state.record(DEPLOYED)
        assert showing(Hooks(), state, "web") == state.deployed("web")
        assert showing(Hooks(), state, "db") is None
